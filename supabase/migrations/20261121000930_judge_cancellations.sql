-- Applying, step 5: who may cancel, and is it too much to be believed?
--
-- Only the authority cancels: the organizer's copy. Where a guest's copy is deleted the event is
-- detached and the meeting stays. What is over stays as it was. What has a live booking only the
-- booking cancels: it is asked for. What lives on in another calendar of the organization was
-- moved, and its meeting follows.

-- The brake's thresholds stand here and nowhere else.

create function sync.believable_cancellations(p_batch sync.batch)
returns integer
language plpgsql
stable
set search_path = ''
as $$
begin
  return (
    select greatest(
      10,
      floor(0.2 * count(distinct coalesce(event.series_provider_id, event.provider_event_id)))
    )::integer
    from public.calendar_events as event
    where event.calendar_id = (p_batch).calendar_id and event.status <> 'cancelled'
      and event.scope = 'in' and event.meeting_id is not null and event.ends_at > (p_batch).now_at
  );
end;
$$;
comment on function sync.believable_cancellations(sync.batch) is
'How many cancellations one call may carry out: ten, or a fifth of the calendar''s future meetings; a series counts once.';

create function sync.lock_meetings(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_meetings uuid[];
begin
  loop
    -- In a variable: a plan made while there were no meetings would ask again for each.
    v_meetings := sync.meetings_to_lock(p_batch);
    perform 1
    from public.meetings as meeting
    where meeting.id = any (v_meetings)
    order by meeting.id
    for no key update;
    -- Another call may have made one of them one with a third while this call waited: then that
    -- one is locked too.
    exit when not sync.follow_merged(p_batch);
  end loop;
  perform sync.merge_ties(p_batch);
end;
$$;
comment on function sync.lock_meetings(sync.batch) is
'Locks the meetings this batch may write, by id; then makes one of those that are tied.';

create function sync.meetings_to_lock(p_batch sync.batch)
returns uuid[]
language plpgsql
stable
set search_path = ''
as $$
declare
  v_tied uuid[] := array(
    select unnest(array[staged.meeting_id, staged.tied_to])
    from sync.staged_events as staged
    where staged.batch_id = (p_batch).id and staged.tied_to is not null
  );
begin
  return v_tied
    || array(
      select staged.meeting_id from sync.staged_events as staged
      where staged.batch_id = (p_batch).id and staged.meeting_id is not null
        and not staged.is_same and not staged.is_new_meeting
    )
    -- What points to one of them will point to the other.
    || array(
      select former.id from public.meetings as former where former.merged_into = any (v_tied)
    );
end;
$$;
comment on function sync.meetings_to_lock(sync.batch) is 'The meetings that this batch may write.';

create function sync.follow_merged(p_batch sync.batch)
returns boolean
language plpgsql
set search_path = ''
as $$
begin
  update sync.staged_events as staged
  set meeting_id = meeting.merged_into
  from public.meetings as meeting
  where staged.batch_id = (p_batch).id and not staged.is_same
    and meeting.id = any (array(
      select mine.meeting_id from sync.staged_events as mine
      where mine.batch_id = (p_batch).id and not mine.is_same
    ))
    and meeting.id = staged.meeting_id and meeting.merged_into is not null;
  return found;
end;
$$;
comment on function sync.follow_merged(sync.batch) is
'Gives events whose meeting has become one with another that other one; returns whether there were any.';

-- Only another organizer's copy shows a move: guests' copies live a moment longer than what
-- their organizer deleted.

create function sync.meetings_alive_elsewhere(p_batch sync.batch)
returns setof uuid
language plpgsql
stable
set search_path = ''
as $$
begin
  return query
  select staged.meeting_id
  from sync.staged_events as staged
  where staged.batch_id = (p_batch).id and staged.status <> 'cancelled'
    and staged.is_organizer and staged.is_wanted and staged.meeting_id is not null
  union
  select event.meeting_id
  from public.calendar_events as event
  where event.meeting_id = any (array(
    select gone.meeting_id from sync.staged_events as gone
    where gone.batch_id = (p_batch).id and gone.status = 'cancelled'
  ))
    and event.status <> 'cancelled' and event.scope = 'in' and event.is_organizer
    and event.id not in (
      select staged.event_id from sync.staged_events as staged
      where staged.batch_id = (p_batch).id
    );
end;
$$;
comment on function sync.meetings_alive_elsewhere(sync.batch) is
'Meetings of which another event, its organizer''s, is alive.';

create function sync.judge_cancellations(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_elsewhere uuid[];
  v_booked uuid[];
begin
  if not exists (
    select 1 from sync.staged_events as staged
    where staged.batch_id = (p_batch).id and staged.status = 'cancelled'
  ) then
    return;
  end if;
  v_elsewhere := array(select sync.meetings_alive_elsewhere(p_batch));
  v_booked := sync.meetings_booked(p_batch);
  update sync.staged_events as staged
  set verdict = case
    when not staged.is_organizer then 'detach'
    when meeting.status in ('completed', 'no_show', 'cancelled')
      or meeting.ends_at < (p_batch).now_at then 'over'
    when meeting.id = any (v_booked) then 'booked'
    when meeting.id = any (v_elsewhere) then 'follow'
    else 'cancel'
  end
  from public.meetings as meeting
  where staged.batch_id = (p_batch).id and staged.status = 'cancelled' and staged.verdict is null
    and staged.old_status <> 'cancelled' and staged.old_scope = 'in'
    and meeting.id = any (array(
      select mine.meeting_id from sync.staged_events as mine
      where mine.batch_id = (p_batch).id and mine.status = 'cancelled'
    ))
    and meeting.id = staged.meeting_id;
end;
$$;
comment on function sync.judge_cancellations(sync.batch) is
'Writes beside each staged event that is gone what that means for its meeting.';

-- A meeting that lost the event it was written to, and has another: that one's content counts.

create function sync.stage_followers(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
begin
  insert into sync.staged_events (
    batch_id, place, origin, provider_event_id, role, status, title, description, location,
    starts_at, ends_at, all_day, start_date, end_date, time_zone, organizer_email,
    is_organizer, own_response, attendees, attendee_name, attendee_email, conference_url,
    provider_updated_at, event_id, is_known, old_status, old_scope, meeting_id
  )
  select
    (p_batch).id, -1000000 - row_number() over (order by moved.meeting_id), 'follower',
    event.provider_event_id, event.role, event.status, event.title, event.description,
    event.location, event.starts_at, event.ends_at, event.all_day, event.start_date,
    event.end_date, coalesce(event.time_zone, calendar.time_zone, organization.time_zone),
    event.organizer_email, event.is_organizer, event.own_response, event.attendees,
    meeting.attendee_name, meeting.attendee_email, event.conference_url,
    event.provider_updated_at, event.id, true, event.status, event.scope, moved.meeting_id
  from (
    select distinct staged.meeting_id
    from sync.staged_events as staged
    where staged.batch_id = (p_batch).id and staged.verdict = 'follow'
  ) as moved
  join public.meetings as meeting on meeting.id = moved.meeting_id
  cross join lateral (
    select other.*
    from public.calendar_events as other
    where other.meeting_id = moved.meeting_id and other.status <> 'cancelled'
      and other.scope = 'in' and other.is_organizer
      and not exists (
        select 1 from sync.staged_events as staged
        where staged.batch_id = (p_batch).id and staged.event_id = other.id
      )
    order by other.created_at, other.id
    limit 1
  ) as event
  join public.calendars as calendar on calendar.id = event.calendar_id
  join public.organizations as organization on organization.id = calendar.organization_id;
end;
$$;
comment on function sync.stage_followers(sync.batch) is
'Stages, for meetings that move to another calendar, the event they move to.';

-- The brake. Nothing of a unit (a series, or an event alone) that is held is carried out, its
-- master included. The hash is forgotten, so that an event which comes back is looked at again.

create function sync.hold_cancellations(p_batch sync.batch)
returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_units integer;
  v_held integer;
begin
  -- What is held already neither counts again nor gets through.
  update sync.staged_events as staged
  set verdict = 'held'
  from sync.held_cancellations as held
  where staged.batch_id = (p_batch).id and staged.status = 'cancelled'
    and staged.verdict is distinct from 'retired' and held.event_id = staged.event_id;

  select count(distinct coalesce(staged.series_provider_id, staged.provider_event_id))
  into v_units
  from sync.staged_events as staged
  where staged.batch_id = (p_batch).id and staged.verdict = 'cancel';
  if v_units <= 10 or v_units <= sync.believable_cancellations(p_batch) then
    return 0;
  end if;

  update sync.staged_events as staged
  set verdict = 'held'
  where staged.batch_id = (p_batch).id and staged.status = 'cancelled'
    and staged.verdict is distinct from 'retired'
    and coalesce(staged.series_provider_id, staged.provider_event_id) in (
      select coalesce(gone.series_provider_id, gone.provider_event_id)
      from sync.staged_events as gone
      where gone.batch_id = (p_batch).id and gone.verdict = 'cancel'
    );
  insert into sync.held_cancellations (event_id, calendar_id, held_at)
  select staged.event_id, (p_batch).calendar_id, (p_batch).now_at
  from sync.staged_events as staged
  where staged.batch_id = (p_batch).id and staged.verdict = 'held'
  order by staged.event_id
  on conflict do nothing;
  get diagnostics v_held = row_count;
  perform sync.raise_alert(
    'deletions_held', (p_batch).calendar_id, (p_batch).connection_id,
    format('%s meetings or series vanished from a calendar at once. None of them was cancelled.', v_units),
    'Look whether they are really gone. Then release the deletions, or drop them to keep the meetings.'
  );
  return v_held;
end;
$$;
comment on function sync.hold_cancellations(sync.batch) is
'Holds all cancellations of the call for a person where they are too many; returns how many events it holds.';
