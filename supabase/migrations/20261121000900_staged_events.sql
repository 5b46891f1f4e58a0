-- Applying, the ground: what a pull brings stands in a staging table while it is looked at.
--
-- sync.apply_events() takes a page of events in eight steps, each in a file of its own, each a
-- few statements over the whole page. What a step finds out it writes beside the staged event:
--
--   stage      what was told, what the mirror has of it, what is wrong with it
--   leave      what the mirror has and the answer has not
--   match      an occurrence under a new id inherits the meeting of the one it replaces
--   claim      keys decide which meeting an event stands for (sync.meeting_keys)
--   judge      what is gone: who may cancel, and is it too much to be believed
--   merge      what a user changed meanwhile against what the calendar says
--   write      meetings, then events: locks are taken in one order
--   remember   the cursor, in the same transaction
--
-- Unlogged and emptied by the call that filled it: staging costs no WAL. Not a temporary table,
-- which would cost catalogue rows in every session; not arrays, which would be planned anew and
-- copied in each step. A batch has a fresh id, so that rows of other calls, dead or alive, are
-- never walked.

create type sync.batch as (
  id uuid,
  calendar_id uuid,
  organization_id uuid,
  connection_id uuid,
  time_zone text,
  direction text,
  event_tag text,
  mail_events boolean,
  conflict_policy text,
  now_at timestamptz,
  upsert_only boolean,
  full_round boolean,
  asked_from timestamptz,
  series text [],
  window_start timestamptz,
  window_end timestamptz,
  read_until timestamptz,
  booking_calendars uuid [],
  told_in uuid []
);
comment on type sync.batch is
'One call of sync.apply_events or sync.apply_bookings: the calendar it is for, what the round says of itself, the organization''s calendars of bookings, and those in which the mirror has what is told (told_in): this one, and of bookings those of other accounts that are told of them.';

create unlogged table sync.staged_events (
  batch_id uuid not null,
  place integer not null,
  origin text not null default 'told',
  calendar_id uuid,
  -- As told. What is private stands in `private`, the columns are what everybody may see.
  provider_event_id text not null,
  role text,
  status text not null,
  ical_uid text,
  etag text,
  sequence integer,
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
  attendees jsonb,
  attendee_name text,
  attendee_email text,
  attendee_phone text,
  metadata jsonb,
  meeting_status text,
  conference_url text,
  series_provider_id text,
  original_start timestamptz,
  original_start_date date,
  visibility text,
  event_type text,
  provider_updated_at timestamptz,
  content_hash bytea,
  raw jsonb,
  private jsonb,
  refusal text,
  -- As the mirror has it.
  event_id uuid not null,
  is_known boolean not null default false,
  is_same boolean not null default false,
  old_role text,
  old_status text,
  old_scope text,
  old_key text,
  told_before jsonb,
  -- As decided.
  is_wanted boolean not null default true,
  key text,
  keys text[],
  client_id uuid,
  meeting_id uuid,
  is_new_meeting boolean not null default false,
  tied_to uuid,
  feeds boolean not null default false,
  verdict text,
  -- While matching a series.
  -- squawk-ignore prefer-timestamptz
  slot timestamp,
  pair_group text,
  pair_shift interval,
  heir_of integer,
  primary key (batch_id, place)
)
-- Compressing and moving out what is long would take longer than all else here.
with (toast_tuple_target = 8160);
comment on table sync.staged_events is
'Events and bookings of the calls of sync.apply_events and sync.apply_bookings under way, with what each step found out. Empty between calls.';
comment on column sync.staged_events.place is 'Its place in what was told; below zero: added from the mirror.';
comment on column sync.staged_events.origin is
'told; gone (its series, read whole, has it no more); orphaned (its series is deleted); absent (a full round did not meet it); released (a held cancellation); former (the single that a series was before); follower (the event to which a meeting moves); booking (the booking of a meeting whose event was told).';
comment on column sync.staged_events.calendar_id is
'Whose mirror has it, where several accounts are told of a booking; null = the batch''s calendar.';
comment on column sync.staged_events.metadata is 'What a booking tells for the meeting''s metadata; null = nothing is told.';
comment on column sync.staged_events.meeting_status is
'The status that a booking gives its meeting; null = by sync.next_status().';
comment on column sync.staged_events.told_before is
'What the mirror told the meeting until now: {statuses, phones, metadata_keys}. What stands there and is not among it, somebody else wrote.';
comment on column sync.staged_events.keys is 'Further keys of the same meeting, beside `key`.';
comment on column sync.staged_events.client_id is
'Whom it is with, where sync.find_clients() knows better than by the address; null = by the address.';
comment on column sync.staged_events.is_same is 'Nothing changed since it was last applied.';
comment on column sync.staged_events.is_wanted is 'Whether its kind, its tag, the account''s answer and the calendar''s direction make it a meeting.';
comment on column sync.staged_events.is_new_meeting is 'meeting_id was made up for it: there is no such meeting yet.';
comment on column sync.staged_events.tied_to is 'The meeting its key leads to, which is to become one with its own.';
comment on column sync.staged_events.feeds is 'Its content is that of its meeting: the meeting is written to it.';
comment on column sync.staged_events.verdict is
'Of what is gone: cancel; detach (a guest''s copy); follow (alive elsewhere); over; held; booked (its booking lives, and is asked for); retired (its meeting went to an heir).';
comment on column sync.staged_events.slot is 'Local time of the original start, in the series'' zone.';
comment on column sync.staged_events.pair_group is 'Between whom meetings may be handed on: a series, or the one that continues it.';
comment on column sync.staged_events.pair_shift is 'By how much the series as a whole was moved.';
comment on column sync.staged_events.heir_of is 'Place of the event whose meeting it inherits.';
alter table sync.staged_events enable row level security;
grant select, insert, update, delete on sync.staged_events to sync_engine;

-- Called for every page of a poll, most of which bring nothing new: one index look-up an id,
-- nothing written.

create function sync.compare_hashes(
  p_calendar_id uuid, p_ids text[], p_hashes bytea[], p_note_seen boolean,
  p_unexpanded boolean default false
)
returns integer[]
language plpgsql
security definer -- the worker holds no grant on tables: these functions are its reach
set search_path = ''
-- A page is one event or 2,500: one is looked up, 2,500 are hashed in two thirds of the time.
set plan_cache_mode = force_custom_plan
as $$
declare
  v_differing integer[];
begin
  if p_note_seen then
    insert into sync.seen_events (calendar_id, provider_event_id)
    select distinct p_calendar_id, seen.id
    from unnest(p_ids) as seen (id)
    -- A longer one is refused, and would not go into an index.
    where octet_length(seen.id) <= 1024
    order by seen.id
    on conflict do nothing;
  end if;
  select array_agg(item.place::integer order by item.place) into v_differing
  from unnest(p_ids, p_hashes) with ordinality as item (id, content_hash, place)
  left join public.calendar_events as event
    on event.calendar_id = p_calendar_id and event.provider_event_id = item.id
  where event.content_hash is distinct from item.content_hash
    -- A list that expands nothing has no occurrences but exceptions.
    or (p_unexpanded and event.role = 'occurrence');
  return coalesce(v_differing, '{}');
end;
$$;
comment on function sync.compare_hashes(uuid, text[], bytea[], boolean, boolean) is
'The places (from 1) whose hash is new or differs from the mirror. p_note_seen: also note the ids as met by the full round under way. p_unexpanded: they were listed without occurrences, so what the mirror takes for one differs too.';
