-- What `supacal tail` shows.

-- name: start$
select sync.clock() - :since::text::interval;

-- name: recent
-- A row may become visible after later ones: the caller leaves out what it has told already,
-- and asks from a minute before.
select *
from (
  select
    'delivery' as what,
    delivery.id,
    delivery.received_at as at,
    concat_ws(' ', delivery.provider, delivery.kind, 'channel', delivery.channel_id) as line
  from sync.webhook_deliveries as delivery
  where
    delivery.received_at >= greatest(:after, sync.clock() - interval '1 minute')

  union all

  select
    'run' as what,
    run.id,
    run.finished_at as at,
    format(
      '%s %s %s: created %s, updated %s, cancelled %s, unchanged %s; waited %s ms, took %s ms%s',
      run.kind, run.subject_id, run.outcome, run.created, run.updated, run.cancelled,
      run.unchanged,
      round(extract(epoch from run.started_at - run.due_at) * 1000),
      round(extract(epoch from run.finished_at - run.started_at) * 1000),
      '; ' || run.error
    ) as line
  from sync.runs as run
  where
    run.started_at >= greatest(:after, sync.clock() - interval '1 hour')
    and run.finished_at >= greatest(:after, sync.clock() - interval '1 minute')
) as happened
order by at, what, id;
