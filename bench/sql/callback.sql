-- A user with a Google account of two calendars, as the OAuth callback would have left it.

-- name: sign_up!
insert into auth.users (id, aud, role, email, created_at, updated_at)
values (:user_id, 'authenticated', 'authenticated', :email, now(), now());

-- name: organization$
select organization_id from public.organization_members
where user_id = :user_id;

-- name: connect$
insert into public.calendar_connections (organization_id, owner_id, provider, account_email)
values (:organization_id, :user_id, 'google', :email)
returning id;

-- name: add_calendar$
insert into public.calendars (
  connection_id, organization_id, provider_calendar_id, name, time_zone
)
values (:connection_id, :organization_id, :provider_calendar_id, 'Calendar', 'Europe/Berlin')
returning id;

-- name: switch_on!
update public.calendars set sync_enabled = true
where id = :calendar_id;

-- name: is_read_whole$
select
  calendar.backfill = 'complete' and exists (
    select 1 from public.calendar_watch_channels as channel
    where channel.calendar_id = calendar.id and channel.status = 'active'
  )
from public.calendars as calendar
where calendar.id = :calendar_id;

-- name: delivery_at$
select pg_xact_commit_timestamp(delivery.xmin) from sync.webhook_deliveries as delivery
where delivery.kind = 'change' and delivery.received_at >= :since
order by delivery.received_at
limit 1;

-- name: run^
select run.started_at, (run.steps ->> 'answered')::float8 as answered_ms from sync.runs as run
where
  run.kind = 'pull' and run.subject_id = :calendar_id and run.started_at >= :since
  and run.outcome = 'done'
order by run.started_at
limit 1;

-- name: committed_at$
select pg_xact_commit_timestamp(meeting.xmin) from public.meetings as meeting
where meeting.title = :title;
