-- Bookings become meetings by the way that events take (sync.apply_events): staged beside what
-- the mirror has of them, tied to meetings by keys, given their clients, locked, merged, written.
--
--   stage    what a booking adds up to, what the mirror told of it before, what is wrong with it
--   retire   its older keys: a booking that was moved is the same meeting under another key
--   slots    events of several seats, which are no meetings themselves
--   claim    sync.meeting_keys decides, as for events
--   write    meetings, then the mirror
--
-- The mirror of a connection's bookings is its calendar of kind `bookings`: a row for each key.
-- The current key's has scope `in`; an older one's is cancelled, and `detached`. Where several
-- accounts are told of a booking, one of them has it (sync.find_homes).

-- Both sides look for each other: whoever pulls looks for the booking of an event, whoever takes
-- bookings in for the event of a booking. Beside each other each would miss what the other has
-- not committed yet. So bookings are applied one call at a time in an organization, and while no
-- event is; events of calendars are applied beside each other as ever.

create function sync.lock_bookings(p_organization_id uuid, p_exclusive boolean)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_lock bigint := hashtextextended('bookings of ' || p_organization_id, 0);
begin
  if p_exclusive then
    perform pg_advisory_xact_lock(v_lock);
  else
    perform pg_advisory_xact_lock_shared(v_lock);
  end if;
end;
$$;
comment on function sync.lock_bookings(uuid, boolean) is
'Keeps pulls and bookings of an organization from missing each other''s keys. Taken right after the task: exclusive to apply bookings, shared to apply events.';

create function sync.share_bookings(p_calendar_id uuid)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_organization_id uuid := (
    select calendar.organization_id from public.calendars as calendar
    where calendar.id = p_calendar_id
  );
begin
  if exists (
    select 1 from public.calendar_connections as connection
    where connection.organization_id = v_organization_id
      and connection.provider in ('calendly', 'calcom')
  ) then
    perform sync.lock_bookings(v_organization_id, false);
  end if;
end;
$$;
comment on function sync.share_bookings(uuid) is
'Takes the shared lock on bookings for a calendar''s events, where its organization has a booking provider.';

create function sync.bookings_calendar(p_connection_id uuid)
returns uuid
language plpgsql
set search_path = ''
as $$
declare
  v_calendar_id uuid;
begin
  select calendar.id into v_calendar_id
  from public.calendars as calendar
  where calendar.connection_id = p_connection_id and calendar.kind = 'bookings'
  order by calendar.created_at, calendar.id
  limit 1;
  if v_calendar_id is null then
    -- A webhook may be set up by hand before anything else is.
    insert into public.calendars (
      connection_id, organization_id, provider_calendar_id, name, kind, sync_enabled, direction
    )
    select connection.id, connection.organization_id, 'bookings', 'Bookings', 'bookings', true, 'inbound'
    from public.calendar_connections as connection
    where connection.id = p_connection_id and connection.provider in ('calendly', 'calcom')
    on conflict (connection_id, provider_calendar_id) do update set kind = 'bookings'
    returning id into v_calendar_id;
  end if;
  return v_calendar_id;
end;
$$;
comment on function sync.bookings_calendar(uuid) is
'The calendar of kind bookings of a connection, made where there is none; null where the connection is gone, or no booking provider''s.';

-- What a booking says, in the words of a meeting.

-- `ended` is told of a key, and a booking that is moved has another key: it starts afresh. Older
-- payloads keep the key. So what has ended counts only once its time is over, as it is now: a
-- booking that was put off is to come again, whichever was heard first.

create function sync.booking_status(
  p_state text, p_phase text, p_no_show boolean, p_is_over boolean
)
returns text
language sql
immutable
set search_path = ''
as $$
  select case
    when p_no_show then 'no_show'
    when p_state in ('cancelled', 'rejected') then 'cancelled'
    when p_phase = 'ended' then case when p_is_over then 'completed' else 'confirmed' end
    when p_state = 'pending' then 'tentative'
    else 'confirmed'
  end
$$;
comment on function sync.booking_status(text, text, boolean, boolean) is
'The status that a booking gives its meeting; p_is_over: its end is past.';

create function sync.booking_metadata(p_provider text, p_booking sync.joined_booking)
returns jsonb
language sql
immutable
set search_path = ''
as $$
  -- The booking's own keys stand as they were given, all else in one key of ours.
  select coalesce((p_booking).fields -> 'metadata', '{}') || jsonb_build_object(
    'booking', jsonb_strip_nulls(jsonb_build_object(
      'provider', p_provider,
      'id', (p_booking).provider_id,
      'slot_id', (p_booking).slot_id,
      'seat_id', (p_booking).seat_id,
      'series_id', (p_booking).fields -> 'series_id',
      'answers', (p_booking).fields -> 'answers',
      'tracking', (p_booking).fields -> 'tracking',
      'location', (p_booking).fields -> 'location',
      'guests', (p_booking).fields -> 'guests',
      'attendee_time_zone', (p_booking).fields -> 'attendee_time_zone',
      'cancellation', (p_booking).fields -> 'cancellation'
    ))
  )
$$;
comment on function sync.booking_metadata(text, sync.joined_booking) is
'What a booking tells for its meeting''s metadata.';

-- The event in the host's calendar, as far as the booking names it. A reference is a key like
-- others; it says whose the id is, for two providers may make the same one.

create function sync.reference_keys(p_references jsonb)
returns text[]
language sql
immutable
set search_path = ''
as $$
  select coalesce(array_agg(distinct 'reference:' || named.provider || ':' || named.id), '{}')
  from (
    select
      case
        when lower(reference.told ->> 'kind') ~ '^google' then 'google'
        when lower(reference.told ->> 'kind') ~ '^(outlook|office365|microsoft|exchange)' then 'microsoft'
      end as provider,
      reference.told ->> 'external_id' as id
    from jsonb_array_elements(p_references) as reference (told)
  ) as named
  where named.provider is not null and octet_length(named.id) between 1 and 1024
$$;
comment on function sync.reference_keys(jsonb) is
'Keys of the calendar events that a booking''s calendar_references name, where they are of a provider that is mirrored.';

-- Where a booking stands, if several accounts of the organization are told of it. It does not
-- depend on who was told first or last; one that can ask the provider goes before others.

create function sync.can_be_asked(p_connection_id uuid)
returns boolean
language plpgsql
stable
security definer -- whoever may know that there is access, may not know by what
set search_path = ''
as $$
begin
  return exists (
    select 1 from sync.credentials as credentials
    where credentials.connection_id = p_connection_id
  );
end;
$$;
comment on function sync.can_be_asked(uuid) is
'Whether a connection has access to its provider, or webhooks alone.';

create type sync.booking_home as (
  place integer, calendar_id uuid, time_zone text, told_in uuid []
);
comment on type sync.booking_home is
'The calendar that has a joined booking, named by its place, with its zone, and the calendars of all accounts that are told of it.';

create function sync.find_homes(p_batch sync.batch, p_joined sync.joined_booking[])
returns sync.booking_home[]
language plpgsql
stable
set search_path = ''
as $$
begin
  if cardinality((p_batch).booking_calendars) = 1 then
    return array[]::sync.booking_home[];
  end if;
  return array(
    with told as materialized (
      select distinct known.key, known.connection_id
      from sync.told_bookings as known
      where known.organization_id = (p_batch).organization_id
        and known.key = any (array(
          select named.key from unnest(p_joined) as one
          cross join lateral unnest(one.keys) as named (key)
        ))
    ),

    account as materialized (
      select
        calendar.id, calendar.connection_id,
        coalesce(calendar.time_zone, organization.time_zone) as time_zone,
        row_number() over (
          order by
            calendar.sync_enabled desc, sync.can_be_asked(calendar.connection_id) desc, calendar.id
        ) as rank
      from public.calendars as calendar
      join public.organizations as organization on organization.id = calendar.organization_id
      where calendar.id = any ((p_batch).booking_calendars)
    )

    select row(
      one.place,
      (array_agg(account.id order by account.rank))[1],
      (array_agg(account.time_zone order by account.rank))[1],
      array_agg(distinct account.id)
    )::sync.booking_home
    from unnest(p_joined) with ordinality as one (
      keys, current_key, provider_id, slot_id, seat_id, state, phase, no_show, version, as_of,
      fields, place
    )
    cross join lateral unnest(one.keys) as named (key)
    join told on told.key = named.key
    join account on account.connection_id = told.connection_id
    group by one.place
    having bool_or(account.id <> (p_batch).calendar_id)
  );
end;
$$;
comment on function sync.find_homes(sync.batch, sync.joined_booking[]) is
'Where the mirror has the joined bookings of which other accounts are told, too: with the first by id of those whose sync is on, and who can ask.';

-- A booking of a series, and an occurrence of the event that its page made: they share an iCalUID,
-- the series' or their own, and where the series put it. That is where the booking was first, and
-- any message may be the only one that tells so. Where each booking has an iCalUID of its own, and
-- the event the first one's, the others name the event: Google makes its occurrences' ids of that.

create function sync.occurrence_keys(p_batch sync.batch, p_joined sync.joined_booking[])
returns table (place bigint, keys text[])
language plpgsql
stable
set search_path = ''
as $$
#variable_conflict use_column
begin
  if not exists (
    select 1 from unnest(p_joined) as one
    where one.fields ?| array['recurs', 'series_id']
  ) then
    return;
  end if;
  return query
  with bearing as materialized (
    select one.place, named.key
    from unnest(p_joined) with ordinality as one (
      keys, current_key, provider_id, slot_id, seat_id, state, phase, no_show, version, as_of,
      fields, place
    )
    cross join lateral unnest(one.keys) as named (key)
    where one.fields ?| array['recurs', 'series_id']
  ),

  told as materialized (
    select distinct
      bearing.place, known.fields ->> 'ical_uid' as ical_uid,
      known.fields ->> 'series_id' as series_id, (known.fields ->> 'starts_at')::timestamptz as starts_at
    from sync.told_bookings as known
    join bearing on bearing.key = known.key
    where known.organization_id = (p_batch).organization_id
      and known.key = any (array(select bearing.key from bearing))
  )

  select named.place, array_agg(distinct event.key order by event.key)
  from told as named
  join told as timed on timed.place = named.place
  cross join lateral (
    values
    (sync.event_key(named.ical_uid, 'occurrence', timed.starts_at, null)),
    (
      'reference:google:' || named.series_id
      || to_char(timed.starts_at at time zone 'UTC', '_YYYYMMDD"T"HH24MISS"Z"')
    )
  ) as event (key)
  where octet_length(event.key) <= 1024
  group by named.place;
end;
$$;
comment on function sync.occurrence_keys(sync.batch, sync.joined_booking[]) is
'Keys of the occurrences that joined bookings of a series, named by their places, may be.';

create function sync.stage_bookings(
  p_batch sync.batch, p_provider text, p_joined sync.joined_booking[],
  p_homes sync.booking_home[]
)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_own_addresses text[] := sync.own_addresses((p_batch).organization_id);
begin
  insert into sync.staged_events (
    batch_id, place, calendar_id, provider_event_id, role, status, ical_uid, sequence, title,
    description, location, starts_at, ends_at, time_zone, organizer_email, attendees,
    attendee_name, attendee_email,
    attendee_phone, metadata, meeting_status, conference_url, series_provider_id,
    provider_updated_at, content_hash, raw, refusal, event_id, is_known, is_same, old_status,
    old_scope, told_before, key, keys, event_type, visibility, meeting_id, is_new_meeting
  )
  with zones as materialized (
    select named.zone, sync.is_time_zone(named.zone) as is_known
    from (
      select distinct one.fields ->> 'attendee_time_zone' as zone from unnest(p_joined) as one
      where one.fields ? 'attendee_time_zone'
    ) as named
  ),

  joined as materialized (
    select
      one.place, one.keys, one.current_key, one.provider_id, one.slot_id, one.seat_id,
      one.state, one.as_of, one.fields, occurrence.keys as occurrence_keys, told.*,
      sync.booking_status(
        one.state, one.phase, one.no_show,
        coalesce(told.ends_at, told.starts_at) <= (p_batch).now_at
      ) as meeting_status,
      sync.booking_metadata(p_provider, row(
        one.keys, one.current_key, one.provider_id, one.slot_id, one.seat_id, one.state,
        one.phase, one.no_show, one.version, one.as_of,
        -- Their own clock moves no meeting: one that nobody knows is left out.
        case when zones.is_known then one.fields else one.fields - 'attendee_time_zone' end
      )::sync.joined_booking) as metadata,
      -- All that anything is made of here.
      decode(md5(concat_ws(
        ' ', one.keys::text, one.current_key, one.provider_id, one.slot_id, one.seat_id,
        one.state, one.phase, one.no_show::text, one.fields::text, occurrence.keys::text
      )), 'hex') as content_hash
    from unnest(p_joined) with ordinality as one (
      keys, current_key, provider_id, slot_id, seat_id, state, phase, no_show, version, as_of,
      fields, place
    )
    cross join lateral jsonb_to_record(one.fields) as told (
      title text, description text, starts_at timestamptz, ends_at timestamptz, location text,
      meeting_url text, attendee_name text, attendee_email text, attendee_phone text,
      guests jsonb, organizer_email text, calendar_references jsonb, ical_uid text,
      sequence bigint, seats jsonb
    )
    left join sync.occurrence_keys(p_batch, p_joined) as occurrence on occurrence.place = one.place
    left join zones on zones.zone = one.fields ->> 'attendee_time_zone'
    -- What has no time yet is told, and waits.
    where told.starts_at is not null
  ),

  mirrored as materialized (
    select
      event.id, event.calendar_id, event.provider_event_id, event.content_hash, event.status,
      event.scope, event.meeting_id, event.raw, event.event_type
    from public.calendar_events as event
    where event.calendar_id = any ((p_batch).told_in)
      and event.provider_event_id = any (array(select unnest(joined.keys) from joined))
  ),

  told_before as (
    select
      joined.place,
      jsonb_build_object(
        'statuses', jsonb_agg(distinct mirrored.raw -> 'status'),
        'phones', jsonb_agg(distinct mirrored.raw -> 'phone'),
        'metadata_keys', coalesce(
          jsonb_agg(distinct told.key) filter (where told.key is not null), '[]'
        )
      ) as fields
    from joined
    cross join lateral unnest(joined.keys) as named (key)
    join mirrored on mirrored.provider_event_id = named.key
    left join lateral jsonb_object_keys(mirrored.raw -> 'metadata') as told (key) on true
    group by joined.place
  )

  select
    (p_batch).id,
    joined.place,
    home.calendar_id,
    sync.indexable_id(joined.current_key),
    'single',
    -- A cancelled booking is there, and says so by meeting_status.
    case when joined.state = 'pending' then 'tentative' else 'confirmed' end,
    joined.ical_uid,
    case when joined.sequence <= 2147483647 then joined.sequence end,
    joined.title,
    joined.description,
    joined.location,
    joined.starts_at,
    coalesce(joined.ends_at, joined.starts_at),
    home.time_zone,
    lower(joined.organizer_email),
    jsonb_build_array(
      jsonb_build_object('name', joined.attendee_name, 'email', joined.attendee_email)
    ) || coalesce((
      select jsonb_agg(jsonb_build_object('email', guest.email))
      from jsonb_array_elements(joined.guests) as guest (email)
    ), '[]'),
    joined.attendee_name,
    person.email,
    joined.attendee_phone,
    joined.metadata,
    joined.meeting_status,
    joined.meeting_url,
    joined.slot_id,
    joined.as_of,
    joined.content_hash,
    jsonb_strip_nulls(jsonb_build_object(
      'provider_id', joined.provider_id,
      'status', joined.meeting_status,
      'name', joined.attendee_name,
      'email', person.email,
      'phone', joined.attendee_phone,
      'seats', joined.seats,
      'references', joined.calendar_references
    )) || jsonb_build_object('metadata', joined.metadata),
    case
      when longest.bytes > 1024 then format('its id has %s bytes', longest.bytes)
      when octet_length(joined.ical_uid) > 1024
        then format('its iCalUID has %s bytes', octet_length(joined.ical_uid))
      when length(joined.title) > 10000
        then format('its title has %s characters', length(joined.title))
      when joined.ends_at < joined.starts_at then 'its end is before its start'
    end,
    coalesce(old.id, gen_random_uuid()),
    old.id is not null,
    same.is_same,
    old.status,
    old.scope,
    coalesce(
      told_before.fields, jsonb '{"statuses": [], "phones": [], "metadata_keys": []}'
    ),
    sync.event_key(joined.ical_uid, 'single', null, null),
    array(select 'booking:' || p_provider || ':' || named.key from unnest(joined.keys) as named (key))
    || sync.reference_keys(joined.calendar_references) || joined.occurrence_keys,
    coalesce(old.event_type, 'default'),
    'default',
    -- Made up before anybody's key is looked at, as for events.
    case when same.is_same then old.meeting_id else gen_random_uuid() end,
    not same.is_same
  from joined
  left join mirrored as old on old.provider_event_id = joined.current_key
  left join told_before on told_before.place = joined.place
  left join unnest(p_homes) as home on home.place = joined.place
  cross join lateral (
    select case
      when octet_length(joined.attendee_email) > 320 then null -- no address is longer
      when lower(btrim(joined.attendee_email)) = any (v_own_addresses) then null
      else nullif(lower(btrim(joined.attendee_email)), '')
    end as email
  ) as person
  cross join lateral (
    select coalesce(
      old.content_hash = joined.content_hash and old.scope = 'in' and old.meeting_id is not null
      and old.calendar_id = coalesce(home.calendar_id, (p_batch).calendar_id),
      false
    ) as is_same
  ) as same
  cross join lateral (
    select greatest(max(octet_length(named.key)), octet_length(joined.slot_id)) as bytes
    from unnest(joined.keys) as named (key)
  ) as longest;
end;
$$;
comment on function sync.stage_bookings(
  sync.batch, text, sync.joined_booking[], sync.booking_home[]
) is
'Stages bookings that have a time, with what the mirror told of them before, the keys they bear, and why they are refused.';

-- Older keys. A retired row follows the one that has its meeting now (heir_of).

create type sync.older_key as (heir_of integer, key text);
comment on type sync.older_key is 'A key that a staged booking, named by its place, takes over.';

create function sync.retire_keys(p_batch sync.batch, p_joined sync.joined_booking[])
returns void
language plpgsql
set search_path = ''
as $$
begin
  perform sync.retire(
    p_batch,
    array(
      select (staged.place, older.key)::sync.older_key
      from unnest(p_joined) as one
      join sync.staged_events as staged
        on staged.batch_id = (p_batch).id and staged.provider_event_id = one.current_key
      cross join lateral unnest(one.keys) as older (key)
      where not staged.is_same and cardinality(one.keys) > 1 and older.key <> one.current_key
    )
  );
end;
$$;
comment on function sync.retire_keys(sync.batch, sync.joined_booking[]) is
'Stages, of each booking that changed, the keys that it had before.';

create function sync.retire(p_batch sync.batch, p_older sync.older_key[])
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_lowest integer := sync.lowest_place(p_batch);
begin
  if p_older = '{}' then
    return;
  end if;
  insert into sync.staged_events (
    batch_id, place, origin, provider_event_id, role, status, event_id, is_known, verdict, heir_of
  )
  select
    (p_batch).id, -row_number() over (order by older.key) - v_lowest, 'older',
    older.key, 'single', 'cancelled', coalesce(event.id, gen_random_uuid()),
    event.id is not null, 'retired', older.heir_of
  from unnest(p_older) as older
  join (
    select staged.place, coalesce(staged.calendar_id, (p_batch).calendar_id) as calendar_id
    from sync.staged_events as staged
    where staged.batch_id = (p_batch).id
  ) as heir on heir.place = older.heir_of
  left join (
    select known.id, known.calendar_id, known.provider_event_id, known.scope
    from public.calendar_events as known
    where known.calendar_id = any ((p_batch).told_in)
      and known.provider_event_id = any (array(select one.key from unnest(p_older) as one))
  ) as event on event.provider_event_id = older.key
  where event.scope is null or event.scope = 'in' or event.calendar_id <> heir.calendar_id;
end;
$$;
comment on function sync.retire(sync.batch, sync.older_key[]) is
'Stages keys that lead to another booking''s meeting from now on.';

create function sync.lowest_place(p_batch sync.batch)
returns integer
language plpgsql
stable
set search_path = ''
as $$
begin
  return (
    select greatest(0, -min(staged.place)) from sync.staged_events as staged
    where staged.batch_id = (p_batch).id
  );
end;
$$;
comment on function sync.lowest_place(sync.batch) is 'How far below zero the places of a batch reach.';
