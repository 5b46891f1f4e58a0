-- Clients, meetings, the pipeline: the business's own records.

create table public.clients (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null references public.organizations (id) on delete cascade,
  email text,
  name text,
  phone text,
  external_refs jsonb not null default '{}',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  unique (id, organization_id),
  unique (organization_id, email),
  -- Not citext: under an empty search_path it compares as plain text, and clients double.
  constraint clients_email_is_lower_case check (email = lower(email)),
  constraint clients_external_refs_is_an_object check (jsonb_typeof(external_refs) = 'object')
);
comment on table public.clients is 'Somebody the organization meets.';
comment on column public.clients.external_refs is 'The business''s own ids, by name of the system they are from.';
comment on column public.clients.email is
'In lower case, and nobody else''s in the organization; null = known otherwise, by a reference for instance.';
comment on column public.clients.phone is
'As it was told or typed: nobody puts it into another form.';
create index clients_external_refs on public.clients
using gin (external_refs jsonb_path_ops) where external_refs <> '{}';
comment on index public.clients_external_refs is
'sync.find_clients asks whose a booking''s reference is, in all organizations, so that a foreign one is noticed; few rows have any.';

create table public.meetings (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null references public.organizations (id) on delete cascade,
  client_id uuid,
  calendar_id uuid,
  event_id uuid,
  title text not null default '',
  description text,
  location text,
  starts_at timestamptz not null,
  ends_at timestamptz not null,
  all_day boolean not null default false,
  start_date date,
  end_date date,
  time_zone text,
  status text not null default 'scheduled',
  meeting_url text,
  attendee_name text,
  attendee_email text,
  attendee_phone text,
  metadata jsonb not null default '{}',
  sync_state text not null default 'local',
  sync_error text,
  edits jsonb not null default '{}',
  version bigint not null default 1,
  merged_into uuid references public.meetings (id) on delete set null,
  deleted_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  unique (id, organization_id),
  foreign key (client_id, organization_id)
  references public.clients (id, organization_id) on delete set null (client_id),
  foreign key (calendar_id, organization_id)
  references public.calendars (id, organization_id) on delete set null (calendar_id),
  constraint meetings_status_is_known check (
    status in ('scheduled', 'confirmed', 'tentative', 'completed', 'cancelled', 'no_show')
  ),
  constraint meetings_sync_state_is_known
  check (sync_state in ('local', 'pending', 'synced', 'conflict', 'failed')),
  constraint meetings_end_is_not_before_start check (ends_at >= starts_at),
  constraint meetings_dates_belong_to_all_day check (
    case
      when all_day then start_date is not null and end_date > start_date
      else start_date is null and end_date is null
    end
  ),
  constraint meetings_edits_is_an_object check (jsonb_typeof(edits) = 'object'),
  constraint meetings_metadata_is_an_object check (jsonb_typeof(metadata) = 'object')
);
comment on table public.meetings is
'The business''s own record of a meeting. Users edit it; one meeting may stand behind several events. Its id never changes.';
comment on column public.meetings.calendar_id is 'The calendar whose event it is written to; null = only here.';
comment on column public.meetings.event_id is 'The event it is written to.';
comment on column public.meetings.starts_at is 'For all-day meetings midnight of start_date in the meeting''s zone.';
comment on column public.meetings.end_date is 'The day after the last one.';
comment on column public.meetings.edits is
'Per field what the calendar does not have yet: {field: {base, at, version}}. Written by the users'' trigger only.';
comment on column public.meetings.version is 'Counts changes; an edit carries the version it made.';
comment on column public.meetings.merged_into is 'The meeting this one turned out to be; it leaves the lists.';
comment on column public.meetings.deleted_at is 'Marked by rpc delete_meeting; nobody deletes rows.';
comment on column public.meetings.client_id is
'Whom it is with; null = nobody known, as in a private event.';
comment on column public.meetings.ends_at is
'For all-day meetings midnight of end_date in the meeting''s zone.';
comment on column public.meetings.start_date is 'The first day; null unless all-day.';
comment on column public.meetings.time_zone is
'IANA name of the zone that it is held in; null = whoever made it named none.';
comment on column public.meetings.status is
'scheduled (made in the app) and confirmed become completed when their time is over; tentative, cancelled and no_show stay.';
comment on column public.meetings.meeting_url is 'Where it is joined, if it is held by video.';
comment on column public.meetings.attendee_email is
'As the event or booking tells it: the client, found by a reference, may have another.';
comment on column public.meetings.attendee_phone is
'What the booking tells; a number that somebody typed stays.';
comment on column public.meetings.metadata is
'The booking''s own, key by key, and under `booking` what else it tells; keys that no booking told are the application''s.';
comment on column public.meetings.sync_state is
'local (no calendar has it), synced (both say the same), pending (the calendar lacks some edits), conflict (a person is asked), failed (the calendar would not take an edit).';
comment on column public.meetings.sync_error is
'Why the calendar would not take an edit, in words for whoever made it.';
create index meetings_organization_start on public.meetings (organization_id, starts_at);
comment on index public.meetings_organization_start is
'Lists: an organization''s meetings of some days, as frontends ask for them and the policy bounds them.';
create index meetings_client on public.meetings (client_id, organization_id)
where client_id is not null;
comment on index public.meetings_client is
'sync.write_pipeline reads all meetings of the clients whose place it works out.';
create index meetings_calendar on public.meetings (calendar_id, organization_id)
where calendar_id is not null;
comment on index public.meetings_calendar is
'A calendar that is deleted leaves its meetings here only: it finds them by this.';
create index meetings_event on public.meetings (event_id) where event_id is not null;
comment on index public.meetings_event is
'An event that is deleted lets go of the meeting that is written to it.';
create index meetings_completed_by_time on public.meetings (ends_at)
where status in ('scheduled', 'confirmed') and merged_into is null and deleted_at is null;
comment on index public.meetings_completed_by_time is
'The task `advance` takes from the head of it what is over, and the first end to come is when it runs next.';
create index meetings_merged_into on public.meetings (merged_into) where merged_into is not null;
comment on index public.meetings_merged_into is
'When a meeting becomes one with another, those that had become one with it follow.';

create table sync.meeting_keys (
  organization_id uuid not null references public.organizations (id) on delete cascade,
  key text not null,
  meeting_id uuid not null references public.meetings (id) on delete cascade
  deferrable initially deferred,
  primary key (organization_id, key)
);
comment on table sync.meeting_keys is
'What makes two things the same meeting: the only place where sameness is decided. Keys are claimed before the meeting is written.';
create index meeting_keys_meeting on sync.meeting_keys (meeting_id);
comment on index sync.meeting_keys_meeting is
'All keys of a meeting: they move as meetings become one, and tell whether a booking stands behind it.';

create table public.meeting_history (
  id bigint generated always as identity primary key,
  organization_id uuid not null,
  meeting_id uuid not null references public.meetings (id) on delete cascade,
  changed_at timestamptz not null default now(),
  side text not null,
  user_id uuid,
  changes jsonb not null,
  constraint meeting_history_side_is_known check (side in ('app', 'provider', 'engine'))
);
comment on table public.meeting_history is 'Who changed what of a meeting, when, and from which side.';
comment on column public.meeting_history.changes is
'{field: {from, to}}; without from where it was empty (a new meeting''s fields), without to where it was emptied.';
comment on column public.meeting_history.side is
'app: a user or the application; provider: read from a calendar; engine: merged, or over.';
comment on column public.meeting_history.user_id is
'Who, where a user''s token came with the change. No foreign key: history outlives accounts.';
create index meeting_history_meeting on public.meeting_history (meeting_id, changed_at);
comment on index public.meeting_history_meeting is
'What became of one meeting, in order; sync.reopen_meetings looks who completed it.';
create index meeting_history_organization on public.meeting_history (organization_id);
comment on index public.meeting_history_organization is
'The policy asks by organization, and so does who reads what happened in all of it.';

create table public.pipeline (
  client_id uuid primary key,
  organization_id uuid not null,
  stage text not null default 'new',
  stage_set_by text not null default 'rule',
  stage_set_at timestamptz not null default now(),
  last_meeting_at timestamptz,
  next_meeting_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  foreign key (client_id, organization_id)
  references public.clients (id, organization_id) on delete cascade,
  constraint pipeline_stage_set_by_is_known check (stage_set_by in ('rule', 'user'))
);
comment on table public.pipeline is 'Where a client stands. Moved by pipeline_rules; a stage that a user set later stays.';
comment on column public.pipeline.stage is
'A word of the organization''s, as its rules and users have it; `new` is where everybody begins.';
comment on column public.pipeline.stage_set_by is
'rule; user (stays until a user sets another; `new` gives the client back to the rules).';
comment on column public.pipeline.stage_set_at is
'When the client came to it: when the last meeting was over if that was heard of later, else when the news came.';
comment on column public.pipeline.last_meeting_at is
'Start of the last meeting that began or is completed; null = they were never met.';
comment on column public.pipeline.next_meeting_at is
'Start of the next one to come, tentative ones too; null = none is.';
create index pipeline_organization on public.pipeline (organization_id, stage);
comment on index public.pipeline_organization is
'A board asks for an organization''s clients, stage by stage.';
create index pipeline_next_meeting on public.pipeline (next_meeting_at)
where next_meeting_at is not null;
comment on index public.pipeline_next_meeting is
'Whose next meeting has begun: `advance` takes them from the head, and runs again for the next.';
create index pipeline_client on public.pipeline (client_id, organization_id);
comment on index public.pipeline_client is
'The foreign key asks by both columns when a client goes; the primary key has one of them.';

create table public.pipeline_rules (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null references public.organizations (id) on delete cascade,
  happening text not null,
  from_stage text,
  to_stage text not null,
  created_at timestamptz not null default now(),
  unique nulls not distinct (organization_id, happening, from_stage),
  constraint pipeline_rules_happening_is_known
  check (happening in ('booked', 'met', 'cancelled', 'no_show'))
);
comment on table public.pipeline_rules is 'Which stage a client moves to when a meeting is booked, met, cancelled or missed.';
comment on column public.pipeline_rules.from_stage is 'Only clients in this stage move; null = from any.';
comment on column public.pipeline_rules.happening is
'booked, met, cancelled (counts only while no other meeting is to come), no_show.';
comment on column public.pipeline_rules.to_stage is
'A word of the organization''s: a stage is there as soon as a rule or a user names it.';

create table public.reference_mappings (
  id uuid primary key default gen_random_uuid(),
  connection_id uuid not null,
  organization_id uuid not null,
  metadata_key text not null,
  reference text not null,
  created_at timestamptz not null default now(),
  foreign key (connection_id, organization_id)
  references public.calendar_connections (id, organization_id) on delete cascade,
  unique (connection_id, metadata_key)
);
comment on table public.reference_mappings is
'Which key of a booking''s metadata means which external reference of a client.';
comment on column public.reference_mappings.metadata_key is
'As the booking form names it, and meetings.metadata has it.';
comment on column public.reference_mappings.reference is
'The name under which clients.external_refs has the value.';
create index reference_mappings_organization on public.reference_mappings (organization_id);
comment on index public.reference_mappings_organization is
'Admins read by organization, as their policy asks.';
create index reference_mappings_connection
on public.reference_mappings (connection_id, organization_id);
comment on index public.reference_mappings_connection is
'An account that is deleted takes its mappings along; those of a connection are what bookings are looked up by.';

create table public.sync_conflicts (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null,
  meeting_id uuid not null,
  field text not null,
  base jsonb,
  ours jsonb,
  theirs jsonb,
  winner text,
  reason text not null,
  resolved_by uuid references auth.users (id) on delete set null,
  resolved_at timestamptz,
  created_at timestamptz not null default now(),
  foreign key (meeting_id, organization_id)
  references public.meetings (id, organization_id) on delete cascade,
  constraint sync_conflicts_winner_is_known check (winner in ('ours', 'theirs'))
);
comment on table public.sync_conflicts is
'A field that was changed on both sides: all three values, which one won and why. Null winner = a person is asked.';
comment on column public.sync_conflicts.field is
'A column of meetings; `time` stands for start, end, zone and whether it is all-day, which are merged as one.';
comment on column public.sync_conflicts.base is
'What the calendar said when the user made the edit.';
comment on column public.sync_conflicts.ours is 'What the user made of it.';
comment on column public.sync_conflicts.theirs is 'What the calendar says meanwhile.';
comment on column public.sync_conflicts.winner is 'ours or theirs; null = a person is asked.';
comment on column public.sync_conflicts.resolved_by is
'Who decided; null = nobody had to, or has yet.';
comment on column public.sync_conflicts.resolved_at is
'Null = open: the meeting is in sync_state conflict.';
create index sync_conflicts_meeting on public.sync_conflicts (meeting_id, organization_id);
comment on index public.sync_conflicts_meeting is
'The merge looks whether a meeting it writes has a conflict open, and closes those that are settled.';
create index sync_conflicts_organization on public.sync_conflicts (organization_id);
comment on index public.sync_conflicts_organization is
'Members read by organization, as their policy asks.';
create index sync_conflicts_resolved_by on public.sync_conflicts (resolved_by)
where resolved_by is not null;
comment on index public.sync_conflicts_resolved_by is
'An account that is deleted is taken out of what it decided; most conflicts nobody decides.';

create table public.sync_alerts (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid references public.organizations (id) on delete cascade,
  kind text not null,
  subject_id uuid not null,
  message text not null,
  remedy text not null,
  since timestamptz not null default now(),
  resolved_at timestamptz
);
comment on table public.sync_alerts is 'What is wrong, since when, and how to mend it; one open row per kind and subject.';
comment on column public.sync_alerts.organization_id is 'Null = the operator''s concern, shown to no organization.';
comment on column public.sync_alerts.kind is
'One of those in docs/errors.md: frontends may have words of their own for it.';
comment on column public.sync_alerts.subject_id is
'The calendar or connection it is about; else an id by which the same trouble is known again.';
comment on column public.sync_alerts.since is
'When it was first noticed: what goes on being wrong opens no second alert.';
comment on column public.sync_alerts.resolved_at is 'Null = open; set by itself when it is over.';
create unique index sync_alerts_one_open on public.sync_alerts (kind, subject_id)
where resolved_at is null;
comment on index public.sync_alerts_one_open is
'sync.raise_alert is told by it that an alert is open already; sync.resolve_alert finds that one.';
create index sync_alerts_organization on public.sync_alerts (organization_id);
comment on index public.sync_alerts_organization is
'Admins read by organization, as their policy asks; sync_health counts the open ones.';

create trigger clients_touch before update on public.clients
for each row when (old.* is distinct from new.*) execute function sync.touch_updated_at();
comment on trigger clients_touch on public.clients is
'Of two copies of a client a frontend may hold, by a query and by a broadcast, updated_at tells the newer.';
create trigger meetings_touch before update on public.meetings
for each row when (old.* is distinct from new.*) execute function sync.touch_updated_at();
comment on trigger meetings_touch on public.meetings is
'Of several meetings that became one, updated_at tells which was the last: a booking takes its client.';
create trigger pipeline_touch before update on public.pipeline
for each row when (old.* is distinct from new.*) execute function sync.touch_updated_at();
comment on trigger pipeline_touch on public.pipeline is
'updated_at moves with the meetings, too; when the stage came is stage_set_at.';
