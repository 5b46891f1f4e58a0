-- What becomes of channels that live on: extended, found again, taken over.

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
returns timestamptz
language plpgsql
security definer -- as begin_watch
set search_path = ''
as $$
declare
  v_is_own boolean;
  v_may_borrow boolean;
  v_renew_at timestamptz;
begin
  perform sync.hold_task(p_task_id, p_lease);
  select
    found.calendar_id = mine.calendar_id,
    found.status in ('pending', 'active', 'replaced')
      -- As sync.receive says whom a channel's deliveries wake.
      and calendar.provider_calendar_id = own_calendar.provider_calendar_id
      and connection.provider = own_connection.provider
      and connection.account_email = own_connection.account_email
  into v_is_own, v_may_borrow
  from public.calendar_watch_channels as mine
  join public.calendars as own_calendar on own_calendar.id = mine.calendar_id
  join public.calendar_connections as own_connection
    on own_connection.id = own_calendar.connection_id
  join public.calendar_watch_channels as found on found.id = p_found_id
  join public.calendars as calendar on calendar.id = found.calendar_id
  join public.calendar_connections as connection on connection.id = calendar.connection_id
  where mine.id = p_channel_id
  for key share of found;
  if v_is_own then
    v_renew_at := sync.make_live(p_found_id, p_resource_id, p_expires_at, null);
    perform sync.close_channel(
      p_task_id, p_lease, p_channel_id, 'stopped', 'the calendar has another channel', true
    );
  elsif v_may_borrow then
    v_renew_at := sync.make_live(p_channel_id, p_resource_id, p_expires_at, p_found_id);
  end if;
  return v_renew_at;
end;
$$;
comment on function sync.adopt_channel(bigint, uuid, uuid, uuid, text, timestamptz) is
'The provider has a channel already and takes no second: one of this calendar becomes the live one, the deliveries of another calendar''s count for this one too. Returns when to renew it; null where nobody listens to it: end it at the provider.';
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
