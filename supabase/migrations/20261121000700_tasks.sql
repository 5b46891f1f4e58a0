-- The queue's second half: tasks. One row says when a (kind, subject) must next be looked at.
--
-- Whatever happens - a notification, a poll falling due, a user's edit, a crashed worker's lease
-- running out - only moves that row's run_at. A thousand notifications for one calendar are one
-- pull, and one that comes while the pull runs makes exactly one more.
--
-- Lanes: 0 = a user waits, 1 = a provider announced something, 2 = background. Ordered by run_at
-- alone, fresh edits would wait behind a million polls that fell due together.

create table sync.tasks (
  id bigint generated always as identity primary key,
  kind text not null,
  subject_id uuid not null,
  connection_id uuid references public.calendar_connections (id) on delete cascade,
  lane smallint not null,
  run_at timestamptz not null,
  again_at timestamptz,
  again_lane smallint,
  not_before timestamptz,
  lease uuid,
  attempts integer not null default 0,
  last_error text,
  -- The fence holds rows FOR KEY SHARE: no column that requests change may join a unique index.
  -- The subject first: kinds are few, and texts are dear to compare.
  unique (subject_id, kind),
  constraint tasks_kind_is_known check (
    kind in ('pull', 'ingest', 'push', 'watch', 'discover', 'disconnect', 'advance', 'check', 'keep')
  ),
  constraint tasks_lane_is_known check (lane between 0 and 2)
)
with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
comment on table sync.tasks is 'When a (kind, subject) must next be looked at; one row each.';
comment on column sync.tasks.subject_id is
'A calendar, connection or meeting; the nil uuid where the database itself is the subject.';
comment on column sync.tasks.run_at is 'Due at; while leased the end of the lease.';
comment on column sync.tasks.again_at is 'Asked for again while leased: the next run is not later.';
comment on column sync.tasks.not_before is 'Back-off: notifications and polls do not go below it, a user''s edit clears it.';
comment on column sync.tasks.lease is 'The latest claim. Who does not hold it can write nothing.';
comment on column sync.tasks.attempts is 'Claims since the last good run.';
create index tasks_due on sync.tasks (lane, run_at);
create index tasks_connection on sync.tasks (connection_id) where connection_id is not null;

-- Requesting.

create function sync.request_tasks(
  p_kinds text[], p_subjects uuid[], p_connections uuid[], p_lanes smallint[], p_ats timestamptz[]
)
returns integer
language plpgsql
security definer -- whoever may ask for work needs no right on the table
set search_path = ''
as $$
declare
  v_now timestamptz := sync.clock();
  v_moved integer;
  v_lowest timestamptz;
begin
  with wanted as (
    select
      asked.kind,
      asked.subject_id,
      (array_agg(asked.connection_id))[1] as connection_id,
      min(asked.lane) as lane,
      -- now() in a long transaction is long ago: a due time before the clock would hide below
      -- the floor of a worker's scan.
      greatest(min(asked.at), v_now) as run_at
    from unnest(p_kinds, p_subjects, p_connections, p_lanes, p_ats)
      as asked (kind, subject_id, connection_id, lane, at)
    group by asked.kind, asked.subject_id
  ),

  moved as (
    insert into sync.tasks as task (kind, subject_id, connection_id, lane, run_at)
    select wanted.kind, wanted.subject_id, wanted.connection_id, wanted.lane, wanted.run_at
    from wanted
    order by wanted.kind, wanted.subject_id -- one lock order, or batches deadlock
    on conflict (kind, subject_id) do update
    set
      run_at = case
        when task.lease is not null then task.run_at
        when excluded.lane = 0 then least(task.run_at, excluded.run_at)
        else least(task.run_at, greatest(excluded.run_at, task.not_before))
      end,
      lane = case when task.lease is null then least(task.lane, excluded.lane) else task.lane end,
      again_at = case when task.lease is not null then least(task.again_at, excluded.run_at) end,
      again_lane = case when task.lease is not null then least(task.again_lane, excluded.lane) end,
      not_before = case when excluded.lane > 0 then task.not_before end
    -- The row is locked even where this is false, and must be: who read "already due" without
    -- the lock may have read it just before the run that was due took its snapshot.
    where case
      when task.lease is not null
        then task.again_at is null
          or excluded.run_at < task.again_at
          or excluded.lane < task.again_lane
      when excluded.lane = 0
        then excluded.run_at < task.run_at or task.lane > 0 or task.not_before is not null
      else greatest(excluded.run_at, task.not_before) < task.run_at or excluded.lane < task.lane
    end
    returning task.run_at, task.lease
  )

  select count(*), min(moved.run_at) filter (where moved.lease is null)
  into v_moved, v_lowest
  from moved;

  -- Once a statement, and only if something moved: commits that notify go one by one.
  if v_lowest is not null then
    perform pg_notify('sync_tasks', extract(epoch from v_lowest)::text);
  end if;
  return v_moved;
end;
$$;
comment on function sync.request_tasks(text[], uuid[], uuid[], smallint[], timestamptz[]) is
'Asks that tasks run no later than the times given; parallel arrays, doubles allowed. Notifies the channel sync_tasks with the lowest run_at (epoch seconds). Returns how many moved.';
revoke all on function sync.request_tasks(text[], uuid[], uuid[], smallint[], timestamptz[]) from public;
grant execute on function sync.request_tasks(text[], uuid[], uuid[], smallint[], timestamptz[])
to sync_worker, sync_engine;

create function sync.request_task(
  p_kind text, p_subject uuid, p_connection uuid, p_lane smallint, p_at timestamptz
)
returns boolean
language sql
set search_path = ''
as $$
  select sync.request_tasks(
    array[p_kind], array[p_subject], array[p_connection], array[p_lane], array[p_at]
  ) > 0
$$;
comment on function sync.request_task(text, uuid, uuid, smallint, timestamptz) is
'Asks that one task runs no later than a time; whether that moved it.';
revoke all on function sync.request_task(text, uuid, uuid, smallint, timestamptz) from public;
grant execute on function sync.request_task(text, uuid, uuid, smallint, timestamptz)
to sync_worker, sync_engine;

-- Claiming.

create function sync.backoff(p_attempts integer)
returns interval
language sql
volatile
set search_path = ''
as $$
  -- Full jitter: up to 2 s, 4 s, 8 s … one hour. The floor keeps a failing task from spinning.
  select greatest(
    interval '200 ms',
    random() * least(interval '1 hour', interval '1 second' * (2 ^ least(p_attempts, 12)))
  )
$$;
comment on function sync.backoff(integer) is 'How long to wait after so many attempts: exponential with full jitter.';
revoke all on function sync.backoff(integer) from public;

create function sync.claim_tasks(
  p_kinds text[],
  p_limit integer,
  p_lease_for interval,
  p_floor timestamptz default '-infinity',
  p_per_connection integer default 8,
  p_busy uuid[] default '{}'
)
returns table (
  task_id bigint, kind text, subject_id uuid, connection_id uuid, lane smallint, attempt integer,
  lease uuid, due_at timestamptz, claimed_at timestamptz, wait_s double precision, scanned integer
)
language plpgsql
security definer -- workers hold no grant on the table: these functions are their reach
set search_path = ''
set plan_cache_mode = force_generic_plan -- batches are small: by index, never a scan; and planned once
as $$
#variable_conflict use_column
declare
  -- In a variable: compared with the volatile function, run_at would be no index condition.
  v_now timestamptz := sync.clock();
  -- Background work keeps a small share, so that a flood of notifications cannot starve renewal.
  v_share integer := case
    when p_limit >= 10 then p_limit / 10
    when random() < 0.1 then 1
    else 0
  end;
  v_due bigint[];
  v_lane smallint;
  v_next timestamptz := 'infinity';
begin
  with urgent as materialized (
    select task.id from sync.tasks as task
    where task.lane = 0 and task.run_at >= p_floor and task.run_at <= v_now
      and task.kind = any (p_kinds)
    order by task.run_at
    limit p_limit
    for update skip locked
  ),

  background_share as materialized (
    select task.id from sync.tasks as task
    where task.lane = 2 and task.run_at >= p_floor and task.run_at <= v_now
      and task.kind = any (p_kinds)
    order by task.run_at
    limit least(v_share, p_limit - (select count(*) from urgent))
    for update skip locked
  ),

  notified as materialized (
    select task.id from sync.tasks as task
    where task.lane = 1 and task.run_at >= p_floor and task.run_at <= v_now
      and task.kind = any (p_kinds)
    order by task.run_at
    limit p_limit - (select count(*) from urgent) - (select count(*) from background_share)
    for update skip locked
  ),

  background as materialized (
    select task.id from sync.tasks as task
    where task.lane = 2 and task.run_at >= p_floor and task.run_at <= v_now
      and task.kind = any (p_kinds)
      and task.id not in (select background_share.id from background_share)
    order by task.run_at
    limit p_limit - (select count(*) from urgent) - (select count(*) from background_share)
      - (select count(*) from notified)
    for update skip locked
  )

  select array_agg(due.id)
  into v_due
  from (
    select urgent.id from urgent
    union all select background_share.id from background_share
    union all select notified.id from notified
    union all select background.id from background
  ) as due;

  return query
  with busy as (
    select running.connection_id, count(*) as runs
    from unnest(p_busy) as running (connection_id)
    group by running.connection_id
  ),

  sorted as (
    select
      task.id,
      case
        when connection.status <> 'active' and task.kind <> 'disconnect' then 'inactive'
        when state.backoff_until > v_now then 'backed off'
        -- A lease that ran out twice: this task may be what kills its workers.
        when task.lease is not null and task.attempts >= 2 then 'lease lost'
        when task.connection_id is not null and coalesce(busy.runs, 0) + row_number() over (
          partition by task.connection_id order by task.lane, task.run_at, task.id
        ) > p_per_connection then 'crowded'
        else 'free'
      end as verdict,
      state.backoff_until,
      task.run_at as due_at
    from unnest(v_due) as due (id)
    join sync.tasks as task on task.id = due.id
    left join public.calendar_connections as connection on connection.id = task.connection_id
    left join sync.connection_state as state on state.connection_id = task.connection_id
    left join busy on busy.connection_id = task.connection_id
  ),

  moved_away as (
    update sync.tasks as task
    set
      run_at = case sorted.verdict
        when 'inactive' then 'infinity'
        when 'backed off' then sorted.backoff_until
        when 'crowded' then v_now + interval '50 ms'
        else v_now + sync.backoff(task.attempts)
      end,
      attempts = task.attempts + (sorted.verdict = 'lease lost')::integer,
      last_error = case when sorted.verdict = 'lease lost' then 'the lease ran out' else task.last_error end,
      lease = null
    from sorted
    where task.id = sorted.id and sorted.verdict <> 'free'
  )

  update sync.tasks as task
  set
    lease = gen_random_uuid(),
    run_at = v_now + p_lease_for,
    attempts = task.attempts + 1,
    -- What was asked for until now, this run will see.
    again_at = case when task.again_at > v_now then task.again_at end,
    again_lane = case when task.again_at > v_now then task.again_lane end
  from sorted
  where task.id = sorted.id and sorted.verdict = 'free'
  returning
    task.id, task.kind, task.subject_id, task.connection_id, task.lane, task.attempts,
    task.lease, sorted.due_at, v_now, 0::double precision, 0;

  -- The head of all lanes, whoever holds it: when to look again, and from where. Background
  -- first, and the others only up to what it found: the dead ends of the last minute's leases lie
  -- ahead, and while an old transaction is open each one passed costs a look at its row.
  foreach v_lane in array array[2, 1, 0] loop
    v_next := coalesce((
      select task.run_at from sync.tasks as task
      where task.lane = v_lane and task.run_at >= p_floor and task.run_at < v_next
        and task.kind = any (p_kinds)
      order by task.run_at
      limit 1
    ), v_next);
  end loop;
  v_next := nullif(v_next, 'infinity');
  return query select
    null::bigint, null::text, null::uuid, null::uuid, null::smallint, null::integer,
    null::uuid, v_next, v_now,
    case when v_next is not null then greatest(0, extract(epoch from v_next - v_now)) end::double precision,
    coalesce(cardinality(v_due), 0);
end;
$$;
comment on function sync.claim_tasks(text[], integer, interval, timestamptz, integer, uuid[]) is
'Leases up to p_limit due tasks: users first, then notified, with a share for the background. Scans from p_floor up. At most p_per_connection a connection, counting p_busy: the connection of each task that runs already, as often as it runs. A last row without task_id tells in wait_s and due_at when the next falls due (0 = now, null = nothing waits), and in scanned how many due tasks it got hold of: p_limit means that more may be due; fewer and yet wait_s = 0 means that others hold them.';
revoke all on function sync.claim_tasks(text[], integer, interval, timestamptz, integer, uuid[]) from public;
grant execute on function sync.claim_tasks(text[], integer, interval, timestamptz, integer, uuid[])
to sync_worker;

-- The fence.

create function sync.hold_task(p_task_id bigint, p_lease uuid)
returns void
language plpgsql
security definer -- workers hold no grant on the table
set search_path = ''
as $$
begin
  -- FOR KEY SHARE and no other: a plain select lets a zombie commit after the new claim, a
  -- stronger lock makes webhooks wait for the page and deadlocks a user's edit against it.
  -- Claims take FOR UPDATE, so they skip the row until this transaction ends.
  perform 1 from sync.tasks as task
  where task.id = p_task_id and task.lease = p_lease
  for key share;
  if not found then
    raise exception using
      errcode = 'CS001',
      message = format('task %s: the lease is no longer held', p_task_id),
      hint = 'Another worker owns the task now: drop the result.';
  end if;
end;
$$;
comment on function sync.hold_task(bigint, uuid) is
'The fence: first statement of every writing transaction of a task; CS001 where a later lease holds it.';
revoke all on function sync.hold_task(bigint, uuid) from public;
grant execute on function sync.hold_task(bigint, uuid) to sync_worker, sync_engine;

create function sync.renew_leases(p_task_ids bigint[], p_leases uuid[], p_lease_for interval)
returns setof bigint
language plpgsql
security definer -- workers hold no grant on the table
set search_path = ''
set plan_cache_mode = force_generic_plan -- batches are small: by index, never a scan; and planned once
as $$
declare
  v_now timestamptz := sync.clock();
begin
  return query
  with held as materialized (
    select task.id
    from unnest(p_task_ids, p_leases) as mine (task_id, lease)
    join sync.tasks as task on task.id = mine.task_id and task.lease = mine.lease
    order by task.kind, task.subject_id -- as requests lock, or batches deadlock
    for no key update of task
  )

  update sync.tasks as task
  set run_at = v_now + p_lease_for
  from held
  where task.id = held.id
  returning task.id;
end;
$$;
comment on function sync.renew_leases(bigint[], uuid[], interval) is
'Extends leases; returns the tasks still held. A task that is missing belongs to somebody else.';
revoke all on function sync.renew_leases(bigint[], uuid[], interval) from public;
grant execute on function sync.renew_leases(bigint[], uuid[], interval) to sync_worker;

-- Ending a run.

create function sync.finish_tasks(p_task_ids bigint[], p_leases uuid[], p_nexts timestamptz[])
returns setof bigint
language plpgsql
security definer -- workers hold no grant on the table
set search_path = ''
set plan_cache_mode = force_generic_plan -- batches are small: by index, never a scan; and planned once
as $$
declare
  v_now timestamptz := sync.clock();
begin
  return query
  with mine as materialized (
    select task.id, task.subject_id, task.last_error, ended.next_at, task.again_at
    from unnest(p_task_ids, p_leases, p_nexts) as ended (task_id, lease, next_at)
    join sync.tasks as task on task.id = ended.task_id and task.lease = ended.lease
    order by task.kind, task.subject_id -- as requests lock, or batches deadlock
    for no key update of task
  ),

  gone as (
    delete from sync.tasks as task
    using mine
    where task.id = mine.id and mine.next_at is null and mine.again_at is null
    returning task.id
  ),

  freed as (
    update sync.tasks as task
    set
      -- Not before the clock: it would hide below the floor of another worker's scan.
      run_at = greatest(least(mine.next_at, mine.again_at), v_now),
      lane = case
        when mine.again_at <= coalesce(mine.next_at, 'infinity') then coalesce(task.again_lane, 2)
        else 2
      end,
      lease = null, again_at = null, again_lane = null, not_before = null,
      attempts = 0, last_error = null
    from mine
    where task.id = mine.id and (mine.next_at is not null or mine.again_at is not null)
    returning task.id
  ),

  recovered as (
    update public.sync_alerts as alert
    set resolved_at = v_now
    from mine
    where mine.last_error is not null and alert.kind = 'task_failing'
      and alert.subject_id = mine.subject_id and alert.resolved_at is null
  )

  select gone.id from gone union all select freed.id from freed;
end;
$$;
comment on function sync.finish_tasks(bigint[], uuid[], timestamptz[]) is
'Ends good runs: due again at the time given or when asked for meanwhile, whichever is first; null = the task is over and goes. Returns those still held.';
revoke all on function sync.finish_tasks(bigint[], uuid[], timestamptz[]) from public;
grant execute on function sync.finish_tasks(bigint[], uuid[], timestamptz[]) to sync_worker, sync_engine;

create function sync.finish_task(p_task_id bigint, p_lease uuid, p_next timestamptz)
returns void
language plpgsql
set search_path = ''
as $$
begin
  perform sync.finish_tasks(array[p_task_id], array[p_lease], array[p_next]);
  if not found then
    raise exception using
      errcode = 'CS001',
      message = format('task %s: the lease is no longer held', p_task_id),
      hint = 'Another worker owns the task now: drop the result.';
  end if;
end;
$$;
comment on function sync.finish_task(bigint, uuid, timestamptz) is
'Ends one good run; CS001 where a later lease holds the task.';
revoke all on function sync.finish_task(bigint, uuid, timestamptz) from public;
grant execute on function sync.finish_task(bigint, uuid, timestamptz) to sync_worker, sync_engine;

create function sync.fail_task(
  p_task_id bigint,
  p_lease uuid,
  p_error text,
  p_retry_after interval default null,
  p_attempts_before_alert integer default 8
)
returns timestamptz
language plpgsql
security definer -- workers hold no grant on the table
set search_path = ''
as $$
declare
  v_now timestamptz := sync.clock();
  v_task sync.tasks;
begin
  update sync.tasks as task
  set
    not_before = case when task.again_lane = 0 then null else later.at end,
    run_at = case when task.again_lane = 0 then greatest(task.again_at, v_now) else later.at end,
    lane = coalesce(task.again_lane, task.lane),
    lease = null, again_at = null, again_lane = null,
    last_error = left(p_error, 500)
  from (
    select held.id, v_now + sync.backoff(held.attempts) as at
    from sync.tasks as held
    where held.id = p_task_id
  ) as later
  where task.id = later.id and task.lease = p_lease
  returning task.* into v_task;
  if v_task.id is null then
    raise exception using
      errcode = 'CS001',
      message = format('task %s: the lease is no longer held', p_task_id),
      hint = 'Another worker owns the task now: drop the result.';
  end if;

  if p_retry_after is not null and v_task.connection_id is not null then
    insert into sync.connection_state as state (connection_id, backoff_until)
    values (v_task.connection_id, v_now + p_retry_after)
    on conflict (connection_id) do update
    set backoff_until = greatest(state.backoff_until, excluded.backoff_until);
  end if;

  if v_task.attempts >= p_attempts_before_alert then
    perform sync.raise_alert(
      'task_failing', v_task.subject_id, v_task.connection_id,
      format('%s has failed %s times: %s', v_task.kind, v_task.attempts, v_task.last_error),
      'It is tried again by itself. docs/errors.md tells what the message asks for.'
    );
  end if;
  return v_task.run_at;
end;
$$;
comment on function sync.fail_task(bigint, uuid, text, interval, integer) is
'Ends a bad run: due again after back-off. p_retry_after holds back the whole connection. Past p_attempts_before_alert an alert is raised. Returns when it is due; CS001 where a later lease holds the task.';
revoke all on function sync.fail_task(bigint, uuid, text, interval, integer) from public;
grant execute on function sync.fail_task(bigint, uuid, text, interval, integer) to sync_worker;

create function sync.hand_back_tasks(p_task_ids bigint[], p_leases uuid[])
returns integer
language plpgsql
security definer -- workers hold no grant on the table
set search_path = ''
as $$
declare
  v_now timestamptz := sync.clock();
  v_count integer;
begin
  with mine as materialized (
    select task.id
    from unnest(p_task_ids, p_leases) as held (task_id, lease)
    join sync.tasks as task on task.id = held.task_id and task.lease = held.lease
    order by task.kind, task.subject_id -- as requests lock, or batches deadlock
    for no key update of task
  )

  update sync.tasks as task
  set
    lease = null,
    run_at = v_now,
    lane = least(task.lane, task.again_lane),
    again_at = null, again_lane = null,
    attempts = greatest(task.attempts - 1, 0)
  from mine
  where task.id = mine.id;
  get diagnostics v_count = row_count;
  if v_count > 0 then
    perform pg_notify('sync_tasks', extract(epoch from v_now)::text);
  end if;
  return v_count;
end;
$$;
comment on function sync.hand_back_tasks(bigint[], uuid[]) is
'Gives claimed tasks back untried, as a worker does that was told to stop; returns how many it still held.';
revoke all on function sync.hand_back_tasks(bigint[], uuid[]) from public;
grant execute on function sync.hand_back_tasks(bigint[], uuid[]) to sync_worker;

-- Alerts: one open row per kind and subject.

create function sync.raise_alert(
  p_kind text, p_subject uuid, p_connection uuid, p_message text, p_remedy text
)
returns void
language sql
security definer -- the engine and the worker raise alerts for every organization
set search_path = ''
as $$
  insert into public.sync_alerts (organization_id, kind, subject_id, message, remedy, since)
  select
    (
      select connection.organization_id from public.calendar_connections as connection
      where connection.id = p_connection
    ),
    p_kind, p_subject, p_message, p_remedy, sync.clock()
  on conflict (kind, subject_id) where resolved_at is null do nothing
$$;
comment on function sync.raise_alert(text, uuid, uuid, text, text) is
'Opens an alert unless one of this kind is open for the subject.';
revoke all on function sync.raise_alert(text, uuid, uuid, text, text) from public;
grant execute on function sync.raise_alert(text, uuid, uuid, text, text) to sync_worker, sync_engine;

create function sync.resolve_alert(p_kind text, p_subject uuid)
returns void
language sql
security definer -- as raise_alert
set search_path = ''
as $$
  update public.sync_alerts as alert
  set resolved_at = sync.clock()
  where alert.kind = p_kind and alert.subject_id = p_subject and alert.resolved_at is null
$$;
comment on function sync.resolve_alert(text, uuid) is 'Closes the open alert of this kind for the subject, if there is one.';
revoke all on function sync.resolve_alert(text, uuid) from public;
grant execute on function sync.resolve_alert(text, uuid) to sync_worker, sync_engine;

-- What users switch asks for work.

create function sync.on_calendar_projected_anew()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  -- Asked for in this row: a running pull may save its cursor after us, and a lock on where it
  -- stands, taken while this row is held, deadlocks with a pull that writes both.
  new.full_round_asked_at := now(); -- users may not call sync.clock()
  return new;
end;
$$;
comment on function sync.on_calendar_projected_anew() is
'Row trigger: what belongs to a meeting is decided anew for every event by a full round, not by the user''s statement.';
revoke all on function sync.on_calendar_projected_anew() from public;

create function sync.on_calendar_switched()
returns trigger
language plpgsql
security definer -- members flip the switch and have no right on tasks
set search_path = ''
as $$
begin
  if tg_op = 'INSERT' or new.sync_enabled is distinct from old.sync_enabled then
    perform sync.request_task('watch', new.id, new.connection_id, 0::smallint, sync.clock());
  elsif new.sync_enabled and new.full_round_asked_at is distinct from old.full_round_asked_at then
    perform sync.request_task('pull', new.id, new.connection_id, 0::smallint, sync.clock());
  end if;
  return null;
end;
$$;
comment on function sync.on_calendar_switched() is
'Row trigger: the switch asks for its channel (which asks for a pull), a full round for a pull.';
revoke all on function sync.on_calendar_switched() from public;

create trigger calendars_projected_anew
before update of event_tag, window_past, window_future on public.calendars
for each row when (
  (old.event_tag, old.window_past, old.window_future)
  is distinct from (new.event_tag, new.window_past, new.window_future)
)
execute function sync.on_calendar_projected_anew();
create trigger calendars_inserted after insert on public.calendars
for each row when (new.sync_enabled) execute function sync.on_calendar_switched();
create trigger calendars_switched after update on public.calendars
for each row when (
  old.sync_enabled <> new.sync_enabled
  or (
    new.full_round_asked_at is not null
    and old.full_round_asked_at is distinct from new.full_round_asked_at
  )
)
execute function sync.on_calendar_switched();

create function sync.on_connection_activated()
returns trigger
language plpgsql
security definer -- as on_calendar_switched
set search_path = ''
as $$
declare
  v_now timestamptz := sync.clock();
begin
  perform sync.request_tasks(
    array_agg(wanted.kind), array_agg(wanted.subject_id),
    array_fill(new.id, array[count(*)::integer]),
    array_fill(0::smallint, array[count(*)::integer]),
    array_fill(v_now, array[count(*)::integer])
  )
  from (
    select 'watch' as kind, calendar.id as subject_id
    from public.calendars as calendar
    where calendar.connection_id = new.id and calendar.sync_enabled
    union all
    -- What a claim put off until now. (A pull comes with its channel.)
    select task.kind, task.subject_id
    from sync.tasks as task
    where task.connection_id = new.id and task.run_at = 'infinity'
      and task.kind not in ('watch', 'pull')
  ) as wanted
  having count(*) > 0;
  perform sync.resolve_alert('access_lost', new.id);
  return null;
end;
$$;
comment on function sync.on_connection_activated() is
'Row trigger: a connection that works again has its calendars watched and pulled, and done what waited for it.';
revoke all on function sync.on_connection_activated() from public;

create trigger calendar_connections_activated after update of status on public.calendar_connections
for each row when (new.status = 'active' and old.status <> 'active')
execute function sync.on_connection_activated();

-- What the database itself needs done.
select sync.request_task('keep', '00000000-0000-0000-0000-000000000000', null, 2::smallint, now());
