-- What the tour looks up: which meeting stands behind which event, and when things were committed.
-- The local stack keeps commit timestamps; where Postgres does not, times are null.

-- name: calendars
select
  calendar.id,
  calendar.connection_id,
  calendar.provider_calendar_id,
  calendar.last_error,
  (
    calendar.full_round_asked_at is null
    and exists (
      select 1 from public.calendar_watch_channels as channel
      where channel.calendar_id = calendar.id and channel.status = 'active'
    )
    and (
      exists (
        select 1 from sync.ingest_state as ingest
        where ingest.connection_id = calendar.connection_id and ingest.swept_until >= :since
      )
      or calendar.backfill = 'complete' and exists (
        select 1 from sync.runs as run
        where
          run.kind = 'pull' and run.subject_id = calendar.id
          and run.started_at >= :since and run.outcome = 'done'
      )
    )
  ) as is_read
from public.calendars as calendar
where calendar.connection_id = any(:connections) and calendar.sync_enabled;

-- name: meetings
select
  event.provider_event_id,
  event.calendar_id,
  event.original_start,
  event.series_provider_id,
  meeting.id as meeting_id,
  meeting.title,
  meeting.starts_at,
  meeting.status,
  meeting.attendee_email
from public.calendar_events as event
inner join public.meetings as meeting on event.meeting_id = meeting.id
where event.calendar_id = :calendar_id and event.status <> 'cancelled';

-- name: meeting_states
-- Committed when the first of what was changed since then was: it may have been written again.
select
  meeting.id,
  meeting.title,
  meeting.description,
  meeting.starts_at,
  meeting.status,
  (
    select
      case
        when current_setting('track_commit_timestamp')::boolean
          then min(pg_xact_commit_timestamp(change.xmin))
      end
    from public.meeting_history as change
    where change.meeting_id = meeting.id and change.changed_at >= :since
  ) as committed_at
from public.meetings as meeting
where meeting.id = any(:ids);

-- name: first_delivery^
select
  delivery.received_at,
  case
    when current_setting('track_commit_timestamp')::boolean
      then pg_xact_commit_timestamp(delivery.xmin)
  end as committed_at
from sync.webhook_deliveries as delivery
inner join public.calendar_watch_channels as channel on delivery.channel_id = channel.id
where
  delivery.kind in ('change', 'booking') and delivery.received_at >= :since
  and channel.calendar_id = :calendar_id
order by delivery.received_at
limit 1;

-- name: is_at_rest$
-- Whether nobody is at a task, nor will be at once.
select not exists (
  select from sync.tasks as task
  where
    task.kind = :kind and task.subject_id = :subject_id
    and (task.lease is not null or task.run_at <= sync.clock())
);

-- name: run_after^
select
  started_at,
  finished_at,
  steps,
  created,
  updated,
  cancelled
from sync.runs
where kind = :kind and subject_id = :subject_id and started_at >= :since and outcome = 'done'
order by started_at
limit 1;

-- name: counts^
select
  count(*) filter (where meeting.status <> 'cancelled') as meetings,
  count(*) filter (
    where meeting.status <> 'cancelled' and event.series_provider_id is not null
  ) as occurrences,
  count(distinct event.series_provider_id) filter (where meeting.status <> 'cancelled') as series
from public.calendar_events as event
inner join public.meetings as meeting on event.meeting_id = meeting.id
where event.calendar_id = any(:calendar_ids);
