-- Connections, their calendars, and the channels that announce changes.
--
-- What changes on every poll (cursors, counters, poll times) is kept in `sync`, not here: these
-- tables are published, so each write is a message to every frontend.

create table public.calendar_connections (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null references public.organizations (id) on delete cascade,
  owner_id uuid references auth.users (id) on delete set null,
  provider text not null,
  account_email text not null,
  provider_account_id text,
  scopes text[] not null default '{}',
  status text not null default 'active',
  status_reason text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  unique (id, organization_id),
  unique (organization_id, provider, account_email),
  constraint calendar_connections_provider_is_known
  check (provider in ('google', 'microsoft', 'calendly', 'calcom')),
  constraint calendar_connections_status_is_known
  check (status in ('active', 'needs_reauth', 'paused', 'revoked')),
  constraint calendar_connections_email_is_lower_case check (account_email = lower(account_email))
);
comment on table public.calendar_connections is
'One account at one provider, linked by a user of an organization.';
comment on column public.calendar_connections.provider_account_id is
'What the provider calls the account (Calendly''s user URI, Cal.com''s user id); null where nobody could ask for it yet.';
comment on column public.calendar_connections.status_reason is 'Why it is not active, in words for its owner.';
comment on column public.calendar_connections.owner_id is
'Who linked it; null = their account was deleted, and admins alone see to it.';
comment on column public.calendar_connections.account_email is
'In lower case: calendars of the same account, in whatever organizations, are known by it.';
comment on column public.calendar_connections.scopes is
'What the account granted, in the provider''s words.';
comment on column public.calendar_connections.status is
'active; paused (by a user, who may resume it); needs_reauth (the grant is gone: link it again); revoked (given up).';
create index calendar_connections_owner on public.calendar_connections (owner_id);
comment on index public.calendar_connections_owner is
'sync.my_connections() finds what a user has linked, to let them at its settings and private events.';
create index calendar_connections_identity on public.calendar_connections (provider, account_email);
comment on index public.calendar_connections_identity is
'sync.receive finds whom a delivery of Cal.com is for by the host''s address.';
create index calendar_connections_account
on public.calendar_connections (provider, provider_account_id)
where provider_account_id is not null;
comment on index public.calendar_connections_account is
'sync.receive finds whom a delivery of Calendly is for by the user that it names.';

create table public.calendars (
  id uuid primary key default gen_random_uuid(),
  connection_id uuid not null,
  organization_id uuid not null,
  provider_calendar_id text not null,
  name text not null default '',
  time_zone text,
  kind text not null default 'calendar',
  access_role text not null default 'owner',
  sync_enabled boolean not null default false,
  direction text not null default 'two_way',
  event_tag text,
  mail_events boolean not null default false,
  conflict_policy text not null default 'latest',
  poll_every interval,
  renew_before interval,
  channel_lifetime interval,
  window_past interval not null default interval '30 days',
  window_future interval not null default interval '180 days',
  backfill text not null default 'pending',
  full_round_asked_at timestamptz,
  last_error text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  foreign key (connection_id, organization_id)
  references public.calendar_connections (id, organization_id) on delete cascade,
  unique (id, organization_id),
  unique (connection_id, provider_calendar_id),
  constraint calendars_kind_is_known check (kind in ('calendar', 'bookings', 'generated')),
  constraint calendars_direction_is_known check (direction in ('two_way', 'inbound', 'outbound')),
  constraint calendars_conflict_policy_is_known
  check (conflict_policy in ('latest', 'provider', 'local', 'ask')),
  constraint calendars_backfill_is_known check (backfill in ('pending', 'upcoming', 'complete')),
  constraint calendars_event_tag_is_short check (length(event_tag) between 1 and 60),
  constraint calendars_time_zone_is_known check (sync.is_time_zone(time_zone)),
  -- Users set these: nobody polls without a pause, and a date that no program can hold is asked
  -- of nobody.
  constraint calendars_window_is_sensible check (
    window_past between interval '0' and interval '10 years'
    and window_future > interval '0' and window_future <= interval '10 years'
  ),
  constraint calendars_poll_every_is_sensible
  check (poll_every = interval '0' or poll_every between interval '1 minute' and interval '1 year'),
  constraint calendars_renew_before_is_positive check (renew_before >= interval '0'),
  constraint calendars_channel_lifetime_is_sensible
  check (channel_lifetime between interval '1 minute' and interval '1 year')
);
comment on table public.calendars is 'One calendar of a connection, and how it is synced.';
comment on column public.calendars.provider_calendar_id is 'The provider''s id, never an alias such as primary.';
comment on column public.calendars.kind is
'calendar; bookings (a booking provider has exactly one); generated (holidays and the like: nothing can watch them).';
comment on column public.calendars.access_role is 'What the account may do there, in the provider''s word.';
comment on column public.calendars.sync_enabled is 'The switch: on = watched, pulled and projected.';
comment on column public.calendars.mail_events is
'Whether events that the provider made out of mails (flights, tables, tickets) become meetings.';
comment on column public.calendars.event_tag is
'Only events whose title or text has this tag become meetings; null = all.';
comment on column public.calendars.conflict_policy is
'Who wins when a field was changed on both sides: the latest change, the provider, the app, or a person is asked.';
comment on column public.calendars.poll_every is
'Polling interval, a minute at least; null = adaptive, zero = never while a channel lives.';
comment on column public.calendars.renew_before is
'How long before its end a channel is replaced; null = at half of its life.';
comment on column public.calendars.channel_lifetime is 'Lifetime asked of the provider; null = the longest it grants.';
comment on column public.calendars.window_past is 'How far back events are mirrored.';
comment on column public.calendars.window_future is 'How far ahead events are mirrored.';
comment on column public.calendars.backfill is
'First sync in coarse steps: pending, upcoming (the next four weeks are there), complete.';
comment on column public.calendars.full_round_asked_at is
'The next pull reads everything: asked for by rpc resync_calendar, or because a setting decides anew what becomes a meeting.';
comment on column public.calendars.last_error is 'Why the last run failed, in words for the owner; null = it worked.';
comment on column public.calendars.time_zone is
'IANA name, as the provider tells it; null = it tells none, and the organization''s holds.';
comment on column public.calendars.direction is
'two_way; inbound (edits made in the app stay in the app); outbound (written to only: what others put there becomes no meeting).';
create index calendars_organization on public.calendars (organization_id);
comment on index public.calendars_organization is
'What members see and sync_health lists, and where bookings look for the calendars of their hosts.';
create index calendars_connection on public.calendars (connection_id, organization_id);
comment on index public.calendars_connection is
'The calendars of an account: to watch and read them when it works again, and to go with it.';
create index calendars_provider_calendar on public.calendars (provider_calendar_id);
comment on index public.calendars_provider_calendar is
'A change that is told of one organization''s calendar wakes all that have the same one: sync.receive and sync.twins_of look for them here.';

create table public.calendar_watch_channels (
  id uuid primary key default gen_random_uuid(),
  calendar_id uuid not null,
  organization_id uuid not null,
  provider_channel_id text,
  resource_id text,
  expires_at timestamptz,
  status text not null default 'pending',
  status_reason text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  foreign key (calendar_id, organization_id)
  references public.calendars (id, organization_id) on delete cascade,
  constraint calendar_watch_channels_status_is_known check (
    status in (
      'pending', 'active', 'replaced', 'expired', 'failed', 'stopped', 'unwatchable', 'by_hand'
    )
  )
);
comment on table public.calendar_watch_channels is
'A live push subscription of a calendar, and those before it. Its id is, or ends, the id the provider is given.';
comment on column public.calendar_watch_channels.status is
'pending (the provider was asked), active, replaced by another, expired, failed, stopped, unwatchable (the provider has no pushes for it), by_hand (its webhook was registered by hand, and is nobody''s of ours).';
comment on column public.calendar_watch_channels.provider_channel_id is 'The id that the provider knows it by: at Google the row''s, after SUPACAL_CHANNEL_PREFIX as it was then; others make their own.';
comment on column public.calendar_watch_channels.resource_id is 'What the provider wants to hear besides the id when the channel is stopped.';
comment on column public.calendar_watch_channels.expires_at is
'When the provider ends it; null = it does not end by itself, or the provider has not answered yet.';
comment on column public.calendar_watch_channels.status_reason is
'Why it could not be made, or ended, in words; null = there is nothing to say.';
create index calendar_watch_channels_calendar
on public.calendar_watch_channels (calendar_id, organization_id);
comment on index public.calendar_watch_channels_calendar is
'The latest channel of a calendar and those before it: sync_health, sync_coverage_gaps and each watch read it.';
create index calendar_watch_channels_organization
on public.calendar_watch_channels (organization_id);
comment on index public.calendar_watch_channels_organization is
'Members read by organization, as their policy asks.';
create unique index calendar_watch_channels_one_active
on public.calendar_watch_channels (calendar_id)
where status = 'active';
comment on index public.calendar_watch_channels_one_active is
'Two watches at once cannot both have made the channel that lives; polling looks for that one here.';

create table sync.calendar_state (
  calendar_id uuid primary key references public.calendars (id) on delete cascade,
  cursor text,
  cursor_parameters text,
  window_start timestamptz,
  window_end timestamptz,
  window_rolls_at timestamptz,
  round_started_at timestamptz,
  last_pulled_at timestamptz,
  last_changed_at timestamptz,
  announced bigint not null default 0,
  unannounced bigint not null default 0,
  channel_lost_at timestamptz
);
comment on table sync.calendar_state is 'Where the pull of a calendar stands: written on every poll, published nowhere.';
comment on column sync.calendar_state.cursor is 'Sync token or delta link; null = the next pull reads everything.';
comment on column sync.calendar_state.cursor_parameters is
'Fingerprint of the request parameters the cursor was made with; another set makes it worthless.';
comment on column sync.calendar_state.round_started_at is 'Set while a full round is under way.';
comment on column sync.calendar_state.announced is 'Pulls with changes that a notification had asked for.';
comment on column sync.calendar_state.unannounced is 'Pulls with changes that no notification had told of: missed pushes.';
comment on column sync.calendar_state.channel_lost_at is 'Since when no channel lives though one should; drives polling.';

create table sync.channel_state (
  channel_id uuid primary key references public.calendar_watch_channels (id) on delete cascade,
  resource_id text,
  hello_at timestamptz,
  renew_at timestamptz,
  key_id text,
  address text,
  unused boolean not null default false,
  heard_as uuid
);
comment on table sync.channel_state is
'What is known of a channel beyond its public row: the provider''s hello, and when to renew.';
comment on column sync.channel_state.resource_id is
'From the hello: lets a channel be stopped whose creation was never answered.';

comment on column sync.channel_state.key_id is
'The key of SUPACAL_SECRET_KEYS that the channel''s secret was made with; null = none of them.';
comment on column sync.channel_state.address is
'Where its deliveries were asked for, without what names the channel.';
comment on column sync.channel_state.unused is
'The provider has certainly nothing of this id: the next attempt may take it.';
comment on column sync.channel_state.heard_as is
'The channel, of another calendar that is the same one at the provider, whose id the deliveries bear: the provider takes no second.';
create index channel_state_heard_as on sync.channel_state (heard_as) where heard_as is not null;
comment on index sync.channel_state_heard_as is
'Who listens by a channel: when it is replaced, ends or is spoken of, they are concerned too.';

create table sync.credentials (
  connection_id uuid primary key references public.calendar_connections (id) on delete cascade,
  key_id text not null,
  ciphertext bytea not null,
  updated_at timestamptz not null default now()
);
comment on table sync.credentials is
'Provider tokens of a connection, sealed by the application: the database never holds the key.';

create table sync.connection_state (
  connection_id uuid primary key references public.calendar_connections (id) on delete cascade,
  backoff_until timestamptz
);
comment on table sync.connection_state is 'What the provider asked of a whole connection.';
comment on column sync.connection_state.backoff_until is 'No task of the connection starts before (Retry-After, quota).';

create trigger calendar_connections_touch before update on public.calendar_connections
for each row when (old.* is distinct from new.*) execute function sync.touch_updated_at();
comment on trigger calendar_connections_touch on public.calendar_connections is
'updated_at is since when it is as it is, paused for instance.';
create trigger calendars_touch before update on public.calendars
for each row when (old.* is distinct from new.*) execute function sync.touch_updated_at();
comment on trigger calendars_touch on public.calendars is
'sync_coverage_gaps tells by updated_at since when a calendar goes unheard that never had a channel.';
create trigger calendar_watch_channels_touch before update on public.calendar_watch_channels
for each row when (old.* is distinct from new.*) execute function sync.touch_updated_at();
comment on trigger calendar_watch_channels_touch on public.calendar_watch_channels is
'sync.prune_channels counts the days since a channel ended from updated_at.';
