-- Applying, step 4: which meeting an event stands for. Only sync.meeting_keys decides that.
--
-- Two workers that read, then insert the same thing make two meetings: so keys are claimed
-- first, with ids made beforehand, and read afterwards. Order of locks: keys that are there, by
-- key; new keys, by key; nothing after that waits for another call's keys. No meeting is locked
-- here: that comes after the clients (sync.lock_meetings), and two meetings become one then.

create function sync.lock_keys(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_keys text[] := array(
    select unnest(array[staged.key, staged.old_key])
    from sync.staged_events as staged
    where staged.batch_id = (p_batch).id and staged.key is not null
      and (staged.is_new_meeting or staged.key is distinct from staged.old_key)
  );
  v_tied uuid[] := sync.tied_meetings(p_batch);
begin
  -- Where two meetings become one, all keys of the younger move.
  if v_tied <> '{}' then
    v_keys := v_keys || array(
      select known.key from sync.meeting_keys as known where known.meeting_id = any (v_tied)
    );
  end if;
  perform 1
  from sync.meeting_keys as known
  where known.organization_id = (p_batch).organization_id and known.key = any (v_keys)
  order by known.key
  for update;
end;
$$;
comment on function sync.lock_keys(sync.batch) is
'Locks the keys that this batch claims, leaves or moves, as far as they are there.';

create function sync.tied_meetings(p_batch sync.batch)
returns uuid[]
language plpgsql
stable
set search_path = ''
as $$
begin
  return array(
    select unnest(array[staged.meeting_id, known.meeting_id])
    from sync.staged_events as staged
    join sync.meeting_keys as known
      on known.organization_id = (p_batch).organization_id
      and known.key = any (array(
        select bearing.key from sync.staged_events as bearing
        where bearing.batch_id = (p_batch).id and not bearing.is_new_meeting
          and not bearing.is_same
      ))
      and known.key = staged.key
    where staged.batch_id = (p_batch).id and not staged.is_new_meeting and not staged.is_same
      and known.meeting_id <> staged.meeting_id
    union
    select unnest(array[staged.meeting_id, staged.tied_to]) -- by their booking
    from sync.staged_events as staged
    where staged.batch_id = (p_batch).id and staged.tied_to is not null
  );
end;
$$;
comment on function sync.tied_meetings(sync.batch) is
'Meetings of staged events whose keys lead to others, and those others.';

create function sync.claim_keys(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
begin
  perform sync.lock_keys(p_batch);

  insert into sync.meeting_keys (organization_id, key, meeting_id)
  select distinct on (staged.key)
    (p_batch).organization_id, staged.key, staged.meeting_id
  from sync.staged_events as staged
  where staged.batch_id = (p_batch).id and staged.key is not null and not staged.is_same
    and staged.meeting_id is not null and staged.role <> 'series'
  order by staged.key, staged.is_new_meeting, staged.place
  on conflict (organization_id, key) do nothing;

  perform sync.take_left_keys(p_batch);
  perform sync.follow_keys(p_batch);
  perform sync.resolve_ties(p_batch);
  perform sync.leave_keys(p_batch);
end;
$$;
comment on function sync.claim_keys(sync.batch) is
'Finds or makes the meeting of each staged event that is to have one, and notes which two are one (tied_to).';

-- Whose is the key? Read by a statement of its own: it sees what the claim waited for.

create function sync.follow_keys(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
begin
  update sync.staged_events as staged
  set meeting_id = known.meeting_id, is_new_meeting = false
  from sync.meeting_keys as known
  where staged.batch_id = (p_batch).id and staged.is_new_meeting
    and known.organization_id = (p_batch).organization_id
    and known.key = any (array(
      select claiming.key from sync.staged_events as claiming
      where claiming.batch_id = (p_batch).id and claiming.is_new_meeting
    ))
    and known.key = staged.key and known.meeting_id <> staged.meeting_id;
  if not found then
    return;
  end if;
  -- Two events of this batch may share a new key: one made the meeting, the others found it.
  update sync.staged_events as staged
  set is_new_meeting = true
  where staged.batch_id = (p_batch).id and not staged.is_new_meeting
    and staged.meeting_id in (
      select maker.meeting_id from sync.staged_events as maker
      where maker.batch_id = (p_batch).id and maker.is_new_meeting
    );
end;
$$;
comment on function sync.follow_keys(sync.batch) is
'Gives events that came without a meeting the one that their key leads to.';

-- A key may outlive its event here: while another calendar has not heard of a change yet, it
-- still bears the key. It leads to a meeting that stands for something else here by now.

create function sync.take_left_keys(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_keys text[];
  v_meetings uuid[];
begin
  select array_agg(known.key), array_agg(known.meeting_id)
  into v_keys, v_meetings
  from sync.meeting_keys as known
  join sync.staged_events as staged on staged.key = known.key
  where known.organization_id = (p_batch).organization_id
    and known.key = any (array(
      select claiming.key from sync.staged_events as claiming
      where claiming.batch_id = (p_batch).id and claiming.is_new_meeting
    ))
    and staged.batch_id = (p_batch).id and staged.is_new_meeting
    and staged.meeting_id <> known.meeting_id;
  if v_keys is null then
    return;
  end if;

  with here as materialized (
    select
      event.meeting_id,
      coalesce(newer.key, sync.event_key(
        event.ical_uid, event.role, event.original_start, event.original_start_date
      )) as key
    from public.calendar_events as event
    left join sync.staged_events as newer
      on newer.batch_id = (p_batch).id and newer.event_id = event.id
    where event.meeting_id = any (v_meetings) and event.calendar_id = (p_batch).calendar_id
      and coalesce(newer.status, event.status) <> 'cancelled'
      and (newer.place is null or newer.meeting_id = event.meeting_id)
  )

  update sync.meeting_keys as known
  set meeting_id = staged.meeting_id
  from sync.staged_events as staged
  where known.organization_id = (p_batch).organization_id and known.key = any (v_keys)
    and staged.batch_id = (p_batch).id and staged.is_new_meeting and staged.key = known.key
    and known.meeting_id in (select here.meeting_id from here)
    and (known.meeting_id, known.key) not in (
      select here.meeting_id, here.key from here where here.key is not null
    );
end;
$$;
comment on function sync.take_left_keys(sync.batch) is
'Takes keys over that lead to a meeting which this calendar has under another key.';

create function sync.leave_keys(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
begin
  -- It would lead somebody else to this meeting. Where another calendar's event still bears it,
  -- that one leaves it.
  with moved as materialized (
    select staged.old_key as key, staged.meeting_id
    from sync.staged_events as staged
    where staged.batch_id = (p_batch).id and staged.key is not null
      and staged.old_key is distinct from staged.key
  )

  delete from sync.meeting_keys as known
  using moved
  where known.organization_id = (p_batch).organization_id
    and known.key = any (array(select moved.key from moved))
    and known.key = moved.key and known.meeting_id = moved.meeting_id
    and (known.key, known.meeting_id) not in (
      select
        sync.event_key(event.ical_uid, event.role, event.original_start, event.original_start_date),
        event.meeting_id
      from public.calendar_events as event
      where event.meeting_id = any (array(select moved.meeting_id from moved))
        and event.calendar_id <> (p_batch).calendar_id and event.status <> 'cancelled'
        and event.ical_uid is not null
    );
end;
$$;
comment on function sync.leave_keys(sync.batch) is 'Gives up the keys that events of this batch do not bear any more.';

-- An event that has a meeting bears a key that leads to another one.

create function sync.resolve_ties(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
begin
  with tie as materialized (
    select
      staged.place, staged.key, staged.meeting_id as mine, known.meeting_id as theirs,
      sync.lives_elsewhere(p_batch, known.meeting_id, staged.event_id) as theirs_lives,
      sync.lives_elsewhere(p_batch, staged.meeting_id, staged.event_id)
      or exists (
        select 1 from public.meetings as meeting
        where meeting.id = staged.meeting_id and meeting.status = 'cancelled'
      ) as mine_stays
    from sync.staged_events as staged
    join sync.meeting_keys as known
      on known.organization_id = (p_batch).organization_id
      and known.key = any (array(
        select bearing.key from sync.staged_events as bearing
        where bearing.batch_id = (p_batch).id and not bearing.is_new_meeting
          and not bearing.is_same
      ))
      and known.key = staged.key
    where staged.batch_id = (p_batch).id and not staged.is_new_meeting and not staged.is_same
      and known.meeting_id <> staged.meeting_id
  ), taken as (
    -- What the key led to is gone, or has just moved on.
    update sync.meeting_keys as known
    set meeting_id = free.mine
    from (
      select distinct on (tie.key) tie.key, tie.mine
      from tie
      where not tie.theirs_lives
      order by tie.key, tie.place desc
    ) as free
    where known.organization_id = (p_batch).organization_id and known.key = free.key
  )

  update sync.staged_events as staged
  set
    meeting_id = case when tie.mine_stays then tie.theirs else tie.mine end,
    tied_to = case when not tie.mine_stays then tie.theirs end
  from tie
  where staged.batch_id = (p_batch).id and staged.place = tie.place and tie.theirs_lives;
end;
$$;
comment on function sync.resolve_ties(sync.batch) is
'Where a key leads to another meeting than the event has: the key moves, the event moves, or the two meetings are to become one.';

create function sync.lives_elsewhere(p_batch sync.batch, p_meeting_id uuid, p_event_id uuid)
returns boolean
language sql
stable
set search_path = ''
as $$
  select
    exists (
      select 1
      from public.calendar_events as event
      where event.meeting_id = p_meeting_id and event.id <> p_event_id
        and event.status <> 'cancelled' and event.scope = 'in'
        -- What this batch says of an event is newer than the mirror.
        and not exists (
          select 1 from sync.staged_events as staged
          where staged.batch_id = (p_batch).id and staged.event_id = event.id
            and (staged.status = 'cancelled' or staged.meeting_id is distinct from p_meeting_id
              or staged.key is distinct from staged.old_key)
        )
    )
$$;
comment on function sync.lives_elsewhere(sync.batch, uuid, uuid) is
'Whether another event than this one stands for the meeting, under the key it always had.';

create function sync.take_over(p_survivor uuid, p_loser public.meetings)
returns void
language sql
set search_path = ''
as $$
  update public.meetings as meeting
  set
    calendar_id = p_loser.calendar_id, event_id = p_loser.event_id, title = p_loser.title,
    description = p_loser.description, location = p_loser.location,
    starts_at = p_loser.starts_at, ends_at = p_loser.ends_at, all_day = p_loser.all_day,
    start_date = p_loser.start_date, end_date = p_loser.end_date,
    time_zone = p_loser.time_zone, status = p_loser.status, meeting_url = p_loser.meeting_url,
    attendee_name = p_loser.attendee_name, attendee_email = p_loser.attendee_email,
    sync_state = p_loser.sync_state, version = meeting.version + 1
  where meeting.id = p_survivor
$$;
comment on function sync.take_over(uuid, public.meetings) is
'Makes a cancelled meeting what another one is, that lives.';

-- After the locks: what was found tied becomes one, in the order of places.

create function sync.merge_ties(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_tie record;
begin
  for v_tie in
    select staged.meeting_id as mine, staged.tied_to as theirs
    from sync.staged_events as staged
    where staged.batch_id = (p_batch).id and staged.tied_to is not null
    order by staged.place
  loop
    perform sync.merge_meetings(p_batch, v_tie.mine, v_tie.theirs);
  end loop;
end;
$$;
comment on function sync.merge_ties(sync.batch) is
'Makes one of each two meetings that were found to be the same; sync.lock_meetings holds them.';

-- The older id survives. The other points to it and leaves the lists; no provider is called.

create function sync.merge_meetings(p_batch sync.batch, p_one uuid, p_other uuid)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_pair uuid[] := array(
    -- One of them may have become one with a third before.
    select distinct coalesce(meeting.merged_into, meeting.id)
    from public.meetings as meeting
    where meeting.id in (p_one, p_other)
  );
  v_survivor public.meetings;
  v_loser public.meetings;
begin
  select meeting.* into v_survivor
  from public.meetings as meeting
  where meeting.id = any (v_pair)
  order by meeting.created_at, meeting.id
  limit 1;
  select meeting.* into v_loser
  from public.meetings as meeting
  where meeting.id = any (v_pair) and meeting.id <> v_survivor.id;
  if v_loser.id is null then
    return;
  end if;

  update sync.meeting_keys as known
  set meeting_id = v_survivor.id
  where known.meeting_id = v_loser.id;
  update sync.staged_events as staged
  set meeting_id = v_survivor.id
  where staged.batch_id = (p_batch).id and staged.meeting_id = v_loser.id;
  update public.meetings as meeting
  set
    merged_into = v_survivor.id, event_id = null, edits = '{}', sync_state = 'local',
    version = meeting.version + 1
  where meeting.id = v_loser.id;
  -- Who pointed to the loser points to the survivor at once: no chains.
  update public.meetings as meeting
  set merged_into = v_survivor.id
  where meeting.merged_into = v_loser.id;
  if v_survivor.status = 'cancelled' and v_loser.status <> 'cancelled' then
    perform sync.take_over(v_survivor.id, v_loser);
  end if;
  -- What a user had changed of the loser is not lost silently.
  insert into public.sync_conflicts (
    organization_id, meeting_id, field, base, ours, theirs, winner, reason, resolved_at
  )
  select
    v_survivor.organization_id, v_survivor.id, edit.field, edit.made -> 'base',
    sync.meeting_fields(v_loser) -> edit.field, sync.meeting_fields(v_survivor) -> edit.field,
    'theirs', 'two meetings turned out to be one: the older one''s value stands', sync.clock()
  from jsonb_each(v_loser.edits) as edit (field, made);
  update public.calendar_events as event
  set meeting_id = v_survivor.id
  where event.id = any (array( -- by index: without nested loops a join would read all events
    select mine.id from public.calendar_events as mine
    where mine.meeting_id = v_loser.id
    order by mine.id
    for no key update
  ));
end;
$$;
comment on function sync.merge_meetings(sync.batch, uuid, uuid) is
'Makes two meetings one: references move to the older, the other gets merged_into. Who calls it holds locks on both, and on their keys.';
