-- Events: the mirror of what the provider last told.

create table public.calendar_events (
  id uuid primary key default gen_random_uuid(),
  -- Only the engine writes here: it keeps organization_id right, and the index it would cost
  -- to have that checked is saved on every row.
  calendar_id uuid not null references public.calendars (id) on delete cascade,
  organization_id uuid not null,
  provider_event_id text not null,
  role text not null,
  ical_uid text,
  etag text,
  sequence integer,
  status text not null,
  title text,
  description text,
  location text,
  starts_at timestamptz,
  ends_at timestamptz,
  all_day boolean not null default false,
  start_date date,
  end_date date,
  time_zone text,
  organizer_email text,
  is_organizer boolean not null default true,
  own_response text,
  attendees jsonb not null default '[]',
  conference_url text,
  series_provider_id text,
  series_id uuid references public.calendar_events (id) on delete set null,
  original_start timestamptz,
  original_start_date date,
  visibility text not null default 'default',
  event_type text not null default 'default',
  provider_updated_at timestamptz,
  content_hash bytea not null,
  scope text not null default 'in',
  raw jsonb not null default '{}',
  meeting_id uuid references public.meetings (id) on delete set null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  unique (calendar_id, provider_event_id),
  constraint calendar_events_role_is_known
  check (role in ('single', 'series', 'occurrence', 'exception', 'slot')),
  constraint calendar_events_status_is_known
  check (status in ('confirmed', 'tentative', 'cancelled')),
  constraint calendar_events_scope_is_known check (scope in ('in', 'out_of_scope', 'detached')),
  constraint calendar_events_end_is_not_before_start check (ends_at >= starts_at)
);
comment on table public.calendar_events is
'The mirror: a provider''s calendar event as last told. Rows are marked cancelled, not deleted.';
comment on column public.calendar_events.role is
'single; series (a recurring event''s master: never a meeting itself); occurrence; exception (an occurrence that differs); slot (an event of several seats).';
comment on column public.calendar_events.starts_at is
'For all-day events midnight of start_date in the calendar''s zone; null only for bare tombstones.';
comment on column public.calendar_events.series_provider_id is
'The provider''s id of the series this belongs to; known even before the series itself is.';
comment on column public.calendar_events.original_start is
'Where the series puts this occurrence, before anybody moved it.';
comment on column public.calendar_events.original_start_date is 'The same, of an all-day series.';
comment on column public.calendar_events.own_response is 'What the account answered to the invitation; null = not invited.';
comment on column public.calendar_events.content_hash is
'Over the provider''s bytes, the mapper''s version and the settings of projection: equal = nothing to do.';
comment on column public.calendar_events.scope is
'in: projected to a meeting; out_of_scope: not wanted (kind of event, tag, declined); detached: its meeting stays without it.';
comment on column public.calendar_events.raw is 'What the provider sent; empty for private events.';
comment on column public.calendar_events.ical_uid is
'The same in everybody''s calendar: it ties their copies to one meeting. Null = none was told.';
comment on column public.calendar_events.etag is
'The provider''s name of this version: who writes with it overwrites nothing that came since.';
comment on column public.calendar_events.sequence is
'How often the organizer moved it, as iCalendar counts.';
comment on column public.calendar_events.status is
'confirmed, tentative, cancelled; what is gone from the calendar is cancelled, too.';
comment on column public.calendar_events.title is
'"Busy" for private events, whose other words are empty: private_event_details has them.';
comment on column public.calendar_events.ends_at is
'For all-day events midnight of end_date in the calendar''s zone.';
comment on column public.calendar_events.end_date is
'The day after the last one; null unless all-day.';
comment on column public.calendar_events.time_zone is
'IANA name of the event''s own zone; null = the calendar''s.';
comment on column public.calendar_events.is_organizer is
'Whether the account organizes it: a guest''s copy that vanishes cancels no meeting.';
comment on column public.calendar_events.attendees is
'[{email, name, response, self, organizer, optional, resource}].';
comment on column public.calendar_events.conference_url is
'Where it is joined, if it is held by video.';
comment on column public.calendar_events.series_id is
'The series'' own row; null = none, or it has not come yet.';
comment on column public.calendar_events.visibility is
'default, public, private, confidential; the last two are not for everybody.';
comment on column public.calendar_events.event_type is
'The provider''s word, and only default (fromGmail with mail_events) becomes a meeting; seat = one place of a slot.';
comment on column public.calendar_events.provider_updated_at is
'When it was changed, by the provider''s clock: weighed against users'' edits. Null = not told.';
comment on column public.calendar_events.meeting_id is
'The meeting it stands for; null = none, as of a series, a slot or what is not wanted.';
create index calendar_events_organization on public.calendar_events (organization_id);
comment on index public.calendar_events_organization is
'Members read by organization, as their policy asks.';
create index calendar_events_series on public.calendar_events (series_id)
where series_id is not null;
comment on index public.calendar_events_series is
'A series whose row is deleted leaves its members by this.';
create index calendar_events_members on public.calendar_events (calendar_id, series_provider_id)
where series_provider_id is not null;
comment on index public.calendar_events_members is
'The members of a series and the seats of a slot, by the provider''s id: theirs may come before its own row does.';
create index calendar_events_meeting on public.calendar_events (meeting_id)
where meeting_id is not null;
comment on index public.calendar_events_meeting is
'Which events stand for a meeting: asked whenever one of them goes, to see whether another lives.';
create index calendar_events_start on public.calendar_events (calendar_id, starts_at);
comment on index public.calendar_events_start is
'A full round asks which events of its span it did not meet; frontends for the days they show.';

-- Nobody writes to either table yet: there is nothing to block or to scan.
alter table public.meetings
-- squawk-ignore adding-foreign-key-constraint, constraint-missing-not-valid
add constraint meetings_event_id_fkey foreign key (event_id)
references public.calendar_events (id) on delete set null
deferrable initially deferred; -- meetings are locked and written before their events

create table public.private_event_details (
  event_id uuid primary key references public.calendar_events (id) on delete cascade,
  title text,
  description text,
  location text,
  attendees jsonb not null default '[]',
  conference_url text,
  raw jsonb not null default '{}'
);
comment on table public.private_event_details is
'What a private or confidential event really says, for the connection''s owner only: everybody else sees "Busy".';
comment on column public.private_event_details.attendees is 'As calendar_events has them.';
comment on column public.private_event_details.raw is 'What the provider sent, whole.';

create table sync.set_aside_events (
  calendar_id uuid not null references public.calendars (id) on delete cascade,
  provider_event_id text not null,
  reason text not null,
  raw jsonb not null,
  seen_at timestamptz not null default now(),
  primary key (calendar_id, provider_event_id)
);
comment on table sync.set_aside_events is
'Events that could not be applied, and why. One that comes again well leaves.';

create table sync.held_cancellations (
  event_id uuid primary key references public.calendar_events (id) on delete cascade,
  calendar_id uuid not null references public.calendars (id) on delete cascade,
  held_at timestamptz not null default now()
);
comment on table sync.held_cancellations is
'What the brake holds: cancellations too many to be believed, until a person releases or drops them.';
create index held_cancellations_calendar on sync.held_cancellations (calendar_id);
comment on index sync.held_cancellations_calendar is
'sync_health counts what the brake holds for a calendar; rpc release_deletions takes it.';

-- Seen ids of a full round, noted here and not on the rows: an unchanged page writes no WAL.
create unlogged table sync.seen_events (
  calendar_id uuid not null,
  provider_event_id text not null,
  primary key (calendar_id, provider_event_id)
);
comment on table sync.seen_events is
'Which events the full round under way has met. Unlogged: after a crash the round begins anew.';

create trigger calendar_events_touch before update on public.calendar_events
for each row when (old.* is distinct from new.*) execute function sync.touch_updated_at();
comment on trigger calendar_events_touch on public.calendar_events is
'updated_at is when the mirror changed; the provider''s own time is provider_updated_at.';
