-- What asks for work, and for a person.

-- Alerts: one open row per kind and subject.

create function sync.raise_alert(
  p_kind text, p_subject uuid, p_connection uuid, p_message text, p_remedy text
)
returns void
language sql
security definer -- the engine and the worker raise alerts for every organization
set search_path = ''
as $$
  insert into public.sync_alerts (organization_id, kind, subject_id, message, remedy, since)
  select
    (
      select connection.organization_id from public.calendar_connections as connection
      where connection.id = p_connection
    ),
    p_kind, p_subject, p_message, p_remedy, sync.clock()
  on conflict (kind, subject_id) where resolved_at is null do nothing
$$;
comment on function sync.raise_alert(text, uuid, uuid, text, text) is
'Opens an alert unless one of this kind is open for the subject.';
revoke all on function sync.raise_alert(text, uuid, uuid, text, text) from public;
grant execute on function sync.raise_alert(text, uuid, uuid, text, text)
to sync_worker, sync_engine;

create function sync.resolve_alert(p_kind text, p_subject uuid)
returns void
language sql
security definer -- as raise_alert
set search_path = ''
as $$
  update public.sync_alerts as alert
  set resolved_at = sync.clock()
  where alert.kind = p_kind and alert.subject_id = p_subject and alert.resolved_at is null
$$;
comment on function sync.resolve_alert(text, uuid) is 'Closes the open alert of this kind for the subject, if there is one.';
revoke all on function sync.resolve_alert(text, uuid) from public;
grant execute on function sync.resolve_alert(text, uuid) to sync_worker, sync_engine;

-- Reading is a pull, or where bookings come by themselves, taking in what came.

create function sync.request_read(p_calendar_id uuid, p_lane smallint, p_at timestamptz)
returns boolean
language plpgsql
security definer -- whoever may ask for work needs no right on calendars
set search_path = ''
as $$
declare
  v_connection_id uuid;
  v_is_of_bookings boolean;
begin
  select calendar.connection_id, calendar.kind = 'bookings'
  into v_connection_id, v_is_of_bookings
  from public.calendars as calendar
  where calendar.id = p_calendar_id;
  if v_is_of_bookings and p_lane < 2 then
    -- Somebody has a reason to ask: what was not delivered is looked for, too.
    update sync.ingest_state as state
    set sweep_at = p_at
    where state.connection_id = v_connection_id and state.sweep_at > p_at;
  end if;
  return case
    when v_is_of_bookings
      then sync.request_task('ingest', v_connection_id, v_connection_id, p_lane, p_at)
    when v_connection_id is not null
      then sync.request_task('pull', p_calendar_id, v_connection_id, p_lane, p_at)
  end;
end;
$$;
comment on function sync.request_read(uuid, smallint, timestamptz) is
'Asks that a calendar is read no later than a time: a pull of it, or for bookings the ingest of its connection (in lanes 0 and 1 with a sweep); whether that moved the task. Null where the calendar is gone.';
revoke all on function sync.request_read(uuid, smallint, timestamptz) from public;
grant execute on function sync.request_read(uuid, smallint, timestamptz)
to sync_worker, sync_engine;

-- What users switch asks for work.

create function sync.on_calendar_projected_anew()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  -- Asked for in this row: a running pull may save its cursor after us, and a lock on where it
  -- stands, taken while this row is held, deadlocks with a pull that writes both.
  new.full_round_asked_at := now(); -- users may not call sync.clock()
  return new;
end;
$$;
comment on function sync.on_calendar_projected_anew() is
'Row trigger: what belongs to a meeting is decided anew for every event by a full round, not by the user''s statement.';
revoke all on function sync.on_calendar_projected_anew() from public;

create function sync.on_calendar_switched()
returns trigger
language plpgsql
security definer -- members flip the switch and have no right on tasks
set search_path = ''
as $$
begin
  if tg_op = 'INSERT' or new.sync_enabled is distinct from old.sync_enabled then
    perform sync.request_task('watch', new.id, new.connection_id, 0::smallint, sync.clock());
  elsif new.sync_enabled and new.full_round_asked_at is distinct from old.full_round_asked_at then
    perform sync.request_read(new.id, 0::smallint, sync.clock());
  end if;
  return null;
end;
$$;
comment on function sync.on_calendar_switched() is
'Row trigger: the switch asks for its channel (which asks for reading), a full round for reading.';
revoke all on function sync.on_calendar_switched() from public;

create trigger calendars_projected_anew
before update of direction, event_tag, mail_events, window_past, window_future
on public.calendars
for each row when (
  (
    old.direction = 'outbound', old.event_tag, old.mail_events, old.window_past,
    old.window_future
  )
  is distinct from
  (
    new.direction = 'outbound', new.event_tag, new.mail_events, new.window_past,
    new.window_future
  )
)
execute function sync.on_calendar_projected_anew();
comment on trigger calendars_projected_anew on public.calendars is
'Fires only for what decides otherwise about events: between two_way and inbound the same ones are meetings.';
create trigger calendars_inserted after insert on public.calendars
for each row when (new.sync_enabled) execute function sync.on_calendar_switched();
comment on trigger calendars_inserted on public.calendars is
'A calendar may come switched on: that asks for what switching it on asks for.';
create trigger calendars_switched after update on public.calendars
for each row when (
  old.sync_enabled <> new.sync_enabled
  or (
    new.full_round_asked_at is not null
    and old.full_round_asked_at is distinct from new.full_round_asked_at
  )
)
execute function sync.on_calendar_switched();
comment on trigger calendars_switched on public.calendars is
'Names no columns: it has to see full_round_asked_at where calendars_projected_anew set it, not the statement.';

create function sync.on_connection_activated()
returns trigger
language plpgsql
security definer -- as on_calendar_switched
set search_path = ''
as $$
declare
  v_now timestamptz := sync.clock();
begin
  -- The grant may have taken its channels along.
  update sync.channel_state as state
  set renew_at = v_now
  from public.calendar_watch_channels as channel
  join public.calendars as calendar on calendar.id = channel.calendar_id
  where state.channel_id = channel.id and channel.status = 'active'
    and calendar.connection_id = new.id;
  perform sync.request_tasks(
    array_agg(wanted.kind), array_agg(wanted.subject_id),
    array_fill(new.id, array[count(*)::integer]),
    array_fill(0::smallint, array[count(*)::integer]),
    array_fill(v_now, array[count(*)::integer])
  )
  from (
    select 'watch' as kind, calendar.id as subject_id
    from public.calendars as calendar
    where calendar.connection_id = new.id and calendar.sync_enabled
    union all
    -- What a claim put off until now. (A pull comes with its channel.)
    select task.kind, task.subject_id
    from sync.tasks as task
    where task.connection_id = new.id and task.run_at = 'infinity'
      and task.kind not in ('watch', 'pull')
  ) as wanted
  having count(*) > 0;
  perform sync.resolve_alert('access_lost', new.id);
  return null;
end;
$$;
comment on function sync.on_connection_activated() is
'Row trigger: a connection that works again has its calendars watched, by channels of its new grant, and read, and done what waited for it.';
revoke all on function sync.on_connection_activated() from public;

create trigger calendar_connections_activated after update of status on public.calendar_connections
for each row when (new.status = 'active' and old.status <> 'active')
execute function sync.on_connection_activated();
comment on trigger calendar_connections_activated on public.calendar_connections is
'Linked anew or resumed: tasks that a claim had put off for ever, as nothing could be read, are due again.';

-- What the database itself needs done.
select sync.request_task('keep', '00000000-0000-0000-0000-000000000000', null, 2::smallint, now());
