-- Applying, step 3: who is it under a new id.
--
-- A provider makes an occurrence's id from its original start (Google), or anew (Graph), so a
-- series that is re-timed comes back as other events. Before anything is cancelled, the leavers
-- are matched with the arrivals of their series, in this order: same provider id (staging has
-- done that); same original start; same local date; same local date once the whole series'
-- shift is taken away; same ordinal among those left. Leavers that are left may be inherited by
-- a new series that starts where theirs was cut ("this and following"). A single that became a
-- series, and a series that became a single, are leavers and arrivals too.

-- Who may be paired: local times of original starts, and by how much the series was moved.

create function sync.prepare_pairs(p_batch sync.batch)
returns boolean
language plpgsql
set search_path = ''
as $$
declare
  v_any boolean;
begin
  select true into v_any
  from sync.staged_events as staged
  where staged.batch_id = (p_batch).id and staged.status = 'cancelled'
    and staged.origin in ('gone', 'former') and staged.meeting_id is not null
  limit 1;
  if v_any is null then
    return false;
  end if;

  update sync.staged_events as staged
  set
    pair_group = coalesce(staged.series_provider_id, staged.provider_event_id),
    slot = coalesce(
      staged.original_start_date::timestamp,
      coalesce(staged.original_start, staged.starts_at)
      at time zone coalesce(head.time_zone, old_head.time_zone, (p_batch).time_zone)
    ),
    pair_shift = coalesce(
      (head.starts_at at time zone coalesce(head.time_zone, (p_batch).time_zone))
      - (old_head.starts_at at time zone coalesce(old_head.time_zone, (p_batch).time_zone)),
      interval '0'
    )
  from sync.staged_events as member
  left join sync.staged_events as head
    on head.batch_id = member.batch_id and head.origin = 'told'
    and head.provider_event_id = coalesce(member.series_provider_id, member.provider_event_id)
  left join (
    select event.provider_event_id, event.starts_at, event.time_zone
    from public.calendar_events as event
    where event.calendar_id = (p_batch).calendar_id
      and event.provider_event_id = any (array(
        select coalesce(staged.series_provider_id, staged.provider_event_id)
        from sync.staged_events as staged
        where staged.batch_id = (p_batch).id
      ))
  ) as old_head
    on old_head.provider_event_id = coalesce(member.series_provider_id, member.provider_event_id)
  where member.batch_id = (p_batch).id and not member.is_same
    and staged.batch_id = member.batch_id and staged.place = member.place
    and case
      when member.status = 'cancelled'
        then member.meeting_id is not null and member.old_status <> 'cancelled'
          and member.origin in ('told', 'gone', 'former')
      -- What the mirror has alive has its meeting already, by its id.
      else member.role in ('single', 'occurrence', 'exception')
        and (not member.is_known or member.old_status = 'cancelled' or member.old_role = 'series')
    end;
  return true;
end;
$$;
comment on function sync.prepare_pairs(sync.batch) is
'Marks leavers and arrivals for pairing; false where nobody leaves.';

create function sync.pair_by_time(p_batch sync.batch, p_by text)
returns void
language plpgsql
set search_path = ''
as $$
begin
  with candidates as (
    select
      staged.place, staged.pair_group, staged.status = 'cancelled' as leaves, staged.slot,
      case p_by
        when 'start' then staged.slot
        when 'date' then date_trunc('day', staged.slot)
        else date_trunc('day', case
          when staged.status = 'cancelled' then staged.slot + staged.pair_shift else staged.slot
        end)
      end as moment
    from sync.staged_events as staged
    where staged.batch_id = (p_batch).id and staged.pair_group is not null
      and staged.heir_of is null and staged.verdict is null
  ),

  numbered as (
    select
      candidates.*,
      row_number() over (
        partition by candidates.pair_group, candidates.leaves, candidates.moment
        order by candidates.slot, candidates.place
      ) as nth
    from candidates
  )

  update sync.staged_events as arrival
  set heir_of = leaver.place
  from numbered as leaver
  join numbered as arriving
    on arriving.pair_group = leaver.pair_group and arriving.moment = leaver.moment
    and arriving.nth = leaver.nth and not arriving.leaves
  where leaver.leaves and arrival.batch_id = (p_batch).id and arrival.place = arriving.place;
  perform sync.mark_taken(p_batch);
end;
$$;
comment on function sync.pair_by_time(sync.batch, text) is
'Pairs leavers and arrivals with the same local start, date, or date once the shift is taken away.';

create function sync.mark_taken(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
begin
  update sync.staged_events as leaver
  set verdict = 'retired'
  from sync.staged_events as heir
  where heir.batch_id = (p_batch).id and heir.heir_of is not null
    and leaver.batch_id = heir.batch_id and leaver.place = heir.heir_of
    and leaver.verdict is null;
end;
$$;
comment on function sync.mark_taken(sync.batch) is 'Leavers that have an heir take no part any more.';

-- Same ordinal. At the window's edge one side may have an occurrence more, so the two rows of
-- ordinals are laid beside each other where they are closest in time. What was told as cancelled
-- takes no part: that one is gone, not moved.

create function sync.pair_by_rank(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
begin
  with candidates as (
    select
      staged.place, staged.pair_group, staged.status = 'cancelled' as leaves,
      case when staged.status = 'cancelled' then staged.slot + staged.pair_shift else staged.slot end
        as moment
    from sync.staged_events as staged
    where staged.batch_id = (p_batch).id and staged.pair_group is not null
      and staged.heir_of is null and staged.verdict is null
      and (staged.status <> 'cancelled' or staged.origin <> 'told')
  ),

  ranked as (
    select
      candidates.*,
      row_number() over (
        partition by candidates.pair_group, candidates.leaves
        order by candidates.moment, candidates.place
      ) as rank,
      count(*) over (partition by candidates.pair_group, candidates.leaves) as total
    from candidates
  ),

  shifts as (
    select distinct on (laid.pair_group) laid.pair_group, laid.shift
    from (
      select
        leaver.pair_group,
        arrival.rank - leaver.rank as shift,
        -- Whoever finds no partner counts as a week away.
        (
          sum(abs(extract(epoch from arrival.moment - leaver.moment)))
          + 604800 * (least(min(leaver.total), min(arrival.total)) - count(*))
        ) as distance
      from ranked as leaver
      join ranked as arrival on arrival.pair_group = leaver.pair_group and not arrival.leaves
      where leaver.leaves
      group by leaver.pair_group, arrival.rank - leaver.rank
    ) as laid
    order by laid.pair_group, laid.distance, abs(laid.shift)
  )

  update sync.staged_events as staged
  set heir_of = leaver.place
  from ranked as leaver
  join shifts on shifts.pair_group = leaver.pair_group
  join ranked as arrival
    on arrival.pair_group = leaver.pair_group and not arrival.leaves
    and arrival.rank = leaver.rank + shifts.shift
  where leaver.leaves and staged.batch_id = (p_batch).id and staged.place = arrival.place;
  perform sync.mark_taken(p_batch);
end;
$$;
comment on function sync.pair_by_rank(sync.batch) is
'Pairs the leavers and arrivals that are left in each group by their ordinal.';

-- "This and following": the series was cut, and a new one of the same organizer starts where it
-- ends. Its arrivals inherit the leavers of the old.

create function sync.name_heirs(p_batch sync.batch)
returns boolean
language plpgsql
set search_path = ''
as $$
begin
  with cut as (
    select
      leaver.pair_group as series, min(leaver.slot) as freed_from,
      min(head.organizer_email) as organizer_email, min(head.title) as title,
      (
        select max(coalesce(
          kept.original_start_date::timestamp,
          kept.original_start at time zone coalesce(min(head.time_zone), (p_batch).time_zone)
        ))
        from sync.staged_events as kept
        where kept.batch_id = (p_batch).id and kept.series_provider_id = leaver.pair_group
          and kept.status <> 'cancelled'
      ) as kept_until
    from sync.staged_events as leaver
    join sync.staged_events as head
      on head.batch_id = leaver.batch_id and head.provider_event_id = leaver.pair_group
      and head.origin = 'told' and head.role = 'series' and head.status <> 'cancelled'
      and head.is_known
    where leaver.batch_id = (p_batch).id and leaver.status = 'cancelled'
      and leaver.pair_group is not null and leaver.verdict is null
      and leaver.series_provider_id is not null
    group by leaver.pair_group
  ),

  fresh as (
    select
      head.provider_event_id as series, head.organizer_email, head.title, arrivals.starts_from
    from sync.staged_events as head
    cross join lateral (
      select min(arrival.slot) as starts_from
      from sync.staged_events as arrival
      where arrival.batch_id = head.batch_id and arrival.pair_group = head.provider_event_id
        and arrival.status <> 'cancelled' and arrival.heir_of is null
    ) as arrivals
    where head.batch_id = (p_batch).id and head.origin = 'told' and head.role = 'series'
      and head.status <> 'cancelled' and arrivals.starts_from is not null
      and (not head.is_known or head.old_status = 'cancelled')
  ),

  likely as (
    select
      cut.series, fresh.series as heir, fresh.starts_from - cut.freed_from as shift,
      row_number() over (
        partition by cut.series order by cut.title is not distinct from fresh.title desc,
        abs(extract(epoch from fresh.starts_from - cut.freed_from)), fresh.series
      ) as nth_heir,
      row_number() over (
        partition by fresh.series order by cut.title is not distinct from fresh.title desc,
        abs(extract(epoch from fresh.starts_from - cut.freed_from)), cut.series
      ) as nth_cut
    from cut
    join fresh
      on fresh.organizer_email is not distinct from cut.organizer_email
      and (cut.kept_until is null or fresh.starts_from > cut.kept_until)
      and abs(extract(epoch from fresh.starts_from - cut.freed_from)) <= 7 * 86400
  )

  update sync.staged_events as leaver
  set pair_group = likely.heir, pair_shift = likely.shift
  from likely
  where likely.nth_heir = 1 and likely.nth_cut = 1
    and leaver.batch_id = (p_batch).id and leaver.pair_group = likely.series
    and leaver.status = 'cancelled' and leaver.verdict is null;
  return found;
end;
$$;
comment on function sync.name_heirs(sync.batch) is
'Lets a new series inherit what a series that was cut has left; false where none does.';

-- Two meetings that live in events elsewhere, under the keys they always had, are two here as
-- well: one cannot be the rest of the other.

create function sync.part_strangers(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
begin
  -- First whose key leads elsewhere: whether that lives is asked of few.
  with doubtful as materialized (
    select
      heir.place, heir.event_id, leaver.event_id as left_event_id,
      known.meeting_id as theirs, leaver.meeting_id as inherited
    from sync.staged_events as heir
    join sync.staged_events as leaver
      on leaver.batch_id = heir.batch_id and leaver.place = heir.heir_of
    join sync.meeting_keys as known
      on known.organization_id = (p_batch).organization_id
      and known.key = any (array(
        select inheriting.key from sync.staged_events as inheriting
        where inheriting.batch_id = (p_batch).id and inheriting.heir_of is not null
      ))
      and known.key = heir.key
    where heir.batch_id = (p_batch).id and heir.heir_of is not null
      and known.meeting_id <> leaver.meeting_id
  )

  update sync.staged_events as heir
  set heir_of = null
  from doubtful
  where heir.batch_id = (p_batch).id and heir.place = doubtful.place
    and sync.lives_elsewhere(p_batch, doubtful.theirs, doubtful.event_id)
    and sync.lives_elsewhere(p_batch, doubtful.inherited, doubtful.left_event_id)
    -- It is not gone, but goes on as another of these.
    and not exists (
      select 1
      from sync.meeting_keys as own
      join sync.staged_events as bearing on bearing.key = own.key
      where own.meeting_id = doubtful.inherited
        and bearing.batch_id = (p_batch).id and bearing.status <> 'cancelled'
    );
  if not found then
    return;
  end if;
  update sync.staged_events as leaver
  set verdict = null
  where leaver.batch_id = (p_batch).id and leaver.verdict = 'retired'
    and leaver.place not in (
      select heir.heir_of from sync.staged_events as heir
      where heir.batch_id = (p_batch).id and heir.heir_of is not null
    );
  perform sync.keep_unread(p_batch);
end;
$$;
comment on function sync.part_strangers(sync.batch) is
'Parts leavers and heirs that are two living meetings for other calendars of the organization.';

-- What the pairs mean. A leaver that was told (an EXDATE) keeps its row; of the others the heir
-- takes the row too, under its own id, unless the mirror has a row of that id.

create function sync.settle_pairs(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
begin
  update sync.staged_events as heir
  set
    meeting_id = leaver.meeting_id,
    is_new_meeting = false,
    old_key = leaver.old_key,
    old_scope = leaver.old_scope,
    event_id = case
      when leaver.origin = 'gone' and not heir.is_known then leaver.event_id else heir.event_id
    end,
    is_known = heir.is_known or leaver.origin = 'gone'
  from sync.staged_events as leaver
  where heir.batch_id = (p_batch).id and heir.heir_of is not null
    and leaver.batch_id = heir.batch_id and leaver.place = heir.heir_of;

  delete from sync.staged_events as leaver
  where leaver.batch_id = (p_batch).id and leaver.verdict = 'retired'
    and (
      leaver.origin = 'former'
      -- Hashed once: beside an "or", an exists would be asked for each.
      or leaver.event_id in (
        select heir.event_id from sync.staged_events as heir
        where heir.batch_id = (p_batch).id and heir.status <> 'cancelled'
      )
    );
  update sync.staged_events as leaver
  set meeting_id = null
  where leaver.batch_id = (p_batch).id and leaver.verdict = 'retired';
end;
$$;
comment on function sync.settle_pairs(sync.batch) is 'Hands meetings, and rows of the mirror, on to heirs.';

-- Leavers that are left: outside of what was read, absence says nothing; a known exception is
-- kept unless it comes cancelled or its series is deleted.

create function sync.keep_unread(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
begin
  delete from sync.staged_events as staged
  where staged.batch_id = (p_batch).id and staged.origin = 'gone' and staged.verdict is null
    and (staged.ends_at <= (p_batch).window_start or staged.starts_at >= (p_batch).read_until);
end;
$$;
comment on function sync.keep_unread(sync.batch) is
'Takes back leavers that lie outside of what was read.';

-- Series are read somewhat beyond the window's end, for what a new time has moved out of it: that
-- keeps its meeting. What else lies there comes when the window does.

create function sync.drop_early(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
begin
  delete from sync.staged_events as staged
  where staged.batch_id = (p_batch).id and staged.origin = 'told'
    and staged.role = 'occurrence' and staged.status <> 'cancelled'
    and not staged.is_known and staged.heir_of is null
    and staged.starts_at >= (p_batch).window_end;
end;
$$;
comment on function sync.drop_early(sync.batch) is
'Forgets occurrences beyond the window that replace none of those that were in it.';

create function sync.keep_exceptions(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
begin
  delete from sync.staged_events as staged
  where staged.batch_id = (p_batch).id and staged.origin = 'gone' and staged.verdict is null
    and staged.old_role = 'exception';
end;
$$;
comment on function sync.keep_exceptions(sync.batch) is
'Takes back exceptions that nobody said are gone: they may have been moved out of the window.';

create function sync.pair_by_times(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
begin
  perform sync.pair_by_time(p_batch, 'start');
  perform sync.pair_by_time(p_batch, 'date');
  perform sync.pair_by_time(p_batch, 'shifted date');
end;
$$;
comment on function sync.pair_by_times(sync.batch) is 'Pairs leavers and arrivals by time, the closest likeness first.';

create function sync.match_series(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
begin
  if (p_batch).upsert_only then
    return;
  end if;
  if (p_batch).full_round then
    perform sync.stage_absent(p_batch);
  end if;
  perform sync.stage_orphaned(p_batch);
  perform sync.stage_leavers(p_batch);
  if not sync.prepare_pairs(p_batch) then
    perform sync.keep_unread(p_batch);
    perform sync.drop_early(p_batch);
    return;
  end if;
  perform sync.pair_by_times(p_batch);
  -- What lay just outside the window may have come in; by ordinal it would only push the others.
  perform sync.keep_unread(p_batch);
  perform sync.pair_by_rank(p_batch);
  if sync.name_heirs(p_batch) then
    perform sync.pair_by_times(p_batch);
    perform sync.pair_by_rank(p_batch);
  end if;
  perform sync.part_strangers(p_batch);
  perform sync.drop_early(p_batch);
  perform sync.settle_pairs(p_batch);
  perform sync.keep_exceptions(p_batch);
end;
$$;
comment on function sync.match_series(sync.batch) is
'Stages what is gone, and lets arrivals inherit from leavers, so that a meeting outlives its event''s id.';
