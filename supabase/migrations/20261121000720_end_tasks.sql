-- Ending a run: well, badly, or handed back untried.

create function sync.finish_tasks(p_task_ids bigint[], p_leases uuid[], p_nexts timestamptz[])
returns setof bigint
language plpgsql
security definer -- workers hold no grant on the table
set search_path = ''
set plan_cache_mode = force_generic_plan -- batches are small: by index, never a scan; planned once
as $$
declare
  v_now timestamptz := sync.clock();
  v_held bigint[];
  v_recovered uuid[];
begin
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
  )

  select
    array_agg(mine.id), array_agg(mine.subject_id) filter (where mine.last_error is not null)
  into v_held, v_recovered
  from mine;

  if v_recovered is not null then
    update public.sync_alerts as alert
    set resolved_at = v_now
    where alert.kind = 'task_failing' and alert.subject_id = any (v_recovered)
      and alert.resolved_at is null;
  end if;
  return query select held.id from unnest(v_held) as held (id);
end;
$$;
comment on function sync.finish_tasks(bigint[], uuid[], timestamptz[]) is
'Ends good runs: due again at the time given or when asked for meanwhile, whichever is first; null = the task is over and goes. Returns those still held.';
revoke all on function sync.finish_tasks(bigint[], uuid[], timestamptz[]) from public;
grant execute on function sync.finish_tasks(bigint[], uuid[], timestamptz[])
to sync_worker, sync_engine;

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
