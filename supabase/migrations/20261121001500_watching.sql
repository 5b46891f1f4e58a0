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
  calendar_id uuid, connection_id uuid, provider text, account_email text,
  provider_calendar_id text, sync_enabled boolean, lifetime_s integer, key_id text,
  ciphertext bytea, channel_id uuid, resource_id text, channel_key_id text,
  channel_address text, expires_at timestamptz, is_borrowed boolean, lender_is_away boolean,
  renew_at timestamptz, now_at timestamptz
)
language plpgsql
security definer -- the worker holds no grant on tables: these functions are its reach
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_now timestamptz := sync.clock();
  v_ended uuid;
begin
  perform sync.hold_task(p_task_id, p_lease);
  update sync.calendar_state as state
  set channel_lost_at = null -- none should live
  from public.calendars as calendar
  where state.calendar_id = p_calendar_id and state.channel_lost_at is not null
    and calendar.id = p_calendar_id and not calendar.sync_enabled;
  update public.calendar_watch_channels as channel
  set
    status = 'expired',
    status_reason = case when channel.expires_at > v_now
      then 'the calendar whose channel announced its changes has none any more'
    end
  where channel.calendar_id = p_calendar_id and channel.status = 'active'
    and (
      channel.expires_at <= v_now
      -- It was announced by a channel that is no more: what comes in its name is a stranger's.
      or exists (
        select 1 from sync.channel_state as state
        where state.channel_id = channel.id and state.heard_as is not null
          and not exists (
            select 1 from public.calendar_watch_channels as heard
            where heard.id = state.heard_as
              and heard.status in ('pending', 'active', 'replaced')
          )
      )
    )
  returning channel.id into v_ended; -- there is one at most
  if found then
    perform sync.lose_channel(p_calendar_id);
    perform sync.wake_borrowers(array[v_ended]);
  end if;

  return query
  select
    calendar.id, connection.id, connection.provider, connection.account_email,
    calendar.provider_calendar_id, calendar.sync_enabled,
    extract(epoch from calendar.channel_lifetime)::integer,
    credentials.key_id, credentials.ciphertext,
    live.id, coalesce(live.resource_id, state.resource_id), state.key_id, state.address,
    live.expires_at, state.heard_as is not null,
    exists (
      select 1
      from public.calendar_watch_channels as lent
      join public.calendars as lender on lender.id = lent.calendar_id
      join public.calendar_connections as lenders on lenders.id = lender.connection_id
      where lent.id = state.heard_as and lenders.status <> 'active'
    ),
    case when live.id is not null then coalesce(state.renew_at, v_now) end,
    v_now
  from public.calendars as calendar
  join public.calendar_connections as connection on connection.id = calendar.connection_id
  left join sync.credentials as credentials on credentials.connection_id = connection.id
  left join public.calendar_watch_channels as live
    on live.calendar_id = calendar.id and live.status = 'active'
  left join sync.channel_state as state on state.channel_id = live.id
  where calendar.id = p_calendar_id;
end;
$$;
comment on function sync.begin_watch(bigint, uuid, uuid) is
'What a watch needs to begin: the switch, and the channel that lives (null = none), with what it was made of and when it is to be renewed. No row = the calendar is gone.';
revoke all on function sync.begin_watch(bigint, uuid, uuid) from public;
grant execute on function sync.begin_watch(bigint, uuid, uuid) to sync_worker;

create function sync.open_channel(
  p_task_id bigint, p_lease uuid, p_calendar_id uuid, p_key_id text, p_address text,
  p_id_prefix text default null
)
returns uuid
language plpgsql
security definer -- as begin_watch
set search_path = ''
as $$
declare
  v_now timestamptz := sync.clock();
  v_channel_id uuid;
begin
  perform sync.hold_task(p_task_id, p_lease);
  -- One that the provider refused, or never heard of, is tried again under its own id.
  update public.calendar_watch_channels as channel
  set
    status = 'pending', status_reason = null, created_at = v_now,
    provider_channel_id = p_id_prefix || channel.id
  where channel.id = (
    select unused.id
    from public.calendar_watch_channels as unused
    join sync.channel_state as state on state.channel_id = unused.id and state.unused
    where unused.calendar_id = p_calendar_id
    order by unused.created_at desc, unused.id
    limit 1
  )
  returning channel.id into v_channel_id;
  if v_channel_id is null then
    insert into public.calendar_watch_channels (
      id, calendar_id, organization_id, provider_channel_id, created_at
    )
    select fresh.id, calendar.id, calendar.organization_id, p_id_prefix || fresh.id, v_now
    from public.calendars as calendar
    cross join (select gen_random_uuid() as id) as fresh
    where calendar.id = p_calendar_id
    returning id into v_channel_id;
  end if;
  insert into sync.channel_state as state (channel_id, key_id, address)
  values (v_channel_id, p_key_id, p_address)
  on conflict (channel_id) do update
  set key_id = excluded.key_id, address = excluded.address, unused = false;
  return v_channel_id;
end;
$$;
comment on function sync.open_channel(bigint, uuid, uuid, text, text, text) is
'Makes a pending channel, or takes one that was never used. Its id, after the prefix, is what the provider is given; without a prefix the provider names it in its own way. Commit before asking the provider.';
revoke all on function sync.open_channel(bigint, uuid, uuid, text, text, text) from public;
grant execute on function sync.open_channel(bigint, uuid, uuid, text, text, text)
to sync_worker;

create function sync.close_channel(
  p_task_id bigint, p_lease uuid, p_channel_id uuid, p_status text, p_reason text,
  p_unused boolean
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
  set status = p_status, status_reason = coalesce(p_reason, channel.status_reason)
  where channel.id = p_channel_id
  returning channel.calendar_id into v_calendar_id;
  update sync.channel_state as state
  set unused = true
  where state.channel_id = p_channel_id and p_unused;
  if p_status = 'by_hand' then
    perform sync.request_read(v_calendar_id, 0::smallint, sync.clock());
  elsif p_status <> 'stopped' then
    perform sync.lose_channel(v_calendar_id);
  end if;

  -- Who was told of changes in its name has to see to a channel of their own.
  perform sync.wake_borrowers(array[p_channel_id]);
end;
$$;
comment on function sync.close_channel(bigint, uuid, uuid, text, text, boolean) is
'A channel ends, and why (null = as was said before); p_unused where the provider certainly has nothing of its id.';
revoke all on function sync.close_channel(bigint, uuid, uuid, text, text, boolean) from public;
grant execute on function sync.close_channel(bigint, uuid, uuid, text, text, boolean)
to sync_worker;

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
returns table (
  channel_id uuid, status text, foreign_id text, resource_id text, is_ours boolean,
  wait_until timestamptz
)
language sql
stable
security definer -- as begin_watch
set search_path = ''
as $$
  select
    channel.id, channel.status,
    coalesce(adopted.provider_channel_id, channel.provider_channel_id), named.resource_id,
    channel.status <> 'by_hand' and state.heard_as is null,
    patience.wait_until
  from public.calendar_watch_channels as channel
  left join sync.channel_state as state on state.channel_id = channel.id
  left join sync.adopted_channels as adopted on adopted.channel_id = channel.id
  cross join lateral (
    select coalesce(channel.resource_id, state.resource_id) as resource_id
  ) as named
  cross join lateral (
    -- Its creation was never answered: the hello may still come and tell how to stop it.
    select channel.created_at + interval '10 minutes' as wait_until
    where channel.status = 'pending' and named.resource_id is null
      and channel.created_at > sync.clock() - interval '10 minutes'
    union all
    select null
    limit 1
  ) as patience
  where channel.calendar_id = p_calendar_id
    and (
      channel.status in ('pending', 'replaced')
      or (p_all and channel.status in ('active', 'by_hand'))
    )
  order by channel.created_at
$$;
comment on function sync.channels_to_stop(uuid, boolean) is
'Channels that should not live on: those replaced, those whose creation was never answered, and with p_all the live one. Without a resource id none can be stopped: wait_until tells how long to wait for its hello. What is not ours is another''s to stop; foreign_id is the id that the provider knows it by, where that is not simply the row''s.';
revoke all on function sync.channels_to_stop(uuid, boolean) from public;
grant execute on function sync.channels_to_stop(uuid, boolean) to sync_worker;
