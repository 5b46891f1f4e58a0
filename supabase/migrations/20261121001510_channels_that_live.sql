-- Channels that live: when each is looked at again, how one takes another's place, is extended,
-- found again or taken over.

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

create function sync.renew_at(
  p_channel_id uuid, p_calendar_id uuid, p_expires_at timestamptz, p_is_borrowed boolean
)
returns timestamptz
language sql
stable
set search_path = ''
as $$
  select case
    -- Whether it still speaks for this calendar is in another's hands.
    when p_is_borrowed
      then least(sync.clock() + interval '1 day', coalesce(point.at, 'infinity'))
    when point.at is null then sync.clock() + interval '1 day' -- looked at daily all the same
    -- Each channel a little later, by its own hash, so that they do not line up.
    else point.at + (p_expires_at - point.at) * 0.2
      * ((hashtextextended(p_channel_id::text, 0) & 1023)::double precision / 1024)
  end
  from public.calendars as calendar
  cross join lateral (
    select sync.renewal_point(sync.clock(), p_expires_at, calendar.renew_before) as at
  ) as point
  where calendar.id = p_calendar_id
$$;
comment on function sync.renew_at(uuid, uuid, timestamptz, boolean) is
'When a channel that the provider has just granted is looked at again.';
revoke all on function sync.renew_at(uuid, uuid, timestamptz, boolean) from public;

create function sync.make_live(
  p_channel_id uuid, p_resource_id text, p_expires_at timestamptz, p_heard_as uuid
)
returns timestamptz
language plpgsql
set search_path = ''
as $$
declare
  v_calendar_id uuid;
  v_connection_id uuid;
  v_provider text;
  v_renew_at timestamptz;
  v_replaced uuid[];
begin
  select calendar.id, connection.id, connection.provider
  into v_calendar_id, v_connection_id, v_provider
  from public.calendars as calendar
  join public.calendar_connections as connection on connection.id = calendar.connection_id
  join public.calendar_watch_channels as channel on channel.calendar_id = calendar.id
  where channel.id = p_channel_id;
  update public.calendar_watch_channels as older
  set status = 'replaced'
  where older.calendar_id = v_calendar_id and older.id <> p_channel_id
    and older.status = 'active'
  returning array[older.id] into v_replaced; -- there is one at most
  update public.calendar_watch_channels as channel
  set
    status = 'active', status_reason = null, resource_id = p_resource_id,
    -- Google goes by the id that it was given.
    provider_channel_id = case
      when v_provider <> 'google' then p_resource_id
      when p_heard_as is null then coalesce(channel.provider_channel_id, channel.id::text)
      else (
        select coalesce(lent.provider_channel_id, lent.id::text)
        from public.calendar_watch_channels as lent
        where lent.id = p_heard_as
      )
    end,
    expires_at = p_expires_at
  where channel.id = p_channel_id;
  v_renew_at := sync.renew_at(p_channel_id, v_calendar_id, p_expires_at, p_heard_as is not null);
  insert into sync.channel_state as state (channel_id, renew_at, heard_as)
  values (p_channel_id, v_renew_at, p_heard_as)
  on conflict (channel_id) do update
  set renew_at = excluded.renew_at, heard_as = excluded.heard_as, unused = false;
  perform sync.move_borrowers(v_replaced, coalesce(p_heard_as, p_channel_id));
  insert into sync.calendar_state as state (calendar_id)
  values (v_calendar_id)
  on conflict (calendar_id) do update set channel_lost_at = null;
  perform sync.resolve_alert('signing_key_missing', v_connection_id);

  -- Watched first, then read: what changed in between is announced.
  perform sync.request_read(v_calendar_id, 0::smallint, sync.clock());
  return v_renew_at;
end;
$$;
comment on function sync.make_live(uuid, text, timestamptz, uuid) is
'A channel is the live one of its calendar, the one before is replaced, reading is due. Returns when to renew it.';
revoke all on function sync.make_live(uuid, text, timestamptz, uuid) from public;

create function sync.activate_channel(
  p_task_id bigint, p_lease uuid, p_channel_id uuid, p_resource_id text,
  p_expires_at timestamptz
)
returns timestamptz
language plpgsql
security definer -- as begin_watch
set search_path = ''
as $$
begin
  perform sync.hold_task(p_task_id, p_lease);
  perform sync.lock_identity(channel.calendar_id)
  from public.calendar_watch_channels as channel
  where channel.id = p_channel_id;
  return sync.make_live(p_channel_id, p_resource_id, p_expires_at, null);
end;
$$;
comment on function sync.activate_channel(bigint, uuid, uuid, text, timestamptz) is
'The provider made the channel: it is the live one. Returns when to renew it.';
revoke all on function sync.activate_channel(bigint, uuid, uuid, text, timestamptz) from public;
grant execute on function sync.activate_channel(bigint, uuid, uuid, text, timestamptz)
to sync_worker;

create function sync.keep_channel(
  p_task_id bigint, p_lease uuid, p_channel_id uuid, p_expires_at timestamptz, p_key_id text,
  p_read boolean
)
returns timestamptz
language plpgsql
security definer -- as begin_watch
set search_path = ''
as $$
declare
  v_calendar_id uuid;
  v_connection_id uuid;
  v_renew_at timestamptz;
begin
  perform sync.hold_task(p_task_id, p_lease);
  update public.calendar_watch_channels as channel
  set expires_at = p_expires_at, status_reason = null
  where channel.id = p_channel_id
    and (channel.expires_at, channel.status_reason) is distinct from (p_expires_at, null);
  select calendar.id, calendar.connection_id into v_calendar_id, v_connection_id
  from public.calendars as calendar
  join public.calendar_watch_channels as channel on channel.calendar_id = calendar.id
  where channel.id = p_channel_id;
  update sync.channel_state as state
  set
    key_id = p_key_id,
    renew_at = sync.renew_at(
      p_channel_id, v_calendar_id, p_expires_at, state.heard_as is not null
    )
  where state.channel_id = p_channel_id
  returning state.renew_at into v_renew_at;
  perform sync.resolve_alert('signing_key_missing', v_connection_id);
  if p_read then
    perform sync.request_read(v_calendar_id, 0::smallint, sync.clock());
  end if;
  return v_renew_at;
end;
$$;
comment on function sync.keep_channel(bigint, uuid, uuid, timestamptz, text, boolean) is
'The provider says that a channel lives on, until when, and with which key; p_read where it may have been silent. Returns when to ask again.';
revoke all on function sync.keep_channel(bigint, uuid, uuid, timestamptz, text, boolean)
from public;
grant execute on function sync.keep_channel(bigint, uuid, uuid, timestamptz, text, boolean)
to sync_worker;

create function sync.adopt_channel(
  p_task_id bigint, p_lease uuid, p_channel_id uuid, p_found_id uuid, p_resource_id text,
  p_expires_at timestamptz
)
returns table (verdict text, renew_at timestamptz)
language plpgsql
security definer -- as begin_watch
set search_path = ''
as $$
declare
  v_is_own boolean;
  v_is_live boolean;
  v_is_same boolean;
begin
  perform sync.hold_task(p_task_id, p_lease);
  perform sync.lock_identity(channel.calendar_id)
  from public.calendar_watch_channels as channel
  where channel.id = p_channel_id;
  select
    found.calendar_id = mine.calendar_id,
    found.status in ('pending', 'active', 'replaced'),
    -- As sync.receive says whom a channel's deliveries wake.
    calendar.provider_calendar_id = own_calendar.provider_calendar_id
    and connection.provider = own_connection.provider
    and connection.account_email = own_connection.account_email
  into v_is_own, v_is_live, v_is_same
  from public.calendar_watch_channels as mine
  join public.calendars as own_calendar on own_calendar.id = mine.calendar_id
  join public.calendar_connections as own_connection
    on own_connection.id = own_calendar.connection_id
  join public.calendar_watch_channels as found on found.id = p_found_id
  join public.calendars as calendar on calendar.id = found.calendar_id
  join public.calendar_connections as connection on connection.id = calendar.connection_id
  where mine.id = p_channel_id
  for share of found; -- its end waits for us, and then knows who listened
  if v_is_own then
    verdict := 'adopted';
    renew_at := sync.make_live(p_found_id, p_resource_id, p_expires_at, null);
    perform sync.close_channel(
      p_task_id, p_lease, p_channel_id, 'stopped', 'the calendar has another channel', true
    );
  elsif v_is_live and v_is_same then
    verdict := 'borrowed';
    renew_at := sync.make_live(p_channel_id, p_resource_id, p_expires_at, p_found_id);
  elsif v_is_live then
    verdict := 'taken';
  else
    verdict := 'abandoned';
  end if;
  return next;
end;
$$;
comment on function sync.adopt_channel(bigint, uuid, uuid, uuid, text, timestamptz) is
'The provider has a channel already and takes no second. One of this calendar is the live one from now on (adopted), one of the same calendar elsewhere speaks for this one too (borrowed): renewed when it says. One of an account that is not the same is left alone (taken); to one that nobody listens to there is an end to be made (abandoned).';
revoke all on function sync.adopt_channel(bigint, uuid, uuid, uuid, text, timestamptz) from public;
grant execute on function sync.adopt_channel(bigint, uuid, uuid, uuid, text, timestamptz)
to sync_worker;

create function sync.miss_signing_key(p_task_id bigint, p_lease uuid, p_connection_id uuid)
returns void
language plpgsql
security definer -- as begin_watch
set search_path = ''
as $$
begin
  perform sync.hold_task(p_task_id, p_lease);
  perform sync.raise_alert(
    'signing_key_missing', p_connection_id, p_connection_id,
    'Calendly signs what it sends to our OAuth app with the app''s own key, which no worker has.',
    'Ask Calendly''s support for the key of the app, set CALENDLY_WEBHOOK_SIGNING_KEY for webhook_api and for the worker, and start them again.'
  );
end;
$$;
comment on function sync.miss_signing_key(bigint, uuid, uuid) is
'Raises the alert that deliveries of an OAuth app could not be verified; the next channel that lives resolves it.';
revoke all on function sync.miss_signing_key(bigint, uuid, uuid) from public;
grant execute on function sync.miss_signing_key(bigint, uuid, uuid) to sync_worker;
