-- Claiming: a lease, not a lock. The task of a worker that died is due again by itself.

create function sync.backoff(p_attempts integer)
returns interval
language sql
volatile
set search_path = ''
as $$
  -- Full jitter: up to 2 s, 4 s, 8 s … one hour. The floor keeps a failing task from spinning.
  -- From the eighth attempt on somebody was alerted, and nothing is won by trying at once: then
  -- jitter is of the upper half only, from 2 to 4 minutes up to half an hour to an hour.
  select greatest(interval '200 ms', longest.wait * case
    when p_attempts < 8 then random()
    else 0.5 + random() / 2
  end)
  from (
    select least(interval '1 hour', interval '1 second' * (2 ^ least(p_attempts, 12))) as wait
  ) as longest
$$;
comment on function sync.backoff(integer) is
'How long to wait after so many attempts: exponential with full jitter; from the eighth attempt on at least half of the longest wait.';
revoke all on function sync.backoff(integer) from public;

-- First the due ones are locked, lane by lane.

create function sync.lock_due_tasks(
  p_kinds text[], p_limit integer, p_floor timestamptz, p_now timestamptz
)
returns bigint[]
language plpgsql
set search_path = ''
as $$
declare
  -- Background work keeps a small share, so that a flood of notifications cannot starve renewal.
  v_share integer := case
    when p_limit >= 10 then p_limit / 10
    when random() < 0.1 then 1
    else 0
  end;
  v_due bigint[];
begin
  with urgent as materialized (
    select task.id from sync.tasks as task
    where task.lane = 0 and task.run_at >= p_floor and task.run_at <= p_now
      and task.kind = any (p_kinds)
    order by task.run_at
    limit p_limit
    for update skip locked
  ),

  background_share as materialized (
    select task.id from sync.tasks as task
    where task.lane = 2 and task.run_at >= p_floor and task.run_at <= p_now
      and task.kind = any (p_kinds)
    order by task.run_at
    limit least(v_share, p_limit - (select count(*) from urgent))
    for update skip locked
  ),

  notified as materialized (
    select task.id from sync.tasks as task
    where task.lane = 1 and task.run_at >= p_floor and task.run_at <= p_now
      and task.kind = any (p_kinds)
    order by task.run_at
    limit p_limit - (select count(*) from urgent) - (select count(*) from background_share)
    for update skip locked
  ),

  background as materialized (
    select task.id from sync.tasks as task
    where task.lane = 2 and task.run_at >= p_floor and task.run_at <= p_now
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
  return v_due;
end;
$$;
comment on function sync.lock_due_tasks(text[], integer, timestamptz, timestamptz) is
'Locks up to p_limit due tasks that nobody else holds: users first, then notified, with a share for the background; null = there is none.';
revoke all on function sync.lock_due_tasks(text[], integer, timestamptz, timestamptz) from public;

-- Then each is judged: not all that is due may run.

create type sync.judged_task as (
  id bigint, verdict text, lost boolean, retry_at timestamptz, backoff_until timestamptz,
  due_at timestamptz
);
comment on type sync.judged_task is 'What is to become of a due task.';

create function sync.judge_due_tasks(
  p_due bigint[], p_now timestamptz, p_per_connection integer, p_busy uuid[]
)
returns setof sync.judged_task
language plpgsql
rows 10
set search_path = ''
as $$
#variable_conflict use_column
begin
  return query
  with busy as (
    select running.connection_id, count(*) as runs
    from unnest(p_busy) as running (connection_id)
    group by running.connection_id
  )

  select
    task.id,
    case
      when connection.status <> 'active' and task.kind <> 'disconnect' then 'inactive'
      when state.backoff_until > p_now then 'backed off'
      -- Not where a user asked since: a wish clears back-off.
      when lease.lost and (task.again_lane = 0 and task.again_at <= p_now) is not true
        then 'lease lost'
      when task.connection_id is not null and coalesce(busy.runs, 0) + row_number() over (
        partition by task.connection_id order by task.lane, task.run_at, task.id
      ) > p_per_connection then 'crowded'
      else 'free'
    end,
    lease.lost,
    -- One and the same for run_at and not_before.
    case
      when lease.lost then least(
        p_now + sync.backoff(task.attempts), case when task.again_lane = 0 then task.again_at end
      )
    end,
    state.backoff_until,
    task.run_at
  from unnest(p_due) as due (id)
  join sync.tasks as task on task.id = due.id
  left join public.calendar_connections as connection on connection.id = task.connection_id
  left join sync.connection_state as state on state.connection_id = task.connection_id
  left join busy on busy.connection_id = task.connection_id
  -- A lease that ran out twice: this task may be what kills its workers.
  cross join lateral (
    select task.lease is not null and task.attempts >= 2 as lost
  ) as lease;
end;
$$;
comment on function sync.judge_due_tasks(bigint[], timestamptz, integer, uuid[]) is
'What is to become of each due task: free; inactive, backed off or crowded, all three for its connection''s sake; lease lost = it backs off until retry_at.';
revoke all on function sync.judge_due_tasks(bigint[], timestamptz, integer, uuid[]) from public;

-- Those that may not run now are rare, and dear enough for a step of their own.

create function sync.put_off_tasks(p_judged sync.judged_task[], p_now timestamptz)
returns void
language plpgsql
set search_path = ''
as $$
begin
  -- Nobody is left to tell that such a run failed.
  insert into public.sync_alerts (organization_id, kind, subject_id, message, remedy, since)
  select
    connection.organization_id, 'task_failing', task.subject_id,
    format('%s has failed %s times: the lease ran out', task.kind, task.attempts),
    'A worker dies or stalls over it each time: look into the workers'' logs.', p_now
  from unnest(p_judged) as judged
  join sync.tasks as task on task.id = judged.id
  left join public.calendar_connections as connection on connection.id = task.connection_id
  where judged.lost and judged.verdict in ('lease lost', 'free') and task.attempts >= 8
  on conflict (kind, subject_id) where resolved_at is null do nothing;

  update sync.tasks as task
  set
    run_at = case judged.verdict
      when 'inactive' then 'infinity'
      when 'backed off' then judged.backoff_until
      when 'crowded' then p_now + interval '50 ms'
      else judged.retry_at
    end,
    not_before = case
      when task.again_lane = 0 then null
      when judged.verdict = 'lease lost' then judged.retry_at
      else task.not_before
    end,
    lane = least(task.lane, task.again_lane),
    attempts = task.attempts + (judged.verdict = 'lease lost')::integer,
    last_error = case
      when judged.verdict = 'lease lost' then 'the lease ran out' else task.last_error
    end,
    lease = null
  from unnest(p_judged) as judged
  where task.id = judged.id and judged.verdict <> 'free';
end;
$$;
comment on function sync.put_off_tasks(sync.judged_task[], timestamptz) is
'Puts off the due tasks that may not run now, and tells of those whose leases ran out again and again.';
revoke all on function sync.put_off_tasks(sync.judged_task[], timestamptz) from public;

create function sync.next_due_at(p_kinds text[], p_floor timestamptz)
returns timestamptz
language plpgsql
stable
set search_path = ''
as $$
declare
  v_lane smallint;
  v_next timestamptz := timestamptz 'infinity';
begin
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
  return nullif(v_next, 'infinity');
end;
$$;
comment on function sync.next_due_at(text[], timestamptz) is
'When the next task falls due, at p_floor or later; null = none waits.';
revoke all on function sync.next_due_at(text[], timestamptz) from public;

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
set plan_cache_mode = force_generic_plan -- batches are small: by index, never a scan; planned once
as $$
#variable_conflict use_column
declare
  -- In a variable: compared with the volatile function, run_at would be no index condition.
  v_now timestamptz := sync.clock();
  v_due bigint[] := sync.lock_due_tasks(p_kinds, p_limit, p_floor, v_now);
  v_scanned integer := coalesce(cardinality(v_due), 0);
  v_judged sync.judged_task[];
  v_next timestamptz;
begin
  if v_scanned > 0 then
    -- Where nothing can be in the way, and that is nearly always, nothing is judged one by one.
    if v_scanned + cardinality(p_busy) > p_per_connection or exists (
      select from sync.tasks as task
      left join public.calendar_connections as connection on connection.id = task.connection_id
      left join sync.connection_state as state on state.connection_id = task.connection_id
      where task.id = any (v_due) and (
        task.lease is not null or connection.status <> 'active' or state.backoff_until > v_now
      )
    ) then
      v_judged := array(
        select judged from sync.judge_due_tasks(v_due, v_now, p_per_connection, p_busy) as judged
      );
      if exists (
        select from unnest(v_judged) as judged where judged.lost or judged.verdict <> 'free'
      ) then
        perform sync.put_off_tasks(v_judged, v_now);
      end if;
      v_due := array(
        select judged.id from unnest(v_judged) as judged where judged.verdict = 'free'
      );
    end if;

    return query
    update sync.tasks as task
    set
      lease = gen_random_uuid(),
      run_at = v_now + p_lease_for,
      lane = case
        when task.again_at > v_now then task.lane else least(task.lane, task.again_lane)
      end,
      attempts = task.attempts + 1,
      -- What was asked for until now, this run will see.
      again_at = case when task.again_at > v_now then task.again_at end,
      again_lane = case when task.again_at > v_now then task.again_lane end,
      not_before = case when task.again_lane = 0 then null else task.not_before end
    from unnest(v_due) as due (id)
    join sync.tasks as before on before.id = due.id
    where task.id = due.id
    returning
      task.id, task.kind, task.subject_id, task.connection_id, task.lane, task.attempts,
      task.lease, before.run_at, v_now, 0::double precision, 0;
  end if;

  v_next := sync.next_due_at(p_kinds, p_floor);
  return query select
    null::bigint, null::text, null::uuid, null::uuid, null::smallint, null::integer,
    null::uuid, v_next, v_now,
    case
      when v_next is not null then greatest(0, extract(epoch from v_next - v_now))
    end::double precision,
    v_scanned;
end;
$$;
comment on function sync.claim_tasks(text[], integer, interval, timestamptz, integer, uuid[]) is
'Leases up to p_limit due tasks: users first, then notified, with a share for the background. Scans from p_floor up. At most p_per_connection a connection, counting p_busy: the connection of each task that runs already, as often as it runs. A last row without task_id tells in wait_s and due_at when the next falls due (0 = now, null = nothing waits), and in scanned how many due tasks it got hold of: p_limit means that more may be due; fewer and yet wait_s = 0 means that others hold them.';
revoke all on function sync.claim_tasks(text[], integer, interval, timestamptz, integer, uuid[])
from public;
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
set plan_cache_mode = force_generic_plan -- batches are small: by index, never a scan; planned once
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
