-- Applying, step 4: which meeting an event stands for. Only sync.meeting_keys decides that.
--
-- Two workers that read, then insert the same thing make two meetings: so keys are claimed
-- first, with ids made beforehand, and read afterwards. Order of locks: keys that are there, by
-- key; new keys, by key; nothing after that waits for another call's keys.

create function sync.lock_keys(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
begin
  perform 1
  from sync.meeting_keys as known
  where known.organization_id = (p_batch).organization_id
    and known.key = any (array(
      select unnest(array[staged.key, staged.old_key])
      from sync.staged_events as staged
      where staged.batch_id = (p_batch).id and staged.key is not null
        and (staged.is_new_meeting or staged.key is distinct from staged.old_key)
    ))
  order by known.key
  for update;
end;
$$;
comment on function sync.lock_keys(sync.batch) is 'Locks the keys that this batch claims or leaves, as far as they are there.';

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
  where staged.batch_id = (p_batch).id and staged.key is not null
    and staged.meeting_id is not null and staged.role <> 'series'
    and (staged.is_new_meeting or staged.key is distinct from staged.old_key)
  order by staged.key, staged.is_new_meeting, staged.place
  on conflict (organization_id, key) do nothing;

  -- Whose is the key? Read by a statement of its own: it sees what the insert waited for.
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
  if found then
    -- Two events of this batch may share a new key: one made the meeting, the others found it.
    update sync.staged_events as staged
    set is_new_meeting = true
    where staged.batch_id = (p_batch).id and not staged.is_new_meeting
      and staged.meeting_id in (
        select maker.meeting_id from sync.staged_events as maker
        where maker.batch_id = (p_batch).id and maker.is_new_meeting
      );
  end if;

  perform sync.resolve_ties(p_batch);

  -- A key that its event left would lead somebody else to this meeting.
  delete from sync.meeting_keys as known
  using sync.staged_events as staged
  where staged.batch_id = (p_batch).id and staged.key is not null
    and staged.old_key is distinct from staged.key
    and known.organization_id = (p_batch).organization_id
    and known.key = any (array(
      select moved.old_key from sync.staged_events as moved
      where moved.batch_id = (p_batch).id and moved.key is not null
        and moved.old_key is distinct from moved.key
    ))
    and known.key = staged.old_key
    and known.meeting_id = staged.meeting_id;
end;
$$;
comment on function sync.claim_keys(sync.batch) is
'Finds or makes the meeting of each staged event that is to have one.';

-- An event that has a meeting came under a key that leads to another one.

create function sync.resolve_ties(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_tie record;
begin
  for v_tie in
    select
      staged.place, staged.key, staged.event_id,
      staged.meeting_id as mine, known.meeting_id as theirs,
      sync.lives_elsewhere(p_batch, known.meeting_id, staged.event_id) as theirs_lives,
      sync.lives_elsewhere(p_batch, staged.meeting_id, staged.event_id) as mine_lives
    from sync.staged_events as staged
    join sync.meeting_keys as known
      on known.organization_id = (p_batch).organization_id
      and known.key = any (array(
        select moved.key from sync.staged_events as moved
        where moved.batch_id = (p_batch).id and not moved.is_new_meeting
          and moved.key is distinct from moved.old_key
      ))
      and known.key = staged.key
    where staged.batch_id = (p_batch).id and not staged.is_new_meeting
      and staged.key is distinct from staged.old_key
      and known.meeting_id <> staged.meeting_id
    order by staged.place
  loop
    if not v_tie.theirs_lives then
      -- What the key led to is gone, or has just moved on.
      update sync.meeting_keys as known
      set meeting_id = v_tie.mine
      where known.organization_id = (p_batch).organization_id and known.key = v_tie.key;
    elsif v_tie.mine_lives then
      update sync.staged_events as staged
      set meeting_id = v_tie.theirs
      where staged.batch_id = (p_batch).id and staged.place = v_tie.place;
    else
      perform sync.merge_meetings(p_batch, v_tie.mine, v_tie.theirs);
    end if;
  end loop;
end;
$$;
comment on function sync.resolve_ties(sync.batch) is
'Where a key leads to another meeting than the event has: the key moves, the event moves, or the two meetings become one.';

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

-- The older id survives. The other points to it and leaves the lists; no provider is called.

create function sync.merge_meetings(p_batch sync.batch, p_one uuid, p_other uuid)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_survivor public.meetings;
  v_loser public.meetings;
begin
  -- Meetings come after keys in the order of locks, and by id.
  perform 1 from public.meetings as meeting
  where meeting.id in (p_one, p_other)
  order by meeting.id
  for no key update;
  select meeting.* into v_survivor
  from public.meetings as meeting
  where meeting.id in (p_one, p_other) and meeting.merged_into is null
  order by meeting.created_at, meeting.id
  limit 1;
  select meeting.* into v_loser
  from public.meetings as meeting
  where meeting.id in (p_one, p_other) and meeting.id <> v_survivor.id
    and meeting.merged_into is null;
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
  where event.id in (
    select mine.id from public.calendar_events as mine
    where mine.meeting_id = v_loser.id
    order by mine.id
    for no key update
  );
end;
$$;
comment on function sync.merge_meetings(sync.batch, uuid, uuid) is
'Makes two meetings one: references move to the older, the other gets merged_into.';
