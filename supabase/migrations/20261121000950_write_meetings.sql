-- Applying, step 7: meetings are written, each from the one event it is written to.
--
-- One meeting may stand behind several events: an appointment of two colleagues is in both
-- their calendars. It is written to one of them, the organizer's copy where there is one, and
-- only that one's content counts. The others are links. A booking comes before all of them; an
-- event's description and location count where it has none (sync.stage_bookings_of_events).

create function sync.choose_feeders(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_meetings uuid[] := array(
    select staged.meeting_id from sync.staged_events as staged
    where staged.batch_id = (p_batch).id and not staged.is_same and not staged.is_new_meeting
      and staged.status <> 'cancelled' and staged.meeting_id is not null
    except
    -- A booking outranks every calendar's event.
    select staged.meeting_id from sync.staged_events as staged
    where staged.batch_id = (p_batch).id and staged.origin = 'booking'
  );
begin
  if v_meetings = '{}' then
    return;
  end if;
  update sync.staged_events as staged
  set feeds = true
  from (
    select distinct on (candidate.meeting_id) candidate.place
    from sync.staged_events as candidate
    join (
      select known.id, known.event_id, known.status from public.meetings as known
      where known.id = any (v_meetings)
    ) as meeting on meeting.id = candidate.meeting_id
    left join (
      select event.id, event.scope, event.status, event.is_organizer
      from public.calendar_events as event
      where event.id = any (array(
        select known.event_id from public.meetings as known where known.id = any (v_meetings)
      ))
    ) as feeder on feeder.id = meeting.event_id
    left join sync.staged_events as newer -- what this batch says of the feeder
      on newer.batch_id = candidate.batch_id and newer.event_id = meeting.event_id
      and newer.origin <> 'former'
    where candidate.batch_id = (p_batch).id and candidate.status <> 'cancelled'
      and not candidate.is_same and candidate.is_wanted
      and candidate.role in ('single', 'occurrence', 'exception')
      and (
        meeting.event_id is null
        or meeting.event_id = candidate.event_id
        or candidate.origin = 'follower'
        or feeder.scope <> 'in'
        or (candidate.is_organizer and not feeder.is_organizer)
        -- The feeder is gone. A guest's copy takes over only what was not cancelled.
        or (feeder.status = 'cancelled' and (candidate.is_organizer or meeting.status <> 'cancelled'))
        or newer.verdict in ('detach', 'follow', 'over')
        or (newer.status <> 'cancelled' and not newer.is_wanted)
        -- It stands for another meeting now, or as a master for none.
        or (newer.place is not null and newer.meeting_id is distinct from meeting.id)
      )
    order by candidate.meeting_id, candidate.is_organizer desc, candidate.place desc
  ) as chosen
  where staged.batch_id = (p_batch).id and staged.place = chosen.place;
end;
$$;
comment on function sync.choose_feeders(sync.batch) is
'Marks, for each meeting there is, the staged event whose content is the meeting''s.';

-- What a booking tells beyond what a calendar knows. The mirror has what it told before: where a
-- meeting says something else, the application or a person wrote that.

create function sync.told_status(p_ours text, p_told text, p_before jsonb)
returns text
language sql
immutable
set search_path = ''
as $$
  select case
    when p_before -> 'statuses' ? p_ours then p_told
    when p_ours = 'completed' and p_told = 'no_show' then p_told
    else sync.next_status(p_ours, p_told)
  end
$$;
comment on function sync.told_status(text, text, jsonb) is
'A meeting''s status after its booking told one: a status that somebody else gave it stays as it does after a calendar''s.';

create function sync.told_phone(p_ours text, p_told text, p_before jsonb)
returns text
language sql
immutable
set search_path = ''
as $$
  select case
    when p_told is null then p_ours
    when p_ours is null or p_before -> 'phones' ? p_ours then p_told
    else p_ours
  end
$$;
comment on function sync.told_phone(text, text, jsonb) is
'A meeting''s phone number after its booking told one: one that somebody else wrote stays.';

create function sync.told_metadata(p_ours jsonb, p_told jsonb, p_before jsonb)
returns jsonb
language sql
immutable
set search_path = ''
as $$
  select case
    when p_told is null then p_ours
    else (
      p_ours - array(select jsonb_array_elements_text(p_before -> 'metadata_keys'))
    ) || p_told
  end
$$;
comment on function sync.told_metadata(jsonb, jsonb, jsonb) is
'A meeting''s metadata after its booking told some: keys that it told before are replaced, all others stay.';

-- A statement that writes nothing still fires its triggers: each of these looks first whether it
-- has anything to write.

create function sync.create_meetings(p_batch sync.batch)
returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_count integer;
begin
  if not exists (
    select 1 from sync.staged_events as staged
    where staged.batch_id = (p_batch).id and staged.is_new_meeting
  ) then
    return 0;
  end if;
  insert into public.meetings (
    id, organization_id, client_id, calendar_id, event_id, title, description, location,
    starts_at, ends_at, all_day, start_date, end_date, time_zone, status, meeting_url,
    attendee_name, attendee_email, attendee_phone, metadata, sync_state
  )
  select distinct on (staged.meeting_id)
    staged.meeting_id, (p_batch).organization_id, coalesce(staged.client_id, client.id),
    coalesce(staged.calendar_id, (p_batch).calendar_id),
    staged.event_id, coalesce(staged.title, ''), staged.description, staged.location,
    staged.starts_at, staged.ends_at, staged.all_day, staged.start_date, staged.end_date,
    coalesce(staged.time_zone, (p_batch).time_zone),
    coalesce(staged.meeting_status, staged.status), staged.conference_url,
    staged.attendee_name, staged.attendee_email, staged.attendee_phone,
    coalesce(staged.metadata, '{}'), 'synced'
  from sync.staged_events as staged
  left join public.clients as client
    on client.organization_id = (p_batch).organization_id
    and client.email = any (array(
      select mine.attendee_email from sync.staged_events as mine
      where mine.batch_id = (p_batch).id and mine.is_new_meeting
    ))
    and client.email = staged.attendee_email
  where staged.batch_id = (p_batch).id and staged.is_new_meeting
  order by staged.meeting_id, staged.is_organizer desc, staged.place;
  get diagnostics v_count = row_count;
  return v_count;
end;
$$;
comment on function sync.create_meetings(sync.batch) is 'Inserts the meetings that are new; returns how many.';

create function sync.update_meetings(p_batch sync.batch)
returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_count integer;
begin
  if not exists (
    select 1 from sync.staged_events as staged
    where staged.batch_id = (p_batch).id and (staged.feeds or staged.verdict = 'cancel')
  ) then
    return 0;
  end if;
  with theirs as (
    select
      staged.meeting_id, staged.event_id,
      coalesce(moved.calendar_id, staged.calendar_id, (p_batch).calendar_id) as calendar_id,
      coalesce(staged.title, '') as title, staged.description, staged.location, staged.starts_at,
      staged.ends_at, staged.all_day, staged.start_date, staged.end_date,
      coalesce(staged.time_zone, (p_batch).time_zone) as time_zone, staged.status,
      staged.meeting_status, staged.conference_url, staged.attendee_name, staged.attendee_email,
      staged.attendee_phone, staged.metadata, staged.told_before,
      coalesce(staged.client_id, client.id) as client_id
    from sync.staged_events as staged
    left join public.calendar_events as moved
      on moved.id = any (array(
        select mine.event_id from sync.staged_events as mine
        where mine.batch_id = (p_batch).id and mine.origin in ('follower', 'booking')
      ))
      and moved.id = staged.event_id
    left join public.clients as client
      on client.organization_id = (p_batch).organization_id
      and client.email = any (array(
        select mine.attendee_email from sync.staged_events as mine
        where mine.batch_id = (p_batch).id and mine.feeds
      ))
      and client.email = staged.attendee_email
    where staged.batch_id = (p_batch).id and staged.feeds
  )

  update public.meetings as meeting
  set
    client_id = coalesce(meeting.client_id, theirs.client_id),
    calendar_id = theirs.calendar_id, event_id = theirs.event_id, title = theirs.title,
    description = theirs.description, location = theirs.location, starts_at = theirs.starts_at,
    ends_at = theirs.ends_at, all_day = theirs.all_day, start_date = theirs.start_date,
    end_date = theirs.end_date, time_zone = theirs.time_zone,
    status = case
      when theirs.meeting_status is null then sync.next_status(meeting.status, theirs.status)
      else sync.told_status(meeting.status, theirs.meeting_status, theirs.told_before)
    end,
    meeting_url = theirs.conference_url, attendee_name = theirs.attendee_name,
    attendee_email = theirs.attendee_email,
    attendee_phone = case
      when theirs.attendee_phone is null then meeting.attendee_phone
      else sync.told_phone(meeting.attendee_phone, theirs.attendee_phone, theirs.told_before)
    end,
    metadata = case
      when theirs.metadata is null then meeting.metadata
      else sync.told_metadata(meeting.metadata, theirs.metadata, theirs.told_before)
    end,
    sync_state = 'synced', sync_error = null,
    version = meeting.version + 1
  from theirs
  where meeting.edits = '{}'
    and meeting.id = any (array(
      select mine.meeting_id from sync.staged_events as mine
      where mine.batch_id = (p_batch).id and mine.feeds
    ))
    and meeting.id = theirs.meeting_id
    and (
      coalesce(meeting.client_id, theirs.client_id), meeting.calendar_id, meeting.event_id,
      meeting.title, meeting.description, meeting.location, meeting.starts_at, meeting.ends_at,
      meeting.all_day, meeting.start_date, meeting.end_date, meeting.time_zone, meeting.status,
      meeting.meeting_url, meeting.attendee_name, meeting.attendee_email,
      meeting.attendee_phone, meeting.metadata, meeting.sync_state, meeting.sync_error
    ) is distinct from (
      meeting.client_id, theirs.calendar_id, theirs.event_id, theirs.title, theirs.description,
      theirs.location, theirs.starts_at, theirs.ends_at, theirs.all_day, theirs.start_date,
      theirs.end_date, theirs.time_zone,
      case
        when theirs.meeting_status is null then sync.next_status(meeting.status, theirs.status)
        else sync.told_status(meeting.status, theirs.meeting_status, theirs.told_before)
      end,
      theirs.conference_url, theirs.attendee_name, theirs.attendee_email,
      case
        when theirs.attendee_phone is null then meeting.attendee_phone
        else sync.told_phone(meeting.attendee_phone, theirs.attendee_phone, theirs.told_before)
      end,
      case
        when theirs.metadata is null then meeting.metadata
        else sync.told_metadata(meeting.metadata, theirs.metadata, theirs.told_before)
      end,
      'synced', null
    );
  get diagnostics v_count = row_count;
  -- Then those with edits: a merge may leave none, and ours must stand all the same.
  return v_count + sync.merge_edited(p_batch);
end;
$$;
comment on function sync.update_meetings(sync.batch) is
'Writes what feeding events say into their meetings; returns how many changed.';

create function sync.cancel_meetings(p_batch sync.batch)
returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_count integer;
begin
  if not exists (
    select 1 from sync.staged_events as staged
    where staged.batch_id = (p_batch).id and staged.verdict = 'cancel'
  ) then
    return 0;
  end if;
  -- A status that a user had edited was merged before, and is weighed there.
  update public.meetings as meeting
  set
    status = 'cancelled', version = meeting.version + 1,
    sync_state = case when meeting.edits = '{}' then 'synced' else meeting.sync_state end
  from sync.staged_events as staged
  where staged.batch_id = (p_batch).id and staged.verdict = 'cancel'
    and meeting.id = any (array(
      select mine.meeting_id from sync.staged_events as mine
      where mine.batch_id = (p_batch).id and mine.verdict = 'cancel'
    ))
    and meeting.id = staged.meeting_id and meeting.status <> 'cancelled'
    and not meeting.edits ? 'status';
  get diagnostics v_count = row_count;
  return v_count;
end;
$$;
comment on function sync.cancel_meetings(sync.batch) is
'Cancels the meetings whose authority cancelled them; returns how many.';

create function sync.detach_meetings(p_batch sync.batch)
returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_count integer;
begin
  update sync.staged_events as staged
  set verdict = 'detach'
  where staged.batch_id = (p_batch).id and staged.status <> 'cancelled' and not staged.is_wanted
    and not staged.is_same and staged.meeting_id is not null and staged.old_scope = 'in'
    and staged.role <> 'series';
  select count(distinct staged.meeting_id) into v_count
  from sync.staged_events as staged
  where staged.batch_id = (p_batch).id and staged.verdict = 'detach' and staged.old_scope = 'in';

  if v_count = 0 then
    return 0;
  end if;
  -- The link stays: should the tag or the event come back, it is the same meeting again, and
  -- what was edited meanwhile is known.
  update public.meetings as meeting
  set sync_state = 'local'
  from sync.staged_events as staged
  where staged.batch_id = (p_batch).id and staged.verdict = 'detach'
    and meeting.id = any (array(
      select mine.meeting_id from sync.staged_events as mine
      where mine.batch_id = (p_batch).id and mine.verdict = 'detach'
    ))
    and meeting.id = staged.meeting_id and meeting.event_id = staged.event_id
    and meeting.sync_state <> 'local';
  return v_count;
end;
$$;
comment on function sync.detach_meetings(sync.batch) is
'Leaves meetings without their event: declined, untagged, or a guest''s copy deleted; returns how many.';
