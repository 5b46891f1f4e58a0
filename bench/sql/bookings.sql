-- People who can be booked through Cal.com, and what became of what was posted for them.

-- name: add_hosts!
with made as (
  select
    gen_random_uuid() as organization_id,
    gen_random_uuid() as connection_id,
    number
  from generate_series(1, cast(:hosts as integer)) as number
),

organizations as (
  insert into public.organizations (id, name)
  select made.organization_id, 'Bench ' || made.number from made
),

connections as (
  insert into public.calendar_connections (id, organization_id, provider, account_email)
  select
    made.connection_id, made.organization_id, 'calcom',
    'host' || made.number || '@bench.example'
  from made
),

calendars as (
  insert into public.calendars (
    connection_id, organization_id, provider_calendar_id, name, kind, sync_enabled
  )
  select
    made.connection_id, made.organization_id, 'bookings', 'Bookings', 'bookings', true
  from made
  returning id, organization_id
)

insert into public.calendar_watch_channels (calendar_id, organization_id, status)
select calendars.id, calendars.organization_id, 'active' from calendars;

-- name: channels
select channel.id as channel_id from public.calendar_watch_channels as channel
where channel.status = 'active'
order by channel.id;

-- name: open_deliveries$
select count(*) from sync.delivery_states as state
where state.state = 'received';

-- name: outcome^
-- From the first claim to the last run's end, and whether every delivery was taken in.
select
  extract(epoch from max(run.finished_at) - min(run.started_at))::float8 as took_s,
  (
    select count(*) from sync.delivery_states as state
    where state.state <> 'done'
  ) as left_over
from sync.runs as run
where run.kind = 'ingest' and run.outcome = 'done';

-- name: written
select meeting.title, pg_xact_commit_timestamp(meeting.xmin) as committed_at
from public.meetings as meeting
where starts_with(meeting.title, :title);
