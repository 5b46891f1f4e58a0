-- Applying, step 8: the mirror is written, after the meetings, as the order of locks demands.

create function sync.series_heads(p_batch sync.batch)
returns table (series_provider_id text, event_id uuid)
language plpgsql
stable
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_series text[] := array(
    select distinct staged.series_provider_id
    from sync.staged_events as staged
    where staged.batch_id = (p_batch).id and staged.series_provider_id is not null
      and not staged.is_same
  );
begin
  if v_series = '{}' then
    return;
  end if;
  return query
  select event.provider_event_id, event.id
  from public.calendar_events as event
  where event.calendar_id = (p_batch).calendar_id and event.provider_event_id = any (v_series)
  union all
  select staged.provider_event_id, staged.event_id
  from sync.staged_events as staged
  where staged.batch_id = (p_batch).id and not staged.is_known and staged.origin = 'told'
    and staged.role = 'series';
end;
$$;
comment on function sync.series_heads(sync.batch) is
'The masters of the series that staged events belong to, as far as they are known.';

create function sync.write_events(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
begin
  -- New ones first: a master must be there before its members point to it.
  insert into public.calendar_events (
    id, calendar_id, organization_id, provider_event_id, role, ical_uid, etag, sequence, status,
    title, description, location, starts_at, ends_at, all_day, start_date, end_date, time_zone,
    organizer_email, is_organizer, own_response, attendees, conference_url, series_provider_id,
    series_id, original_start, original_start_date, visibility, event_type, provider_updated_at,
    content_hash, scope, raw, meeting_id
  )
  select
    staged.event_id, (p_batch).calendar_id, (p_batch).organization_id,
    staged.provider_event_id, staged.role, staged.ical_uid, staged.etag, staged.sequence,
    staged.status, staged.title, staged.description, staged.location, staged.starts_at,
    staged.ends_at, staged.all_day, staged.start_date, staged.end_date, staged.time_zone,
    staged.organizer_email, staged.is_organizer, staged.own_response, staged.attendees,
    staged.conference_url, staged.series_provider_id,
    head.event_id,
    staged.original_start, staged.original_start_date, staged.visibility, staged.event_type,
    staged.provider_updated_at, staged.content_hash,
    case
      when staged.is_wanted then 'in'
      when staged.meeting_id is not null and staged.role <> 'series' then 'detached'
      else 'out_of_scope'
    end,
    staged.raw, staged.meeting_id
  from sync.staged_events as staged
  left join sync.series_heads(p_batch) as head on head.series_provider_id = staged.series_provider_id
  where staged.batch_id = (p_batch).id and not staged.is_known and staged.origin = 'told';

  with theirs as (
    select
      staged.*, head.event_id as series_id,
      case
        when staged.is_wanted then 'in'
        when staged.meeting_id is not null and staged.role <> 'series' then 'detached'
        else 'out_of_scope'
      end as scope
    from sync.staged_events as staged
    left join sync.series_heads(p_batch) as head on head.series_provider_id = staged.series_provider_id
    where staged.batch_id = (p_batch).id and staged.is_known and not staged.is_same
      and staged.status <> 'cancelled' and staged.origin = 'told'
  )

  update public.calendar_events as event
  set
    provider_event_id = theirs.provider_event_id, role = theirs.role,
    ical_uid = theirs.ical_uid, etag = theirs.etag, sequence = theirs.sequence,
    status = theirs.status, title = theirs.title, description = theirs.description,
    location = theirs.location, starts_at = theirs.starts_at, ends_at = theirs.ends_at,
    all_day = theirs.all_day, start_date = theirs.start_date, end_date = theirs.end_date,
    time_zone = theirs.time_zone, organizer_email = theirs.organizer_email,
    is_organizer = theirs.is_organizer, own_response = theirs.own_response,
    attendees = theirs.attendees, conference_url = theirs.conference_url,
    series_provider_id = theirs.series_provider_id,
    series_id = theirs.series_id,
    original_start = theirs.original_start, original_start_date = theirs.original_start_date,
    visibility = theirs.visibility, event_type = theirs.event_type,
    provider_updated_at = theirs.provider_updated_at, content_hash = theirs.content_hash,
    scope = theirs.scope, raw = theirs.raw, meeting_id = theirs.meeting_id
  from theirs
  where event.id = any (array(
      select mine.event_id from sync.staged_events as mine
      where mine.batch_id = (p_batch).id and mine.is_known and not mine.is_same
    ))
    and event.id = theirs.event_id;

  perform sync.write_cancelled(p_batch);
  perform sync.write_private(p_batch);
  perform sync.link_early_members(p_batch);
  -- What came back alive is not waiting for its cancellation any more.
  delete from sync.held_cancellations as held
  using sync.staged_events as staged
  where staged.batch_id = (p_batch).id and staged.origin = 'told'
    and staged.status <> 'cancelled' and held.calendar_id = (p_batch).calendar_id
    and held.event_id = staged.event_id;
end;
$$;
comment on function sync.write_events(sync.batch) is 'Writes what is staged into the mirror.';

create function sync.write_cancelled(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
begin
  if not exists (
    select 1 from sync.staged_events as staged
    where staged.batch_id = (p_batch).id and staged.status = 'cancelled'
  ) then
    return;
  end if;
  -- What is gone keeps its content. Only what the provider itself said has a hash: the rest is
  -- our conclusion, and looked at again should it come back.
  update public.calendar_events as event
  set
    status = 'cancelled', role = staged.role,
    scope = case when staged.verdict = 'detach' then 'detached' else event.scope end,
    etag = coalesce(staged.etag, event.etag),
    provider_updated_at = coalesce(staged.provider_updated_at, event.provider_updated_at),
    content_hash = case when staged.origin = 'told' then staged.content_hash else '' end,
    meeting_id = staged.meeting_id
  from sync.staged_events as staged
  where staged.batch_id = (p_batch).id and staged.status = 'cancelled'
    and staged.is_known and not staged.is_same and staged.origin <> 'former'
    and staged.verdict is distinct from 'held'
    and event.id = any (array(
      select mine.event_id from sync.staged_events as mine
      where mine.batch_id = (p_batch).id and mine.status = 'cancelled'
    ))
    and event.id = staged.event_id;
  update public.calendar_events as event
  set content_hash = ''
  from sync.staged_events as staged
  where staged.batch_id = (p_batch).id and staged.verdict = 'held'
    and event.id = any (array(
      select mine.event_id from sync.staged_events as mine
      where mine.batch_id = (p_batch).id and mine.verdict = 'held'
    ))
    and event.id = staged.event_id and event.content_hash <> '';
end;
$$;
comment on function sync.write_cancelled(sync.batch) is 'Marks in the mirror what is gone; what is held stays, without its hash.';

create function sync.write_private(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
begin
  insert into public.private_event_details as details (
    event_id, title, description, location, attendees, conference_url, raw
  )
  select
    staged.event_id, staged.private ->> 'title', staged.private ->> 'description',
    staged.private ->> 'location', staged.private -> 'attendees',
    staged.private ->> 'conference_url', staged.private -> 'raw'
  from sync.staged_events as staged
  where staged.batch_id = (p_batch).id and staged.origin = 'told' and not staged.is_same
    and staged.status <> 'cancelled' and staged.private is not null
  on conflict (event_id) do update
  set
    title = excluded.title, description = excluded.description, location = excluded.location,
    attendees = excluded.attendees, conference_url = excluded.conference_url, raw = excluded.raw;
  delete from public.private_event_details as details
  using sync.staged_events as staged
  where staged.batch_id = (p_batch).id and staged.origin = 'told' and not staged.is_same
    and staged.status <> 'cancelled' and staged.private is null and staged.is_known
    and details.event_id = any (array(
      select mine.event_id from sync.staged_events as mine
      where mine.batch_id = (p_batch).id and mine.is_known and mine.private is null and not mine.is_same
    ))
    and details.event_id = staged.event_id;
end;
$$;
comment on function sync.write_private(sync.batch) is
'Keeps what private events really say, for their owner only.';

create function sync.link_early_members(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
begin
  -- An exception can reach us before its series.
  update public.calendar_events as member
  set series_id = head.event_id
  from sync.staged_events as head
  where head.batch_id = (p_batch).id and head.origin = 'told' and head.role = 'series'
    and not head.is_same and head.status <> 'cancelled'
    and member.calendar_id = (p_batch).calendar_id
    and member.series_provider_id = any (array(
      select mine.provider_event_id from sync.staged_events as mine
      where mine.batch_id = (p_batch).id and mine.role = 'series' and not mine.is_same
    ))
    and member.series_provider_id = head.provider_event_id and member.series_id is null;
end;
$$;
comment on function sync.link_early_members(sync.batch) is 'Links members of a series that came before their master.';
