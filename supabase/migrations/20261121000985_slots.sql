-- Slots: an event of several seats is one row in the host's calendar and a meeting an invitee.
-- So that event is no meeting, is never written, and cancels nothing.
--
-- That a booking shares its slot may show late, with the second invitee: until then the event in
-- the calendar may have been a meeting, the first booking's or its own.

create table sync.slot_keys (
  organization_id uuid not null references public.organizations (id) on delete cascade,
  key text not null,
  calendar_id uuid not null references public.calendars (id) on delete cascade,
  slot text not null,
  primary key (organization_id, key)
);
comment on table sync.slot_keys is
'Keys of calendar events that are slots: several bookings share them. Such a key is in no meeting''s sync.meeting_keys.';
comment on column sync.slot_keys.calendar_id is 'The calendar of bookings that has its seats.';
comment on column sync.slot_keys.slot is 'What the seats are known by: their series_provider_id.';
create index slot_keys_calendar on sync.slot_keys (calendar_id);
comment on index sync.slot_keys_calendar is
'A calendar that is deleted takes the keys of its slots along.';
alter table sync.slot_keys enable row level security;
grant select, insert on sync.slot_keys to sync_engine;

create function sync.shared_slots(p_batch sync.batch)
returns text[]
language plpgsql
stable
set search_path = ''
as $$
begin
  return array(
    with seat as (
      select
        staged.series_provider_id as slot, staged.provider_event_id as key,
        staged.event_type = 'seat' or coalesce((staged.raw #>> '{seats,limit}')::bigint > 1, false)
          as is_shared
      from sync.staged_events as staged
      where staged.batch_id = (p_batch).id and staged.origin = 'told'
        and staged.series_provider_id is not null
      union all
      select event.series_provider_id, event.provider_event_id, event.event_type = 'seat'
      from public.calendar_events as event
      where event.calendar_id = any ((p_batch).booking_calendars) and event.scope = 'in'
        and event.series_provider_id = any (array(
          select staged.series_provider_id from sync.staged_events as staged
          where staged.batch_id = (p_batch).id and staged.origin = 'told' and not staged.is_same
        ))
        and event.provider_event_id <> all (array(
          select older.provider_event_id from sync.staged_events as older
          where older.batch_id = (p_batch).id and older.origin = 'older'
        ))
    )

    select seat.slot
    from seat
    group by seat.slot
    having count(distinct seat.key) > 1 or bool_or(seat.is_shared)
  );
end;
$$;
comment on function sync.shared_slots(sync.batch) is 'The slots of staged bookings that have, or offer, more than one seat.';

-- A message may have spoken for a whole slot before any of its seats was told.

create function sync.adopt_whole_slots(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_older sync.older_key[] := array(
    select (min(seat.place), event.provider_event_id)::sync.older_key
    from public.calendar_events as event
    join sync.staged_events as seat on seat.series_provider_id = event.provider_event_id
    where event.calendar_id = any ((p_batch).booking_calendars) and event.scope = 'in'
      and event.provider_event_id = any (array(
        select staged.series_provider_id from sync.staged_events as staged
        where staged.batch_id = (p_batch).id and staged.origin = 'told'
      ))
      and seat.batch_id = (p_batch).id and seat.origin = 'told'
      and event.provider_event_id <> all (array(
        select staged.provider_event_id from sync.staged_events as staged
        where staged.batch_id = (p_batch).id
      ))
    group by event.provider_event_id
  );
begin
  if v_older = '{}' then
    return;
  end if;
  -- Who was told of it, may not know its seats.
  p_batch.told_in := (p_batch).booking_calendars;
  perform sync.retire(p_batch, v_older);
  update sync.staged_events as staged
  set
    is_same = false,
    keys = staged.keys || (
      select array_agg(split_part(staged.keys[1], ':', 1) || ':' || split_part(staged.keys[1], ':', 2) || ':' || older.key)
      from unnest(v_older) as older
      where older.heir_of = staged.place
    )
  where staged.batch_id = (p_batch).id
    and staged.place = any (array(select older.heir_of from unnest(v_older) as older));
end;
$$;
comment on function sync.adopt_whole_slots(sync.batch) is
'Gives what was told of a whole slot, before its seats were, to the first of them.';

create function sync.note_slots(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_slots text[];
  v_new text[];
begin
  if not exists (
    select 1 from sync.staged_events as staged
    where staged.batch_id = (p_batch).id and staged.origin = 'told'
      and staged.series_provider_id is not null
  ) then
    return;
  end if;
  perform sync.adopt_whole_slots(p_batch);
  v_slots := sync.shared_slots(p_batch);
  if v_slots = '{}' then
    return;
  end if;
  v_new := sync.claim_slot_keys(p_batch, v_slots);
  update sync.staged_events as staged
  set
    event_type = 'seat', key = null, ical_uid = null,
    keys = array(select bears.key from unnest(staged.keys) as bears (key) where bears.key like 'booking:%')
  where staged.batch_id = (p_batch).id and staged.origin = 'told'
    and staged.series_provider_id = any (v_slots);
  if v_new <> '{}' then
    perform sync.stage_slots(p_batch, v_slots, v_new);
  end if;
end;
$$;
comment on function sync.note_slots(sync.batch) is
'Finds out which staged bookings share their calendar event with others, and takes that event''s keys from them.';

create function sync.claim_slot_keys(p_batch sync.batch, p_slots text[])
returns text[]
language plpgsql
set search_path = ''
as $$
declare
  v_keys text[];
begin
  with seat as (
    select staged.series_provider_id as slot, staged.key, staged.keys
    from sync.staged_events as staged
    where staged.batch_id = (p_batch).id and staged.origin = 'told'
      and staged.series_provider_id = any (p_slots)
    union all
    select
      event.series_provider_id, sync.event_key(event.ical_uid, 'single', null, null),
      sync.reference_keys(event.raw -> 'references')
    from public.calendar_events as event
    where event.calendar_id = any ((p_batch).booking_calendars) and event.scope = 'in'
      and event.series_provider_id = any (p_slots) and event.event_type <> 'seat'
  ),

  written as (
    insert into sync.slot_keys (organization_id, key, calendar_id, slot)
    select distinct on (bears.key)
      (p_batch).organization_id, bears.key, (p_batch).calendar_id, seat.slot
    from seat
    cross join lateral unnest(seat.keys || seat.key) as bears (key)
    where bears.key not like 'booking:%'
    order by bears.key, seat.slot
    on conflict do nothing
    returning key
  )

  select array_agg(written.key) into v_keys from written;
  return coalesce(v_keys, '{}');
end;
$$;
comment on function sync.claim_slot_keys(sync.batch, text[]) is
'Notes the keys of calendar events that are slots; returns those that nobody knew.';

-- What these keys led to, if it was the event's own meeting, the first seat adopts.

create function sync.stage_slots(p_batch sync.batch, p_slots text[], p_keys text[])
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_first integer := (
    select min(staged.place) from sync.staged_events as staged
    where staged.batch_id = (p_batch).id and staged.series_provider_id = any (p_slots)
  );
  v_lowest integer := sync.lowest_place(p_batch);
  v_keys text[];
begin
  -- A booking may name its event by the id only: other calendars have it by its iCalUID.
  with named as materialized (
    select one.key, one.event_id from sync.events_of_keys(p_batch, p_keys) as one
  ),

  written as (
    insert into sync.slot_keys (organization_id, key, calendar_id, slot)
    select distinct on (bears.key)
      (p_batch).organization_id, bears.key, slot.calendar_id, slot.slot
    from named
    join sync.slot_keys as slot
      on slot.organization_id = (p_batch).organization_id and slot.key = named.key
    join public.calendar_events as event on event.id = named.event_id
    cross join lateral (
      select sync.event_key(
        event.ical_uid, event.role, event.original_start, event.original_start_date
      ) as key
    ) as bears
    where event.id = any (array(select named.event_id from named)) and bears.key is not null
    order by bears.key, slot.slot
    on conflict do nothing
    returning key
  )

  select p_keys || array_agg(written.key) into v_keys from written;
  insert into sync.staged_events (
    batch_id, place, origin, provider_event_id, status, event_id, is_known, verdict, heir_of,
    tied_to
  )
  select
    (p_batch).id, -row_number() over (order by event.event_id) - v_lowest, 'slot',
    event.provider_event_id, 'cancelled', event.event_id, true, 'retired',
    coalesce((
      select min(seat.place) from sync.staged_events as seat
      where seat.batch_id = (p_batch).id and seat.origin = 'told'
        and seat.raw @> jsonb_build_object('references', jsonb_build_array(
          jsonb_build_object('external_id', event.provider_event_id)
        ))
    ), v_first),
    case
      when not exists (
        select 1 from sync.meeting_keys as own
        where own.meeting_id = event.meeting_id and own.key like 'booking:%'
      ) then event.meeting_id
    end
  from (
    select distinct on (named.event_id) named.event_id, named.provider_event_id, named.meeting_id
    from sync.events_of_keys(p_batch, v_keys) as named
    order by named.event_id
  ) as event;

  delete from sync.meeting_keys as known
  where known.organization_id = (p_batch).organization_id and known.key = any (v_keys);
end;
$$;
comment on function sync.stage_slots(sync.batch, text[], text[]) is
'Stages the mirrored events that turned out to be slots, and lets the first seat adopt their meeting.';

create function sync.events_of_keys(p_batch sync.batch, p_keys text[])
returns table (key text, event_id uuid, provider_event_id text, meeting_id uuid)
language plpgsql
stable
set search_path = ''
as $$
#variable_conflict use_column
begin
  return query
  with calendar as materialized (
    select calendar.id, connection.provider
    from public.calendars as calendar
    join public.calendar_connections as connection on connection.id = calendar.connection_id
    where calendar.organization_id = (p_batch).organization_id and calendar.kind <> 'bookings'
  )

  select
    'reference:' || calendar.provider || ':' || event.provider_event_id, event.id,
    event.provider_event_id, event.meeting_id
  from public.calendar_events as event
  join calendar on calendar.id = event.calendar_id
  where event.calendar_id = any (array(select calendar.id from calendar))
    and event.provider_event_id = any (array(
      select regexp_replace(named.key, '^reference:[a-z]+:', '')
      from unnest(p_keys) as named (key)
      where named.key like 'reference:%'
    ))
    and 'reference:' || calendar.provider || ':' || event.provider_event_id = any (p_keys)
  union
  select known.key, event.id, event.provider_event_id, event.meeting_id
  from sync.meeting_keys as known
  join public.calendar_events as event on event.meeting_id = known.meeting_id
  where known.organization_id = (p_batch).organization_id
    and known.key = any (array(
      select named.key from unnest(p_keys) as named (key) where named.key like 'ical:%'
    ))
    and event.meeting_id = any (array(
      select led.meeting_id from sync.meeting_keys as led
      where led.organization_id = (p_batch).organization_id and led.key = any (p_keys)
    ))
    and event.calendar_id <> all ((p_batch).booking_calendars)
    and sync.event_key(
      event.ical_uid, event.role, event.original_start, event.original_start_date
    ) = known.key;
end;
$$;
comment on function sync.events_of_keys(sync.batch, text[]) is
'Events of the organization''s calendars that bear these keys.';
