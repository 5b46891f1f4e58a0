-- Applying, step 2: what is gone. What the mirror has and the answer has not is staged beside
-- what was told, as cancelled: a leaver.

-- Adds what the mirror has, and the answer has not. A status of `cancelled` makes each a leaver.

create function sync.stage_mirrored(p_batch sync.batch, p_origin text, p_event_ids uuid[])
returns void
language plpgsql
set search_path = ''
as $$
begin
  insert into sync.staged_events (
    batch_id, place, origin, provider_event_id, role, status, is_organizer, starts_at, ends_at,
    series_provider_id, original_start, original_start_date, event_id, is_known, old_role,
    old_status, old_scope, old_key, meeting_id
  )
  select
    (p_batch).id,
    coalesce((
      select least(min(staged.place), 0) from sync.staged_events as staged
      where staged.batch_id = (p_batch).id
    ), 0) - row_number() over (order by event.id),
    p_origin, event.provider_event_id, event.role, 'cancelled', event.is_organizer,
    event.starts_at, event.ends_at, event.series_provider_id,
    event.original_start, event.original_start_date, event.id, true, event.role, event.status,
    event.scope,
    sync.event_key(event.ical_uid, event.role, event.original_start, event.original_start_date),
    event.meeting_id
  from public.calendar_events as event
  where event.id = any (p_event_ids);
end;
$$;
comment on function sync.stage_mirrored(sync.batch, text, uuid[]) is
'Stages events as gone that the mirror has.';

-- Absence counts at the end of a full round only, for what lies inside the window asked. An
-- exception's absence proves nothing, nor does that of a series begun before the window: the
-- worker reads those by id (sync.doubtful_events) and tells them as cancelled.

create function sync.was_met_in_part(p_calendar_id uuid, p_series text)
returns boolean
language sql
stable
set search_path = ''
as $$
  select exists (
    select 1
    from public.calendar_events as member
    join sync.seen_events as seen
      on seen.calendar_id = p_calendar_id and seen.provider_event_id = member.provider_event_id
    where member.calendar_id = p_calendar_id and member.series_provider_id = p_series
  )
$$;
comment on function sync.was_met_in_part(uuid, text) is
'Whether a full round met exceptions of a series: one whose every occurrence in the window is an exception need not be listed itself.';
revoke all on function sync.was_met_in_part(uuid, text) from public;
grant execute on function sync.was_met_in_part(uuid, text) to sync_engine;

create function sync.stage_absent(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
begin
  perform sync.stage_mirrored(p_batch, 'absent', array(
    select event.id
    from public.calendar_events as event
    where event.calendar_id = (p_batch).calendar_id
      and event.role in ('single', 'series') and event.status <> 'cancelled'
      and event.starts_at >= (p_batch).asked_from
      and not exists (
        select 1 from sync.seen_events as seen
        where seen.calendar_id = event.calendar_id
          and seen.provider_event_id = event.provider_event_id
      )
      and not exists (
        select 1 from sync.staged_events as staged
        where staged.batch_id = (p_batch).id and staged.provider_event_id = event.provider_event_id
      )
      and not (event.role = 'series' and sync.was_met_in_part(event.calendar_id, event.provider_event_id))
  ));
end;
$$;
comment on function sync.stage_absent(sync.batch) is
'Stages as gone what the full round asked for and did not meet.';

create function sync.doubtful_events(p_calendar_id uuid, p_asked_from timestamptz)
returns setof text
language sql
stable
security definer -- the worker holds no grant on tables: these functions are its reach
set search_path = ''
as $$
  select event.provider_event_id
  from public.calendar_events as event
  where event.calendar_id = p_calendar_id and event.status <> 'cancelled'
    and case event.role
      when 'exception'
        then event.starts_at >= p_asked_from and event.original_start >= p_asked_from
          and (
            exists (
              select 1 from sync.seen_events as seen
              where seen.calendar_id = p_calendar_id
                and seen.provider_event_id = event.series_provider_id
            )
            or sync.was_met_in_part(p_calendar_id, event.series_provider_id)
          )
      when 'series'
        then sync.was_met_in_part(p_calendar_id, event.provider_event_id)
          or (
            event.starts_at < p_asked_from
            and exists (
              select 1 from public.calendar_events as member
              where member.calendar_id = p_calendar_id
                and member.series_provider_id = event.provider_event_id
                and member.status <> 'cancelled' and member.ends_at > p_asked_from
            )
          )
      else false
    end
    and not exists (
      select 1 from sync.seen_events as seen
      where seen.calendar_id = p_calendar_id and seen.provider_event_id = event.provider_event_id
    )
  union
  -- Series that went before the round could meet them, after a windowed read had shown theirs.
  select member.series_provider_id
  from public.calendar_events as member
  where member.calendar_id = p_calendar_id and member.status <> 'cancelled'
    and member.series_provider_id is not null and member.ends_at > p_asked_from
    and not exists (
      select 1 from public.calendar_events as head
      where head.calendar_id = p_calendar_id
        and head.provider_event_id = member.series_provider_id and head.status <> 'cancelled'
    )
    and not exists (
      select 1 from sync.seen_events as seen
      where seen.calendar_id = p_calendar_id
        and seen.provider_event_id in (member.series_provider_id, member.provider_event_id)
    )
$$;
comment on function sync.doubtful_events(uuid, timestamptz) is
'Known events that a full round did not meet and whose absence proves nothing: to be read by id before the last call, and told as cancelled where the provider says so.';

-- Members of a series whose master is gone are gone with it, exceptions too.

create function sync.stage_orphaned(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
begin
  perform sync.stage_mirrored(p_batch, 'orphaned', array(
    select member.id
    from public.calendar_events as member
    where member.calendar_id = (p_batch).calendar_id
      and member.series_provider_id = any (array(
        select head.provider_event_id from sync.staged_events as head
        where head.batch_id = (p_batch).id and head.status = 'cancelled'
          and head.old_role = 'series'
      ))
      and member.status <> 'cancelled'
      and not exists (
        select 1 from sync.staged_events as staged
        where staged.batch_id = (p_batch).id and staged.event_id = member.id
      )
  ));
end;
$$;
comment on function sync.stage_orphaned(sync.batch) is 'Stages the members of deleted series as gone.';

create function sync.stage_leavers(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
begin
  perform sync.stage_mirrored(p_batch, 'gone', array(
    select member.id
    from public.calendar_events as member
    where member.calendar_id = (p_batch).calendar_id
      and member.series_provider_id = any ((p_batch).series || array(
        select staged.provider_event_id -- a series that became a single
        from sync.staged_events as staged
        where staged.batch_id = (p_batch).id and staged.status <> 'cancelled'
          and staged.role = 'single' and staged.old_role = 'series'
      ))
      and member.status <> 'cancelled'
      and not exists (
        select 1 from sync.staged_events as staged
        where staged.batch_id = (p_batch).id and staged.event_id = member.id
      )
      -- Told, but not to be understood: it is there.
      and not exists (
        select 1 from sync.set_aside_events as aside
        where aside.calendar_id = member.calendar_id
          and aside.provider_event_id = member.provider_event_id
      )
  ));

  -- A master is never a meeting. Where the mirror has one for it, it was a single.
  perform sync.stage_mirrored(p_batch, 'former', array(
    select staged.event_id
    from sync.staged_events as staged
    where staged.batch_id = (p_batch).id and staged.status <> 'cancelled'
      and staged.role = 'series' and staged.provider_event_id = any ((p_batch).series)
      and staged.meeting_id is not null
  ));
  update sync.staged_events as staged
  set meeting_id = null, is_same = false
  from sync.staged_events as former
  where former.batch_id = (p_batch).id and former.origin = 'former'
    and staged.batch_id = former.batch_id and staged.event_id = former.event_id
    and staged.origin = 'told';
end;
$$;
comment on function sync.stage_leavers(sync.batch) is
'Stages, of each series that was read whole, the members that were not told.';
