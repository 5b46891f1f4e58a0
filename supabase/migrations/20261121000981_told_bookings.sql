-- Bookings, the ground: what was told of them.
--
-- Nothing orders the deliveries of Calendly and Cal.com, so nothing is overwritten by a later
-- one: each message is kept beside the others, and a booking is what they add up to
-- (sync.join_bookings). What repeats is kept once. The same words told anew, as sweeps do, move
-- only the times by which they are weighed against other words:
--
--   version, as_of   the latest: of those who tell the same, only the last can be right
--   first_as_of      the earliest: who was told first with a weak key is meant by it, and who
--                    was told later than a mark of the slot is not
--   no_shows         the latest mark of each address
--
-- Nothing that is dropped so could ever be the highest of anything again.
--
-- Each host of a booking may be told of it. So what all accounts of an organization were told adds
-- up, and who of them was told last makes no difference. No two providers' ids are the same: one
-- names things by addresses, the other by words drawn by lot.

create table sync.told_bookings (
  -- The connection's; only the engine writes here, and keeps it right.
  organization_id uuid not null,
  connection_id uuid not null references public.calendar_connections (id) on delete cascade,
  key text collate "C" not null,
  digest bytea not null,
  source text not null,
  version text collate "C" not null,
  as_of timestamptz not null,
  first_as_of timestamptz not null,
  provider_id text collate "C" not null,
  weak_key text collate "C",
  slot_id text collate "C",
  seat_id text collate "C",
  whole_slot boolean not null,
  supersedes text collate "C",
  superseded_by text collate "C",
  state text,
  phase text,
  no_shows jsonb not null,
  fields jsonb not null,
  told bigint not null,
  primary key (organization_id, key, digest, connection_id),
  constraint told_booking_source_is_known check (source in ('delivery', 'fetch')),
  constraint told_booking_state_is_known
  check (state in ('pending', 'accepted', 'rejected', 'cancelled')),
  constraint told_booking_phase_is_known check (phase in ('started', 'ended'))
)
-- Compressing and moving out what is long would take longer than reading it.
with (toast_tuple_target = 8160);
comment on table sync.told_bookings is
'What messages told of bookings, each different one once: the key as told, what it is tied to, and the fields. Bookings are joined from it.';
comment on column sync.told_bookings.digest is
'Of what was told, but for the times it was told at: version, as_of and those of no-show marks.';
comment on column sync.told_bookings.as_of is '-infinity where no time was told; likewise first_as_of.';
comment on column sync.told_bookings.first_as_of is 'When the same was told first; as_of is when it was told last.';
comment on column sync.told_bookings.no_shows is 'Marks: [{email, marked, at}].';
comment on column sync.told_bookings.told is
'Which fields it tells: a bit for each, by the place in sync.booking_fields().';
alter table sync.told_bookings enable row level security;
grant select, insert, update, delete on sync.told_bookings to sync_engine;
create index told_bookings_supersedes on sync.told_bookings (organization_id, supersedes)
where supersedes is not null;
comment on index sync.told_bookings_supersedes is
'sync.reach_bookings goes on from a booking to what took its place; from there back it goes by the primary key.';
create index told_bookings_superseded_by on sync.told_bookings (organization_id, superseded_by)
where superseded_by is not null;
comment on index sync.told_bookings_superseded_by is
'The same chain, where the older booking tells of the newer one.';
create index told_bookings_weak_key on sync.told_bookings (organization_id, weak_key)
where weak_key is not null;
comment on index sync.told_bookings_weak_key is
'A message that names no seat may mean any of those booked under its key: sync.reach_bookings looks for them all.';
create index told_bookings_slot on sync.told_bookings (organization_id, slot_id)
where slot_id is not null and not whole_slot;
comment on index sync.told_bookings_slot is
'The seats of a slot: what is told of all of it, is told of each.';
create index told_bookings_seat on sync.told_bookings (organization_id, seat_id)
where seat_id is not null;
comment on index sync.told_bookings_seat is
'Where a seat was before and where it is now, although nobody told that it was moved.';
create index told_bookings_connection on sync.told_bookings (connection_id);
comment on index sync.told_bookings_connection is
'An account that is deleted takes along what it was told.';

create function sync.booking_fields()
returns text[]
language sql
immutable
set search_path = ''
as $$
  select array[
    'title', 'description', 'starts_at', 'ends_at', 'location', 'meeting_url', 'link_pending',
    'attendee_name', 'attendee_email', 'attendee_phone', 'attendee_time_zone', 'guests',
    'organizer_email', 'organizer_id', 'answers', 'tracking', 'metadata', 'cancellation',
    'calendar_references', 'ical_uid', 'sequence', 'seats', 'series_id', 'series_position', 'recurs'
  ]
$$;
comment on function sync.booking_fields() is
'The fields of a booking, each told or not: FIELDS of providers/bookings.py. Add at the end only.';

create function sync.latest_marks(p_marks jsonb)
returns jsonb
language sql
immutable
set search_path = ''
as $$
  select coalesce(jsonb_agg(latest.mark order by latest.email nulls first), '[]')
  from (
    select distinct on (email) lower(mark ->> 'email') collate "C" as email, mark
    from jsonb_array_elements(p_marks) as told (mark)
    order by email, (mark ->> 'at')::timestamptz desc, mark -> 'marked' desc, mark
  ) as latest
$$;
comment on function sync.latest_marks(jsonb) is 'Of no-show marks the latest of each address, in a fixed order.';

create function sync.read_told(p_bookings jsonb)
returns setof sync.told_bookings
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_fields text[] := sync.booking_fields();
begin
  return query
  with given as materialized (
    select jsonb_strip_nulls(
      one.booking - array['provider', 'raw', 'trigger', 'ask', 'moved']
    ) as booking
    from jsonb_array_elements(p_bookings) as one (booking)
  )

  select
    null::uuid,
    null::uuid,
    said.key collate "C",
    substr(
      sha256(convert_to((given.booking - array['version', 'as_of', 'no_shows'])::text, 'UTF8')),
      1, 16
    ),
    said.source,
    coalesce(said.version, '') collate "C",
    coalesce(said.as_of, '-infinity'),
    coalesce(said.as_of, '-infinity'),
    said.provider_id collate "C",
    nullif(said.weak_key, '') collate "C",
    nullif(said.slot_id, '') collate "C",
    nullif(said.seat_id, '') collate "C",
    coalesce(said.whole_slot, false),
    nullif(said.supersedes, '') collate "C",
    nullif(said.superseded_by, '') collate "C",
    said.state,
    said.phase,
    coalesce(said.no_shows, '[]'),
    given.booking - array[
      'key', 'source', 'version', 'as_of', 'provider_id', 'weak_key', 'slot_id', 'seat_id',
      'whole_slot', 'supersedes', 'superseded_by', 'state', 'phase', 'no_shows'
    ],
    (
      select coalesce(sum(1::bigint << field.place::integer), 0)::bigint
      from unnest(v_fields) with ordinality as field (name, place)
      where given.booking ? field.name
    )
  from given
  cross join lateral jsonb_to_record(given.booking) as said (
    key text, source text, version text, as_of timestamptz, provider_id text, weak_key text,
    slot_id text, seat_id text, whole_slot boolean, supersedes text, superseded_by text,
    state text, phase text, no_shows jsonb
  );
end;
$$;
comment on function sync.read_told(jsonb) is
'Bookings, as providers.bookings writes them, as rows of sync.told_bookings, but for whose they are.';

create function sync.tell_bookings(p_connection_id uuid, p_bookings jsonb)
returns text[]
language plpgsql
set search_path = ''
as $$
declare
  v_organization_id uuid := (
    select connection.organization_id from public.calendar_connections as connection
    where connection.id = p_connection_id
  );
  v_keys text[];
begin
  with told as (
    select
      said.*,
      count(*) over same as times,
      min(said.as_of) over same as earliest,
      jsonb_agg(said.no_shows) over same as marks
    from sync.read_told(p_bookings) as said
    window same as (partition by said.key, said.digest)
  ),

  -- What comes twice in one array is one row.
  distinct_told as (
    select distinct on (told.key, told.digest) told.*
    from told
    order by told.key, told.digest, told.version desc, told.as_of desc
  ),

  written as (
    insert into sync.told_bookings as known
    select
      v_organization_id, p_connection_id, told.key, told.digest, told.source, told.version,
      told.as_of, told.earliest, told.provider_id, told.weak_key, told.slot_id, told.seat_id,
      told.whole_slot, told.supersedes, told.superseded_by, told.state, told.phase,
      case
        when told.times = 1 then told.no_shows
        else sync.latest_marks(jsonb_path_query_array(told.marks, '$[*][*]'))
      end,
      told.fields, told.told
    from distinct_told as told
    order by told.key, told.digest
    on conflict (organization_id, key, digest, connection_id) do update
    set
      version = case
        when row(excluded.version, excluded.as_of) > row(known.version, known.as_of)
          then excluded.version
        else known.version
      end,
      as_of = case
        when row(excluded.version, excluded.as_of) > row(known.version, known.as_of)
          then excluded.as_of
        else known.as_of
      end,
      first_as_of = least(known.first_as_of, excluded.first_as_of),
      no_shows = sync.latest_marks(known.no_shows || excluded.no_shows)
    where row(excluded.version, excluded.as_of) > row(known.version, known.as_of)
      or excluded.first_as_of < known.first_as_of
      or not known.no_shows @> excluded.no_shows
      and sync.latest_marks(known.no_shows || excluded.no_shows) <> sync.latest_marks(known.no_shows)
    returning known.key
  )

  select array_agg(distinct written.key) into v_keys from written;
  return coalesce(v_keys, '{}');
end;
$$;
comment on function sync.tell_bookings(uuid, jsonb) is
'Keeps what an array of bookings tells and this connection was not told yet; returns the keys as told that something new was told of. Telling the same again writes nothing.';

revoke all on function sync.booking_fields() from public;
revoke all on function sync.latest_marks(jsonb) from public;
revoke all on function sync.read_told(jsonb) from public;
revoke all on function sync.tell_bookings(uuid, jsonb) from public;
grant execute on function sync.booking_fields() to sync_engine;
grant execute on function sync.latest_marks(jsonb) to sync_engine;
grant execute on function sync.read_told(jsonb) to sync_engine;
grant execute on function sync.tell_bookings(uuid, jsonb) to sync_engine;
