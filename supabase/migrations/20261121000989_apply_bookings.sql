-- Applying bookings, the whole. Locks: task, bookings of the organization, clients, meetings,
-- events, pipeline, tasks; each sorted.

create function sync.refused_bookings(
  p_batch sync.batch, p_bookings jsonb, p_joined sync.joined_booking[]
)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_refused jsonb;
begin
  if not exists (
    select 1 from sync.staged_events as staged
    where staged.batch_id = (p_batch).id and staged.refusal is not null
  ) then
    return jsonb '[]';
  end if;
  select jsonb_agg(jsonb_build_object(
    'place', given.place, 'key', one.current_key, 'reason', staged.refusal
  ) order by given.place, one.current_key)
  into v_refused
  from unnest(p_joined) with ordinality as one (
    keys, current_key, provider_id, slot_id, seat_id, state, phase, no_show, version, as_of,
    fields, place
  )
  join sync.staged_events as staged
    on staged.batch_id = (p_batch).id and staged.place = one.place
  left join jsonb_array_elements(p_bookings) with ordinality as given (booking, place)
    on given.booking ->> 'key' = any (one.keys || one.slot_id)
  where staged.refusal is not null;
  return v_refused;
end;
$$;
comment on function sync.refused_bookings(sync.batch, jsonb, sync.joined_booking[]) is
'Staged bookings that are refused: place in what was told (from 1), key and reason.';

create function sync.project_bookings(p_batch sync.batch, p_joined sync.joined_booking[])
returns table (created integer, updated integer, cancelled integer)
language plpgsql
set search_path = ''
as $$
begin
  perform sync.retire_keys(p_batch, p_joined);
  perform sync.note_slots(p_batch);
  perform sync.claim_booking_keys(p_batch);
  perform sync.find_clients(p_batch);
  perform sync.lock_meetings(p_batch);
  return query select * from sync.write_bookings(p_batch);
end;
$$;
comment on function sync.project_bookings(sync.batch, sync.joined_booking[]) is
'Makes meetings of staged bookings; returns counts of meetings.';

create function sync.apply_bookings(
  p_task_id bigint, p_lease uuid, p_connection_id uuid, p_bookings jsonb,
  p_settled jsonb default '[]', p_again boolean default false, p_keys text[] default '{}'
)
returns table (
  created integer, updated integer, cancelled integer, unchanged integer, set_aside integer,
  refused jsonb
)
language plpgsql
security definer -- owned by sync_engine: users' triggers know its writes by that
set search_path = ''
-- As in sync.apply_events.
set enable_nestloop = off
set jit = off
set plan_cache_mode = force_generic_plan
set work_mem = '32MB'
as $$
#variable_conflict use_column
declare
  v_connection public.calendar_connections;
  v_batch sync.batch;
  v_joined sync.joined_booking[];
  v_homes sync.booking_home[];
  v_keys text[];
  v_count record;
  v_set_aside integer := 0;
  v_refused jsonb := jsonb '[]';
begin
  perform sync.hold_task(p_task_id, p_lease);
  select connection.* into v_connection
  from public.calendar_connections as connection where connection.id = p_connection_id;
  perform sync.lock_bookings(v_connection.organization_id, true);
  v_batch := sync.read_batch(sync.bookings_calendar(p_connection_id), '{}');
  if v_batch.id is null then
    return query select 0, 0, 0, 0, 0, jsonb '[]';
    return;
  end if;

  v_keys := sync.tell_bookings(p_connection_id, p_bookings);
  if p_again then
    v_keys := array(
      select distinct told.booking ->> 'key' from jsonb_array_elements(p_bookings) as told (booking)
    );
  end if;
  v_keys := v_keys || p_keys;
  if v_keys <> '{}' then
    v_joined := array(
      select row(joined.*)::sync.joined_booking
      from sync.join_bookings(p_connection_id, v_keys) as joined
    );
    v_joined := sync.translate_references(p_connection_id, v_joined);
    v_homes := sync.find_homes(v_batch, v_joined);
    v_batch.told_in := array(
      select v_batch.calendar_id
      union
      select unnest(home.told_in) from unnest(v_homes) as home
    );
    perform sync.stage_bookings(v_batch, v_connection.provider, v_joined, v_homes);
    v_refused := sync.refused_bookings(v_batch, p_bookings, v_joined);
    v_set_aside := sync.set_aside(v_batch, '[]');
    select * into v_count
    from sync.project_bookings(v_batch, v_joined);
    delete from sync.staged_events as staged where staged.batch_id = v_batch.id;
    perform sync.remember_round(
      v_batch, '{}', v_count.created + v_count.updated + v_count.cancelled > 0
    );
  else
    select 0 as created, 0 as updated, 0 as cancelled into v_count;
  end if;
  if p_settled <> '[]' then
    perform sync.settle_deliveries(p_settled);
  end if;

  return query select
    v_count.created, v_count.updated, v_count.cancelled,
    greatest(
      jsonb_array_length(p_bookings) - v_set_aside
      - v_count.created - v_count.updated - v_count.cancelled, 0
    ),
    v_set_aside, v_refused;
end;
$$;
comment on function sync.apply_bookings(bigint, uuid, uuid, jsonb, jsonb, boolean, text[]) is
'Applies what messages tell of a connection''s bookings (an array of providers.bookings.Booking) to mirror and meetings, and settles their deliveries with it (p_settled: [{id, state, error}]). Counts meetings created, updated and cancelled, messages that changed none, and bookings refused; refused says which and why: [{place, key, reason}]. p_again looks at bookings of which nothing new is told, too: what was refused may not be any more; so does p_keys at bookings of these keys. CS001 where a later lease holds the task.';

do $$
declare
  v_step regprocedure;
begin
  for v_step in
    select function.oid::regprocedure
    from pg_catalog.pg_proc as function
    where function.pronamespace = 'sync'::regnamespace
      and function.proname = any (array[
        'lock_bookings', 'share_bookings', 'bookings_calendar', 'booking_status',
        'booking_metadata', 'reference_keys', 'can_be_asked', 'find_homes', 'occurrence_keys',
        'stage_bookings', 'retire_keys', 'retire', 'lowest_place', 'shared_slots',
        'adopt_whole_slots', 'note_slots', 'claim_slot_keys',
        'stage_slots', 'events_of_keys', 'booking_meetings', 'claim_booking_keys',
        'write_bookings', 'count_cancelling', 'write_booking_rows', 'write_older_keys',
        'write_slots', 'fill_from_events', 'words_beside', 'refer_to_bookings',
        'join_referred', 'meetings_booked', 'ask_for_bookings', 'stage_bookings_of_events',
        'refused_bookings', 'project_bookings', 'mark_slots',
        'stage_copies_of_slots'
      ])
  loop
    execute format('revoke all on function %s from public', v_step);
    execute format('grant execute on function %s to sync_engine', v_step);
  end loop;
end;
$$;

grant insert on public.calendars to sync_engine; -- the one of kind bookings
revoke all on function sync.apply_bookings(bigint, uuid, uuid, jsonb, jsonb, boolean, text[])
from public;
grant execute on function sync.apply_bookings(bigint, uuid, uuid, jsonb, jsonb, boolean, text[])
to sync_worker;
grant create on schema sync to sync_engine; -- owning a function there needs it, for a moment
alter function sync.apply_bookings(bigint, uuid, uuid, jsonb, jsonb, boolean, text[])
owner to sync_engine;
revoke create on schema sync from sync_engine;
