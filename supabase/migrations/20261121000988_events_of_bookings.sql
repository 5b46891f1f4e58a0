-- Events of calendars that bookings stand behind: what sync.apply_events() does about them.
-- Where an organization has no bookings, nothing of this is even looked at.

-- A booking may name its event by the provider's id, and an event of several seats by either.

create function sync.refer_to_bookings(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_prefix text;
  v_keys text[];
begin
  if (p_batch).booking_calendars = '{}' then
    return;
  end if;
  select 'reference:' || connection.provider || ':' into v_prefix
  from public.calendar_connections as connection
  where connection.id = (p_batch).connection_id;

  perform sync.mark_slots(p_batch, v_prefix);
  v_keys := array(
    select v_prefix || staged.provider_event_id from sync.staged_events as staged
    where staged.batch_id = (p_batch).id and staged.origin = 'told' and not staged.is_same
      and staged.status <> 'cancelled' and staged.meeting_id is not null
  );
  perform sync.join_referred(p_batch, v_prefix, v_keys);
end;
$$;
comment on function sync.refer_to_bookings(sync.batch) is
'Gives staged events that a booking names its meeting, and takes it from those that are slots.';

create function sync.mark_slots(p_batch sync.batch, p_prefix text)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_slots text[] := array(
    select slot.key from sync.slot_keys as slot
    where slot.organization_id = (p_batch).organization_id
      and slot.key = any (array(
        select unnest(array[staged.key, p_prefix || staged.provider_event_id])
        from sync.staged_events as staged
        where staged.batch_id = (p_batch).id and staged.origin = 'told' and not staged.is_same
      ))
  );
  v_new text[];
begin
  if v_slots = '{}' then
    return;
  end if;
  -- Colleagues' calendars have it under another id.
  with written as (
    insert into sync.slot_keys (organization_id, key, calendar_id, slot)
    select distinct on (staged.key)
      (p_batch).organization_id, staged.key, slot.calendar_id, slot.slot
    from sync.staged_events as staged
    join sync.slot_keys as slot on slot.key = p_prefix || staged.provider_event_id
    where staged.batch_id = (p_batch).id and staged.origin = 'told' and staged.key is not null
      and slot.organization_id = (p_batch).organization_id and slot.key = any (v_slots)
    order by staged.key, slot.slot
    on conflict do nothing
    returning key
  )

  select array_agg(written.key) into v_new from written;
  if v_new is not null then
    perform sync.stage_copies_of_slots(p_batch, v_new);
  end if;
  update sync.staged_events as staged
  set role = 'slot', meeting_id = null, is_new_meeting = false, key = null
  where staged.batch_id = (p_batch).id and staged.origin = 'told'
    and staged.role in ('single', 'occurrence', 'exception') and not staged.is_same
    and (staged.key = any (v_slots) or p_prefix || staged.provider_event_id = any (v_slots));
end;
$$;
comment on function sync.mark_slots(sync.batch, text) is 'Marks staged events whose seats are meetings, and none themselves.';

-- Somebody's copy of it may have come first, and made a meeting: the first seat adopts that.

create function sync.stage_copies_of_slots(p_batch sync.batch, p_keys text[])
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_lowest integer := sync.lowest_place(p_batch);
begin
  insert into sync.staged_events (
    batch_id, place, origin, provider_event_id, role, status, event_id, verdict, meeting_id, tied_to
  )
  select
    (p_batch).id, -v_lowest - row_number() over (order by copy.key, copy.event_id), copy.origin,
    copy.provider_event_id, 'slot', copy.status, copy.event_id, 'retired', copy.seat, copy.meeting_id
  from (
    -- Not cancelled: its seat's booking is to be looked at anew, once the two are one.
    select distinct on (known.meeting_id)
      known.key, 'tied' as origin, '' as provider_event_id, 'confirmed' as status,
      gen_random_uuid() as event_id, first.meeting_id as seat, known.meeting_id
    from sync.meeting_keys as known
    join sync.slot_keys as slot
      on slot.organization_id = known.organization_id and slot.key = known.key
    cross join lateral (
      select seat.meeting_id from public.calendar_events as seat
      where seat.calendar_id = any ((p_batch).booking_calendars)
        and seat.series_provider_id = slot.slot
        and seat.scope = 'in' and seat.meeting_id is not null
      order by seat.created_at, seat.id
      limit 1
    ) as first
    where known.organization_id = (p_batch).organization_id and known.key = any (p_keys)
      and slot.key = any (p_keys) and known.meeting_id <> first.meeting_id
      and not exists (
        select 1 from sync.meeting_keys as own
        where own.meeting_id = known.meeting_id and own.key like 'booking:%'
      )
    union all
    select named.key, 'slot', named.provider_event_id, 'cancelled', named.event_id, null, null
    from sync.events_of_keys(p_batch, p_keys) as named
    where named.event_id not in (
      select staged.event_id from sync.staged_events as staged
      where staged.batch_id = (p_batch).id
    )
  ) as copy;
  delete from sync.meeting_keys as known
  where known.organization_id = (p_batch).organization_id and known.key = any (p_keys);
end;
$$;
comment on function sync.stage_copies_of_slots(sync.batch, text[]) is
'Stages mirrored events that turn out to be slots, and the meetings they had made, to become one with the first seat''s.';

create function sync.join_referred(p_batch sync.batch, p_prefix text, p_keys text[])
returns void
language plpgsql
set search_path = ''
as $$
begin
  with meant as materialized (
    select staged.place, staged.is_new_meeting, staged.meeting_id as mine, known.meeting_id as theirs
    from sync.meeting_keys as known
    join sync.staged_events as staged on p_prefix || staged.provider_event_id = known.key
    where known.organization_id = (p_batch).organization_id and known.key = any (p_keys)
      and staged.batch_id = (p_batch).id and staged.origin = 'told' and not staged.is_same
      and staged.meeting_id is not null and staged.meeting_id <> known.meeting_id
  ),

  -- Its own key may lead to a meeting that somebody's copy of the event has made.
  led as (
    select meant.place, known.meeting_id
    from meant
    join sync.staged_events as staged
      on staged.batch_id = (p_batch).id and staged.place = meant.place
    join sync.meeting_keys as known
      on known.organization_id = (p_batch).organization_id and known.key = staged.key
    where known.meeting_id <> meant.theirs
  )

  update sync.staged_events as staged
  set
    meeting_id = meant.theirs, is_new_meeting = false,
    -- Whatever it leads to, the key comes along; sync.resolve_ties() has nothing to weigh.
    key = case when led.meeting_id is null then staged.key end,
    tied_to = coalesce(led.meeting_id, case when not meant.is_new_meeting then meant.mine end)
  from meant
  left join led on led.place = meant.place
  where staged.batch_id = (p_batch).id and staged.place = meant.place;
end;
$$;
comment on function sync.join_referred(sync.batch, text, text[]) is
'Gives staged events the meeting of the booking that names them; one that they had already is to become one with it.';

-- The booking is the authority: while it lives, its event's vanishing only makes us ask.

create function sync.meetings_booked(p_batch sync.batch)
returns uuid[]
language plpgsql
stable
set search_path = ''
as $$
begin
  if (p_batch).booking_calendars = '{}' then
    return array[]::uuid[];
  end if;
  return array(
    select booking.meeting_id
    from public.calendar_events as booking
    where booking.meeting_id = any (array(
      select gone.meeting_id from sync.staged_events as gone
      where gone.batch_id = (p_batch).id and gone.status = 'cancelled'
        and gone.meeting_id is not null
    ))
      and booking.calendar_id = any ((p_batch).booking_calendars)
      and booking.status <> 'cancelled' and booking.scope = 'in'
  );
end;
$$;
comment on function sync.meetings_booked(sync.batch) is 'Of meetings whose event is gone those that have a live booking.';

create function sync.ask_for_bookings(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
begin
  if not exists (
    select 1 from sync.staged_events as staged
    where staged.batch_id = (p_batch).id and staged.verdict = 'booked'
  ) then
    return;
  end if;
  -- Not at once: a change of host deletes the event and makes another. All accounts that are told
  -- of it: one may have webhooks alone.
  perform sync.request_fetch(
    account.connection_id, account.id, (p_batch).now_at + interval '2 minutes'
  )
  from (
    with booked as materialized (
      select booking.provider_event_id as key, booking.raw ->> 'provider_id' as id
      from public.calendar_events as booking
      where booking.meeting_id = any (array(
        select gone.meeting_id from sync.staged_events as gone
        where gone.batch_id = (p_batch).id and gone.verdict = 'booked'
      ))
        and booking.calendar_id = any ((p_batch).booking_calendars)
        and booking.status <> 'cancelled' and booking.scope = 'in'
    )

    select distinct told.connection_id, booked.id
    from sync.told_bookings as told
    join booked on booked.key = told.key
    where told.organization_id = (p_batch).organization_id
      and told.key = any (array(select booked.key from booked))
    order by told.connection_id, booked.id
  ) as account;
end;
$$;
comment on function sync.ask_for_bookings(sync.batch) is
'Asks for the bookings whose calendar event is gone, two minutes from now.';

-- A meeting with a booking is never written from its calendar's event. What the event says
-- counts where the booking says nothing: so the booking is staged anew beside it.

create function sync.stage_bookings_of_events(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_meetings uuid[];
begin
  if (p_batch).booking_calendars = '{}' then
    return;
  end if;
  v_meetings := array(
    select staged.meeting_id from sync.staged_events as staged
    where staged.batch_id = (p_batch).id and not staged.is_same and not staged.is_new_meeting
      and staged.status <> 'cancelled' and staged.meeting_id is not null
  );
  if v_meetings = '{}' then
    return;
  end if;
  insert into sync.staged_events (
    batch_id, place, origin, provider_event_id, role, status, title, description, location,
    starts_at, ends_at, time_zone, organizer_email, attendee_name, attendee_email,
    attendee_phone, metadata, meeting_status, conference_url, provider_updated_at, event_id,
    is_known, old_status, old_scope, told_before, meeting_id, feeds, client_id
  )
  select
    (p_batch).id, -2000000 - row_number() over (order by booking.id), 'booking',
    booking.provider_event_id, booking.role, 'confirmed', booking.title,
    coalesce(booking.description, beside.description),
    coalesce(booking.location, beside.location),
    booking.starts_at, booking.ends_at, coalesce(calendar.time_zone, organization.time_zone),
    booking.organizer_email, booking.raw ->> 'name', booking.raw ->> 'email',
    booking.raw ->> 'phone', booking.raw -> 'metadata', booking.raw ->> 'status',
    booking.conference_url, booking.provider_updated_at, booking.id, true, booking.status,
    booking.scope,
    jsonb_build_object(
      'statuses', jsonb_build_array(booking.raw -> 'status'),
      'phones', jsonb_build_array(booking.raw -> 'phone'),
      'metadata_keys', (select jsonb_agg(told.key) from jsonb_object_keys(booking.raw -> 'metadata') as told (key))
    ),
    booking.meeting_id, true,
    merged.client_id
  from (
    -- Two of the organization's accounts may tell of one booking.
    select distinct on (known.meeting_id) known.*
    from public.calendar_events as known
    where known.meeting_id = any (v_meetings)
      and known.calendar_id = any ((p_batch).booking_calendars) and known.scope = 'in'
    order by
      known.meeting_id,
      known.id = any (array(
        select meeting.event_id from public.meetings as meeting
        where meeting.id = any (v_meetings) and meeting.event_id is not null
      )) desc,
      known.provider_updated_at desc nulls last, known.id
  ) as booking
  join public.calendars as calendar on calendar.id = booking.calendar_id
  join public.organizations as organization on organization.id = booking.organization_id
  left join sync.words_beside(p_batch, v_meetings) as beside
    on beside.meeting_id = booking.meeting_id
  -- Whom the booking found, if it had a meeting of its own until now.
  left join (
    select distinct on (former.merged_into) former.merged_into as meeting_id, former.client_id
    from public.meetings as former
    where former.merged_into = any (v_meetings) and former.client_id is not null
    order by former.merged_into, former.updated_at desc
  ) as merged on merged.meeting_id = booking.meeting_id;
end;
$$;
comment on function sync.stage_bookings_of_events(sync.batch) is
'Stages the bookings of the meetings whose events were told: they are what their meetings are written from.';
