-- Asking for bookings: one by one, because of what was delivered, and in sweeps, because of what
-- was not. An answer adds to what was told, and never undoes it.

create function sync.request_fetch(p_connection_id uuid, p_provider_id text, p_at timestamptz)
returns void
language plpgsql
security definer -- whoever may ask for work needs no right on the table
set search_path = ''
as $$
begin
  insert into sync.bookings_to_fetch as wanted (connection_id, provider_id, fetch_at)
  values (p_connection_id, p_provider_id, p_at)
  on conflict (connection_id, provider_id) do update
  set fetch_at = least(wanted.fetch_at, excluded.fetch_at), attempts = 0;
  perform sync.request_task('ingest', p_connection_id, p_connection_id, 1::smallint, p_at);
end;
$$;
comment on function sync.request_fetch(uuid, text, timestamptz) is
'Asks that the provider is asked for a booking no later than a time. Where there are webhooks alone, nobody can be asked, and nothing comes of it.';
revoke all on function sync.request_fetch(uuid, text, timestamptz) from public;
grant execute on function sync.request_fetch(uuid, text, timestamptz) to sync_worker, sync_engine;

create function sync.fetch_delivered(
  p_task_id bigint, p_lease uuid, p_connection_id uuid, p_provider_ids text[], p_series boolean[]
)
returns void
language plpgsql
security definer -- as begin_ingest
set search_path = ''
as $$
begin
  perform sync.hold_task(p_task_id, p_lease);
  insert into sync.bookings_to_fetch as wanted (connection_id, provider_id, series, fetch_at)
  select p_connection_id, delivered.provider_id, bool_or(delivered.series), sync.clock()
  from unnest(p_provider_ids, p_series) as delivered (provider_id, series)
  group by delivered.provider_id
  order by delivered.provider_id
  on conflict (connection_id, provider_id) do update
  set fetch_at = excluded.fetch_at, attempts = 0, series = wanted.series or excluded.series;
end;
$$;
comment on function sync.fetch_delivered(bigint, uuid, uuid, text[], boolean[]) is
'Has bookings asked for that were delivered, once each, however many deliveries there were.';
revoke all on function sync.fetch_delivered(bigint, uuid, uuid, text[], boolean[]) from public;
grant execute on function sync.fetch_delivered(bigint, uuid, uuid, text[], boolean[])
to sync_worker;

create function sync.fetch_pauses()
returns interval[]
language sql
immutable
set search_path = ''
as $$
  select array[interval '30 seconds', interval '5 minutes']
$$;
comment on function sync.fetch_pauses() is
'After which pauses a booking is asked for again whose answer is behind.';
revoke all on function sync.fetch_pauses() from public;

create function sync.next_to_fetch(p_connection_id uuid)
returns table (provider_id text, series boolean, fetch_at timestamptz, is_last boolean)
language sql
stable
security definer -- as begin_ingest
set search_path = ''
as $$
  select
    wanted.provider_id, wanted.series, wanted.fetch_at,
    wanted.attempts >= cardinality(sync.fetch_pauses())
  from sync.bookings_to_fetch as wanted
  where wanted.connection_id = p_connection_id and wanted.fetch_at <= sync.clock()
  order by wanted.fetch_at, wanted.provider_id
  limit 1
$$;
comment on function sync.next_to_fetch(uuid) is
'The booking that has to be asked for first; none when none is due. is_last: nobody asks again if its answer is behind.';
revoke all on function sync.next_to_fetch(uuid) from public;
grant execute on function sync.next_to_fetch(uuid) to sync_worker;

create function sync.is_behind(p_connection_id uuid, p_fetched jsonb)
returns boolean
language sql
stable
security definer -- as begin_ingest
set search_path = ''
as $$
  with ranks (state, place) as (
    values ('pending', 0), ('accepted', 1), ('rejected', 2), ('cancelled', 2)
  )

  select exists (
    select 1
    from jsonb_to_recordset(p_fetched)
      as fetched (key text, weak_key text, slot_id text, state text)
    join ranks as theirs on theirs.state = fetched.state
    join sync.told_bookings as told
      on told.organization_id = (
        select connection.organization_id from public.calendar_connections as connection
        where connection.id = p_connection_id
      )
      and told.key in (fetched.key, fetched.weak_key, fetched.slot_id)
    join ranks as delivered on delivered.state = told.state
    where told.source = 'delivery' and delivered.place > theirs.place
      and (told.whole_slot or told.key in (fetched.key, fetched.weak_key))
  )
$$;
comment on function sync.is_behind(uuid, jsonb) is
'Whether a fetched booking still shows a state that deliveries have left behind.';
revoke all on function sync.is_behind(uuid, jsonb) from public;
grant execute on function sync.is_behind(uuid, jsonb) to sync_worker;

-- Seats come and go without a trace in the booking that they are of: Cal.com changes its updatedAt
-- for a new seat only. But a seat keeps its id when it is moved, and is in one place at a time.

create function sync.compare_seats(p_connection_id uuid, p_fetched jsonb)
returns jsonb
language plpgsql
stable
security definer -- as begin_ingest
set search_path = ''
as $$
declare
  v_organization_id uuid := (
    select connection.organization_id from public.calendar_connections as connection
    where connection.id = p_connection_id
  );
  -- An answer may be older than what was delivered just now.
  v_settled_before timestamptz := sync.clock() - interval '10 minutes';
begin
  return (
    with listed as materialized (
      select seat.*
      from jsonb_to_recordset(p_fetched)
        as seat (key text, weak_key text, slot_id text, seat_id text)
      where seat.seat_id is not null
    ),

    calendar as materialized (
      select calendar.id
      from public.calendars as calendar
      where calendar.kind = 'bookings' and calendar.organization_id = v_organization_id
    ),

    -- Wherever they were, and however long ago.
    moved as (
      select distinct listed.*, event.provider_event_id as supersedes
      from listed
      join sync.told_bookings as told
        on told.organization_id = v_organization_id and told.seat_id = listed.seat_id
        and told.key <> listed.key
      join public.calendar_events as event
        on event.calendar_id in (select calendar.id from calendar)
        and event.provider_event_id = told.key
      where event.scope = 'in' and event.provider_updated_at < v_settled_before
    ),

    gone as (
      select
        event.provider_event_id as key, event.series_provider_id as slot_id,
        event.raw #>> '{metadata,booking,seat_id}' as seat_id
      from public.calendar_events as event
      where event.calendar_id = any (array(select calendar.id from calendar))
        and event.series_provider_id = any (array(select listed.slot_id from listed))
        and event.scope = 'in' and event.status <> 'cancelled' and event.ends_at > sync.clock()
        and event.provider_updated_at < v_settled_before
        and not exists (
          select 1 from listed
          where event.provider_event_id in (listed.key, listed.weak_key)
        )
    ),

    changed as (
      select
        jsonb_build_object('supersedes', moved.supersedes) as news, moved.key, moved.slot_id,
        moved.seat_id
      from moved
      union all
      select jsonb_build_object('state', 'cancelled'), gone.key, gone.slot_id, gone.seat_id
      from gone
    )

    select coalesce(jsonb_agg(changed.news || jsonb_build_object(
      'provider', connection.provider, 'source', 'fetch', 'key', changed.key,
      'provider_id', changed.slot_id, 'slot_id', changed.slot_id, 'seat_id', changed.seat_id,
      'as_of', sync.clock()
    ) order by changed.key), '[]')
    from changed
    cross join public.calendar_connections as connection
    where connection.id = p_connection_id
  );
end;
$$;
comment on function sync.compare_seats(uuid, jsonb) is
'What the seats that fetched slots have tell of those that were known before: bookings in the words of providers.bookings. Such as stood elsewhere were moved; such as it lacks are cancelled, if not only this answer says so.';
revoke all on function sync.compare_seats(uuid, jsonb) from public;
grant execute on function sync.compare_seats(uuid, jsonb) to sync_worker;

create function sync.end_fetch(
  p_task_id bigint, p_lease uuid, p_connection_id uuid, p_provider_id text,
  p_fetch_at timestamptz, p_again boolean
)
returns void
language plpgsql
security definer -- as begin_ingest
set search_path = ''
as $$
declare
  v_pauses interval[] := sync.fetch_pauses();
begin
  perform sync.hold_task(p_task_id, p_lease);
  -- Not those that were asked for anew meanwhile.
  update sync.bookings_to_fetch as wanted
  set
    attempts = wanted.attempts + 1,
    fetch_at = sync.clock() + v_pauses[wanted.attempts + 1]
  where wanted.connection_id = p_connection_id and wanted.provider_id = p_provider_id
    and wanted.fetch_at = p_fetch_at and p_again and wanted.attempts < cardinality(v_pauses);
  if not found then
    delete from sync.bookings_to_fetch as wanted
    where wanted.connection_id = p_connection_id and wanted.provider_id = p_provider_id
      and wanted.fetch_at = p_fetch_at;
  end if;
end;
$$;
comment on function sync.end_fetch(bigint, uuid, uuid, text, timestamptz, boolean) is
'A booking was asked for; p_again: its answer is behind, ask after 30 s and after 5 min more, and leave it at that.';
revoke all on function sync.end_fetch(bigint, uuid, uuid, text, timestamptz, boolean) from public;
grant execute on function sync.end_fetch(bigint, uuid, uuid, text, timestamptz, boolean)
to sync_worker;

create function sync.postpone_asking(
  p_task_id bigint, p_lease uuid, p_connection_id uuid, p_for interval
)
returns void
language plpgsql
security definer -- as begin_ingest
set search_path = ''
as $$
begin
  perform sync.hold_task(p_task_id, p_lease);
  update sync.ingest_state as state
  set ask_after = sync.clock() + p_for
  where state.connection_id = p_connection_id;
end;
$$;
comment on function sync.postpone_asking(bigint, uuid, uuid, interval) is
'The provider was asked too often: it is left alone for a while, and deliveries are taken in meanwhile.';
revoke all on function sync.postpone_asking(bigint, uuid, uuid, interval) from public;
grant execute on function sync.postpone_asking(bigint, uuid, uuid, interval) to sync_worker;

-- Sweeps. One that is broken off goes on where it stopped.

create function sync.sweep_interval(p_connection_id uuid)
returns interval
language sql
stable
set search_path = ''
as $$
  select min(coalesce(
    nullif(calendar.poll_every, interval '0'),
    -- Cal.com delivers at most once; Calendly tries for a day.
    case connection.provider when 'calcom' then interval '15 minutes' else interval '1 hour' end
  ))
  from public.calendar_connections as connection
  join public.calendars as calendar
    on calendar.connection_id = connection.id and calendar.sync_enabled
  where connection.id = p_connection_id
$$;
comment on function sync.sweep_interval(uuid) is
'How long a connection goes without a sweep. Its calendar''s poll_every decides, but zero does not: what was not delivered would never be found.';
revoke all on function sync.sweep_interval(uuid) from public;

create function sync.begin_sweep(
  p_task_id bigint, p_lease uuid, p_connection_id uuid, p_calendar_id uuid
)
returns table (
  sweep_since timestamptz, sweep_from timestamptz, sweep_to timestamptz, sweep_page text
)
language plpgsql
security definer -- as begin_ingest
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_now timestamptz := sync.clock();
  v_everything boolean;
begin
  perform sync.hold_task(p_task_id, p_lease);
  update public.calendars as calendar set full_round_asked_at = null
  where calendar.id = p_calendar_id and calendar.full_round_asked_at is not null;
  v_everything := found;

  update sync.ingest_state as state
  set
    sweep_began_at = v_now,
    sweep_page = null,
    -- Whoever begins knows nothing yet; what lies in the window is adopted.
    sweep_since = case
      when not v_everything and state.swept_until is not null
        then least(state.swept_until, missed.since) - interval '5 minutes'
    end,
    sweep_from = case
      when v_everything or state.swept_until is null
        then date_trunc('day', v_now - calendar.window_past)
      -- No-shows are marked when it is over, and deliveries are retried for a day.
      else v_now - interval '2 days'
    end,
    sweep_to = date_trunc('day', v_now + calendar.window_future) + interval '1 day'
  from public.calendars as calendar
  cross join lateral (
    select min((delivery.headers ->> 'from')::timestamptz) as since
    from sync.delivery_states as opened
    join sync.webhook_deliveries as delivery
      on delivery.id = opened.delivery_id and delivery.received_at = opened.received_at
    where opened.connection_id = p_connection_id
      and opened.state = 'received' and opened.kind = 'lifecycle'
  ) as missed
  where state.connection_id = p_connection_id and calendar.id = p_calendar_id
    and (v_everything or state.sweep_began_at is null);

  return query
  select state.sweep_since, state.sweep_from, state.sweep_to, state.sweep_page
  from sync.ingest_state as state
  where state.connection_id = p_connection_id;
end;
$$;
comment on function sync.begin_sweep(bigint, uuid, uuid, uuid) is
'Begins a sweep, or goes on with the one under way. sweep_since null = everything in the window, changed or not: the first sweep, and the one that was asked for by rpc resync_calendar.';
revoke all on function sync.begin_sweep(bigint, uuid, uuid, uuid) from public;
grant execute on function sync.begin_sweep(bigint, uuid, uuid, uuid) to sync_worker;

create function sync.turn_sweep_page(
  p_task_id bigint, p_lease uuid, p_connection_id uuid, p_page text
)
returns void
language plpgsql
security definer -- as begin_ingest
set search_path = ''
as $$
begin
  perform sync.hold_task(p_task_id, p_lease);
  update sync.ingest_state as state
  set sweep_page = p_page
  where state.connection_id = p_connection_id;
end;
$$;
comment on function sync.turn_sweep_page(bigint, uuid, uuid, text) is
'A page of a sweep was applied: the next one; null = from the first again.';
revoke all on function sync.turn_sweep_page(bigint, uuid, uuid, text) from public;
grant execute on function sync.turn_sweep_page(bigint, uuid, uuid, text) to sync_worker;

-- Cal.com's list does not say where in the host's calendar a booking stands: each has to be asked
-- for. Where the answer names no event, that is told too, and nobody asks again.

create function sync.ask_after_sweep(
  p_connection_id uuid, p_calendar_id uuid, p_since timestamptz, p_seats boolean
)
returns void
language sql
set search_path = ''
as $$
  insert into sync.bookings_to_fetch (connection_id, provider_id, fetch_at)
  select
    p_connection_id, wanted.provider_id,
    -- Two calls each, and Cal.com takes 120 a minute: the next to come first.
    sync.clock() + interval '1 minute' * (
      (row_number() over (order by wanted.starts_at, wanted.provider_id) - 1) / 50
    )
  from (
    select event.raw ->> 'provider_id' as provider_id, min(event.starts_at) as starts_at
    from public.calendar_events as event
    where event.calendar_id = p_calendar_id and event.scope = 'in'
      and event.status <> 'cancelled' and event.ends_at > sync.clock()
      and (
        p_seats and event.series_provider_id is not null
        or (p_since is null or event.provider_updated_at >= p_since)
        and not exists (
          select 1 from sync.told_bookings as told
          where told.organization_id = event.organization_id
            and told.key = event.provider_event_id
            and told.fields ? 'calendar_references'
        )
      )
    group by event.raw ->> 'provider_id'
  ) as wanted
  on conflict (connection_id, provider_id) do nothing
$$;
comment on function sync.ask_after_sweep(uuid, uuid, timestamptz, boolean) is
'Has bookings asked for that live, are to come, were changed since, and of which nobody told yet where they stand in a calendar; with p_seats also all that have seats.';
revoke all on function sync.ask_after_sweep(uuid, uuid, timestamptz, boolean) from public;

create function sync.end_sweep(
  p_task_id bigint, p_lease uuid, p_connection_id uuid, p_calendar_id uuid
)
returns void
language plpgsql
security definer -- as begin_ingest
set search_path = ''
as $$
declare
  v_now timestamptz := sync.clock();
  v_began_at timestamptz;
  v_since timestamptz;
  v_seats_at timestamptz;
  v_seats boolean;
begin
  perform sync.hold_task(p_task_id, p_lease);
  update sync.ingest_state as state
  set
    swept_until = state.sweep_began_at, sweep_began_at = null, sweep_page = null,
    sweep_at = v_now + sync.sweep_interval(p_connection_id) * (0.85 + 0.3 * random())
  where state.connection_id = p_connection_id
  returning state.swept_until, state.sweep_since, state.seats_at
  into v_began_at, v_since, v_seats_at;
  if exists (
    select 1 from public.calendar_connections as connection
    where connection.id = p_connection_id and connection.provider = 'calcom'
  ) then
    -- A sweep of everything has just told who is where.
    v_seats := v_since is not null and coalesce(v_seats_at <= v_now, false);
    perform sync.ask_after_sweep(p_connection_id, p_calendar_id, v_since, v_seats);
    update sync.ingest_state as state set seats_at = v_now + interval '1 day'
    where state.connection_id = p_connection_id
      and (v_seats or state.seats_at is null);
  end if;
  update public.calendars as calendar set backfill = 'complete'
  where calendar.id = p_calendar_id and calendar.backfill <> 'complete';
  insert into sync.calendar_state as state (calendar_id, last_pulled_at)
  values (p_calendar_id, v_now)
  on conflict (calendar_id) do update set last_pulled_at = excluded.last_pulled_at;
  -- What came to light after it began needs another one.
  update sync.delivery_states as delivery
  set state = 'done', attempts = delivery.attempts + 1, updated_at = v_now
  where delivery.connection_id = p_connection_id and delivery.updated_at <= v_began_at
    and delivery.state = 'received' and delivery.kind = 'lifecycle';
  perform sync.resolve_alert('deliveries_lost', p_connection_id);
end;
$$;
comment on function sync.end_sweep(bigint, uuid, uuid, uuid) is
'The last page of a sweep was applied: what was missed before it began is found.';
revoke all on function sync.end_sweep(bigint, uuid, uuid, uuid) from public;
grant execute on function sync.end_sweep(bigint, uuid, uuid, uuid) to sync_worker;
