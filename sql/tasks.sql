-- What the dispatcher and the listener ask.

-- name: settle_and_claim
-- The ended runs go, due tasks for the free slots come; the last row tells when to look again.
select
  task_id, kind, subject_id, connection_id, lane, attempt, lease, due_at, claimed_at,
  wait_s, scanned, lost
from sync.settle_and_claim(
  :task_ids, :leases, :nexts, :runs, :kinds, :slots, :lease_for,
  coalesce(cast(:floor as timestamptz), '-infinity'), :per_connection, :busy
);

-- name: fail$
-- Ends a bad run; when it is due again.
select sync.fail_task(:task_id, :lease, :error, :retry_after);

-- name: renew
-- Which of these tasks are still ours.
select renewed.task_id
from sync.renew_leases(:task_ids, :leases, :lease_for) as renewed (task_id);

-- name: hand_back$
-- Gives tasks back untried; how many were still ours.
select sync.hand_back_tasks(:task_ids, :leases);

-- name: probe$
-- Says something on a channel; the clock.
select sync.clock()
from pg_notify(:channel, :word);

-- name: keep_partitions$
-- The queue's days: how many were made or dropped.
select sync.keep_partitions();

-- name: prune_channels$
-- Clears away channels that are over; how many.
select sync.prune_channels();

-- name: advance^
-- Does what only time does; how many meetings are over, how many have begun, and what comes next.
select completed, moved, next_at from sync.advance(:task_id, :lease);
