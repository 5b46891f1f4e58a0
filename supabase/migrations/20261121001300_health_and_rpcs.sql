-- What users may ask for beyond reading and writing rows, and how sync is doing.
--
-- What the Data API offers stands in public and runs as whoever calls it; it calls a function of
-- the same purpose in sync, which runs as its owner and asks first whether the caller may. The
-- bodies in public are parsed when they are made: callers need no way into the schema sync.

create function sync.is_service()
returns boolean
language sql
stable
set search_path = ''
as $$
  -- Not current_user: that is the owner inside of the functions that ask.
  select current_setting('role') = 'service_role'
$$;
comment on function sync.is_service() is
'Whether the request came with the service key, which may do everything for everybody.';
revoke all on function sync.is_service() from public;

create function sync.refuse_unless(p_allowed boolean, p_message text)
returns void
language plpgsql
set search_path = ''
as $$
begin
  if p_allowed is not true then
    raise exception using
      errcode = 'CS020',
      message = p_message,
      hint = 'It does not exist, or belongs to an organization in which you may not do this.';
  end if;
end;
$$;
comment on function sync.refuse_unless(boolean, text) is
'Raises CS020 with a message unless something is allowed; which of the reasons it was is not told.';
revoke all on function sync.refuse_unless(boolean, text) from public;

create function sync.may_manage_calendar(p_calendar_id uuid)
returns boolean
language sql
stable
security definer -- called by the functions below, whose callers' policies would answer the same
set search_path = ''
as $$
  select exists (
    select 1 from public.calendars as calendar
    where calendar.id = p_calendar_id
      and (
        calendar.connection_id = any(array(select sync.my_connections()))
        or calendar.organization_id = any(array(select sync.my_administered_organizations()))
        or sync.is_service()
      )
  )
$$;
comment on function sync.may_manage_calendar(uuid) is
'Whether the user of the request may change how this calendar is synced: its connection''s owner, and admins.';
revoke all on function sync.may_manage_calendar(uuid) from public;

-- Organizations.

create function sync.create_organization(p_name text, p_time_zone text)
returns uuid
language plpgsql
security definer -- nobody may insert organizations: each begins with an owner
set search_path = ''
as $$
declare
  v_user_id uuid := auth.uid();
  v_organization_id uuid;
begin
  perform sync.refuse_unless(v_user_id is not null, 'only a signed-in user can own an organization');
  -- One at a time, or calls at once would all count the same.
  perform 1 from public.organizations as organization
  where organization.created_by = v_user_id
  order by organization.id
  for no key update;
  if (
    select count(*) from public.organizations as organization
    where organization.created_by = v_user_id
  ) >= 20 then
    raise exception using
      errcode = 'CS022',
      message = 'a user makes 20 organizations at most',
      hint = 'Who runs this project makes more with the service key.';
  end if;
  insert into public.organizations (name, time_zone, created_by)
  values (p_name, p_time_zone, v_user_id)
  returning id into v_organization_id;
  insert into public.organization_members (organization_id, user_id, role)
  values (v_organization_id, v_user_id, 'owner');
  return v_organization_id;
end;
$$;
comment on function sync.create_organization(text, text) is
'Makes an organization owned by the user of the request; returns its id. CS022 where that user made 20.';
revoke all on function sync.create_organization(text, text) from public;
grant execute on function sync.create_organization(text, text) to authenticated;

create function public.create_organization(name text, time_zone text default 'UTC')
returns uuid
language sql
volatile
set search_path = ''
begin atomic
  select sync.create_organization(name, time_zone);
end;
comment on function public.create_organization(text, text) is
'Makes an organization that the caller owns; returns its id. 20 a user at most (CS022).';
revoke all on function public.create_organization(text, text)
from public, anon, authenticated, service_role;
grant execute on function public.create_organization(text, text) to authenticated;

-- Reading everything again.

-- Users may ask as often as they like, and one round is made. One that has not come to its end
-- in ten minutes may be asked for again, which takes it out of its back-off.

create function sync.ask_for_full_rounds(p_calendars uuid[])
returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_now timestamptz := sync.clock();
  v_enabled uuid[] := array(
    select calendar.id from public.calendars as calendar
    where calendar.id = any (p_calendars) and calendar.sync_enabled
    order by calendar.id
    for no key update
  );
begin
  -- A trigger asks for the pull.
  update public.calendars as calendar
  set full_round_asked_at = v_now
  where calendar.id = any (v_enabled)
    and (calendar.full_round_asked_at > v_now - interval '10 minutes') is not true
    and not exists (
      select 1 from sync.calendar_state as state
      where state.calendar_id = calendar.id
        and state.round_started_at > v_now - interval '10 minutes'
    );
  return cardinality(v_enabled);
end;
$$;
comment on function sync.ask_for_full_rounds(uuid[]) is
'Asks for full rounds, now, where none is asked for or under way; returns how many of the calendars are enabled.';
revoke all on function sync.ask_for_full_rounds(uuid[]) from public;

create function sync.resync_calendar(p_calendar_id uuid)
returns boolean
language plpgsql
security definer -- the column is the engine's, not the users'
set search_path = ''
as $$
begin
  perform sync.refuse_unless(
    sync.may_manage_calendar(p_calendar_id), format('calendar %s can''t be resynced', p_calendar_id)
  );
  return sync.ask_for_full_rounds(array[p_calendar_id]) > 0;
end;
$$;
comment on function sync.resync_calendar(uuid) is
'Asks for a full round of a calendar, now; false where its sync is switched off.';
revoke all on function sync.resync_calendar(uuid) from public;
grant execute on function sync.resync_calendar(uuid) to authenticated, service_role;

create function public.resync_calendar(calendar uuid)
returns boolean
language sql
volatile
set search_path = ''
begin atomic
  select sync.resync_calendar(calendar);
end;
comment on function public.resync_calendar(uuid) is
'Has a calendar read whole again, now: for its connection''s owner and admins. False where its sync is switched off.';
revoke all on function public.resync_calendar(uuid) from public, anon, authenticated, service_role;
grant execute on function public.resync_calendar(uuid) to authenticated, service_role;

create function sync.resync_organization(p_organization_id uuid)
returns integer
language plpgsql
security definer -- as resync_calendar
set search_path = ''
as $$
begin
  perform sync.refuse_unless(
    p_organization_id = any(array(select sync.my_administered_organizations()))
    or (
      sync.is_service()
      and exists (
        select 1 from public.organizations as organization
        where organization.id = p_organization_id
      )
    ),
    format('organization %s can''t be resynced', p_organization_id)
  );
  return sync.ask_for_full_rounds(array(
    select calendar.id from public.calendars as calendar
    where calendar.organization_id = p_organization_id
  ));
end;
$$;
comment on function sync.resync_organization(uuid) is
'Asks for a full round of every enabled calendar of an organization; returns how many.';
revoke all on function sync.resync_organization(uuid) from public;
grant execute on function sync.resync_organization(uuid) to authenticated, service_role;

create function public.resync_organization(organization uuid)
returns integer
language sql
volatile
set search_path = ''
begin atomic
  select sync.resync_organization(organization);
end;
comment on function public.resync_organization(uuid) is
'Has every enabled calendar of an organization read whole again: for admins. Returns how many.';
revoke all on function public.resync_organization(uuid)
from public, anon, authenticated, service_role;
grant execute on function public.resync_organization(uuid) to authenticated, service_role;

-- Meetings are marked, never deleted.

create function sync.mark_meeting(p_meeting_id uuid, p_deleted boolean)
returns boolean
language plpgsql
security definer -- the mark is no column that users may write
set search_path = ''
as $$
begin
  -- Locked, so that two who ask at once get one true and one false.
  perform 1 from public.meetings as meeting
  where meeting.id = p_meeting_id
    and (
      meeting.organization_id = any(array(select sync.my_organizations())) or sync.is_service()
    )
  for no key update;
  perform sync.refuse_unless(
    found,
    format('meeting %s can''t be %s', p_meeting_id, case when p_deleted then 'deleted' else 'restored' end)
  );
  update public.meetings as meeting
  set deleted_at = case when p_deleted then sync.clock() end
  where meeting.id = p_meeting_id and (meeting.deleted_at is not null) <> p_deleted;
  return found;
end;
$$;
comment on function sync.mark_meeting(uuid, boolean) is
'Marks a meeting deleted, or takes the mark away; false where it stood so already.';
revoke all on function sync.mark_meeting(uuid, boolean) from public;
grant execute on function sync.mark_meeting(uuid, boolean) to authenticated, service_role;

create function public.delete_meeting(meeting uuid)
returns boolean
language sql
volatile
set search_path = ''
begin atomic
  select sync.mark_meeting(meeting, true);
end;
comment on function public.delete_meeting(uuid) is
'Marks a meeting deleted: it leaves the lists, its history stays. False where it was deleted already.';
revoke all on function public.delete_meeting(uuid) from public, anon, authenticated, service_role;
grant execute on function public.delete_meeting(uuid) to authenticated, service_role;

create function public.restore_meeting(meeting uuid)
returns boolean
language sql
volatile
set search_path = ''
begin atomic
  select sync.mark_meeting(meeting, false);
end;
comment on function public.restore_meeting(uuid) is
'Takes the mark of a deleted meeting away. False where it was not deleted.';
revoke all on function public.restore_meeting(uuid) from public, anon, authenticated, service_role;
grant execute on function public.restore_meeting(uuid) to authenticated, service_role;

-- What the brake holds.

create function sync.release_deletions(p_calendar_id uuid, p_release boolean)
returns integer
language plpgsql
security definer -- asks who is calling, then has the engine do it
set search_path = ''
as $$
begin
  perform sync.refuse_unless(
    sync.may_manage_calendar(p_calendar_id),
    format('the held cancellations of calendar %s can''t be decided', p_calendar_id)
  );
  if p_release then
    return sync.release_held_cancellations(p_calendar_id);
  end if;
  return sync.drop_held_cancellations(p_calendar_id);
end;
$$;
comment on function sync.release_deletions(uuid, boolean) is
'Lets the cancellations that the brake holds for a calendar happen, or drops them; returns how many.';
revoke all on function sync.release_deletions(uuid, boolean) from public;
grant execute on function sync.release_deletions(uuid, boolean) to authenticated, service_role;

create function public.release_deletions(calendar uuid, release boolean)
returns integer
language sql
volatile
set search_path = ''
begin atomic
  select sync.release_deletions(calendar, release);
end;
comment on function public.release_deletions(uuid, boolean) is
'Decides about cancellations that were too many to be believed: true lets them happen, false keeps the meetings. For the connection''s owner and admins; returns how many.';
revoke all on function public.release_deletions(uuid, boolean)
from public, anon, authenticated, service_role;
grant execute on function public.release_deletions(uuid, boolean) to authenticated, service_role;

-- Coverage: every enabled calendar has a live channel or a stated reason why not.

create view public.sync_coverage_gaps
with (security_invoker = true) as
with enabled as (
  select
    calendar.id,
    calendar.organization_id,
    calendar.name,
    calendar.updated_at,
    latest.status as channel_status,
    -- Bookings are swept, whatever it says.
    calendar.poll_every = interval '0' and calendar.kind <> 'bookings' as is_never_polled,
    calendar.kind = 'generated' or coalesce(latest.status in ('unwatchable', 'by_hand'), false)
      as has_reason,
    coalesce(latest.status_reason, calendar.last_error) as reason,
    coalesce(latest.expires_at, latest.updated_at, calendar.updated_at) as since,
    exists(
      select 1
      from public.calendar_watch_channels as live
      where
        live.calendar_id = calendar.id
        and live.status = 'active'
        and (live.expires_at is null or live.expires_at > now())
    ) as is_heard
  from public.calendars as calendar
  inner join public.calendar_connections as connection on calendar.connection_id = connection.id
  left join lateral (
    select channel.*
    from public.calendar_watch_channels as channel
    where channel.calendar_id = calendar.id
    order by channel.created_at desc
    limit 1
  ) as latest on true
  -- A connection that is not active has its own status for a reason.
  where calendar.sync_enabled and connection.status = 'active'
)

select
  enabled.organization_id,
  enabled.id as calendar_id,
  enabled.name as calendar_name,
  case when enabled.is_heard then enabled.updated_at else enabled.since end as since,
  case when enabled.is_heard then 'poll_every is zero' else enabled.reason end as reason,
  case
    when enabled.is_heard then 'it is never polled: what no push announces is not noticed'
    when enabled.channel_status is null then 'no channel was made yet'
    when enabled.channel_status = 'active' then 'the channel ran out'
    else 'the channel is ' || enabled.channel_status
  end as gap
from enabled
where case when enabled.is_heard then enabled.is_never_polled else not enabled.has_reason end;
comment on view public.sync_coverage_gaps is
'Enabled calendars that nothing announces changes of, without a stated reason (polling carries them meanwhile), or that are never polled beside it: empty when all is well.';
comment on column public.sync_coverage_gaps.gap is 'What is missing.';
comment on column public.sync_coverage_gaps.reason is 'What the provider, or the last run, said; null = nothing yet.';
comment on column public.sync_coverage_gaps.since is
'When its channel ran out or ended; where there never was one, or polling is the gap, when the calendar was last changed.';
revoke all on public.sync_coverage_gaps from public, anon, authenticated, service_role;
grant select on public.sync_coverage_gaps to authenticated, service_role;

-- Health: one row a calendar.

create function sync.health_of_calendars(p_organization_id uuid)
returns table (
  organization_id uuid, connection_id uuid, provider text, account_email text,
  connection_status text, calendar_id uuid, calendar_name text, sync_enabled boolean,
  backfill text, channel_status text, channel_expires_at timestamptz, poll_every interval,
  last_pulled_at timestamptz, last_changed_at timestamptz, lag_ms integer,
  next_pull_at timestamptz, tasks_due integer, oldest_due_at timestamptz, failing jsonb,
  set_aside_events integer, held_cancellations integer, open_alerts integer, last_error text
)
language sql
stable
security definer -- members may know how their calendars do, not read the engine's tables
set search_path = ''
as $$
  select
    calendar.organization_id, connection.id, connection.provider, connection.account_email,
    connection.status, calendar.id, calendar.name, calendar.sync_enabled, calendar.backfill,
    channel.status, channel.expires_at, calendar.poll_every, state.last_pulled_at,
    state.last_changed_at, last_run.lag_ms, reading.run_at, coalesce(queue.due, 0), queue.oldest_due_at,
    queue.failing,
    (
      select count(*) from sync.set_aside_events as aside where aside.calendar_id = calendar.id
    )::integer,
    (
      select count(*) from sync.held_cancellations as held where held.calendar_id = calendar.id
    )::integer,
    (
      select count(*) from public.sync_alerts as alert
      where alert.subject_id in (calendar.id, connection.id) and alert.resolved_at is null
        and alert.organization_id = calendar.organization_id
    )::integer,
    calendar.last_error
  from public.calendars as calendar
  join public.calendar_connections as connection on connection.id = calendar.connection_id
  left join sync.calendar_state as state on state.calendar_id = calendar.id
  -- What reads it: sync.request_read asks for the same.
  cross join lateral (
    select
      case calendar.kind when 'bookings' then 'ingest' else 'pull' end as kind,
      case calendar.kind when 'bookings' then connection.id else calendar.id end as subject_id
  ) as read_by
  left join lateral (
    select
      case when watch.status = 'active' and watch.expires_at <= now() then 'expired' else watch.status end
        as status,
      watch.expires_at
    from public.calendar_watch_channels as watch
    where watch.calendar_id = calendar.id
    order by watch.status = 'active' desc, watch.created_at desc
    limit 1
  ) as channel on true
  left join lateral (
    select round(extract(epoch from run.finished_at - run.due_at) * 1000)::integer as lag_ms
    from sync.runs as run
    where run.subject_id = read_by.subject_id and run.kind = read_by.kind and run.outcome = 'done'
      and run.started_at > now() - interval '1 day'
    order by run.started_at desc
    limit 1
  ) as last_run on true
  left join sync.tasks as reading
    on reading.kind = read_by.kind and reading.subject_id = read_by.subject_id
  -- Of the connection, but not of its other calendars.
  cross join lateral (
    select
      sum(by_kind.due)::integer as due,
      min(by_kind.oldest_due_at) as oldest_due_at,
      coalesce(
        jsonb_agg(
          jsonb_build_object(
            'kind', by_kind.kind, 'tasks', by_kind.failing, 'attempts', by_kind.attempts,
            'error', by_kind.error, 'next_at', by_kind.next_at
          )
          order by by_kind.kind
        ) filter (where by_kind.failing > 0),
        '[]'
      ) as failing
    from (
      select
        task.kind,
        count(*) filter (where task.lease is null and task.run_at <= now()) as due,
        min(task.run_at) filter (where task.lease is null and task.run_at <= now()) as oldest_due_at,
        count(task.last_error) as failing,
        max(task.attempts) filter (where task.last_error is not null) as attempts,
        min(task.last_error) as error,
        min(task.run_at) filter (where task.last_error is not null) as next_at
      from sync.tasks as task
      where task.connection_id = connection.id
        and (task.subject_id = calendar.id or task.kind not in ('pull', 'watch'))
      group by task.kind
    ) as by_kind
  ) as queue
  where (p_organization_id is null or calendar.organization_id = p_organization_id)
    and (
      calendar.organization_id = any(array(select sync.my_organizations())) or sync.is_service()
    )
  order by connection.account_email, calendar.name, calendar.id
$$;
comment on function sync.health_of_calendars(uuid) is
'How sync is doing, a row a calendar, of the organizations of the request''s user (null = all of them).';
revoke all on function sync.health_of_calendars(uuid) from public;
grant execute on function sync.health_of_calendars(uuid) to authenticated, service_role;

create function public.sync_health(organization uuid default null)
returns table (
  organization_id uuid, connection_id uuid, provider text, account_email text,
  connection_status text, calendar_id uuid, calendar_name text, sync_enabled boolean,
  backfill text, channel_status text, channel_expires_at timestamptz, poll_every interval,
  last_pulled_at timestamptz, last_changed_at timestamptz, lag_ms integer,
  next_pull_at timestamptz, tasks_due integer, oldest_due_at timestamptz, failing jsonb,
  set_aside_events integer, held_cancellations integer, open_alerts integer, last_error text
)
language sql
stable
set search_path = ''
begin atomic
  select * from sync.health_of_calendars(organization);
end;
comment on function public.sync_health(uuid) is
'How sync is doing, a row a calendar: channel, last pull, lag of the last one in ms, what waits, what fails. Members see their organizations; docs/api.md has the columns.';
revoke all on function public.sync_health(uuid) from public, anon, authenticated, service_role;
grant execute on function public.sync_health(uuid) to authenticated, service_role;
