-- Which meeting a booking is. Its own keys, those of its chain, decide; where they know of none,
-- the keys that it shares with a calendar's event do. Those tie a booking to an event and never
-- to another booking: a page may hand one iCalUID on to the next booking.
--
-- No key is locked: the lock on the organization's bookings is (sync.lock_bookings), and nobody
-- else writes keys while it is held.

create function sync.booking_meetings(p_batch sync.batch)
returns table (place integer, meetings uuid[])
language plpgsql
stable
set search_path = ''
as $$
#variable_conflict use_column
begin
  return query
  with bearing as materialized (
    select staged.place, bears.key, bears.key like 'booking:%' as is_own
    from sync.staged_events as staged
    cross join lateral unnest(staged.keys || staged.key) as bears (key)
    where staged.batch_id = (p_batch).id and staged.origin = 'told' and not staged.is_same
      and bears.key is not null
  ),

  known as materialized (
    select known.key, known.meeting_id
    from sync.meeting_keys as known
    where known.organization_id = (p_batch).organization_id
      and known.key = any (array(select bearing.key from bearing))
  ),

  found as materialized (
    select bearing.place, known.meeting_id, bearing.is_own
    from bearing
    join known on known.key = bearing.key
    union
    select bearing.place, event.meeting_id, false
    from sync.events_of_keys(p_batch, array(
      select distinct bearing.key from bearing
      where bearing.key like 'reference:%'
        and bearing.key not in (select known.key from known)
    )) as event
    join bearing on bearing.key = event.key
    where event.meeting_id is not null
    union
    select slot.heir_of, slot.tied_to, false
    from sync.staged_events as slot
    where slot.batch_id = (p_batch).id and slot.origin = 'slot' and slot.tied_to is not null
  ),

  -- Whose meeting is it already?
  of_another as (
    select distinct found.place, found.meeting_id
    from found
    join sync.meeting_keys as other on other.meeting_id = found.meeting_id
    left join bearing on bearing.place = found.place and bearing.key = other.key
    where not found.is_own and other.key like 'booking:%' and bearing.key is null
      and other.meeting_id = any (array(
        select shared.meeting_id from found as shared where not shared.is_own
      ))
  ),

  likely as (
    select
      found.place, found.meeting_id, bool_or(found.is_own) as is_own
    from found
    where found.is_own
      or (found.place, found.meeting_id) not in (
        select of_another.place, of_another.meeting_id from of_another
      )
    group by found.place, found.meeting_id
  ),

  -- Two bookings are two meetings, whatever else they share.
  first_come as (
    select
      likely.*,
      row_number() over (
        partition by likely.meeting_id order by likely.is_own desc, likely.place
      ) as nth
    from likely
  )

  select
    first_come.place,
    array_agg(first_come.meeting_id order by first_come.is_own desc, first_come.meeting_id)
  from first_come
  where first_come.nth = 1
  group by first_come.place;
end;
$$;
comment on function sync.booking_meetings(sync.batch) is
'The meetings that a staged booking''s keys lead to: its own first; several are to become one.';

create function sync.claim_booking_keys(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_lowest integer := sync.lowest_place(p_batch);
begin
  with chosen as materialized (
    select one.place, one.meetings from sync.booking_meetings(p_batch) as one
  ),

  given as (
    update sync.staged_events as staged
    set meeting_id = chosen.meetings[1], is_new_meeting = false
    from chosen
    where staged.batch_id = (p_batch).id and staged.place = chosen.place
  )

  -- sync.merge_ties() makes them one, once they are locked.
  insert into sync.staged_events (
    batch_id, place, origin, provider_event_id, status, event_id, verdict, heir_of, meeting_id,
    tied_to
  )
  select
    (p_batch).id,
    -row_number() over (order by chosen.place, tied.meeting_id) - v_lowest,
    'tied', '', 'cancelled', gen_random_uuid(), 'retired', chosen.place, chosen.meetings[1],
    tied.meeting_id
  from chosen
  cross join lateral unnest(chosen.meetings[2:]) as tied (meeting_id);

  insert into sync.meeting_keys as known (organization_id, key, meeting_id)
  select distinct on (bears.key) (p_batch).organization_id, bears.key, staged.meeting_id
  from sync.staged_events as staged
  cross join lateral unnest(staged.keys || staged.key) as bears (key)
  where staged.batch_id = (p_batch).id and staged.origin = 'told' and not staged.is_same
    and bears.key is not null
  order by bears.key, staged.place
  on conflict (organization_id, key) do update
  set meeting_id = excluded.meeting_id
  where known.key like 'booking:%' and known.meeting_id <> excluded.meeting_id;
end;
$$;
comment on function sync.claim_booking_keys(sync.batch) is
'Finds or makes the meeting of each staged booking, and claims its keys.';
