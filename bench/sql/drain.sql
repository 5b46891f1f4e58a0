-- What the line about draining does to the tasks.

-- name: rest!
update sync.tasks
set run_at = now() + interval '1 day', lease = null, attempts = 0, lane = 2, again_at = null;

-- name: make_due$
-- Through all lanes, as on a busy day: users, notifications, polls.
with due as (
  update sync.tasks as task
  set run_at = now() - interval '1 minute' * random(), lane = task.id % 3
  returning task.id
),

told as (select pg_notify('sync_tasks', '0'))

select count(*) from due cross join told;
