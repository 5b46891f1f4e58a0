-- Applying, the whole, and its last step: what a pull read becomes mirror and meetings, and the
-- cursor moves, in one transaction. Locks: task, bookings of the organization (shared), keys,
-- clients, meetings, events; each sorted.

create function sync.write_batch(p_batch sync.batch)
returns table (created integer, updated integer, cancelled integer, detached integer)
language plpgsql
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_created integer;
  v_updated integer;
  v_cancelled integer;
  v_detached integer;
begin
  perform sync.stage_followers(p_batch);
  v_detached := sync.detach_meetings(p_batch);
  perform sync.stage_bookings_of_events(p_batch);
  perform sync.choose_feeders(p_batch);
  v_created := sync.create_meetings(p_batch);
  v_updated := sync.update_meetings(p_batch);
  v_cancelled := sync.cancel_meetings(p_batch);
  perform sync.write_events(p_batch);
  perform sync.write_slots(p_batch);
  perform sync.ask_for_bookings(p_batch);
  return query select v_created, v_updated, v_cancelled, v_detached;
end;
$$;
comment on function sync.write_batch(sync.batch) is
'Writes what was decided of a batch: meetings, then events; returns counts of meetings.';

create function sync.remember_round(p_batch sync.batch, p_round jsonb, p_changed boolean)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_backfill text := p_round ->> 'backfill';
begin
  if p_round ? 'cursor' or p_changed then
    insert into sync.calendar_state as state (
      calendar_id, cursor, cursor_parameters, window_start, window_end, last_changed_at
    )
    values (
      (p_batch).calendar_id, p_round ->> 'cursor', p_round ->> 'cursor_parameters',
      case when (p_batch).full_round then (p_batch).window_start end,
      case when (p_batch).full_round then (p_batch).window_end end,
      case when p_changed then (p_batch).now_at end
    )
    on conflict (calendar_id) do update
    set
      cursor = case when p_round ? 'cursor' then excluded.cursor else state.cursor end,
      cursor_parameters = case
        when p_round ? 'cursor' then excluded.cursor_parameters else state.cursor_parameters
      end,
      window_start = coalesce(excluded.window_start, state.window_start),
      window_end = coalesce(excluded.window_end, state.window_end),
      last_changed_at = coalesce(excluded.last_changed_at, state.last_changed_at);
  end if;
  if (p_batch).full_round then
    delete from sync.seen_events as seen where seen.calendar_id = (p_batch).calendar_id;
  end if;
  update public.calendars as calendar
  set backfill = v_backfill
  where calendar.id = (p_batch).calendar_id
    and array_position(array['pending', 'upcoming', 'complete'], v_backfill)
    > array_position(array['pending', 'upcoming', 'complete'], calendar.backfill);
end;
$$;
comment on function sync.remember_round(sync.batch, jsonb, boolean) is
'Saves the cursor and how far the backfill came, and ends a full round.';

create function sync.apply_events(
  p_task_id bigint, p_lease uuid, p_calendar_id uuid, p_events jsonb, p_round jsonb default '{}'
)
returns table (
  created integer, updated integer, cancelled integer, unchanged integer, detached integer,
  set_aside integer, held integer
)
language plpgsql
security definer -- owned by sync_engine: users' triggers know its writes by that
set search_path = ''
-- A batch may be one event or 2,500, and the planner, who cannot know, believes in one: nested
-- loops over staged events took 40 s instead of 0.4. Without them each step reads its rows of
-- other tables by `= any (array(…))`, by index, and hashes them to the staged ones.
set enable_nestloop = off
set jit = off -- what is switched off counts as dear, and dear plans would be compiled
set plan_cache_mode = force_generic_plan -- one event: 2 ms instead of 4
set work_mem = '32MB' -- a page is sorted and hashed in memory
as $$
#variable_conflict use_column
declare
  v_batch sync.batch;
  v_count record;
  v_set_aside integer;
  v_unchanged integer;
  v_held integer;
begin
  perform sync.hold_task(p_task_id, p_lease);
  perform sync.share_bookings(p_calendar_id);
  v_batch := sync.read_batch(p_calendar_id, p_round);
  if v_batch.id is null then
    return query select 0, 0, 0, 0, 0, 0, 0;
    return;
  end if;

  perform sync.stage_told(v_batch, p_events);
  v_set_aside := sync.set_aside(v_batch, p_round -> 'malformed');
  v_unchanged := sync.drop_unknown_tombstones(v_batch) + sync.drop_past(v_batch)
    + sync.count_same(v_batch);
  perform sync.match_series(v_batch);
  perform sync.refer_to_bookings(v_batch);
  perform sync.claim_keys(v_batch);
  perform sync.find_clients(v_batch);
  perform sync.lock_meetings(v_batch);
  perform sync.judge_cancellations(v_batch);
  v_held := sync.hold_cancellations(v_batch);
  select * into v_count from sync.write_batch(v_batch);
  perform sync.remember_round(
    v_batch, p_round,
    v_count.created + v_count.updated + v_count.cancelled + v_count.detached > 0
  );
  delete from sync.staged_events as staged where staged.batch_id = v_batch.id;

  return query select
    v_count.created, v_count.updated, v_count.cancelled, v_unchanged, v_count.detached,
    v_set_aside, v_held;
end;
$$;
comment on function sync.apply_events(bigint, uuid, uuid, jsonb, jsonb) is
'Applies events a pull has read (an array of event objects) to mirror and meetings, and saves the cursor with them. p_round: series (masters whose whole expansion in window_start, window_end is among the events), malformed, full_round with asked_from (absence counts), upsert_only (nothing is cancelled), cursor and cursor_parameters, backfill. Counts meetings created, updated, cancelled and detached, events unchanged and set aside, and events whose cancellation is held. CS001 where a later lease holds the task.';

create function sync.count_same(p_batch sync.batch)
returns integer
language plpgsql
stable
set search_path = ''
as $$
begin
  return (
    select count(*)::integer from sync.staged_events as staged
    where staged.batch_id = (p_batch).id and staged.is_same
  );
end;
$$;
comment on function sync.count_same(sync.batch) is 'How many staged events say what the mirror has.';

-- What the brake holds, a person releases or drops.

create function sync.stage_held(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
begin
  perform sync.stage_mirrored(p_batch, 'released', array(
    select held.event_id
    from sync.held_cancellations as held
    join public.calendar_events as event on event.id = held.event_id
    where held.calendar_id = (p_batch).calendar_id and event.status <> 'cancelled'
  ));
  -- Meetings first, as pages lock them. A page that was written while we waited may have brought
  -- some of this back.
  perform sync.lock_meetings(p_batch);
  with taken as (
    delete from sync.held_cancellations as held
    using public.calendar_events as event
    where held.calendar_id = (p_batch).calendar_id and event.id = held.event_id
      and (
        event.status = 'cancelled'
        or event.id in (
          select staged.event_id from sync.staged_events as staged
          where staged.batch_id = (p_batch).id
        )
      )
    returning held.event_id
  )

  delete from sync.staged_events as staged
  where staged.batch_id = (p_batch).id
    and staged.event_id not in (select taken.event_id from taken);
end;
$$;
comment on function sync.stage_held(sync.batch) is
'Stages as gone what the brake holds for a calendar, which it then holds no more.';

create function sync.release_held_cancellations(p_calendar_id uuid)
returns integer
language plpgsql
security definer -- as apply_events
set search_path = ''
set enable_nestloop = off
set jit = off
as $$
declare
  v_batch sync.batch;
  v_cancelled integer;
begin
  perform sync.share_bookings(p_calendar_id);
  v_batch := sync.read_batch(p_calendar_id, '{}');
  perform sync.stage_held(v_batch);
  perform sync.judge_cancellations(v_batch);
  select count.cancelled into v_cancelled from sync.write_batch(v_batch) as count;
  delete from sync.staged_events as staged where staged.batch_id = v_batch.id;
  perform sync.resolve_alert('deletions_held', p_calendar_id);
  return v_cancelled;
end;
$$;
comment on function sync.release_held_cancellations(uuid) is
'Carries out the cancellations that the brake holds for a calendar; returns how many meetings that cancelled.';

create function sync.drop_held_cancellations(p_calendar_id uuid)
returns integer
language plpgsql
security definer -- as apply_events
set search_path = ''
set enable_nestloop = off
set jit = off
as $$
declare
  v_batch sync.batch;
  v_kept integer;
begin
  perform sync.share_bookings(p_calendar_id);
  v_batch := sync.read_batch(p_calendar_id, '{}');
  perform sync.stage_held(v_batch);
  -- The events are gone, the meetings stay without them. An event that comes back, comes back
  -- to its meeting.
  update sync.staged_events as staged
  set verdict = 'detach'
  where staged.batch_id = v_batch.id;
  select count.detached into v_kept from sync.write_batch(v_batch) as count;
  delete from sync.staged_events as staged where staged.batch_id = v_batch.id;
  perform sync.resolve_alert('deletions_held', p_calendar_id);
  return v_kept;
end;
$$;
comment on function sync.drop_held_cancellations(uuid) is
'Forgets the cancellations that the brake holds for a calendar: the meetings stay, without their events; returns how many.';

-- Whose these functions are. The entrances belong to sync_engine and are for the worker; the
-- steps they call run as sync_engine, and nobody else may call them.

do $$
declare
  v_step regprocedure;
begin
  for v_step in
    select function.oid::regprocedure
    from pg_catalog.pg_proc as function
    where function.pronamespace = 'sync'::regnamespace
      and (
        function.proargtypes[0] = 'sync.batch'::regtype
        or function.proname = any (array[
          'read_batch', 'event_key', 'plain_text', 'has_tag', 'normal_text', 'time_field',
          'provider_status', 'take_over', 'meeting_fields', 'same_field', 'merge_field', 'staged_fields',
          'next_status', 'told_status', 'told_phone', 'told_metadata'
        ])
      )
  loop
    execute format('revoke all on function %s from public', v_step);
    execute format('grant execute on function %s to sync_engine', v_step);
  end loop;
end;
$$;

revoke all on function sync.compare_hashes(uuid, text[], bytea[], boolean, boolean) from public;
revoke all on function sync.doubtful_events(uuid, timestamptz) from public;
revoke all on function sync.apply_events(bigint, uuid, uuid, jsonb, jsonb) from public;
revoke all on function sync.release_held_cancellations(uuid) from public;
revoke all on function sync.drop_held_cancellations(uuid) from public;
grant execute on function sync.compare_hashes(uuid, text[], bytea[], boolean, boolean)
to sync_worker;
grant execute on function sync.doubtful_events(uuid, timestamptz) to sync_worker;
grant execute on function sync.apply_events(bigint, uuid, uuid, jsonb, jsonb) to sync_worker;

grant create on schema sync to sync_engine; -- owning a function there needs it, for a moment
alter function sync.compare_hashes(uuid, text[], bytea[], boolean, boolean) owner to sync_engine;
alter function sync.doubtful_events(uuid, timestamptz) owner to sync_engine;
alter function sync.apply_events(bigint, uuid, uuid, jsonb, jsonb) owner to sync_engine;
alter function sync.release_held_cancellations(uuid) owner to sync_engine;
alter function sync.drop_held_cancellations(uuid) owner to sync_engine;
revoke create on schema sync from sync_engine;
