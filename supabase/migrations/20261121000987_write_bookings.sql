-- Bookings are written: new meetings, the mirror, then the meetings there are. All of them are
-- locked by then, so the mirror may go first, and be read.

create function sync.write_bookings(p_batch sync.batch)
returns table (created integer, updated integer, cancelled integer)
language plpgsql
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_created integer;
  v_updated integer;
  v_cancelled integer;
begin
  update sync.staged_events as staged
  set feeds = true
  where staged.batch_id = (p_batch).id and staged.origin = 'told' and not staged.is_same
    and not staged.is_new_meeting;
  v_created := sync.create_meetings(p_batch);
  perform sync.write_booking_rows(p_batch);
  perform sync.write_older_keys(p_batch);
  perform sync.write_slots(p_batch);
  perform sync.fill_from_events(p_batch);
  v_cancelled := sync.count_cancelling(p_batch);
  v_updated := sync.update_meetings(p_batch);
  return query select v_created, greatest(v_updated - v_cancelled, 0), v_cancelled;
end;
$$;
comment on function sync.write_bookings(sync.batch) is
'Writes staged bookings into the mirror and their meetings; returns counts of meetings.';

create function sync.count_cancelling(p_batch sync.batch)
returns integer
language plpgsql
stable
set search_path = ''
as $$
begin
  return (
    select count(*)::integer
    from sync.staged_events as staged
    join public.meetings as meeting on meeting.id = staged.meeting_id
    where staged.batch_id = (p_batch).id and staged.feeds
      and staged.meeting_status = 'cancelled'
      and meeting.id = any (array(
        select mine.meeting_id from sync.staged_events as mine
        where mine.batch_id = (p_batch).id and mine.feeds and mine.meeting_status = 'cancelled'
      ))
      and sync.told_status(meeting.status, staged.meeting_status, staged.told_before) = 'cancelled'
      and meeting.status <> 'cancelled' and meeting.edits = '{}'
  );
end;
$$;
comment on function sync.count_cancelling(sync.batch) is 'How many meetings staged bookings are about to cancel.';

create function sync.write_booking_rows(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
begin
  insert into public.calendar_events as event (
    id, calendar_id, organization_id, provider_event_id, role, ical_uid, sequence, status, title,
    description, location, starts_at, ends_at, organizer_email, attendees, conference_url,
    series_provider_id, event_type, provider_updated_at, content_hash, raw, meeting_id, scope
  )
  select
    staged.event_id, coalesce(staged.calendar_id, (p_batch).calendar_id),
    (p_batch).organization_id, staged.provider_event_id, staged.role, staged.ical_uid, staged.sequence,
    case when staged.meeting_status = 'cancelled' then 'cancelled' else staged.status end,
    staged.title, staged.description, staged.location, staged.starts_at, staged.ends_at,
    staged.organizer_email, staged.attendees, staged.conference_url, staged.series_provider_id,
    staged.event_type, staged.provider_updated_at, staged.content_hash, staged.raw,
    staged.meeting_id, 'in'
  from sync.staged_events as staged
  where staged.batch_id = (p_batch).id and staged.origin = 'told' and not staged.is_same
  order by staged.event_id
  on conflict (id) do update
  set
    calendar_id = excluded.calendar_id, ical_uid = excluded.ical_uid, sequence = excluded.sequence, status = excluded.status,
    title = excluded.title, description = excluded.description, location = excluded.location,
    starts_at = excluded.starts_at, ends_at = excluded.ends_at,
    organizer_email = excluded.organizer_email, attendees = excluded.attendees,
    conference_url = excluded.conference_url, series_provider_id = excluded.series_provider_id,
    event_type = excluded.event_type, provider_updated_at = excluded.provider_updated_at,
    content_hash = excluded.content_hash, raw = excluded.raw, meeting_id = excluded.meeting_id,
    scope = 'in';
end;
$$;
comment on function sync.write_booking_rows(sync.batch) is 'Writes the current keys of staged bookings into the mirror.';

create function sync.write_older_keys(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
begin
  if not exists (
    select 1 from sync.staged_events as staged
    where staged.batch_id = (p_batch).id and staged.origin = 'older'
  ) then
    return;
  end if;
  insert into public.calendar_events as event (
    id, calendar_id, organization_id, provider_event_id, role, status, content_hash, scope,
    meeting_id
  )
  select
    older.event_id, coalesce(heir.calendar_id, (p_batch).calendar_id),
    (p_batch).organization_id, older.provider_event_id, 'single', 'cancelled', '', 'detached', heir.meeting_id
  from sync.staged_events as older
  join sync.staged_events as heir
    on heir.batch_id = older.batch_id and heir.place = older.heir_of
  where older.batch_id = (p_batch).id and older.origin = 'older'
  order by older.event_id
  -- What it told is kept: by that the meeting's own words are told from the booking's.
  on conflict (id) do update
  set
    calendar_id = excluded.calendar_id, status = 'cancelled', scope = 'detached',
    content_hash = '', ical_uid = null, meeting_id = excluded.meeting_id;
end;
$$;
comment on function sync.write_older_keys(sync.batch) is
'Marks older keys of staged bookings in the mirror: cancelled, and linked to the same meeting.';

create function sync.write_slots(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
begin
  if (p_batch).booking_calendars = '{}' or not exists (
    select 1 from sync.staged_events as staged
    where staged.batch_id = (p_batch).id
      and (staged.origin = 'slot' or (staged.event_type = 'seat' and not staged.is_same))
  ) then
    return;
  end if;
  update public.calendar_events as event
  set role = 'slot', meeting_id = null
  where event.id = any (array(
    select staged.event_id from sync.staged_events as staged
    where staged.batch_id = (p_batch).id and staged.origin = 'slot'
  ));
  -- Whose seats were told before it was known that they are such.
  update public.calendar_events as event
  set event_type = 'seat', ical_uid = null
  where event.calendar_id = any ((p_batch).booking_calendars) and event.event_type <> 'seat'
    and event.series_provider_id = any (array(
      select staged.series_provider_id from sync.staged_events as staged
      where staged.batch_id = (p_batch).id and staged.event_type = 'seat'
    ));
end;
$$;
comment on function sync.write_slots(sync.batch) is 'Marks events of several seats, and their seats, in the mirror.';

-- The stated order of fields: the booking's; where it tells no description or location, those of
-- the event in the calendar, of several the organizer's first.

create function sync.fill_from_events(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
begin
  update sync.staged_events as staged
  set
    description = coalesce(staged.description, beside.description),
    location = coalesce(staged.location, beside.location)
  from sync.words_beside(p_batch, array(
    select mine.meeting_id from sync.staged_events as mine
    where mine.batch_id = (p_batch).id and mine.feeds
      and (mine.description is null or mine.location is null)
  )) as beside
  where staged.batch_id = (p_batch).id and staged.feeds
    and staged.meeting_id = beside.meeting_id;
end;
$$;
comment on function sync.fill_from_events(sync.batch) is
'Gives bookings that tell no description or location those of their calendar event.';

create function sync.words_beside(p_batch sync.batch, p_meetings uuid[])
returns table (meeting_id uuid, description text, location text)
language plpgsql
stable
set search_path = ''
as $$
#variable_conflict use_column
begin
  return query
  with beside as (
    select
      event.meeting_id, newer.place is null as is_mirrored, event.is_organizer,
      event.status = 'cancelled' as is_gone, event.created_at, event.id,
      case when newer.place is null then event.description else newer.description end as description,
      case when newer.place is null then event.location else newer.location end as location
    from public.calendar_events as event
    left join sync.staged_events as newer
      on newer.batch_id = (p_batch).id and newer.event_id = event.id
      and newer.origin = 'told' and newer.status <> 'cancelled'
    where event.meeting_id = any (p_meetings)
      and event.calendar_id <> all ((p_batch).booking_calendars)
    union all
    select
      staged.meeting_id, false, staged.is_organizer, false, (p_batch).now_at, staged.event_id,
      staged.description, staged.location
    from sync.staged_events as staged
    where staged.batch_id = (p_batch).id and staged.origin = 'told' and not staged.is_known
      and staged.status <> 'cancelled' and staged.meeting_id = any (p_meetings)
      and (p_batch).calendar_id <> all ((p_batch).booking_calendars)
  )

  select
    beside.meeting_id,
    (array_agg(
      beside.description
      order by beside.is_gone, beside.is_organizer desc, beside.created_at, beside.id
    ) filter (where beside.description is not null))[1],
    (array_agg(
      beside.location
      order by beside.is_gone, beside.is_organizer desc, beside.created_at, beside.id
    ) filter (where beside.location is not null))[1]
  from beside
  group by beside.meeting_id;
end;
$$;
comment on function sync.words_beside(sync.batch, uuid[]) is
'Description and location of the calendar events of meetings.';
