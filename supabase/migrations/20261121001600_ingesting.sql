-- Ingesting: deliveries of bookings, taken in by the connection they came for.
--
-- The worker reads what is open, has sync.apply_bookings join it, and settles it in the same
-- transaction. What cannot be processed waits for another attempt, and is dead after the last;
-- the others go on.

create table sync.ingest_state (
  connection_id uuid primary key references public.calendar_connections (id) on delete cascade,
  ask_after timestamptz,
  swept_until timestamptz,
  sweep_at timestamptz,
  sweep_began_at timestamptz,
  sweep_since timestamptz,
  sweep_from timestamptz,
  sweep_to timestamptz,
  sweep_page text,
  seats_at timestamptz
);
comment on table sync.ingest_state is 'Where the ingest of a connection stands.';
comment on column sync.ingest_state.ask_after is 'The provider wants not to be asked before; deliveries do not wait for that.';
comment on column sync.ingest_state.swept_until is 'What was changed before is known; null = nothing was swept yet.';
comment on column sync.ingest_state.sweep_at is 'When the next sweep is due.';
comment on column sync.ingest_state.sweep_began_at is 'Set while a sweep is under way.';
comment on column sync.ingest_state.sweep_since is 'It wants what was changed since then, where the provider can tell.';
comment on column sync.ingest_state.sweep_from is 'It wants what starts from then on.';
comment on column sync.ingest_state.sweep_to is 'It wants what starts before.';
comment on column sync.ingest_state.sweep_page is 'Where it goes on; null = at its first page.';
comment on column sync.ingest_state.seats_at is
'After which sweep the seats of slots to come are compared: nothing that was changed tells of one that is left.';
alter table sync.ingest_state enable row level security;

create table sync.bookings_to_fetch (
  connection_id uuid not null references public.calendar_connections (id) on delete cascade,
  provider_id text not null,
  fetch_at timestamptz not null,
  series boolean not null default false,
  attempts integer not null default 0,
  primary key (connection_id, provider_id)
);
comment on table sync.bookings_to_fetch is
'Bookings that the provider is to be asked for: what was delivered tells less than it knows.';
comment on column sync.bookings_to_fetch.series is 'The whole series is wanted: one message stood for many.';
comment on column sync.bookings_to_fetch.attempts is
'How often its answer was behind what had been delivered: a provider may tell before its own row shows it.';
alter table sync.bookings_to_fetch enable row level security;
create index bookings_to_fetch_due on sync.bookings_to_fetch (connection_id, fetch_at);
comment on index sync.bookings_to_fetch_due is
'An ingest takes from it the bookings to ask for next, and when the following ones are due.';

-- Beginning.

create function sync.begin_ingest(p_task_id bigint, p_lease uuid, p_connection_id uuid)
returns table (
  calendar_id uuid, connection_id uuid, provider text, account_email text,
  provider_account_id text, key_id text, ciphertext bytea, missed boolean, sweep_due boolean,
  may_ask boolean, now_at timestamptz
)
language plpgsql
security definer -- the worker holds no grant on tables: these functions are its reach
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_now timestamptz := sync.clock();
begin
  perform sync.hold_task(p_task_id, p_lease);
  insert into sync.ingest_state as state (connection_id)
  select connection.id from public.calendar_connections as connection
  where connection.id = p_connection_id
  on conflict (connection_id) do nothing;
  perform sync.bookings_calendar(p_connection_id);

  return query
  select
    calendar.id, connection.id, connection.provider, connection.account_email,
    connection.provider_account_id, credentials.key_id, credentials.ciphertext, missing.missed,
    missing.missed or calendar.full_round_asked_at is not null
      or state.sweep_began_at is not null or coalesce(state.sweep_at, v_now) <= v_now,
    coalesce(state.ask_after <= v_now, true), v_now
  from public.calendar_connections as connection
  join public.calendars as calendar
    on calendar.connection_id = connection.id and calendar.sync_enabled
  join sync.ingest_state as state on state.connection_id = connection.id
  left join sync.credentials as credentials on credentials.connection_id = connection.id
  cross join lateral (
    select exists (
      select 1 from sync.delivery_states as delivery
      where delivery.connection_id = connection.id
        and delivery.state = 'received' and delivery.kind = 'lifecycle'
    ) as missed
  ) as missing
  where connection.id = p_connection_id
  order by calendar.kind = 'bookings' desc, calendar.id
  limit 1;
  if not found then
    -- Nobody wants them; else they would be kept for good.
    update sync.delivery_states as delivery
    set state = 'ignored', error = 'its sync is switched off', updated_at = v_now
    where delivery.connection_id = p_connection_id and delivery.state in ('received', 'failed');
    delete from sync.bookings_to_fetch as wanted where wanted.connection_id = p_connection_id;
  end if;
end;
$$;
comment on function sync.begin_ingest(bigint, uuid, uuid) is
'What an ingest needs to begin. missed: something was not delivered, and a sweep has to find it. No row = the connection is gone or switched off, what came for it is ignored, and the task is over.';
revoke all on function sync.begin_ingest(bigint, uuid, uuid) from public;
grant execute on function sync.begin_ingest(bigint, uuid, uuid) to sync_worker;

create function sync.name_account(
  p_task_id bigint, p_lease uuid, p_connection_id uuid, p_provider_account_id text
)
returns void
language plpgsql
security definer -- as begin_ingest
set search_path = ''
as $$
begin
  perform sync.hold_task(p_task_id, p_lease);
  update public.calendar_connections as connection
  set provider_account_id = p_provider_account_id
  where connection.id = p_connection_id and connection.provider_account_id is null;
end;
$$;
comment on function sync.name_account(bigint, uuid, uuid, text) is
'Keeps what the provider calls an account: deliveries without a channel are routed by it.';
revoke all on function sync.name_account(bigint, uuid, uuid, text) from public;
grant execute on function sync.name_account(bigint, uuid, uuid, text) to sync_worker;

-- Deliveries.

create function sync.open_deliveries(p_connection_id uuid, p_limit integer default 500)
returns table (delivery_id bigint, body text, again boolean)
language plpgsql
stable
security definer -- as begin_ingest
set search_path = ''
set plan_cache_mode = force_generic_plan -- by index, and planned once
as $$
declare
  v_now timestamptz := sync.clock();
  v_ids bigint[];
  v_again bigint[];
  v_from timestamptz;
  v_until timestamptz;
begin
  select
    array_agg(due.delivery_id), array_agg(due.delivery_id) filter (where due.again),
    min(due.received_at), max(due.received_at)
  into v_ids, v_again, v_from, v_until
  from (
    select opened.delivery_id, opened.received_at, opened.retry_at is not null as again
    from sync.delivery_states as opened
    where opened.connection_id = p_connection_id
      and opened.state in ('received', 'failed') and opened.kind = 'booking'
      and (opened.retry_at is null or opened.retry_at <= v_now)
    order by opened.delivery_id
    limit p_limit
  ) as due;
  -- All at once, of the days that they came on: looking each up costs twice as much.
  return query
  select
    delivery.id, delivery.body::text, coalesce(delivery.id = any (v_again), false)
  from sync.webhook_deliveries as delivery
  where delivery.id = any (v_ids) and delivery.received_at between v_from and v_until
  order by delivery.id;
end;
$$;
comment on function sync.open_deliveries(uuid, integer) is
'Booking deliveries of a connection that wait, oldest first; those that failed when their next attempt is due. again: they were looked at before.';
revoke all on function sync.open_deliveries(uuid, integer) from public;
grant execute on function sync.open_deliveries(uuid, integer) to sync_worker;

create function sync.settle_deliveries(p_deliveries jsonb)
returns void
language plpgsql
security definer -- asked within the transaction of a run, which has been fenced
set search_path = ''
as $$
declare
  v_now timestamptz := sync.clock();
  v_connection_id uuid;
begin
  for v_connection_id in
    with settled as (
      update sync.delivery_states as known
      set
        state = case
          when told.state = 'failed' and known.attempts >= 4 then 'dead' else told.state
        end,
        attempts = known.attempts + 1,
        -- After 1, 6, 36 minutes, and 3.6 hours.
        retry_at = case
          when told.state = 'failed' and known.attempts < 4
            then v_now + interval '1 minute' * 6 ^ known.attempts
        end,
        error = left(told.error, 500),
        updated_at = v_now
      from jsonb_to_recordset(p_deliveries) as told (id bigint, state text, error text)
      where known.delivery_id = told.id
      returning known.connection_id, known.state
    )
    select distinct settled.connection_id from settled where settled.state = 'dead'
  loop
    perform sync.raise_alert(
      'delivery_dead', v_connection_id, v_connection_id,
      'Deliveries could not be processed, five times over; webhook_logs says of each why.',
      'Mend what the reasons name, then replay them with rpc(''replay_delivery'').'
    );
  end loop;
end;
$$;
comment on function sync.settle_deliveries(jsonb) is
'Says what became of deliveries: [{id, state: done, ignored or failed, error}]. What failed is tried again after growing pauses; the fifth time it is dead, and an alert is open.';
revoke all on function sync.settle_deliveries(jsonb) from public;
grant execute on function sync.settle_deliveries(jsonb) to sync_worker, sync_engine;

-- What was missed.

create function sync.note_missed(
  p_task_id bigint, p_lease uuid, p_connection_id uuid, p_can_sweep boolean
)
returns void
language plpgsql
security definer -- as begin_ingest
set search_path = ''
as $$
declare
  v_message text;
begin
  perform sync.hold_task(p_task_id, p_lease);
  select
    string_agg(format(
      'From %s to %s bookings could not be delivered, and are not sent again',
      coalesce(delivery.headers ->> 'from', 'an unknown time'),
      coalesce(delivery.headers ->> 'until', delivery.received_at::text)
    ), '; ' order by delivery.id)
  into v_message
  from sync.delivery_states as opened
  join sync.webhook_deliveries as delivery
    on delivery.id = opened.delivery_id and delivery.received_at = opened.received_at
  where opened.connection_id = p_connection_id
    and opened.state = 'received' and opened.kind = 'lifecycle'
    -- A stale time alone: its sweep says nothing to anybody.
    and (delivery.headers ->> 'reason' = 'outage' or not p_can_sweep);
  v_message := left(v_message, 1000) || case
    when p_can_sweep then ': a sweep is under way.'
    else ': this connection has webhooks alone, so that span is lost.'
  end;
  if v_message is not null and not exists (
    select 1 from public.sync_alerts as alert
    where alert.kind = 'deliveries_lost' and alert.subject_id = p_connection_id
      and alert.resolved_at is null and alert.message = v_message
  ) then
    -- Each span is told of; the one before stays among those that are over.
    perform sync.resolve_alert('deliveries_lost', p_connection_id);
    perform sync.raise_alert(
      'deliveries_lost', p_connection_id, p_connection_id, v_message,
      case
        when p_can_sweep then 'Nothing: the sweep begins before that, and closes this alert.'
        else 'Compare that span with the provider''s own list. With an API key this would mend itself.'
      end
    );
  end if;
  if not p_can_sweep then
    update sync.delivery_states as delivery
    set state = 'done', updated_at = sync.clock()
    where delivery.connection_id = p_connection_id
      and delivery.state = 'received' and delivery.kind = 'lifecycle';
  end if;
end;
$$;
comment on function sync.note_missed(bigint, uuid, uuid, boolean) is
'Raises an alert with the span in which bookings could not be delivered; where nothing can be swept, that is all there is to do.';
revoke all on function sync.note_missed(bigint, uuid, uuid, boolean) from public;
grant execute on function sync.note_missed(bigint, uuid, uuid, boolean) to sync_worker;

-- Ending.

create function sync.next_ingest(p_connection_id uuid, p_can_ask boolean)
returns timestamptz
language sql
stable
set search_path = ''
as $$
  select least(
    sync.next_translation(p_connection_id),
    (
      select min(coalesce(opened.retry_at, sync.clock()))
      from sync.delivery_states as opened
      where opened.connection_id = p_connection_id
        and opened.state in ('received', 'failed') and opened.kind = 'booking'
    ),
    (
      select greatest(
        state.ask_after,
        least(
          (
            select min(wanted.fetch_at) from sync.bookings_to_fetch as wanted
            where wanted.connection_id = p_connection_id
          ),
          case when state.sweep_began_at is null then state.sweep_at else sync.clock() end,
          case when state.sweep_at is null then sync.clock() end,
          (
            select sync.clock() from sync.delivery_states as missed
            where missed.connection_id = p_connection_id
              and missed.state = 'received' and missed.kind = 'lifecycle'
            limit 1
          )
        )
      )
      from sync.ingest_state as state
      where state.connection_id = p_connection_id and p_can_ask
    )
  )
$$;
comment on function sync.next_ingest(uuid, boolean) is
'When an ingest has something to do next: an open delivery, a booking to ask for, an id to ask Outlook for, a sweep; null = when something comes.';
revoke all on function sync.next_ingest(uuid, boolean) from public;

create function sync.finish_ingest(
  p_task_id bigint, p_lease uuid, p_connection_id uuid, p_calendar_id uuid, p_changes integer,
  p_can_ask boolean
)
returns timestamptz
language plpgsql
security definer -- as begin_ingest
set search_path = ''
as $$
declare
  v_now timestamptz := sync.clock();
begin
  perform sync.hold_task(p_task_id, p_lease);
  update public.calendars as calendar
  set
    last_error = null,
    -- With webhooks alone there is nothing to read.
    backfill = case when p_can_ask then calendar.backfill else 'complete' end,
    full_round_asked_at = case when p_can_ask then calendar.full_round_asked_at end
  where calendar.id = p_calendar_id
    and (
      calendar.last_error is not null
      or not p_can_ask
        and (calendar.backfill <> 'complete' or calendar.full_round_asked_at is not null)
    );
  if not p_can_ask then
    delete from sync.bookings_to_fetch as wanted where wanted.connection_id = p_connection_id;
  end if;
  insert into sync.calendar_state as state (calendar_id, last_pulled_at, last_changed_at)
  values (p_calendar_id, v_now, case when p_changes > 0 then v_now end)
  on conflict (calendar_id) do update
  set
    last_pulled_at = v_now,
    last_changed_at = coalesce(excluded.last_changed_at, state.last_changed_at);
  perform sync.resolve_alert('key_missing', p_connection_id);
  if not exists (
    select 1 from sync.delivery_states as delivery
    where delivery.connection_id = p_connection_id and delivery.state = 'dead'
  ) then
    perform sync.resolve_alert('delivery_dead', p_connection_id);
  end if;
  return sync.next_ingest(p_connection_id, p_can_ask);
end;
$$;
comment on function sync.finish_ingest(bigint, uuid, uuid, uuid, integer, boolean) is
'Notes a good run; returns when the next is due without anybody asking, null = never.';
revoke all on function sync.finish_ingest(bigint, uuid, uuid, uuid, integer, boolean) from public;
grant execute on function sync.finish_ingest(bigint, uuid, uuid, uuid, integer, boolean)
to sync_worker;
