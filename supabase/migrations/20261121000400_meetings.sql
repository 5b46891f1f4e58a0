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
-- Whose is this reference? Few rows have any.
create index clients_external_refs on public.clients
using gin (external_refs jsonb_path_ops) where external_refs <> '{}';

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
create index meetings_organization_start on public.meetings (organization_id, starts_at);
create index meetings_client on public.meetings (client_id, organization_id)
where client_id is not null;
create index meetings_calendar on public.meetings (calendar_id, organization_id)
where calendar_id is not null;
create index meetings_event on public.meetings (event_id) where event_id is not null;
-- What time will complete: the task `advance`.
create index meetings_completed_by_time on public.meetings (ends_at)
where status in ('scheduled', 'confirmed') and merged_into is null and deleted_at is null;
create index meetings_merged_into on public.meetings (merged_into) where merged_into is not null;

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
create index meeting_history_organization on public.meeting_history (organization_id);

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
create index pipeline_organization on public.pipeline (organization_id, stage);
-- Whose next meeting begins: as above.
create index pipeline_next_meeting on public.pipeline (next_meeting_at)
where next_meeting_at is not null;
create index pipeline_client on public.pipeline (client_id, organization_id);

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
create index reference_mappings_organization on public.reference_mappings (organization_id);
create index reference_mappings_connection
on public.reference_mappings (connection_id, organization_id);

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
create index sync_conflicts_meeting on public.sync_conflicts (meeting_id, organization_id);
create index sync_conflicts_organization on public.sync_conflicts (organization_id);
create index sync_conflicts_resolved_by on public.sync_conflicts (resolved_by)
where resolved_by is not null;

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
create unique index sync_alerts_one_open on public.sync_alerts (kind, subject_id)
where resolved_at is null;
create index sync_alerts_organization on public.sync_alerts (organization_id);

create trigger clients_touch before update on public.clients
for each row when (old.* is distinct from new.*) execute function sync.touch_updated_at();
create trigger meetings_touch before update on public.meetings
for each row when (old.* is distinct from new.*) execute function sync.touch_updated_at();
create trigger pipeline_touch before update on public.pipeline
for each row when (old.* is distinct from new.*) execute function sync.touch_updated_at();
