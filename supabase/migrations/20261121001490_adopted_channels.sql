-- Google channels that an older system made: believed by a hash of their token until they end, and
-- replaced by one of ours when their renewal is due (docs/providers/google.md).
--
-- Google tells nobody twice what it was refused, and a channel cannot be moved: without this,
-- changes would go unannounced between the old system's end and our own channel.

create table sync.adopted_channels (
  channel_id uuid primary key references public.calendar_watch_channels (id) on delete cascade,
  provider_channel_id text not null unique,
  token_hash bytea not null,
  expires_at timestamptz not null,
  constraint adopted_channels_token_hash_is_sha256 check (length(token_hash) = 32)
);
alter table sync.adopted_channels enable row level security;
comment on table sync.adopted_channels is
'Channels of Google that an older system made, each with the row that stands for it here.';
comment on column sync.adopted_channels.provider_channel_id is
'The id that the older system gave it: pushes bear it, and stopping needs it.';
comment on column sync.adopted_channels.token_hash is
'SHA-256 of its token, which is stored nowhere. Several may share one: older systems often have one for all.';
comment on column sync.adopted_channels.expires_at is 'When Google ends it; its token is believed until then.';

create function sync.adopted_tokens()
returns table (
  token_hash bytea, provider_channel_id text, channel_id uuid, expires_at timestamptz
)
language sql
stable
security definer -- the receiver's role reads no table
set search_path = ''
as $$
  -- Those that were stopped, too: a push that was under way is ours, and ignored.
  select adopted.token_hash, adopted.provider_channel_id, adopted.channel_id, adopted.expires_at
  from sync.adopted_channels as adopted
  where adopted.expires_at > sync.clock()
$$;
comment on function sync.adopted_tokens() is
'Whom the receiver believes beside our own channels: hashes of tokens, no tokens.';
revoke all on function sync.adopted_tokens() from public;
grant execute on function sync.adopted_tokens() to webhook_ingest;

create function sync.take_over_channel(
  p_calendar_id uuid, p_provider_channel_id text, p_resource_id text, p_token text,
  p_expires_at timestamptz
)
returns uuid
language plpgsql
set search_path = ''
as $$
declare
  v_hash bytea := sha256(convert_to(p_token, 'UTF8'));
  v_connection_id uuid;
  v_organization_id uuid;
  v_known record;
  v_channel_id uuid;
  v_look_at timestamptz;
begin
  select calendar.connection_id, calendar.organization_id
  into v_connection_id, v_organization_id
  from public.calendars as calendar
  join public.calendar_connections as connection on connection.id = calendar.connection_id
  where calendar.id = p_calendar_id and connection.provider = 'google';
  if not found then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = 'this is no calendar of a Google connection',
      hint = 'The first argument is the id of a row of public.calendars.';
  end if;
  -- The token itself is never quoted.
  if (
    p_token ~ '^[\x21-\x7e]+$' and length(p_token) <= 256 and p_token !~ '^v1\.'
  ) is not true then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = 'the token is not one that an older system''s channel can be believed by',
      hint = 'It has 1 to 256 printable ASCII characters without blanks, and does not begin with v1., as ours do. A channel without a token cannot be taken over: let it run out.';
  end if;
  if (
    p_provider_channel_id ~ '^[A-Za-z0-9_+/=-]{1,64}$'
    and p_resource_id ~ '^[\x21-\x7e]+$' and length(p_resource_id) <= 256
    and p_expires_at > sync.clock() and p_expires_at < 'infinity'
  ) is not true then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = 'the channel''s id or resource id is malformed, or it has expired',
      hint = 'All three are what Google answered when the channel was made; expiration was in milliseconds: to_timestamp(expiration / 1000.0).';
  end if;
  perform sync.lock_identity(p_calendar_id);

  select channel.id, channel.calendar_id, channel.status into v_known
  from sync.adopted_channels as adopted
  join public.calendar_watch_channels as channel on channel.id = adopted.channel_id
  where adopted.provider_channel_id = p_provider_channel_id;
  if v_known.calendar_id <> p_calendar_id then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = 'this channel was taken over for another calendar',
      hint = 'A channel of Google announces the changes of one calendar.';
  elsif v_known.id is not null then
    -- Told once more: what was wrong the first time is mended.
    update sync.adopted_channels as adopted
    set token_hash = v_hash, expires_at = p_expires_at
    where adopted.channel_id = v_known.id;
    update public.calendar_watch_channels as channel
    set resource_id = p_resource_id, expires_at = p_expires_at
    where channel.id = v_known.id
      and (channel.resource_id, channel.expires_at)
      is distinct from (p_resource_id, p_expires_at);
    if v_known.status <> 'active' then
      return v_known.id;
    end if;
    v_channel_id := v_known.id;
  else
    insert into public.calendar_watch_channels (
      calendar_id, organization_id, provider_channel_id, resource_id, expires_at, status,
      created_at
    )
    select
      p_calendar_id, v_organization_id, p_provider_channel_id, p_resource_id, p_expires_at,
      -- Beside one that lives already it has only to be stopped.
      case when exists (
        select 1 from public.calendar_watch_channels as live
        where live.calendar_id = p_calendar_id and live.status = 'active'
          and live.expires_at > sync.clock()
      ) then 'replaced' else 'pending' end,
      sync.clock()
    returning id into v_channel_id;
    insert into sync.adopted_channels (channel_id, provider_channel_id, token_hash, expires_at)
    values (v_channel_id, p_provider_channel_id, v_hash, p_expires_at);
  end if;

  v_look_at := sync.clock();
  if exists (
    select 1 from public.calendar_watch_channels as channel
    where channel.id = v_channel_id and channel.status <> 'replaced'
  ) then
    v_look_at := sync.make_live(v_channel_id, p_resource_id, p_expires_at, null);
    update public.calendar_watch_channels as channel
    set provider_channel_id = p_provider_channel_id
    where channel.id = v_channel_id;
  end if;
  perform sync.request_task('watch', p_calendar_id, v_connection_id, 2::smallint, v_look_at);
  return v_channel_id;
end;
$$;
comment on function sync.take_over_channel(uuid, text, text, text, timestamptz) is
'For operators: a channel that an older system had Google make announces this calendar''s changes here, until one of ours takes its place at its renewal point and it is stopped. Where one lives already it is stopped at once. Its token is kept as a hash; saying the same once more changes nothing. Returns the id of its row.';
revoke all on function sync.take_over_channel(uuid, text, text, text, timestamptz) from public;
