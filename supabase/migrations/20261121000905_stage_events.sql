-- Applying, step 1: what was told, what the mirror has of it, and what is wrong with it.

create function sync.read_batch(p_calendar_id uuid, p_round jsonb)
returns sync.batch
language plpgsql
volatile
set search_path = ''
as $$
begin
  return (
    select row(
      gen_random_uuid(),
      calendar.id,
      calendar.organization_id,
      calendar.connection_id,
      coalesce(calendar.time_zone, organization.time_zone),
      calendar.direction,
      calendar.event_tag,
      calendar.mail_events,
      calendar.conflict_policy,
      sync.clock(),
      coalesce((p_round ->> 'upsert_only')::boolean, false),
      coalesce((p_round ->> 'full_round')::boolean, false),
      (p_round ->> 'asked_from')::timestamptz,
      array(select jsonb_array_elements_text(coalesce(p_round -> 'series', '[]'))),
      (p_round ->> 'window_start')::timestamptz,
      (p_round ->> 'window_end')::timestamptz,
      coalesce(p_round ->> 'read_until', p_round ->> 'window_end')::timestamptz,
      array(
        select bookings.id from public.calendars as bookings
        where bookings.organization_id = calendar.organization_id and bookings.kind = 'bookings'
      ),
      array[calendar.id]
    )::sync.batch
    from public.calendars as calendar
    join public.organizations as organization on organization.id = calendar.organization_id
    where calendar.id = p_calendar_id
  );
end;
$$;
comment on function sync.read_batch(uuid, jsonb) is
'What applying must know of the calendar and the round; null where the calendar is gone.';

-- Keys in a normal form. Never the iCalUID alone for an item of a series: Google gives a whole
-- series one iCalUID. Lower case: calendars hand back what a booking page wrote so. All-day: the
-- date, which means the same in every calendar's zone.

create function sync.event_key(
  p_ical_uid text, p_role text, p_original_start timestamptz, p_original_start_date date
)
returns text
language sql
immutable
set search_path = ''
as $$
  select 'ical:' || lower(nullif(btrim(p_ical_uid), '')) || '#' || case
    when p_role not in ('occurrence', 'exception') then ''
    when p_original_start_date is not null then to_char(p_original_start_date, 'YYYYMMDD')
    else to_char(p_original_start at time zone 'UTC', 'YYYYMMDD"T"HH24MISS"Z"')
  end
$$;
comment on function sync.event_key(text, text, timestamptz, date) is
'The key of a calendar event in sync.meeting_keys; null where the provider gave no iCalUID.';

-- The tag, as a person reads the text.

create function sync.plain_text(p_html text)
returns text
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_text text := p_html;
  v_entity text;
begin
  -- Marks inside a word fall away, those between lines part words.
  v_text := regexp_replace(v_text, '<\s*/?\s*(br|p|div|li|ul|ol|tr|td|th|table|h[1-6]|hr)\y[^>]*>', E'\n', 'gi');
  v_text := regexp_replace(v_text, '<[/!]?[a-zA-Z][^>]*>', '', 'g');
  if position('&' in v_text) = 0 then
    return v_text;
  end if;
  for v_entity in
    select distinct (regexp_matches(v_text, '&#([0-9]{1,6});', 'g'))[1]
  loop
    if v_entity::integer between 1 and 55295 then
      v_text := replace(v_text, '&#' || v_entity || ';', chr(v_entity::integer));
    end if;
  end loop;
  v_text := replace(v_text, '&nbsp;', ' ');
  v_text := replace(v_text, '&lt;', '<');
  v_text := replace(v_text, '&gt;', '>');
  v_text := replace(v_text, '&quot;', '"');
  v_text := replace(v_text, '&apos;', '''');
  return replace(v_text, '&amp;', '&'); -- last: "&amp;lt;" says "&lt;"
end;
$$;
comment on function sync.plain_text(text) is 'The text of an HTML fragment: marks removed, entities decoded.';

create function sync.has_tag(p_tag text, p_title text, p_description text)
returns boolean
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_pattern text;
begin
  if p_tag is null then
    return true;
  end if;
  v_pattern := regexp_replace(btrim(p_tag), '([^[:alnum:][:space:]])', '\\\1', 'g');
  -- "visit" is not in "revisited"; "#visit" is in "(#visit)".
  if btrim(p_tag) ~ '^[[:alnum:]]' then
    v_pattern := '(?<![[:alnum:]_])' || v_pattern;
  end if;
  if btrim(p_tag) ~ '[[:alnum:]]$' then
    v_pattern := v_pattern || '(?![[:alnum:]_])';
  end if;
  -- So long a text was made by nobody who wanted to be read.
  return sync.plain_text(
    left(coalesce(p_title, '') || E'\n' || coalesce(p_description, ''), 32768)
  ) ~* v_pattern;
end;
$$;
comment on function sync.has_tag(text, text, text) is
'Whether a title or description has the tag, as a person reads it; without a tag everything has.';

-- Ids have an index, and an index holds no more than 2,704 bytes of a row: one event with an id
-- made to be longer would stop its whole page. Google's have 1,024 at most.

create function sync.indexable_id(p_id text)
returns text
language sql
immutable
set search_path = ''
as $$
  select case
    when octet_length(p_id) > 1024 then 'long id: ' || md5(p_id) else nullif(p_id, '')
  end
$$;
comment on function sync.indexable_id(text) is
'An id as events that are set aside are kept by: one too long for an index by its hash; null where there is none.';
revoke all on function sync.indexable_id(text) from public;
grant execute on function sync.indexable_id(text) to sync_engine;

-- One statement for the page. An id told twice counts as told last.

create function sync.stage_told(p_batch sync.batch, p_events jsonb)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_own_addresses text[] := array(
    select connection.account_email from public.calendar_connections as connection
    where connection.organization_id = (p_batch).organization_id
  );
begin
  insert into sync.staged_events (
    batch_id, place, provider_event_id, role, status, ical_uid, etag, sequence, title,
    description, location, starts_at, ends_at, all_day, start_date, end_date, time_zone,
    organizer_email, is_organizer, own_response, attendees, attendee_name, attendee_email,
    conference_url, series_provider_id, original_start, original_start_date, visibility,
    event_type, provider_updated_at, content_hash, raw, private, refusal, event_id, is_known,
    is_same, old_role, old_status, old_scope, old_key, is_wanted, key, meeting_id,
    is_new_meeting
  )
  with told as materialized (
    select
      event.*,
      event.visibility in ('private', 'confidential') as is_private,
      row_number() over same_id = 1 as is_last,
      bool_or(event.role = 'exception') over same_id as is_exception
    from rows from (jsonb_to_recordset(p_events) as (
      provider_event_id text, role text, status text, ical_uid text, etag text,
      sequence bigint, title text, description text, location text, starts_at timestamptz,
      ends_at timestamptz, all_day boolean, start_date date, end_date date, time_zone text,
      organizer_email text, is_organizer boolean, own_response text, attendees jsonb,
      conference_url text, series_provider_id text, original_start timestamptz,
      original_start_date date, visibility text, event_type text,
      provider_updated_at timestamptz, content_hash text, raw jsonb
    )) with ordinality as event (
      provider_event_id, role, status, ical_uid, etag, sequence, title, description, location,
      starts_at, ends_at, all_day, start_date, end_date, time_zone, organizer_email,
      is_organizer, own_response, attendees, conference_url, series_provider_id,
      original_start, original_start_date, visibility, event_type, provider_updated_at,
      content_hash, raw, place
    )
    window same_id as (
      partition by event.provider_event_id order by event.place desc
      rows between unbounded preceding and unbounded following
    )
  ),

  -- Each zone is asked for once: asking for one that is unknown costs a subtransaction.
  zones as materialized (
    select named.time_zone as name, sync.is_time_zone(named.time_zone) as is_known
    from (select distinct told.time_zone from told where told.time_zone is not null) as named
  ),

  mirrored as (
    select event.* from public.calendar_events as event
    where event.calendar_id = (p_batch).calendar_id
      and event.provider_event_id = any (array(select told.provider_event_id from told))
  ),

  -- Of a private event the mirror shows nobody; who comes is known beside it.
  unseen as (
    select details.event_id, details.attendees
    from public.private_event_details as details
    where details.event_id = any (array(
      select event.id from public.calendar_events as event
      where event.calendar_id = (p_batch).calendar_id
        and event.provider_event_id = any (array(
          select told.provider_event_id from told
          where told.status is distinct from 'cancelled'
            and jsonb_typeof(told.attendees) is distinct from 'array'
        ))
    ))
  )

  select
    (p_batch).id,
    told.place,
    coalesce(sync.indexable_id(told.provider_event_id), 'no id: ' || md5(told.raw::text)),
    case
      when told.role is null then coalesce(old.role, case when told.series_provider_id is not null then 'exception' end)
      when told.role = 'occurrence' and (told.is_exception or moved.from_slot) then 'exception'
      else told.role
    end,
    case when told.status in ('confirmed', 'tentative', 'cancelled') then told.status else 'confirmed' end,
    coalesce(told.ical_uid, old.ical_uid),
    told.etag,
    case when told.sequence <= 2147483647 then told.sequence end,
    case when told.is_private then 'Busy' else told.title end,
    case when not told.is_private then told.description end,
    case when not told.is_private then told.location end,
    coalesce(span.starts_at, case when told.status = 'cancelled' then old.starts_at end),
    coalesce(span.ends_at, case when told.status = 'cancelled' then old.ends_at end),
    coalesce(told.all_day, false),
    case when told.all_day then told.start_date end,
    case when told.all_day then coalesce(told.end_date, told.start_date + 1) end,
    told.time_zone,
    case when not told.is_private then lower(told.organizer_email) end,
    coalesce(told.is_organizer, old.is_organizer, true),
    told.own_response,
    case when told.is_private then '[]' else people.attendees end,
    case when not told.is_private then guest.name end,
    case when not told.is_private then guest.email end,
    case when not told.is_private then told.conference_url end,
    coalesce(told.series_provider_id, case when told.status = 'cancelled' then old.series_provider_id end),
    coalesce(span.original_start, case when told.status = 'cancelled' then old.original_start end),
    coalesce(told.original_start_date, case when told.status = 'cancelled' then old.original_start_date end),
    coalesce(told.visibility, 'default'),
    coalesce(told.event_type, 'default'),
    told.provider_updated_at,
    coalesce(decode(told.content_hash, 'hex'), ''),
    case when told.is_private then '{}' else coalesce(told.raw, '{}') end,
    case when told.is_private then jsonb_build_object(
      'title', told.title, 'description', told.description, 'location', told.location,
      'attendees', people.attendees,
      'conference_url', told.conference_url, 'raw', coalesce(told.raw, '{}')
    ) end,
    case
      when coalesce(told.provider_event_id, '') = '' then 'it has no id'
      when octet_length(told.provider_event_id) > 1024
        then format('its id has %s bytes', octet_length(told.provider_event_id))
      when octet_length(told.ical_uid) > 1024
        then format('its iCalUID has %s bytes', octet_length(told.ical_uid))
      when octet_length(told.series_provider_id) > 1024
        then format('the id of its series has %s bytes', octet_length(told.series_provider_id))
      when told.status = 'cancelled' then null
      when told.role is null or told.role not in ('single', 'series', 'occurrence', 'exception', 'slot')
        then 'it does not say whether it is a single event or of a series'
      when told.role in ('occurrence', 'exception') and span.original_start is null
        then 'an occurrence without its original start'
      when length(told.title) > 10000 then format('its title has %s characters', length(told.title))
      when not zones.is_known then format('unknown time zone %s', left(told.time_zone, 100))
      when told.all_day and told.start_date is null then 'it has no start'
      when told.all_day and told.end_date <= told.start_date then 'its end is not after its start'
      when not coalesce(told.all_day, false) and told.starts_at is null then 'it has no start'
      when span.ends_at < span.starts_at then 'its end is before its start'
    end,
    coalesce(old.id, gen_random_uuid()),
    old.id is not null,
    old.id is not null and coalesce(old.content_hash = decode(told.content_hash, 'hex'), false)
    -- A windowed read shows an exception like any occurrence; the list of changes knows.
    and not (old.role = 'occurrence' and (told.role = 'exception' or told.is_exception))
    and not (becomes.a_meeting and old.meeting_id is null),
    old.role,
    old.status,
    old.scope,
    sync.event_key(old.ical_uid, old.role, old.original_start, old.original_start_date),
    wanted.is_wanted,
    case
      when told.status is distinct from 'cancelled'
        then sync.event_key(told.ical_uid, told.role, span.original_start, told.original_start_date)
    end,
    -- Made up here, before anybody's key is looked at: claim_keys says whether it stays.
    case when becomes.a_meeting then coalesce(old.meeting_id, gen_random_uuid()) else old.meeting_id end,
    becomes.a_meeting and old.meeting_id is null
  from told
  left join mirrored as old on old.provider_event_id = told.provider_event_id
  left join unseen on unseen.event_id = old.id
  -- All-day events have dates and no zone: midnight there is a different moment in each.
  left join zones on zones.name = told.time_zone
  cross join lateral (
    select case
      when zones.is_known then told.time_zone
      when zones.name is null then (p_batch).time_zone
      else 'UTC' -- refused
    end as name
  ) as zone
  cross join lateral (
    select
      case
        when told.all_day then told.start_date::timestamp at time zone zone.name
        else told.starts_at
      end as starts_at,
      case
        when told.all_day
          then coalesce(told.end_date, told.start_date + 1)::timestamp at time zone zone.name
        else coalesce(told.ends_at, told.starts_at)
      end as ends_at,
      coalesce(told.original_start, told.original_start_date::timestamp at time zone zone.name) as original_start
  ) as span
  cross join lateral (
    select case
      when told.original_start_date is not null then told.start_date is distinct from told.original_start_date
      else span.starts_at <> told.original_start
    end as from_slot
  ) as moved
  cross join lateral (
    select
      (
        coalesce(told.event_type, 'default') = 'default'
        or (told.event_type = 'fromGmail' and (p_batch).mail_events)
      )
      and told.own_response is distinct from 'declined'
      -- A calendar that is only written to makes no meetings of what others put there.
      and ((p_batch).direction <> 'outbound' or old.meeting_id is not null)
      and (
        (p_batch).event_tag is null
        or sync.has_tag((p_batch).event_tag, told.title, told.description)
      ) as is_wanted
  ) as wanted
  cross join lateral (
    select coalesce(
      wanted.is_wanted and told.status is distinct from 'cancelled'
      and told.role in ('single', 'occurrence', 'exception')
      and old.role is distinct from 'slot', false -- its seats' bookings are meetings
    ) as a_meeting
  ) as becomes
  cross join lateral (
    select case
      when jsonb_typeof(told.attendees) = 'array' then told.attendees
      else coalesce(unseen.attendees, old.attendees, '[]') -- not told: as they are known
    end as attendees
  ) as people
  left join lateral (
    select
      nullif(btrim(attendee.person ->> 'name'), '') as name,
      nullif(lower(btrim(attendee.person ->> 'email')), '') as email
    from jsonb_array_elements(people.attendees) with ordinality as attendee (person, place)
    where coalesce(attendee.person ->> 'self', 'false') <> 'true'
      and coalesce(attendee.person ->> 'organizer', 'false') <> 'true'
      and coalesce(attendee.person ->> 'resource', 'false') <> 'true'
      and lower(btrim(attendee.person ->> 'email')) <> all (v_own_addresses)
      and octet_length(btrim(attendee.person ->> 'email')) between 1 and 320 -- no address is longer
    order by attendee.place
    limit 1
  ) as guest on true
  where told.is_last or coalesce(told.provider_event_id, '') = '';
end;
$$;
comment on function sync.stage_told(sync.batch, jsonb) is
'Stages what was told, with what the mirror has of it, whose key it bears, whether it is wanted, and why it is refused.';
