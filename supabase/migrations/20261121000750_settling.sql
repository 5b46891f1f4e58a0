-- Settling: what ended is written down and new work taken on, in one round trip.
--
-- A worker that finishes a batch and then claims the next one pays two round trips and two
-- commits where one does. What failed is not among it: that is told one by one, it is rare.

create function sync.record_runs(p_runs jsonb)
returns void
language plpgsql
security definer -- workers hold no grant on the table
set search_path = ''
as $$
begin
  insert into sync.runs (
    started_at, finished_at, task_id, kind, subject_id, connection_id, lane, attempt, due_at,
    outcome, error, created, updated, cancelled, unchanged, set_aside, api_calls, steps
  )
  select
    run.started_at, run.finished_at, run.task_id, run.kind, run.subject_id, run.connection_id,
    run.lane, run.attempt, run.due_at, run.outcome, left(run.error, 500),
    coalesce(run.created, 0), coalesce(run.updated, 0), coalesce(run.cancelled, 0),
    coalesce(run.unchanged, 0), coalesce(run.set_aside, 0), coalesce(run.api_calls, 0),
    coalesce(run.steps, '{}')
  from jsonb_to_recordset(p_runs) as run (
    started_at timestamptz, finished_at timestamptz, task_id bigint, kind text, subject_id uuid,
    connection_id uuid, lane smallint, attempt integer, due_at timestamptz, outcome text,
    error text, created integer, updated integer, cancelled integer, unchanged integer,
    set_aside integer, api_calls integer, steps jsonb
  );
end;
$$;
comment on function sync.record_runs(jsonb) is
'Writes down runs that did something: an array of objects with the columns of sync.runs.';
revoke all on function sync.record_runs(jsonb) from public;
grant execute on function sync.record_runs(jsonb) to sync_worker;

create function sync.announce_tasks(p_task_ids bigint[])
returns void
language sql
security definer -- workers hold no grant on the table
set search_path = ''
as $$
  select pg_notify('sync_tasks', extract(epoch from min(task.run_at))::text)
  from sync.tasks as task
  where task.id = any (p_task_ids) and task.lease is null and isfinite(task.run_at)
  having count(*) > 0
$$;
comment on function sync.announce_tasks(bigint[]) is
'Tells listening workers when the first of these tasks is due.';
revoke all on function sync.announce_tasks(bigint[]) from public;
grant execute on function sync.announce_tasks(bigint[]) to sync_worker;

create function sync.settle_and_claim(
  p_task_ids bigint[],
  p_leases uuid[],
  p_nexts timestamptz[],
  p_runs jsonb,
  p_kinds text[],
  p_limit integer,
  p_lease_for interval,
  p_floor timestamptz default '-infinity',
  p_per_connection integer default 8,
  p_busy uuid[] default '{}'
)
returns table (
  task_id bigint, kind text, subject_id uuid, connection_id uuid, lane smallint, attempt integer,
  lease uuid, due_at timestamptz, claimed_at timestamptz, wait_s double precision, scanned integer,
  lost bigint[]
)
language plpgsql
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_held bigint[] := array[]::bigint[];
  v_lost bigint[] := array[]::bigint[];
begin
  -- Nobody waits for the disk. What a crash of Postgres forgets of this, was not built upon: a run
  -- writes to its provider only after a commit of its own, under the fence, and that flushes what
  -- came before it, the claim too. Forgotten claims are claimed again, forgotten ends run again.
  perform set_config('synchronous_commit', 'off', true);

  if cardinality(p_task_ids) > 0 then
    select coalesce(array_agg(finished.id), '{}') into v_held
    from sync.finish_tasks(p_task_ids, p_leases, p_nexts) as finished (id);
    if cardinality(v_held) < cardinality(p_task_ids) then
      v_lost := array(
        select ended.id from unnest(p_task_ids) as ended (id)
        except
        select held.id from unnest(v_held) as held (id)
      );
    end if;
  end if;

  if p_runs is not null then
    -- A good run whose lease was gone is none, and may have been recorded: the answer to an
    -- earlier call may have been lost on its way.
    perform sync.record_runs((
      select coalesce(jsonb_agg(run.entry), '[]')
      from jsonb_array_elements(p_runs) as run (entry)
      where run.entry ->> 'outcome' <> 'done'
        or (run.entry ->> 'task_id')::bigint <> all (v_lost)
    ));
  end if;

  if p_limit > 0 then
    return query
    select
      claimed.task_id, claimed.kind, claimed.subject_id, claimed.connection_id, claimed.lane,
      claimed.attempt, claimed.lease, claimed.due_at, claimed.claimed_at, claimed.wait_s,
      claimed.scanned, case when claimed.task_id is null then v_lost end
    from sync.claim_tasks(
      p_kinds, p_limit, p_lease_for, p_floor, p_per_connection, p_busy
    ) as claimed;
  else
    -- This worker takes no more: when these are due was its own to notice, so tell the others.
    perform sync.announce_tasks(v_held);
    return query select
      null::bigint, null::text, null::uuid, null::uuid, null::smallint, null::integer,
      null::uuid, null::timestamptz, sync.clock(), null::double precision, 0, v_lost;
  end if;
end;
$$;
comment on function sync.settle_and_claim(
  bigint[], uuid[], timestamptz[], jsonb, text[], integer, interval, timestamptz, integer, uuid[]
) is
'sync.finish_tasks, sync.record_runs and sync.claim_tasks in one call. The last row names in lost the tasks that could not be finished because a later lease holds them. p_limit 0 only settles, and tells other workers of what is due next. The commit is not waited for: call it in a transaction of its own.';
revoke all on function sync.settle_and_claim(
  bigint[], uuid[], timestamptz[], jsonb, text[], integer, interval, timestamptz, integer, uuid[]
) from public;
grant execute on function sync.settle_and_claim(
  bigint[], uuid[], timestamptz[], jsonb, text[], integer, interval, timestamptz, integer, uuid[]
) to sync_worker;
