-- The pipeline: where each client stands, and when they were and will be met.
--
-- What happens to meetings moves their client, by the organization's rules:
--
--   booked      a meeting that is still to come stands now: it was made, confirmed, given a client
--   met         a meeting is completed: its time is over (task `advance`), or somebody says so
--   cancelled   a meeting is cancelled, and the client has no other one to come
--   no_show     somebody did not come
--
-- A statement only notes what it did to meetings. Once a transaction, as the last thing before it
-- commits, what was noted is looked at as a whole and written: whatever a page of events and a
-- user do at the same time, they lock rows of the pipeline in one order and for a moment only,
-- and a meeting that is cancelled and made anew is no cancellation. So within a transaction the
-- pipeline is that of before.

create type sync.happening as (client_id uuid, kind text, at timestamptz);
comment on type sync.happening is 'What happened to a client, and when.';

create unlogged table sync.pipeline_news (
  transaction_id xid8 not null default pg_current_xact_id(),
  place bigint generated always as identity,
  clients uuid[],
  happenings sync.happening[],
  advance_at timestamptz,
  put_off uuid[],
  primary key (transaction_id, place)
);
comment on table sync.pipeline_news is
'What statements of transactions under way did to meetings and clients. Emptied before each of them commits.';
comment on column sync.pipeline_news.clients is 'Whose meetings were changed.';
comment on column sync.pipeline_news.advance_at is 'When the first of the changed meetings is over.';
comment on column sync.pipeline_news.put_off is 'Completed meetings that were over, and were moved to a time to come.';
alter table sync.pipeline_news enable row level security;
grant select, insert, delete on sync.pipeline_news to sync_engine;

-- Noting. Whoever writes, engine or user.

create function sync.note_meetings_inserted()
returns trigger
language plpgsql
security definer -- users have no right on what is noted
set search_path = ''
as $$
declare
  v_now timestamptz := sync.clock();
begin
  insert into sync.pipeline_news (clients, happenings, advance_at)
  select
    array_agg(distinct told.client_id) filter (where told.client_id is not null),
    array_agg((told.client_id, told.kind, told.at)::sync.happening)
    filter (where told.client_id is not null and told.kind is not null),
    min(told.ends_at) filter (where told.status in ('scheduled', 'confirmed'))
  from (
    select
      meeting.client_id, meeting.status, meeting.ends_at,
      case
        when meeting.status in ('scheduled', 'confirmed') and meeting.ends_at > v_now then 'booked'
        when meeting.status = 'completed' then 'met'
        when meeting.status in ('cancelled', 'no_show') then meeting.status
      end as kind,
      -- What was over before we heard of it, happened then.
      least(meeting.ends_at, v_now) as at
    from new_rows as meeting
    where meeting.merged_into is null and meeting.deleted_at is null
      and (meeting.client_id is not null or meeting.status in ('scheduled', 'confirmed'))
  ) as told
  having count(*) > 0;
  return null;
end;
$$;
comment on function sync.note_meetings_inserted() is
'Statement trigger: notes for the pipeline what new meetings mean for their clients.';
revoke all on function sync.note_meetings_inserted() from public;

create function sync.note_meetings_updated()
returns trigger
language plpgsql
security definer -- as note_meetings_inserted
set search_path = ''
set enable_nestloop = off -- as sync.broadcast_updated(): the plan for one row must do for 2,500
as $$
declare
  v_now timestamptz := sync.clock();
begin
  with changed as materialized (
    select
      new_row.id, new_row.client_id, old_row.client_id as old_client_id, new_row.status, new_row.ends_at,
      new_row.merged_into is null and new_row.deleted_at is null as lives,
      -- Whether this client had it, in this state, before.
      old_row.client_id is not distinct from new_row.client_id
      and old_row.merged_into is null and old_row.deleted_at is null as was_theirs,
      old_row.status as old_status,
      new_row.status = 'completed' and old_row.status = 'completed'
      and old_row.ends_at <= v_now and new_row.ends_at > v_now as is_put_off
    from new_rows as new_row
    join old_rows as old_row on old_row.id = new_row.id
    where (
      new_row.client_id, new_row.status, new_row.starts_at, new_row.ends_at, new_row.merged_into,
      new_row.deleted_at
    ) is distinct from (
      old_row.client_id, old_row.status, old_row.starts_at, old_row.ends_at, old_row.merged_into,
      old_row.deleted_at
    )
  ),

  told as (
    select
      changed.id, changed.client_id, changed.old_client_id, changed.lives, changed.status,
      changed.ends_at, changed.is_put_off,
      case
        when not changed.lives or changed.client_id is null then null
        when changed.status in ('scheduled', 'confirmed') then case
          when changed.ends_at > v_now
            and not (changed.was_theirs and changed.old_status in ('scheduled', 'confirmed'))
            then 'booked'
        end
        when changed.was_theirs and changed.status = changed.old_status then null
        when changed.status = 'completed' then 'met'
        when changed.status in ('cancelled', 'no_show') then changed.status
      end as kind,
      case
        when changed.status <> 'completed' and changed.status <> changed.old_status then v_now
        else least(changed.ends_at, v_now)
      end as at
    from changed
  )

  insert into sync.pipeline_news (clients, happenings, advance_at, put_off)
  select
    (
      select array_agg(distinct whose.client_id)
      from (
        select told.client_id from told
        union all
        select told.old_client_id from told
      ) as whose
      where whose.client_id is not null
    ),
    array_agg((told.client_id, told.kind, told.at)::sync.happening)
    filter (where told.kind is not null),
    min(told.ends_at) filter (where told.lives and told.status in ('scheduled', 'confirmed')),
    array_agg(told.id) filter (where told.is_put_off)
  from told
  having count(*) > 0;
  return null;
end;
$$;
comment on function sync.note_meetings_updated() is
'Statement trigger: notes for the pipeline what changed meetings mean for their clients. A new title means nothing.';
revoke all on function sync.note_meetings_updated() from public;

create function sync.note_meetings_deleted()
returns trigger
language plpgsql
security definer -- as note_meetings_inserted
set search_path = ''
as $$
begin
  insert into sync.pipeline_news (clients)
  select array_agg(distinct meeting.client_id)
  from old_rows as meeting
  where meeting.client_id is not null
  having count(*) > 0;
  return null;
end;
$$;
comment on function sync.note_meetings_deleted() is
'Statement trigger: notes for the pipeline whose meetings are gone.';
revoke all on function sync.note_meetings_deleted() from public;

create function sync.note_clients_inserted()
returns trigger
language plpgsql
security definer -- as note_meetings_inserted
set search_path = ''
as $$
begin
  insert into sync.pipeline_news (clients)
  select array_agg(client.id) from new_rows as client
  having count(*) > 0;
  return null;
end;
$$;
comment on function sync.note_clients_inserted() is 'Statement trigger: each client is in the pipeline.';
revoke all on function sync.note_clients_inserted() from public;

create trigger meetings_pipeline_inserted after insert on public.meetings
referencing new table as new_rows
for each statement execute function sync.note_meetings_inserted();
create trigger meetings_pipeline_updated after update on public.meetings
referencing old table as old_rows new table as new_rows
for each statement execute function sync.note_meetings_updated();
create trigger meetings_pipeline_deleted after delete on public.meetings
referencing old table as old_rows
for each statement execute function sync.note_meetings_deleted();
create trigger clients_pipeline_inserted after insert on public.clients
referencing new table as new_rows
for each statement execute function sync.note_clients_inserted();

-- Writing, once a transaction.

create function sync.write_pipeline(p_clients uuid[], p_happenings sync.happening[])
returns timestamptz
language plpgsql
set search_path = ''
set enable_nestloop = off -- one client or 2,500: see sync.apply_events
set plan_cache_mode = force_generic_plan
as $$
declare
  v_now timestamptz := sync.clock();
  v_next timestamptz;
begin
  -- A statement of its own: the next one sees what this one waited for.
  perform 1 from public.pipeline as place
  where place.client_id = any (p_clients)
  order by place.client_id
  for no key update;

  with recursive state as materialized (
    select
      client.id as client_id, client.organization_id, coalesce(place.stage, 'new') as stage,
      coalesce(place.stage_set_by, 'rule') as stage_set_by,
      coalesce(place.stage_set_at, v_now) as stage_set_at
    from public.clients as client
    left join public.pipeline as place
      on place.client_id = any (p_clients) and place.client_id = client.id
    where client.id = any (p_clients)
  ),

  -- A tentative meeting is to come, but once its time is over nobody knows that it took place.
  times as materialized (
    select
      meeting.client_id,
      max(meeting.starts_at) filter (
        where meeting.status = 'completed' -- before its time, too: they have met
          or (meeting.starts_at <= v_now and meeting.status in ('scheduled', 'confirmed'))
      ) as last_at,
      min(meeting.starts_at) filter (
        where meeting.starts_at > v_now
          and meeting.status in ('scheduled', 'confirmed', 'tentative')
      ) as next_at
    from public.meetings as meeting
    where meeting.client_id = any (p_clients) and meeting.merged_into is null
      and meeting.deleted_at is null
    group by meeting.client_id
  ),

  -- A series booked at once is one booking.
  step as materialized (
    select
      happened.client_id, happened.kind, happened.at,
      row_number() over (
        partition by happened.client_id
        order by
          happened.at,
          array_position(array['cancelled', 'no_show', 'met', 'booked'], happened.kind)
      ) as place
    from (
      select told.client_id, told.kind, max(told.at) as at
      from unnest(p_happenings) as told
      group by told.client_id, told.kind
    ) as happened
    left join times on times.client_id = happened.client_id
    where happened.kind <> 'cancelled' or times.next_at is null
  ),

  rule as materialized (
    select known.organization_id, known.happening, known.from_stage, known.to_stage
    from public.pipeline_rules as known
    where known.organization_id = any (array(select state.organization_id from state))
  ),

  walk as (
    select state.*, 0::bigint as place from state
    union all
    select
      walk.client_id, walk.organization_id,
      case when may.move then next_stage.name else walk.stage end,
      walk.stage_set_by,
      case when may.move then step.at else walk.stage_set_at end,
      step.place
    from walk
    join step on step.client_id = walk.client_id and step.place = walk.place + 1
    left join rule as exact
      on exact.organization_id = walk.organization_id and exact.happening = step.kind
      and exact.from_stage = walk.stage
    left join rule as general
      on general.organization_id = walk.organization_id and general.happening = step.kind
      and general.from_stage is null
    cross join lateral (select coalesce(exact.to_stage, general.to_stage) as name) as next_stage
    cross join lateral (
      select
        next_stage.name <> walk.stage and walk.stage_set_by = 'rule'
        -- What happened before the last move, and is heard of only now, moves nobody back.
        and (walk.stage = 'new' or step.at >= walk.stage_set_at) is true as move
    ) as may
  ),

  moved as (
    select distinct on (walk.client_id) walk.*
    from walk
    order by walk.client_id, walk.place desc
  ),

  written as (
    insert into public.pipeline as known (
      client_id, organization_id, stage, stage_set_by, stage_set_at, last_meeting_at,
      next_meeting_at
    )
    select
      moved.client_id, moved.organization_id, moved.stage, moved.stage_set_by,
      moved.stage_set_at, times.last_at, times.next_at
    from moved
    left join times on times.client_id = moved.client_id
    order by moved.client_id
    on conflict (client_id) do update
    set
      stage = excluded.stage, stage_set_at = excluded.stage_set_at,
      last_meeting_at = excluded.last_meeting_at, next_meeting_at = excluded.next_meeting_at
    where (
      known.stage, known.stage_set_at, known.last_meeting_at, known.next_meeting_at
    ) is distinct from (
      excluded.stage, excluded.stage_set_at, excluded.last_meeting_at, excluded.next_meeting_at
    )
    returning known.next_meeting_at
  )

  select min(written.next_meeting_at) into v_next from written;
  return v_next;
end;
$$;
comment on function sync.write_pipeline(uuid[], sync.happening[]) is
'Brings clients'' stage, last and next meeting up to date; what is so already is not written. Returns the first next meeting written.';
revoke all on function sync.write_pipeline(uuid[], sync.happening[]) from public;
grant execute on function sync.write_pipeline(uuid[], sync.happening[]) to sync_engine;

-- Asking for the task `advance`, which every meeting's start and end needs: the one row of it must
-- not be what all writers queue for. So the row is read without a lock, and touched only where it
-- is too late. What makes that safe is a lock that all share until they commit, and that a run of
-- `advance` must get alone before it trusts what it sees.

create function sync.request_advance(p_at timestamptz)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_at timestamptz := greatest(p_at, sync.clock());
begin
  perform pg_advisory_xact_lock_shared(hashtext('supacal'), hashtext('advance'));
  if p_at is null or exists (
    select 1 from sync.tasks as task
    where task.subject_id = '00000000-0000-0000-0000-000000000000' and task.kind = 'advance'
      and case when task.lease is null then task.run_at else task.again_at end <= v_at
  ) then
    return;
  end if;
  perform sync.request_task(
    'advance', '00000000-0000-0000-0000-000000000000', null, 2::smallint, v_at
  );
end;
$$;
comment on function sync.request_advance(timestamptz) is
'Asks that the task advance runs no later than this; in the last step of a transaction.';
revoke all on function sync.request_advance(timestamptz) from public;
grant execute on function sync.request_advance(timestamptz) to sync_engine;
grant select (kind, subject_id, run_at, lease, again_at) on sync.tasks to sync_engine;

-- What time completed and somebody puts off is to come again. What a person or a booking completed
-- is not: history tells.

create function sync.reopen_meetings(p_meetings uuid[])
returns void
language sql
set search_path = ''
as $$
  update public.meetings as meeting
  set status = last.was, version = meeting.version + 1
  from (
    select distinct on (history.meeting_id)
      history.meeting_id, history.side, history.changes #>> '{status,from}' as was
    from public.meeting_history as history
    where history.meeting_id = any (p_meetings) and history.changes ? 'status'
    order by history.meeting_id, history.id desc
  ) as last
  where meeting.id = any (p_meetings) and meeting.id = last.meeting_id
    and meeting.status = 'completed' and last.side = 'engine'
    and last.was in ('scheduled', 'confirmed')
$$;
comment on function sync.reopen_meetings(uuid[]) is
'Gives completed meetings that were put off the status they had before their time was over, unless it was not time that completed them.';
revoke all on function sync.reopen_meetings(uuid[]) from public;
grant execute on function sync.reopen_meetings(uuid[]) to sync_engine;
grant select on public.meeting_history to sync_engine;

create function sync.settle_pipeline()
returns trigger
language plpgsql
security definer -- owned by sync_engine: a stage that it sets is no user's
set search_path = ''
as $$
declare
  v_clients uuid[];
  v_happenings sync.happening[];
  v_advance_at timestamptz;
  v_next timestamptz;
  v_put_off uuid[];
begin
  with taken as (
    delete from sync.pipeline_news as news
    where news.transaction_id = pg_current_xact_id()
    returning news.clients, news.happenings, news.advance_at, news.put_off
  )

  select
    (
      select array_agg(distinct whose.client_id)
      from taken cross join lateral unnest(taken.clients) as whose (client_id)
    ),
    (
      select array_agg((told.client_id, told.kind, told.at)::sync.happening)
      from taken cross join lateral unnest(taken.happenings) as told
    ),
    (select min(taken.advance_at) from taken),
    (
      select array_agg(whose.meeting_id)
      from taken cross join lateral unnest(taken.put_off) as whose (meeting_id)
    )
  into v_clients, v_happenings, v_advance_at, v_put_off;

  if v_put_off is not null then
    perform sync.reopen_meetings(v_put_off); -- which is noted, and settled after this
  end if;

  if v_clients is not null then
    v_next := sync.write_pipeline(v_clients, v_happenings);
  end if;
  if v_next is not null or v_advance_at is not null then
    perform sync.request_advance(least(v_next, v_advance_at));
  end if;
  return null;
end;
$$;
comment on function sync.settle_pipeline() is
'Deferred trigger: before a transaction commits, writes into the pipeline what it did to meetings. The first of its notes settles all.';

create constraint trigger pipeline_news_settled after insert on sync.pipeline_news
deferrable initially deferred
for each row execute function sync.settle_pipeline();

-- What only time does.

create function sync.advance(p_task_id bigint, p_lease uuid, p_limit integer default 5000)
returns table (completed integer, moved integer, next_at timestamptz)
language plpgsql
security definer -- owned by sync_engine: users' triggers know its writes by that
set search_path = ''
set enable_nestloop = off -- as sync.write_pipeline
as $$
#variable_conflict use_column
declare
  v_now timestamptz := sync.clock();
  v_over uuid[];
  v_begun uuid[];
  v_completed integer := 0;
  v_next timestamptz;
begin
  perform sync.hold_task(p_task_id, p_lease);
  v_over := array(
    select meeting.id from public.meetings as meeting
    where meeting.status in ('scheduled', 'confirmed') and meeting.merged_into is null
      and meeting.deleted_at is null and meeting.ends_at <= v_now
    order by meeting.ends_at
    limit p_limit
  );
  if v_over <> '{}' then
    with held as materialized (
      select meeting.id from public.meetings as meeting
      where meeting.id = any (v_over) and meeting.status in ('scheduled', 'confirmed')
        and meeting.merged_into is null and meeting.deleted_at is null
        and meeting.ends_at <= v_now
      order by meeting.id
      -- Whoever edits one for long must not hold up time for all.
      for no key update skip locked
    )

    update public.meetings as meeting
    set status = 'completed', version = meeting.version + 1
    from held
    where meeting.id = any (v_over) and meeting.id = held.id;
    get diagnostics v_completed = row_count;
  end if;

  v_begun := array(
    select place.client_id from public.pipeline as place
    where place.next_meeting_at <= v_now
    order by place.next_meeting_at
    limit p_limit
  );
  if v_begun <> '{}' then
    insert into sync.pipeline_news (clients) values (v_begun);
  end if;
  -- Now and not at the commit: what comes next is read from what this writes.
  set constraints sync.pipeline_news_settled immediate;
  set constraints sync.pipeline_news_settled deferred;

  if cardinality(v_over) >= p_limit or cardinality(v_begun) >= p_limit then
    return query select v_completed, cardinality(v_begun), v_now;
    return;
  end if;
  if not pg_try_advisory_xact_lock(hashtext('supacal'), hashtext('advance')) then
    -- Somebody is about to commit what is not seen yet.
    v_next := v_now + interval '1 second';
  end if;
  select least(
    v_next,
    (
      select min(meeting.ends_at) from public.meetings as meeting
      where meeting.status in ('scheduled', 'confirmed') and meeting.merged_into is null
        and meeting.deleted_at is null
    ),
    (select min(place.next_meeting_at) from public.pipeline as place)
  )
  into v_next;
  -- What was locked is tried again in a second.
  return query select
    v_completed, cardinality(v_begun),
    case when v_next <= v_now then v_now + interval '1 second' else v_next end;
end;
$$;
comment on function sync.advance(bigint, uuid, integer) is
'Completes meetings that are over, moves next meetings that have begun, at most p_limit of each; next_at = when the next one ends or begins. CS001 where a later lease holds the task.';
revoke all on function sync.settle_pipeline() from public;
revoke all on function sync.advance(bigint, uuid, integer) from public;
grant execute on function sync.advance(bigint, uuid, integer) to sync_worker;

grant create on schema sync to sync_engine; -- owning a function there needs it, for a moment
alter function sync.settle_pipeline() owner to sync_engine;
alter function sync.advance(bigint, uuid, integer) owner to sync_engine;
revoke create on schema sync from sync_engine;

select sync.request_task(
  'advance', '00000000-0000-0000-0000-000000000000', null, 2::smallint, now()
);

-- Rules to begin with: useful as they are, and the organization's to change.

create function sync.seed_pipeline_rules()
returns trigger
language plpgsql
security definer -- whoever makes an organization has no rules yet to be admin of
set search_path = ''
as $$
begin
  insert into public.pipeline_rules (organization_id, happening, to_stage)
  select organization.id, happening.name, happening.name
  from new_rows as organization
  cross join unnest(array['booked', 'met', 'cancelled', 'no_show']) as happening (name)
  on conflict do nothing;
  return null;
end;
$$;
comment on function sync.seed_pipeline_rules() is
'Statement trigger: a new organization''s rules: whatever happens moves its client to the stage of that name.';
revoke all on function sync.seed_pipeline_rules() from public;

create trigger organizations_pipeline_rules after insert on public.organizations
referencing new table as new_rows
for each statement execute function sync.seed_pipeline_rules();

insert into public.pipeline_rules (organization_id, happening, to_stage)
select organization.id, happening.name, happening.name as to_stage
from public.organizations as organization
cross join unnest(array['booked', 'met', 'cancelled', 'no_show']) as happening (name)
on conflict do nothing;

insert into sync.pipeline_news (clients)
select array_agg(client.id) from public.clients as client
having count(*) > 0;
