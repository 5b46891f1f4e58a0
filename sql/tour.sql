-- What the tour looks up: when things were committed (track_commit_timestamp is on in the local
-- stack), and which meeting stands behind which event.

-- name: backfill
select id, name, backfill, last_error
from public.calendars
where connection_id = any(:connections);

-- name: meetings
select
  event.provider_event_id,
  event.calendar_id,
  event.original_start,
  event.series_provider_id,
  meeting.id as meeting_id,
  meeting.title,
  meeting.starts_at,
  meeting.status
from public.calendar_events as event
inner join public.meetings as meeting on event.meeting_id = meeting.id
where event.calendar_id = :calendar_id and event.status <> 'cancelled';

-- name: meeting_states
select
  id,
  title,
  starts_at,
  status,
  pg_xact_commit_timestamp(xmin) as committed_at
from public.meetings
where id = any(:ids);

-- name: first_delivery^
select
  received_at,
  pg_xact_commit_timestamp(xmin) as committed_at
from sync.webhook_deliveries
where kind = 'change' and received_at >= :since
order by received_at
limit 1;

-- name: run_after^
select
  started_at,
  finished_at,
  steps,
  created,
  updated,
  cancelled
from sync.runs
where kind = 'pull' and subject_id = :calendar_id and started_at >= :since and outcome = 'done'
order by started_at
limit 1;

-- name: counts^
select
  count(*) filter (where meeting.status <> 'cancelled') as meetings,
  count(distinct event.series_provider_id) as series
from public.calendar_events as event
inner join public.meetings as meeting on event.meeting_id = meeting.id
where event.calendar_id = any(:calendar_ids);

-- name: calendar_id$
select id
from public.calendars
where connection_id = any(:connections) and provider_calendar_id = :provider_calendar_id;
