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
    kind in (
      'pull', 'ingest', 'push', 'watch', 'discover', 'disconnect', 'advance', 'check', 'keep'
    )
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
comment on index sync.tasks_due is
'sync.claim_tasks reads the head of each lane here, and when the next one is due.';
create index tasks_connection on sync.tasks (connection_id) where connection_id is not null;
comment on index sync.tasks_connection is
'What waits of an account: sync_health counts it, and an account that works again has it done.';

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
revoke all on function sync.request_tasks(text[], uuid[], uuid[], smallint[], timestamptz[])
from public;
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
