-- Replaying: what was stored is looked at once more. Nothing doubles: what was told is told.

create function sync.replay_deliveries(
  p_ids bigint[] default null,
  p_from timestamptz default null,
  p_until timestamptz default null,
  p_provider text default null,
  p_connection_id uuid default null,
  p_states text[] default array['failed', 'dead']
)
returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_now timestamptz := sync.clock();
  v_count integer;
  v_connections uuid[];
begin
  with wanted as materialized (
    select opened.delivery_id
    from sync.delivery_states as opened
    join public.calendar_connections as connection on connection.id = opened.connection_id
    where (p_ids is null or opened.delivery_id = any (p_ids))
      and opened.received_at >= coalesce(p_from, '-infinity')
      and opened.received_at < coalesce(p_until, 'infinity')
      and connection.provider = coalesce(p_provider, connection.provider)
      and opened.connection_id = coalesce(p_connection_id, opened.connection_id)
      and opened.state = any (p_states)
    order by opened.delivery_id
    for no key update of opened
  ),

  replayed as (
    update sync.delivery_states as opened
    set state = 'received', attempts = 0, retry_at = v_now, error = null, updated_at = v_now
    from wanted
    where opened.delivery_id = wanted.delivery_id
    returning opened.connection_id
  )

  select count(*), array_agg(distinct replayed.connection_id) into v_count, v_connections
  from replayed;
  if v_count > 0 then
    perform sync.request_tasks(
      array_fill('ingest'::text, array[cardinality(v_connections)]), v_connections, v_connections,
      array_fill(0::smallint, array[cardinality(v_connections)]),
      array_fill(v_now, array[cardinality(v_connections)])
    );
  end if;
  return v_count;
end;
$$;
comment on function sync.replay_deliveries(
  bigint[], timestamptz, timestamptz, text, uuid, text[]
) is
'Has deliveries of bookings processed again: those of the ids, the span (the end excluded), the provider, the connection (null = any) whose state is one of p_states. Returns how many; for supacal replay.';
revoke all on function sync.replay_deliveries(
  bigint[], timestamptz, timestamptz, text, uuid, text[]
) from public;

create function sync.replay_delivery(p_delivery_id bigint)
returns boolean
language plpgsql
security definer -- the queue is the engine's, not the users'
set search_path = ''
as $$
declare
  v_delivery sync.webhook_deliveries;
begin
  select delivery.* into v_delivery
  from sync.webhook_deliveries as delivery
  where delivery.id = p_delivery_id
    and (
      delivery.organization_id = any(array(select sync.my_administered_organizations()))
      or sync.is_service()
    );
  perform sync.refuse_unless(found, format('delivery %s can''t be replayed', p_delivery_id));
  if v_delivery.kind = 'hello' then
    return false;
  end if;
  if sync.replay_deliveries(
    array[p_delivery_id], p_states => array['received', 'done', 'ignored', 'failed', 'dead']
  ) > 0 then
    return true;
  end if;
  -- Others say only that something changed: reading is what answers them.
  return coalesce((
    select bool_or(sync.request_read(calendar.id, 0::smallint, sync.clock()) is not null)
    from public.calendar_watch_channels as channel
    join public.calendars as calendar on calendar.id = channel.calendar_id and calendar.sync_enabled
    where channel.id = v_delivery.channel_id
  ), false);
end;
$$;
comment on function sync.replay_delivery(bigint) is
'Has one delivery of an organization that the request''s user administers processed again; false where there is nothing to process.';
revoke all on function sync.replay_delivery(bigint) from public;
grant execute on function sync.replay_delivery(bigint) to authenticated, service_role;

create function public.replay_delivery(delivery bigint)
returns boolean
language sql
volatile
set search_path = ''
begin atomic
  select sync.replay_delivery(delivery);
end;
comment on function public.replay_delivery(bigint) is
'Has a delivery of webhook_logs processed again, now: for admins. False where there is nothing to process: a channel''s first message, a calendar that is switched off.';
revoke all on function public.replay_delivery(bigint)
from public, anon, authenticated, service_role;
grant execute on function public.replay_delivery(bigint) to authenticated, service_role;
