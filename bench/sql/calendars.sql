-- Calendars to be announced, polled and claimed, a few to each connected account, as production
-- has them between two pulls: watched, and due again tomorrow.

-- name: seed!
with made as (
  select
    gen_random_uuid() as organization_id,
    gen_random_uuid() as connection_id,
    number
  from generate_series(1, cast(:connections as integer)) as number
),

organizations as (
  insert into public.organizations (id, name)
  select made.organization_id, 'Bench ' || made.number from made
),

connections as (
  insert into public.calendar_connections (id, organization_id, provider, account_email)
  select made.connection_id, made.organization_id, 'google', made.number || '@bench.example'
  from made
),

calendars as (
  insert into public.calendars (
    id, connection_id, organization_id, provider_calendar_id, name, sync_enabled, backfill
  )
  select
    gen_random_uuid(), made.connection_id, made.organization_id,
    made.number || '-' || place || '@bench.example', 'Calendar', true, 'complete'
  from made
  cross join generate_series(1, cast(:calendars_each as integer)) as place
  returning id, organization_id
)

insert into public.calendar_watch_channels (
  calendar_id, organization_id, resource_id, expires_at, status
)
select calendars.id, calendars.organization_id, 'resource', now() + interval '6 days', 'active'
from calendars;


-- name: forget_tasks!
delete from sync.tasks;

-- name: polls!
-- Nothing is due before tomorrow.
insert into sync.tasks (kind, subject_id, connection_id, lane, run_at)
select 'pull', calendar.id, calendar.connection_id, 2, now() + interval '1 day'
from public.calendars as calendar;

-- name: channels
select channel.id as channel_id, channel.calendar_id
from public.calendar_watch_channels as channel
where channel.status = 'active'
order by channel.id;
