-- Bookings, joined: what all that was told of them adds up to.
--
-- The rules stand in providers/bookings.py, in words, and are held against a reference, a
-- function of sets, by the tests. Here they are five steps over all bookings that are touched:
--
--   reach    names (keys, and what keys are tied to) that what is asked for hangs together with
--   speak    who speaks of which key: weak keys are replaced, whole slots speak for their seats
--   chain    which keys are one booking, which of them is the current one, and what it came from
--   fields   of those who tell a field, who is right
--   join     a row for each chain

create type sync.joined_booking as (
  keys text [],
  current_key text,
  provider_id text,
  slot_id text,
  seat_id text,
  state text,
  phase text,
  no_show boolean,
  version text,
  as_of timestamptz,
  fields jsonb
);
comment on type sync.joined_booking is
'One meeting as its bookings tell it. keys: all it was ever told by, the current one and weak ones too; the rest is of the current key, but for fields, of which it inherits what it does not tell. version, as_of: of the last that was told. fields: those of sync.booking_fields() that anybody tells.';

create type sync.spoken_booking as (
  key text,
  told_key text,
  digest bytea,
  connection_id uuid,
  source text,
  version text,
  as_of timestamptz,
  provider_id text,
  slot_id text,
  seat_id text,
  whole_slot boolean,
  supersedes text,
  superseded_by text,
  state smallint,
  phase smallint,
  no_shows jsonb,
  told bigint,
  taken_at timestamptz
);
comment on type sync.spoken_booking is
'A row of sync.told_bookings as it counts for one key; state and phase by rank. taken_at: of what speaks for a whole slot, since when this seat of it is taken.';

create type sync.chained_key as (chain integer, key text, depth integer);
comment on type sync.chained_key is
'A key of a chain. depth: 0 is the current key, 1 what it superseded, and so on; null stands aside.';

create function sync.reach_bookings(p_organization_id uuid, p_keys text[])
returns text[]
language plpgsql
stable
set search_path = ''
as $$
declare
  v_known text[] := array[]::text[];
  v_new text[];
begin
  -- What speaks for a whole slot, speaks for all of its seats. A seat asks for its slot only.
  v_new := array(
    select unnest(p_keys)
    union
    select seat.key from sync.told_bookings as seat
    where seat.organization_id = p_organization_id and not seat.whole_slot
      and seat.slot_id = any (array(
        select slot.key from sync.told_bookings as slot
        where slot.organization_id = p_organization_id and slot.key = any (p_keys)
          and slot.whole_slot
      ))
  );
  while v_new <> '{}' loop
    v_known := v_known || v_new;
    v_new := array(
      select unnest(array[
        met.key, met.supersedes, met.superseded_by, met.weak_key, met.seat_id,
        case when not met.whole_slot then met.slot_id end
      ])
      from (
        select told.* from sync.told_bookings as told
        where told.organization_id = p_organization_id and told.key = any (v_new)
        union all
        select told.* from sync.told_bookings as told
        where told.organization_id = p_organization_id and told.supersedes = any (v_new)
        union all
        select told.* from sync.told_bookings as told
        where told.organization_id = p_organization_id and told.superseded_by = any (v_new)
        union all
        select told.* from sync.told_bookings as told
        where told.organization_id = p_organization_id and told.weak_key = any (v_new)
        union all
        select told.* from sync.told_bookings as told
        where told.organization_id = p_organization_id and told.seat_id = any (v_new)
      ) as met
      except
      select unnest(v_known || null::text)
    );
  end loop;
  return v_known;
end;
$$;
comment on function sync.reach_bookings(uuid, text[]) is
'Names that hang together with these keys: by chains, weak keys, slots and ids of seats, in any number of steps.';

create function sync.speak_bookings(p_organization_id uuid, p_names text[])
returns setof sync.spoken_booking
language plpgsql
stable
set search_path = ''
as $$
begin
  return query
  with told as materialized (
    select * from sync.told_bookings as told
    where told.organization_id = p_organization_id and told.key = any (p_names)
  ),

  seat_of as materialized (
    select told.weak_key, told.key, min(told.first_as_of) as since
    from told
    where told.weak_key is not null and told.seat_id is not null
    group by told.weak_key, told.key
  ),

  first_seat as (
    select distinct on (seat_of.weak_key) seat_of.weak_key, seat_of.key
    from seat_of
    order by seat_of.weak_key, seat_of.since, seat_of.key
  ),

  resolved as materialized (
    select
      coalesce(meant.key, told.key) as key,
      told.key as told_key,
      told.digest,
      told.connection_id,
      told.source,
      told.version,
      told.as_of,
      told.provider_id,
      told.slot_id,
      told.seat_id,
      told.whole_slot,
      coalesce(older.key, told.supersedes) as supersedes,
      coalesce(newer.key, told.superseded_by) as superseded_by,
      array_position(array['pending', 'accepted', 'rejected', 'cancelled'], told.state)::smallint as state,
      array_position(array['started', 'ended'], told.phase)::smallint as phase,
      told.no_shows,
      told.told,
      null::timestamptz as taken_at
    from told
    left join first_seat as meant on meant.weak_key = told.key
    -- Of somebody who sat there twice no link says which time: it is of both.
    left join seat_of as older on older.weak_key = told.supersedes
    left join seat_of as newer on newer.weak_key = told.superseded_by
  ),

  -- A seat is taken when it is told first, or when it is moved there since.
  seat as (
    select
      told.slot_id, coalesce(meant.key, told.key) as key,
      greatest(
        min(told.first_as_of),
        max(told.as_of) filter (where told.source = 'delivery' and told.supersedes is not null)
      ) as taken_at
    from told
    left join first_seat as meant on meant.weak_key = told.key
    where told.slot_id is not null and not told.whole_slot
    group by told.slot_id, coalesce(meant.key, told.key)
  ),

  -- Who else is in it, may not be asked for.
  seated as (
    select distinct told.slot_id
    from sync.told_bookings as told
    where told.organization_id = p_organization_id and not told.whole_slot
      and told.slot_id = any (array(select slot.key from resolved as slot where slot.whole_slot))
  )

  select resolved.*
  from resolved
  where not resolved.whole_slot
    or resolved.slot_id is null and resolved.key not in (select seated.slot_id from seated)
  union all
  select
    seat.key, slot.told_key, slot.digest, slot.connection_id, slot.source, slot.version,
    slot.as_of, slot.provider_id, slot.slot_id, slot.seat_id, slot.whole_slot, null, null,
    slot.state, slot.phase, slot.no_shows, slot.told, seat.taken_at
  from resolved as slot
  join seat on seat.slot_id = slot.key
  where slot.whole_slot;
end;
$$;
comment on function sync.speak_bookings(uuid, text[]) is
'Who speaks of which key: weak keys replaced by the seat that they mean, whole slots by their seats.';

create function sync.chain_bookings(
  p_organization_id uuid, p_spoken sync.spoken_booking[]
)
returns setof sync.chained_key
language plpgsql
stable
set search_path = ''
as $$
begin
  return query
  with recursive seen as materialized (
    select
      spoken.key,
      coalesce(max(spoken.state), 1) < 3 as is_alive,
      bool_or(spoken.slot_id is not null) as is_seat,
      -- When somebody sat there for certain: whoever is told of a seat's state, is told where it is.
      case when bool_or(spoken.seat_id is not null) then
        max(spoken.as_of) filter (
          where spoken.source = 'delivery' and spoken.state is not null and not spoken.whole_slot
        )
      end as met_at,
      case when bool_or(spoken.seat_id is not null) then
        max(spoken.as_of) filter (where spoken.state is not null and not spoken.whole_slot)
      end as read_at
    from unnest(p_spoken) as spoken
    group by spoken.key
  ),

  link as materialized (
    select told.old, told.new, max(told.as_of) as at
    from (
      select spoken.supersedes as old, spoken.key as new, spoken.as_of
      from unnest(p_spoken) as spoken
      where spoken.supersedes <> spoken.key
      union all
      select spoken.key, spoken.superseded_by, spoken.as_of
      from unnest(p_spoken) as spoken
      where spoken.superseded_by <> spoken.key
    ) as told
    group by told.old, told.new
  ),

  tie as materialized (
    select link.old as one, link.new as other from link
    union
    select link.new, link.old from link
    union
    -- A seat keeps its id, wherever it is moved.
    select seat.one, seat.other
    from unnest(p_spoken) as spoken
    cross join lateral (
      values (spoken.key, spoken.seat_id), (spoken.seat_id, spoken.key)
    ) as seat (one, other)
    where spoken.seat_id is not null
  ),

  reach as (
    select tie.one, tie.one as other from tie
    union
    select reach.one, tie.other
    from reach
    join tie on tie.one = reach.other
  ),

  tied as (
    select reach.one as key, min(reach.other) as name
    from reach
    group by reach.one
  ),

  arrival as materialized (
    select link.new as key, max(link.at) as at
    from link
    group by link.new
  ),

  -- Past keys that nothing was told of yet.
  ahead as (
    select link.old, link.new, link.at
    from link
    join seen on seen.key = link.old
    union
    select ahead.old, link.new, ahead.at
    from ahead
    join link on link.old = ahead.new
    where ahead.new not in (select seen.key from seen)
  ),

  step as materialized (
    select ahead.old, ahead.new, max(ahead.at) as at
    from ahead
    join seen on seen.key = ahead.new
    where ahead.old <> ahead.new
    group by ahead.old, ahead.new
  ),

  -- A seat may be moved back. Nothing but a ring is worth asking when that was: other links are
  -- told again, with later words.
  doubted as (
    select step.old as key, step.new as met
    from step
    where step.old in (
      select late.old
      from step as late
      join seen on seen.key = late.old
      left join arrival on arrival.key = late.old
      where late.at <= greatest(arrival.at, seen.met_at)
    )
    union
    select doubted.key, step.new
    from doubted
    join step on step.old = doubted.met
  ),

  past as (
    select step.old as key
    from step
    join seen on seen.key = step.old
    left join arrival on arrival.key = step.old
    left join doubted on doubted.key = step.old and doubted.met = step.old
    where case
      when doubted.key is null then step.at >= coalesce(seen.met_at, '-infinity')
      else step.at > greatest(arrival.at, seen.met_at)
    end
  ),

  named as materialized (
    select
      seen.key, seen.is_alive, arrival.at,
      case when seen.is_seat then coalesce(greatest(arrival.at, seen.met_at), seen.read_at) end
        as seated_at,
      seen.key in (select past.key from past) as is_past,
      dense_rank() over (order by coalesce(tied.name, seen.key))::integer as chain
    from seen
    left join tied on tied.key = seen.key
    left join arrival on arrival.key = seen.key
  ),

  -- Mostly one key is not past, and nothing has to be weighed.
  contest as materialized (
    select named.chain, bool_and(named.is_past) as is_ring
    from named
    group by named.chain
    having count(*) > 1 and count(*) filter (where not named.is_past) <> 1
  ),

  rival as materialized (
    select named.chain, named.key
    from contest
    join named on named.chain = contest.chain and named.is_past = contest.is_ring
  ),

  -- Moved bookings have one iCalUID, and count.
  counted as (
    select
      rival.chain, rival.key,
      min((told.fields ->> 'sequence')::numeric) as sequence,
      min(told.fields ->> 'ical_uid' collate "C") as least_uid,
      max(told.fields ->> 'ical_uid' collate "C") as greatest_uid
    from rival
    join unnest(p_spoken) as spoken on spoken.key = rival.key
    join sync.told_bookings as told
      on told.key = spoken.told_key and told.digest = spoken.digest
      and told.connection_id = spoken.connection_id
    where told.organization_id = p_organization_id
      and told.key = any (array(
        select asked.told_key
        from rival as head
        join unnest(p_spoken) as asked on asked.key = head.key
      ))
      and told.fields ?& array['ical_uid', 'sequence']
    group by rival.chain, rival.key
  ),

  comparable as (
    select rival.chain
    from rival
    left join counted on counted.key = rival.key
    group by rival.chain
    having count(*) = count(counted.key)
      and min(counted.least_uid) = max(counted.greatest_uid)
  ),

  head as (
    select distinct on (named.chain) named.chain, named.key
    from named
    left join counted
      on counted.key = named.key and counted.chain in (select comparable.chain from comparable)
    order by
      named.chain, named.is_past, counted.sequence desc nulls last,
      -- A seat is in one place.
      named.seated_at desc nulls last,
      named.is_alive desc, named.at desc nulls last, named.key desc
  ),

  before as materialized (
    select
      step.new as key,
      array_agg(step.old order by arrival.at desc nulls last, step.old desc) as olds
    from step
    left join arrival on arrival.key = step.old
    group by step.new
  ),

  line as (
    select head.chain, head.key, array[head.key] as way
    from head
    union all
    select line.chain, older.key, line.way || older.key
    from line
    join before on before.key = line.key
    cross join lateral (
      select old.key from unnest(before.olds) as old (key)
      where old.key <> all (line.way)
      limit 1
    ) as older
  )

  select named.chain, named.key, cardinality(line.way) - 1
  from named
  left join line on line.key = named.key;
end;
$$;
comment on function sync.chain_bookings(uuid, sync.spoken_booking[]) is
'Which keys are one booking, and in which order: by what supersedes what, over keys that nothing was told of too, and which bear one seat''s id; what supersedes each other, by when that was told.';

create function sync.choose_fields(
  p_organization_id uuid, p_spoken sync.spoken_booking[], p_keys sync.chained_key[]
)
returns table (chain integer, fields jsonb)
language plpgsql
stable
set search_path = ''
as $$
#variable_conflict use_column
declare
  -- Why a booking was moved is not why its successor was cancelled.
  v_its_own constant text := 'cancellation';
  v_handed_on constant bigint := ~(1::bigint << array_position(sync.booking_fields(), v_its_own));
begin
  return query
  with telling as (
    select
      line.chain, line.depth, spoken.told_key, spoken.digest, spoken.connection_id, spoken.source,
      spoken.version, spoken.as_of,
      case when line.depth = 0 then spoken.told else spoken.told & v_handed_on end as told
    from unnest(p_spoken) as spoken
    join unnest(p_keys) as line on line.key = spoken.key
    where line.depth is not null
  ),

  ranked as (
    select
      telling.*,
      dense_rank() over by_age as rank,
      count(*) over (by_age groups between current row and current row) > 1 as is_tied,
      coalesce(
        bit_or(telling.told) over (by_age groups between unbounded preceding and 1 preceding), 0
      ) as told_later
    from telling
    window by_age as (
      partition by telling.chain, telling.depth, telling.source
      order by telling.version collate "C" desc, telling.as_of desc
    )
  ),

  seen_from_now as (
    select
      ranked.*,
      coalesce(
        bit_or(ranked.told) over (
          partition by ranked.chain order by ranked.depth
          groups between unbounded preceding and 1 preceding
        ), 0
      ) as told_nearer
    from ranked
    where ranked.told & ~ranked.told_later <> 0
  ),

  -- Most say nothing that a later one, or a later key, does not say too: they need not be read.
  needed as materialized (
    select found.*, count(*) over (partition by found.chain) = 1 as is_alone
    from seen_from_now as found
    where found.told & ~found.told_later & ~found.told_nearer <> 0
  ),

  read as materialized (
    select
      needed.chain, needed.depth, needed.source, needed.as_of, needed.rank, needed.is_tied,
      needed.is_alone,
      case when needed.depth = 0 then told.fields else told.fields - v_its_own end as fields
    from needed
    join sync.told_bookings as told
      on told.key = needed.told_key and told.digest = needed.digest
      and told.connection_id = needed.connection_id
    where told.organization_id = p_organization_id
      and told.key = any (array(select asked.told_key from needed as asked))
  ),

  each_field as (
    select
      read.chain, read.depth, read.source, read.as_of, read.rank,
      field.name collate "C" as name, field.value,
      case when read.is_tied then field.value::text end as as_text
    from read
    cross join lateral jsonb_each(read.fields) as field (name, value)
    where not read.is_alone
  ),

  latest as (
    select distinct on (told.chain, told.name, told.depth, told.source) told.*
    from each_field as told
    order by
      told.chain, told.name, told.depth, told.source, told.rank,
      told.as_text collate "C" desc
  ),

  chosen as (
    select distinct on (latest.chain, latest.name) latest.chain, latest.name, latest.value
    from latest
    order by
      latest.chain, latest.name, latest.depth, latest.as_of desc, latest.source = 'fetch' desc
  )

  select chosen.chain, jsonb_object_agg(chosen.name, chosen.value)
  from chosen
  group by chosen.chain
  union all
  select read.chain, read.fields
  from read
  where read.is_alone;
end;
$$;
comment on function sync.choose_fields(uuid, sync.spoken_booking[], sync.chained_key[]) is
'The fields of each chain that anybody tells: the current key''s, then those of the keys it superseded; of one key, by who is right.';

create function sync.join_bookings(p_connection_id uuid, p_keys text[])
returns setof sync.joined_booking
language plpgsql
stable
set search_path = ''
-- As in sync.apply_events: the planner, who cannot know how many they are, believes in one.
set enable_nestloop = off
set jit = off
set plan_cache_mode = force_generic_plan
set work_mem = '32MB'
as $$
declare
  v_organization_id uuid := (
    select connection.organization_id from public.calendar_connections as connection
    where connection.id = p_connection_id
  );
  v_spoken sync.spoken_booking[];
  v_keys sync.chained_key[];
begin
  v_spoken := array(
    select row(spoken.*)::sync.spoken_booking
    from sync.speak_bookings(
      v_organization_id, sync.reach_bookings(v_organization_id, p_keys)
    ) as spoken
  );
  v_keys := array(
    select row(one.*)::sync.chained_key
    from sync.chain_bookings(v_organization_id, v_spoken) as one
  );
  return query
  with said as materialized (
    select one.chain, one.depth = 0 as is_current, spoken.*
    from unnest(v_spoken) as spoken
    join unnest(v_keys) as one on one.key = spoken.key
  ),

  chosen as materialized (
    select * from sync.choose_fields(v_organization_id, v_spoken, v_keys)
  ),

  known_as as (
    select named.chain, array_agg(named.key order by named.key collate "C") as keys
    from (
      select said.chain, said.key from said
      union
      select said.chain, said.told_key from said where not said.whole_slot
    ) as named
    group by named.chain
  ),

  present as (
    select
      said.chain,
      min(said.key collate "C") as key,
      max(said.provider_id collate "C") as provider_id,
      max(said.slot_id collate "C") as slot_id,
      max(said.seat_id collate "C") as seat_id,
      max(said.state) as state,
      max(said.phase) as phase
    from said
    where said.is_current
    group by said.chain
  ),

  latest as (
    select distinct on (of_each.chain) of_each.*
    from (
      select distinct on (said.chain, said.source)
        said.chain, said.source, said.version, said.as_of
      from said
      where said.is_current
      order by said.chain, said.source, said.version collate "C" desc, said.as_of desc
    ) as of_each
    order by of_each.chain, of_each.as_of desc, of_each.source = 'fetch' desc
  ),

  marked as (
    select distinct on (said.chain) said.chain, (mark.made -> 'marked')::boolean as no_show
    from said
    left join chosen on chosen.chain = said.chain
    cross join lateral jsonb_array_elements(said.no_shows) as mark (made)
    where said.is_current and said.no_shows <> '[]'
      and lower(coalesce(mark.made ->> 'email', chosen.fields ->> 'attendee_email', ''))
      = lower(coalesce(chosen.fields ->> 'attendee_email', ''))
      -- It names no seat: who sat down since is not meant.
      and (said.taken_at is null or (mark.made ->> 'at')::timestamptz >= said.taken_at)
    order by
      said.chain, (mark.made ->> 'at')::timestamptz desc, (mark.made -> 'marked')::boolean desc
  )

  select
    known_as.keys, present.key, present.provider_id, present.slot_id, present.seat_id,
    (array['pending', 'accepted', 'rejected', 'cancelled'])[present.state],
    (array['started', 'ended'])[present.phase],
    coalesce(marked.no_show, false), latest.version, nullif(latest.as_of, '-infinity'),
    coalesce(chosen.fields, '{}')
  from present
  join latest on latest.chain = present.chain
  join known_as on known_as.chain = present.chain
  left join chosen on chosen.chain = present.chain
  left join marked on marked.chain = present.chain
  order by present.key collate "C";
end;
$$;
comment on function sync.join_bookings(uuid, text[]) is
'What all that the accounts of a connection''s organization were told adds up to, for each booking that one of these keys (as told) belongs to or touches; of what is not asked for, some may come too.';

revoke all on function sync.reach_bookings(uuid, text[]) from public;
revoke all on function sync.speak_bookings(uuid, text[]) from public;
revoke all on function sync.chain_bookings(uuid, sync.spoken_booking[]) from public;
revoke all on function sync.choose_fields(uuid, sync.spoken_booking[], sync.chained_key[])
from public;
revoke all on function sync.join_bookings(uuid, text[]) from public;
grant execute on function sync.reach_bookings(uuid, text[]) to sync_engine;
grant execute on function sync.speak_bookings(uuid, text[]) to sync_engine;
grant execute on function sync.chain_bookings(uuid, sync.spoken_booking[]) to sync_engine;
grant execute on function sync.choose_fields(uuid, sync.spoken_booking[], sync.chained_key[])
to sync_engine;
grant execute on function sync.join_bookings(uuid, text[]) to sync_engine;
