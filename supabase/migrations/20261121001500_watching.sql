-- What a watch asks of the database: which channels there are, and what became of them.
--
-- A channel's row is committed as pending before the provider is called: a hello or a change
-- that beats the provider's answer is then not a stranger's.

-- Without a channel polling carries a calendar, often at first.

create function sync.lose_channel(p_calendar_id uuid)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_lane smallint := 2;
begin
  if exists (
    select 1 from public.calendar_watch_channels as live
    where live.calendar_id = p_calendar_id and live.status = 'active'
      and (live.expires_at is null or live.expires_at > sync.clock())
  ) then
    return;
  end if;
  insert into sync.calendar_state as state (calendar_id, channel_lost_at)
  values (p_calendar_id, sync.clock())
  on conflict (calendar_id) do update
  set channel_lost_at = excluded.channel_lost_at
  where state.channel_lost_at is null;
  if found then
    v_lane := 0; -- just switched on, or just lost: somebody may be waiting
  end if;
  perform sync.request_read(calendar.id, v_lane, sync.clock())
  from public.calendars as calendar
  where calendar.id = p_calendar_id and calendar.sync_enabled;
end;
$$;
comment on function sync.lose_channel(uuid) is
'Notes since when no channel of a calendar lives, and has it polled; does nothing while one lives.';
revoke all on function sync.lose_channel(uuid) from public;

create function sync.begin_watch(p_task_id bigint, p_lease uuid, p_calendar_id uuid)
returns table (
  calendar_id uuid, connection_id uuid, provider text, provider_calendar_id text,
  sync_enabled boolean, lifetime_s integer, key_id text, ciphertext bytea,
  renew_at timestamptz, now_at timestamptz
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
  update sync.calendar_state as state
  set channel_lost_at = null -- none should live
  from public.calendars as calendar
  where state.calendar_id = p_calendar_id and state.channel_lost_at is not null
    and calendar.id = p_calendar_id and not calendar.sync_enabled;
  update public.calendar_watch_channels as channel
  set status = 'expired'
  where channel.calendar_id = p_calendar_id and channel.status = 'active'
    and channel.expires_at <= v_now;
  if found then
    perform sync.lose_channel(p_calendar_id);
  end if;

  return query
  select
    calendar.id, connection.id, connection.provider, calendar.provider_calendar_id,
    calendar.sync_enabled,
    extract(epoch from calendar.channel_lifetime)::integer,
    credentials.key_id, credentials.ciphertext,
    live.renew_at,
    v_now
  from public.calendars as calendar
  join public.calendar_connections as connection on connection.id = calendar.connection_id
  left join sync.credentials as credentials on credentials.connection_id = connection.id
  left join (
    select channel.calendar_id, coalesce(state.renew_at, v_now) as renew_at
    from public.calendar_watch_channels as channel
    left join sync.channel_state as state on state.channel_id = channel.id
    where channel.status = 'active'
  ) as live on live.calendar_id = calendar.id
  where calendar.id = p_calendar_id;
end;
$$;
comment on function sync.begin_watch(bigint, uuid, uuid) is
'What a watch needs to begin: the switch, and when the live channel is to be renewed (null = none lives). No row = the calendar is gone.';
revoke all on function sync.begin_watch(bigint, uuid, uuid) from public;
grant execute on function sync.begin_watch(bigint, uuid, uuid) to sync_worker;

create function sync.open_channel(p_task_id bigint, p_lease uuid, p_calendar_id uuid)
returns uuid
language plpgsql
security definer -- as begin_watch
set search_path = ''
as $$
declare
  v_channel_id uuid;
begin
  perform sync.hold_task(p_task_id, p_lease);
  insert into public.calendar_watch_channels (calendar_id, organization_id, created_at)
  select calendar.id, calendar.organization_id, sync.clock()
  from public.calendars as calendar
  where calendar.id = p_calendar_id
  returning id into v_channel_id;
  return v_channel_id;
end;
$$;
comment on function sync.open_channel(bigint, uuid, uuid) is
'Makes a pending channel; its id is what the provider is given. Commit before asking the provider.';
revoke all on function sync.open_channel(bigint, uuid, uuid) from public;
grant execute on function sync.open_channel(bigint, uuid, uuid) to sync_worker;

create function sync.renewal_point(
  p_created_at timestamptz, p_expires_at timestamptz, p_renew_before interval
)
returns timestamptz
language sql
immutable
set search_path = ''
as $$
  -- The later of half the granted life and the wished lead; within half an hour of birth only
  -- for a channel that does not live longer.
  select case when p_expires_at is not null then least(p_expires_at, greatest(
    p_created_at + interval '30 minutes',
    p_created_at + (p_expires_at - p_created_at) / 2,
    p_expires_at - least(p_renew_before, (p_expires_at - p_created_at) / 2)
  )) end
$$;
comment on function sync.renewal_point(timestamptz, timestamptz, interval) is
'When a channel is replaced at the earliest; null where it never expires.';
revoke all on function sync.renewal_point(timestamptz, timestamptz, interval) from public;

create function sync.activate_channel(
  p_task_id bigint, p_lease uuid, p_channel_id uuid, p_provider_channel_id text,
  p_resource_id text, p_expires_at timestamptz
)
returns timestamptz
language plpgsql
security definer -- as begin_watch
set search_path = ''
as $$
declare
  v_now timestamptz := sync.clock();
  v_calendar public.calendars;
  v_created_at timestamptz;
  v_renew_at timestamptz;
begin
  perform sync.hold_task(p_task_id, p_lease);
  update public.calendar_watch_channels as older
  set status = 'replaced'
  from public.calendar_watch_channels as channel
  where channel.id = p_channel_id and older.calendar_id = channel.calendar_id
    and older.id <> channel.id and older.status = 'active';
  update public.calendar_watch_channels as channel
  set
    status = 'active', status_reason = null, provider_channel_id = p_provider_channel_id,
    resource_id = p_resource_id, expires_at = p_expires_at
  where channel.id = p_channel_id
  returning channel.created_at into v_created_at;

  select calendar.* into v_calendar
  from public.calendars as calendar
  join public.calendar_watch_channels as channel on channel.calendar_id = calendar.id
  where channel.id = p_channel_id;
  v_renew_at := sync.renewal_point(v_created_at, p_expires_at, v_calendar.renew_before);
  v_renew_at := case
    when v_renew_at is null then v_now + interval '1 day' -- looked at daily all the same
    -- Each channel a little later, by its own hash, so that they do not line up.
    else v_renew_at + (p_expires_at - v_renew_at) * 0.2
      * ((hashtextextended(p_channel_id::text, 0) & 1023)::double precision / 1024)
  end;
  insert into sync.channel_state as state (channel_id, renew_at)
  values (p_channel_id, v_renew_at)
  on conflict (channel_id) do update set renew_at = excluded.renew_at;
  insert into sync.calendar_state as state (calendar_id)
  values (v_calendar.id)
  on conflict (calendar_id) do update set channel_lost_at = null;

  -- Watched first, then read: what changed in between is announced.
  perform sync.request_read(v_calendar.id, 0::smallint, v_now);
  return v_renew_at;
end;
$$;
comment on function sync.activate_channel(bigint, uuid, uuid, text, text, timestamptz) is
'The provider made the channel: it is the live one, the one before is replaced, a pull is due. Returns when to renew it.';
revoke all on function sync.activate_channel(bigint, uuid, uuid, text, text, timestamptz)
from public;
grant execute on function sync.activate_channel(bigint, uuid, uuid, text, text, timestamptz)
to sync_worker;

create function sync.close_channel(
  p_task_id bigint, p_lease uuid, p_channel_id uuid, p_status text, p_reason text
)
returns void
language plpgsql
security definer -- as begin_watch
set search_path = ''
as $$
declare
  v_calendar_id uuid;
begin
  perform sync.hold_task(p_task_id, p_lease);
  update public.calendar_watch_channels as channel
  set status = p_status, status_reason = p_reason
  where channel.id = p_channel_id
  returning channel.calendar_id into v_calendar_id;
  if p_status in ('failed', 'unwatchable') then
    perform sync.lose_channel(v_calendar_id);
  end if;
end;
$$;
comment on function sync.close_channel(bigint, uuid, uuid, text, text) is
'A channel ends: stopped, failed, expired or unwatchable, and why.';
revoke all on function sync.close_channel(bigint, uuid, uuid, text, text) from public;
grant execute on function sync.close_channel(bigint, uuid, uuid, text, text) to sync_worker;

create function sync.doubt_channel(
  p_task_id bigint, p_lease uuid, p_channel_id uuid, p_reason text
)
returns void
language plpgsql
security definer -- as begin_watch
set search_path = ''
as $$
declare
  v_calendar_id uuid;
begin
  perform sync.hold_task(p_task_id, p_lease);
  update public.calendar_watch_channels as channel
  set status_reason = p_reason
  where channel.id = p_channel_id
  returning channel.calendar_id into v_calendar_id;
  perform sync.lose_channel(v_calendar_id);
end;
$$;
comment on function sync.doubt_channel(bigint, uuid, uuid, text) is
'Whether the provider made the channel is not known: it stays pending, and polling carries the calendar unless another lives.';
revoke all on function sync.doubt_channel(bigint, uuid, uuid, text) from public;
grant execute on function sync.doubt_channel(bigint, uuid, uuid, text) to sync_worker;

create function sync.catch_up(p_task_id bigint, p_lease uuid, p_calendar_id uuid)
returns void
language plpgsql
security definer -- as begin_watch
set search_path = ''
as $$
begin
  perform sync.hold_task(p_task_id, p_lease);
  perform sync.request_read(calendar.id, 0::smallint, sync.clock())
  from public.calendars as calendar
  where calendar.id = p_calendar_id and calendar.sync_enabled;
end;
$$;
comment on function sync.catch_up(bigint, uuid, uuid) is
'Asks for a pull where the channel lives on: nobody tells what was missed while the calendar was at rest.';
revoke all on function sync.catch_up(bigint, uuid, uuid) from public;
grant execute on function sync.catch_up(bigint, uuid, uuid) to sync_worker;

create function sync.channels_to_stop(p_calendar_id uuid, p_all boolean)
returns table (channel_id uuid, resource_id text, wait_until timestamptz)
language sql
stable
security definer -- as begin_watch
set search_path = ''
as $$
  select channel.id, named.resource_id, patience.wait_until
  from public.calendar_watch_channels as channel
  left join sync.channel_state as state on state.channel_id = channel.id
  cross join lateral (
    select coalesce(channel.resource_id, state.resource_id) as resource_id
  ) as named
  cross join lateral (
    -- Its creation was never answered: the hello may still come and tell how to stop it.
    select channel.created_at + interval '10 minutes' as wait_until
    where named.resource_id is null and channel.created_at > sync.clock() - interval '10 minutes'
    union all
    select null
    limit 1
  ) as patience
  where channel.calendar_id = p_calendar_id
    and (channel.status in ('pending', 'replaced') or (p_all and channel.status = 'active'))
  order by channel.created_at
$$;
comment on function sync.channels_to_stop(uuid, boolean) is
'Channels that should not live on: those replaced, those whose creation was never answered, and with p_all the live one. Without a resource id none can be stopped: wait_until tells how long to wait for its hello.';
revoke all on function sync.channels_to_stop(uuid, boolean) from public;
grant execute on function sync.channels_to_stop(uuid, boolean) to sync_worker;
