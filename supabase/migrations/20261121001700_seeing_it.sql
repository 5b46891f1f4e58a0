-- Seeing it: what became of deliveries, how long work takes, and how far the tables are behind.
--
-- Nothing is counted while it happens: deliveries and runs are kept anyway, and the last day of
-- them is added up when somebody looks.

-- A change says only "read": the first good run of its calendar that began after it is its
-- answer. A pull that found nothing leaves no run, but a time.

create function sync.answered_changes(p_organizations uuid[], p_since timestamptz)
returns table (
  organization_id uuid, connection_id uuid, provider text, received_at timestamptz,
  state text, answered_at timestamptz
)
language sql
stable
security definer -- an organization's admins may know how it goes, not read the engine's tables
set search_path = ''
as $$
  select
    delivery.organization_id, delivery.connection_id, delivery.provider, delivery.received_at,
    case
      when coalesce(good.finished_at, nothing_new.at) is not null then 'done'
      when exists (
        select 1 from sync.runs as bad
        where bad.kind = 'pull' and bad.subject_id = channel.calendar_id
          and bad.started_at >= delivery.received_at and bad.outcome = 'failed'
      ) then 'failed'
      else 'received'
    end,
    coalesce(good.finished_at, nothing_new.at)
  from sync.webhook_deliveries as delivery
  join public.calendar_watch_channels as channel on channel.id = delivery.channel_id
  left join sync.calendar_state as state on state.calendar_id = channel.calendar_id
  left join lateral (
    select run.finished_at from sync.runs as run
    where run.kind = 'pull' and run.subject_id = channel.calendar_id
      and run.started_at >= delivery.received_at and run.outcome = 'done'
    order by run.started_at
    limit 1
  ) as good on true
  left join lateral (
    select state.last_pulled_at as at where state.last_pulled_at >= delivery.received_at
  ) as nothing_new on true
  where delivery.kind = 'change' and delivery.received_at >= p_since
    and delivery.organization_id = any (p_organizations)
$$;
comment on function sync.answered_changes(uuid[], timestamptz) is
'Notifications of these organizations since then: received, failed or done, and when the run that answered each had ended.';
revoke all on function sync.answered_changes(uuid[], timestamptz) from public;

create function sync.answered_bookings(p_organizations uuid[], p_since timestamptz)
returns table (
  organization_id uuid, connection_id uuid, provider text, received_at timestamptz,
  state text, answered_at timestamptz
)
language sql
stable
security definer -- as answered_changes
set search_path = ''
as $$
  select
    delivery.organization_id, delivery.connection_id, delivery.provider, delivery.received_at,
    state.state, case when state.state = 'done' then state.updated_at end
  from sync.webhook_deliveries as delivery
  join sync.delivery_states as state on state.delivery_id = delivery.id
  where delivery.kind = 'booking' and delivery.received_at >= p_since
    and delivery.organization_id = any (p_organizations)
$$;
comment on function sync.answered_bookings(uuid[], timestamptz) is
'Booking deliveries of these organizations since then: their state, and when they were done.';
revoke all on function sync.answered_bookings(uuid[], timestamptz) from public;

create function sync.organizations_to_see()
returns uuid[]
language sql
stable
security definer -- as answered_changes
set search_path = ''
as $$
  select case
    when sync.is_service() then array(select organization.id from public.organizations as organization)
    else array(select sync.my_administered_organizations())
  end
$$;
comment on function sync.organizations_to_see() is
'The organizations whose work the request''s user may look at: those they administer; all for the service role.';
revoke all on function sync.organizations_to_see() from public;
grant execute on function sync.organizations_to_see() to authenticated, service_role;

create function sync.answered_deliveries()
returns table (
  organization_id uuid, connection_id uuid, provider text, received_at timestamptz,
  state text, answered_at timestamptz
)
language sql
stable
security definer -- as answered_changes
set search_path = ''
as $$
  select * from sync.answered_changes(
    sync.organizations_to_see(), sync.clock() - interval '1 day'
  )
  union all
  select * from sync.answered_bookings(
    sync.organizations_to_see(), sync.clock() - interval '1 day'
  )
$$;
comment on function sync.answered_deliveries() is
'The deliveries of the last 24 hours that the request''s user may look at, and what became of each.';
revoke all on function sync.answered_deliveries() from public;
grant execute on function sync.answered_deliveries() to authenticated, service_role;

create function sync.timed_runs()
returns table (
  organization_id uuid, connection_id uuid, provider text, kind text, started_at timestamptz,
  outcome text, duration_ms double precision, waited_ms double precision
)
language sql
stable
security definer -- as answered_changes
set search_path = ''
as $$
  select
    connection.organization_id, connection.id, connection.provider, run.kind, run.started_at,
    run.outcome, extract(epoch from run.finished_at - run.started_at) * 1000,
    greatest(0, extract(epoch from run.started_at - run.due_at) * 1000)
  from sync.runs as run
  join public.calendar_connections as connection on connection.id = run.connection_id
  where run.started_at >= sync.clock() - interval '1 day'
    and connection.organization_id = any (sync.organizations_to_see())
$$;
comment on function sync.timed_runs() is
'The runs of the last 24 hours that the request''s user may look at, in milliseconds.';
revoke all on function sync.timed_runs() from public;
grant execute on function sync.timed_runs() to authenticated, service_role;

create view public.webhook_success
with (security_invoker = true) as
select
  answered.organization_id,
  answered.connection_id,
  answered.provider,
  date_trunc('hour', answered.received_at) as hour,
  count(*)::integer as deliveries,
  (count(*) filter (where answered.state = 'done'))::integer as done,
  (count(*) filter (where answered.state = 'ignored'))::integer as ignored,
  (count(*) filter (where answered.state in ('failed', 'dead')))::integer as failed,
  (count(*) filter (where answered.state = 'received'))::integer as waiting,
  round(
    100.0 * count(*) filter (where answered.state in ('done', 'ignored'))
    / nullif(count(*) filter (where answered.state <> 'received'), 0),
    1
  ) as success_percent
from sync.answered_deliveries() as answered
group by
  answered.organization_id, answered.connection_id, answered.provider,
  date_trunc('hour', answered.received_at);
comment on view public.webhook_success is
'What became of the webhook requests of the last 24 hours, a row an hour and connection, for admins.';
comment on column public.webhook_success.success_percent is
'Of those that were worked on, how many came to a good end; null where none was yet.';
comment on column public.webhook_success.failed is 'Failed so far (tried again), or dead.';
comment on column public.webhook_success.hour is
'When it began; requests count in the hour that they arrived in.';
comment on column public.webhook_success.done is
'Bookings that were applied, and changes whose calendar was read since.';
comment on column public.webhook_success.ignored is
'Booking deliveries that were no bookings, or whose sync is switched off.';
comment on column public.webhook_success.waiting is 'Not worked on yet.';
revoke all on public.webhook_success from public, anon, authenticated, service_role;
grant select on public.webhook_success to authenticated, service_role;

create view public.sync_lag
with (security_invoker = true) as
select
  answered.organization_id,
  answered.connection_id,
  answered.provider,
  date_trunc('hour', answered.received_at) as hour,
  count(*)::integer as deliveries,
  percentile_cont(0.5) within group (
    order by extract(epoch from answered.answered_at - answered.received_at) * 1000
  ) as p50_ms,
  percentile_cont(0.95) within group (
    order by extract(epoch from answered.answered_at - answered.received_at) * 1000
  ) as p95_ms
from sync.answered_deliveries() as answered
where answered.answered_at is not null
group by
  answered.organization_id, answered.connection_id, answered.provider,
  date_trunc('hour', answered.received_at);
comment on view public.sync_lag is
'From a webhook request''s arrival to its change in the tables, in milliseconds, over the last 24 hours, a row an hour and connection, for admins.';
comment on column public.sync_lag.hour is
'When it began; requests count in the hour that they arrived in.';
comment on column public.sync_lag.deliveries is
'Those that were answered; webhook_success counts all.';
comment on column public.sync_lag.p50_ms is 'Half of them were in the tables by then.';
comment on column public.sync_lag.p95_ms is '19 of 20 were in the tables by then.';
revoke all on public.sync_lag from public, anon, authenticated, service_role;
grant select on public.sync_lag to authenticated, service_role;

create view public.processing_times
with (security_invoker = true) as
select
  run.organization_id,
  run.connection_id,
  run.provider,
  run.kind,
  date_trunc('hour', run.started_at) as hour,
  count(*)::integer as runs,
  (count(*) filter (where run.outcome <> 'done'))::integer as failed,
  percentile_cont(0.5) within group (order by run.duration_ms) as p50_ms,
  percentile_cont(0.95) within group (order by run.duration_ms) as p95_ms,
  percentile_cont(0.95) within group (order by run.waited_ms) as waited_p95_ms
from sync.timed_runs() as run
group by
  run.organization_id, run.connection_id, run.provider, run.kind,
  date_trunc('hour', run.started_at);
comment on view public.processing_times is
'How long runs took over the last 24 hours, in milliseconds, a row an hour, connection and kind of task, for admins. Runs that found nothing to do are not among them.';
comment on column public.processing_times.waited_p95_ms is 'From when the task was due to when it was begun.';
comment on column public.processing_times.kind is 'Of the task: pull, ingest, watch …';
comment on column public.processing_times.hour is
'When it began; runs count in the hour that they began in.';
comment on column public.processing_times.failed is
'Among the runs: those that are tried again, and those whose lease went to another worker.';
comment on column public.processing_times.p50_ms is
'Half of them took no longer, from begin to end.';
comment on column public.processing_times.p95_ms is '19 of 20 took no longer, from begin to end.';
revoke all on public.processing_times from public, anon, authenticated, service_role;
grant select on public.processing_times to authenticated, service_role;
