-- One channel for one calendar of one account, however many organizations have connected it: its
-- deliveries wake them all (sync.receive). Who has it made lends it, the others borrow it.
--
-- Google would make a second, and Outlook refuses it. Webhooks of booking providers are not shared:
-- what they deliver is the data of the connection that they were made for.

create function sync.lock_identity(p_calendar_id uuid)
returns void
language sql
volatile
set search_path = ''
as $$
  select pg_advisory_xact_lock(hashtextextended(
    format(
      'channel of %s %s %s',
      connection.provider, connection.account_email, calendar.provider_calendar_id
    ),
    0
  ))
  from public.calendars as calendar
  join public.calendar_connections as connection on connection.id = calendar.connection_id
  where calendar.id = p_calendar_id
$$;
comment on function sync.lock_identity(uuid) is
'One at a time decides about the channel of a calendar that several organizations may share. Taken right after the fence, before any row of a channel.';
revoke all on function sync.lock_identity(uuid) from public;

create function sync.twins_of(p_calendar_id uuid)
returns setof uuid
language sql
stable
set search_path = ''
as $$
  select twin.id
  from public.calendars as calendar
  join public.calendar_connections as own on own.id = calendar.connection_id
  join public.calendars as twin
    on twin.provider_calendar_id = calendar.provider_calendar_id
    and twin.id <> calendar.id and twin.sync_enabled
  join public.calendar_connections as connection
    on connection.id = twin.connection_id
    and connection.provider = own.provider and connection.account_email = own.account_email
    and connection.status = 'active'
  where calendar.id = p_calendar_id and own.provider in ('google', 'microsoft')
$$;
comment on function sync.twins_of(uuid) is
'The other calendars that are the same one at the provider, connected by the same account, and in use.';
revoke all on function sync.twins_of(uuid) from public;

-- Making one, unless there is one to borrow, or another watch is just making it.

create function sync.open_or_borrow(
  p_task_id bigint, p_lease uuid, p_calendar_id uuid, p_key_id text, p_address text,
  p_id_prefix text default null
)
returns table (channel_id uuid, renew_at timestamptz)
language plpgsql
security definer -- as begin_watch
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_now timestamptz := sync.clock();
  v_lender record;
begin
  perform sync.hold_task(p_task_id, p_lease);
  perform sync.lock_identity(p_calendar_id);
  -- What an earlier run asked for is no longer being made: this tells it from what is.
  update public.calendar_watch_channels as channel
  set status_reason = 'nobody answered when it was to be made'
  where channel.calendar_id = p_calendar_id and channel.status = 'pending'
    and channel.status_reason is null;

  select lent.id, lent.resource_id, lent.expires_at into v_lender
  from sync.twins_of(p_calendar_id) as twin (id)
  join public.calendar_watch_channels as lent
    on lent.calendar_id = twin.id and lent.status = 'active'
    and (lent.expires_at is null or lent.expires_at > v_now)
  where not exists (
    select 1 from sync.channel_state as state
    where state.channel_id = lent.id and state.heard_as is not null
  )
  order by lent.expires_at desc
  limit 1
  for share of lent; -- its end waits for us, and then knows who listened
  if found then
    renew_at := sync.make_live(
      sync.open_channel(p_task_id, p_lease, p_calendar_id, p_key_id, p_address, p_id_prefix),
      v_lender.resource_id, v_lender.expires_at, v_lender.id
    );
    return next;
    return;
  end if;

  if exists (
    select 1
    from sync.twins_of(p_calendar_id) as twin (id)
    join public.calendar_watch_channels as made
      on made.calendar_id = twin.id and made.status = 'pending' and made.status_reason is null
    join sync.tasks as task
      on task.subject_id = twin.id and task.kind = 'watch'
      and task.lease is not null and task.run_at > v_now -- its worker lives
  ) then
    -- Reading does not wait for it.
    perform sync.lose_channel(p_calendar_id);
    renew_at := v_now + interval '3 seconds';
    return next;
    return;
  end if;

  channel_id := sync.open_channel(
    p_task_id, p_lease, p_calendar_id, p_key_id, p_address, p_id_prefix
  );
  return next;
end;
$$;
comment on function sync.open_or_borrow(bigint, uuid, uuid, text, text, text) is
'A channel to ask the provider for, as sync.open_channel; null where that is not needed: the calendar has borrowed one, or another watch is making it. Then renew_at says when to look again.';
revoke all on function sync.open_or_borrow(bigint, uuid, uuid, text, text, text) from public;
grant execute on function sync.open_or_borrow(bigint, uuid, uuid, text, text, text)
to sync_worker;

-- Who borrows goes along to what takes the channel's place, and is told when nothing does.

create function sync.move_borrowers(p_from uuid[], p_to uuid)
returns void
language plpgsql
set search_path = ''
as $$
begin
  update sync.channel_state as state
  set heard_as = p_to
  where state.heard_as = any (p_from) and state.channel_id <> p_to;
  update public.calendar_watch_channels as borrowed
  set
    resource_id = lent.resource_id, provider_channel_id = lent.provider_channel_id,
    expires_at = lent.expires_at
  from sync.channel_state as state
  join public.calendar_watch_channels as lent on lent.id = state.heard_as
  where state.heard_as = p_to and borrowed.id = state.channel_id and borrowed.status = 'active'
    and (borrowed.resource_id, borrowed.expires_at)
    is distinct from (lent.resource_id, lent.expires_at);
end;
$$;
comment on function sync.move_borrowers(uuid[], uuid) is
'Whoever heard of changes by one of the first channels hears of them by the second.';
revoke all on function sync.move_borrowers(uuid[], uuid) from public;

create function sync.wake_borrowers(p_channels uuid[])
returns void
language sql
volatile
set search_path = ''
as $$
  select sync.request_tasks(
    array_agg('watch'::text), array_agg(calendar.id), array_agg(calendar.connection_id),
    array_agg(1::smallint), array_agg(sync.clock())
  )
  from sync.channel_state as state
  join public.calendar_watch_channels as borrowed
    on borrowed.id = state.channel_id and borrowed.status = 'active'
  join public.calendars as calendar on calendar.id = borrowed.calendar_id
  where state.heard_as = any (p_channels)
  having count(*) > 0
$$;
comment on function sync.wake_borrowers(uuid[]) is
'Asks for a watch, now, of each calendar that heard of its changes by one of these channels.';
revoke all on function sync.wake_borrowers(uuid[]) from public;

create function sync.on_channels_deleted()
returns trigger
language plpgsql
security definer -- members disconnect, and have no right on tasks
set search_path = ''
as $$
begin
  perform sync.wake_borrowers(array(select gone.id from gone));
  return null;
end;
$$;
comment on function sync.on_channels_deleted() is
'Statement trigger: whoever borrowed a channel that is gone has to see to another.';
revoke all on function sync.on_channels_deleted() from public;

create trigger calendar_watch_channels_deleted after delete on public.calendar_watch_channels
referencing old table as gone
for each statement execute function sync.on_channels_deleted();
comment on trigger calendar_watch_channels_deleted on public.calendar_watch_channels is
'Channels also go with a calendar or an account that is deleted, which no watch sees.';

create function sync.on_connection_lost()
returns trigger
language plpgsql
security definer -- as on_channels_deleted
set search_path = ''
as $$
begin
  perform sync.wake_borrowers(array(
    select channel.id
    from public.calendars as calendar
    join public.calendar_watch_channels as channel
      on channel.calendar_id = calendar.id and channel.status in ('active', 'replaced')
    where calendar.connection_id = new.id
  ));
  return null;
end;
$$;
comment on function sync.on_connection_lost() is
'Row trigger: the channels of a connection that no longer works may end with its grant, and nobody renews them: whoever borrowed one has to see to another.';
revoke all on function sync.on_connection_lost() from public;

create trigger calendar_connections_lost after update of status on public.calendar_connections
for each row when (old.status = 'active' and new.status <> 'active')
execute function sync.on_connection_lost();
comment on trigger calendar_connections_lost on public.calendar_connections is
'Only on the way out; on the way back calendar_connections_activated has its own calendars watched.';
