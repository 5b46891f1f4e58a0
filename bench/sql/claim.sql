-- What the lines about many tasks make.

-- name: hold_snapshot$
select count(*) from (select 1 from sync.tasks limit 1) as looked_at;

-- name: claim_all!
-- As sync.claim_tasks leaves them: an entry of the index dies where each was due.
update sync.tasks
set lease = gen_random_uuid(), run_at = clock_timestamp() + interval '1 minute', attempts = 1;

-- name: finish_all!
-- As sync.finish_tasks leaves them: another dies where each lease would have ended.
update sync.tasks
set lease = null, run_at = clock_timestamp(), lane = 2, attempts = 0;

-- name: rest!
-- As after a night's polls: the next ones lie within a quarter of an hour.
update sync.tasks
set run_at = now() + interval '15 minutes' * random(), lane = 2, lease = null;

-- name: subjects
select task.subject_id, task.connection_id from sync.tasks as task
where task.kind = 'pull'
limit 1000;

-- name: request$
-- As a notification does; when it is due, as the worker is told.
with asked as (
  select sync.request_task('pull', :subject_id, :connection_id, 1::smallint, sync.clock()) as moved
)

select extract(epoch from task.run_at)::text
from asked
join sync.tasks as task on task.kind = 'pull' and task.subject_id = :subject_id
where asked.moved is not null;

-- name: add_polls!
insert into sync.tasks (kind, subject_id, connection_id, lane, run_at)
select 'pull', gen_random_uuid(), connection.id, 2, now() - interval '1 hour' * random()
from generate_series(1, cast(:each as integer)) as number
cross join public.calendar_connections as connection;

-- name: edit$
select sync.request_task('push', :meeting_id, null, 0::smallint, sync.clock());
