-- What `supacal doctor` looks at, as the role `postgres`.

-- name: session^
-- Whose login this is, whether it may do what a role does, and what else it could become.
select
  session_user::text as login,
  pg_has_role(:role, 'USAGE') as may_be_role,
  array(
    select other.rolname::text
    from pg_roles as other
    where
      other.rolname in (
        'webhook_ingest', 'webhook_connect', 'sync_worker', 'sync_engine',
        'service_role', 'postgres'
      )
      and other.rolname not in (:role, session_user)
      and pg_has_role(session_user, other.oid, 'MEMBER')
    order by other.rolname
  ) as could_become;

-- name: sealed_with
-- By which keys tokens are sealed, and how many of each.
select
  key_id,
  count(*)::integer as connections
from sync.credentials
group by key_id
order by key_id;

-- name: alerts
select
  alert.kind,
  alert.subject_id,
  alert.since,
  alert.message,
  alert.remedy
from public.sync_alerts as alert
where alert.resolved_at is null
order by alert.since;

-- name: gaps
select
  calendar_id,
  gap,
  reason
from public.sync_coverage_gaps
order by since;

-- name: overdue$
-- How many tasks wait for a worker for longer than a minute.
select count(*)::integer
from sync.tasks
where run_at < sync.clock() - interval '1 minute' and lease is null;

-- name: calendar^
select
  calendar.id,
  connection.provider,
  connection.status as connection_status,
  calendar.sync_enabled,
  calendar.backfill,
  calendar.last_error,
  calendar.event_tag,
  calendar.direction
from public.calendars as calendar
inner join public.calendar_connections as connection on calendar.connection_id = connection.id
where calendar.id = :calendar_id;

-- name: explain_events
-- What each event of a calendar is to the app, and why; nothing of its content.
select
  event.provider_event_id,
  event.starts_at,
  meeting.id as meeting_id,
  case
    when meeting.merged_into is not null
      then 'its meeting turned out to be another one: ' || meeting.merged_into
    when meeting.deleted_at is not null then 'its meeting was deleted in the app'
    when meeting.id is not null and event.scope = 'in' then 'it is a meeting'
    when event.role = 'series'
      then 'a series is no meeting itself: its occurrences inside the window are'
    when event.role = 'slot'
      then 'several share it: each of their bookings is a meeting of its own'
    when event.status = 'cancelled' then 'it was cancelled before it became a meeting'
    when event.own_response = 'declined' then 'the account declined it'
    when event.event_type = 'fromGmail' and not calendar.mail_events
      then 'it was made out of a mail, and the calendar''s mail_events is off'
    when event.event_type <> 'default'
      then 'the provider made it as ' || event.event_type || ', which is never a meeting'
    when
      not sync.has_tag(
        calendar.event_tag,
        coalesce(details.title, event.title),
        coalesce(details.description, event.description)
      )
      then 'neither title nor text has the calendar''s event_tag'
    when calendar.direction = 'outbound'
      then 'the calendar is only written to (direction = outbound)'
    when event.scope = 'detached' then 'its meeting stays, without it'
    else 'it was left out: ' || event.scope
  end as reason
from public.calendar_events as event
inner join public.calendars as calendar on event.calendar_id = calendar.id
left join public.private_event_details as details on event.id = details.event_id
left join public.meetings as meeting on event.meeting_id = meeting.id
where
  event.calendar_id = :calendar_id
  and (:event_id::text is null or event.provider_event_id = :event_id)

union all

select
  aside.provider_event_id,
  null as starts_at,
  null as meeting_id,
  'it was set aside: ' || aside.reason as reason
from sync.set_aside_events as aside
where
  aside.calendar_id = :calendar_id
  and (:event_id::text is null or aside.provider_event_id = :event_id)
order by starts_at, provider_event_id;
