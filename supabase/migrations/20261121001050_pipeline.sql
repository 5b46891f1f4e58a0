-- The pipeline: where each client stands, and when they were and will be met.
--
-- While a stage is the rules', it follows from the client's meetings as they stand and from the
-- organization's rules, and from nothing else: not from when or in which order anybody heard of
-- what. The meetings are walked in the order of their ends, beginning at the stage `new`. Of each,
-- first it was booked, then something became of it, and each time a rule may move the client:
--
--   booked      it stands, or stood; all that are still to come are one booking, the last step
--   met         it is completed, or stands and is over, which the task `advance` will complete
--   no_show     somebody did not come
--   cancelled   it is cancelled; counts only while no other one is to come
--
-- A statement only notes whose meetings it changed. Once a transaction, as the last thing before
-- it commits, their places are worked out and written: whatever a page of events and a user do at
-- the same time, they lock rows of the pipeline in one order and for a moment only. So within a
-- transaction the pipeline is that of before.

create unlogged table sync.pipeline_news (
  transaction_id xid8 not null default pg_current_xact_id(),
  place bigint generated always as identity,
  clients uuid[],
  advance_at timestamptz,
  put_off uuid[],
  primary key (transaction_id, place)
);
comment on table sync.pipeline_news is
'What statements of transactions under way did to meetings and clients. Emptied before each of them commits.';
comment on column sync.pipeline_news.clients is 'Whose place may be another now.';
comment on column sync.pipeline_news.advance_at is 'When the task advance has to run at the latest: the first of the changed meetings is over.';
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
begin
  insert into sync.pipeline_news (clients, advance_at)
  select
    array_agg(distinct meeting.client_id) filter (where meeting.client_id is not null),
    min(meeting.ends_at) filter (where meeting.status in ('scheduled', 'confirmed'))
  from new_rows as meeting
  where meeting.merged_into is null and meeting.deleted_at is null
    and (meeting.client_id is not null or meeting.status in ('scheduled', 'confirmed'))
  having count(*) > 0;
  return null;
end;
$$;
comment on function sync.note_meetings_inserted() is
'Statement trigger: notes for the pipeline whose meetings are new.';
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
  insert into sync.pipeline_news (clients, advance_at, put_off)
  with changed as materialized (
    select
      new_row.id, new_row.client_id, old_row.client_id as old_client_id, new_row.ends_at,
      new_row.status in ('scheduled', 'confirmed') and new_row.merged_into is null
      and new_row.deleted_at is null as stands,
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
  )

  select
    (
      select array_agg(distinct whose.client_id)
      from (
        select changed.client_id from changed
        union all
        select changed.old_client_id from changed
      ) as whose
      where whose.client_id is not null
    ),
    min(changed.ends_at) filter (where changed.stands),
    array_agg(changed.id) filter (where changed.is_put_off)
  from changed
  having count(*) > 0;
  return null;
end;
$$;
comment on function sync.note_meetings_updated() is
'Statement trigger: notes for the pipeline whose meetings changed. A new title means nothing.';
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
comment on trigger meetings_pipeline_inserted on public.meetings is
'By statement: a page may bring 2,500 meetings, which are one note.';
create trigger meetings_pipeline_updated after update on public.meetings
referencing old table as old_rows new table as new_rows
for each statement execute function sync.note_meetings_updated();
comment on trigger meetings_pipeline_updated on public.meetings is
'Both images: a meeting that is given to another client concerns the two of them.';
create trigger meetings_pipeline_deleted after delete on public.meetings
referencing old table as old_rows
for each statement execute function sync.note_meetings_deleted();
comment on trigger meetings_pipeline_deleted on public.meetings is
'The API deletes no meeting; who does by hand leaves a pipeline that is true all the same.';
create trigger clients_pipeline_inserted after insert on public.clients
referencing new table as new_rows
for each statement execute function sync.note_clients_inserted();
comment on trigger clients_pipeline_inserted on public.clients is
'A board shows at `new` whom nobody has met yet.';

create function sync.note_stage_handed_back()
returns trigger
language plpgsql
security definer -- as note_meetings_inserted
set search_path = ''
as $$
begin
  insert into sync.pipeline_news (clients) values (array[new.client_id]);
  return null;
end;
$$;
comment on function sync.note_stage_handed_back() is
'Row trigger on pipeline: a client whom a user gives back to the rules stands where the rules say, as this commits.';
revoke all on function sync.note_stage_handed_back() from public;

create trigger pipeline_stage_handed_back after update of stage on public.pipeline
for each row when (current_user <> 'sync_engine' and new.stage_set_by = 'rule')
execute function sync.note_stage_handed_back();
comment on trigger pipeline_stage_handed_back on public.pipeline is
'After pipeline_stage_set, which is what makes the row the rules'' again.';

-- Writing, once a transaction.

create function sync.stage_after(p_rules jsonb, p_became text[])
returns text
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_stage text := 'new';
  v_became text;
begin
  foreach v_became in array p_became loop
    v_stage := coalesce(
      p_rules #>> array['booked', 'from', v_stage], p_rules #>> '{booked,any}', v_stage
    );
    if v_became <> 'booked' then
      v_stage := coalesce(
        p_rules #>> array[v_became, 'from', v_stage], p_rules #>> array[v_became, 'any'], v_stage
      );
    end if;
  end loop;
  return v_stage;
end;
$$;
comment on function sync.stage_after(jsonb, text[]) is
'Where the rules, {happening: {any: stage, from: {stage: stage}}}, take somebody whose meetings became this, each of which was booked before.';
revoke all on function sync.stage_after(jsonb, text[]) from public;
grant execute on function sync.stage_after(jsonb, text[]) to sync_engine;

create function sync.write_pipeline(p_clients uuid[])
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

  with state as materialized (
    select
      client.id as client_id, client.organization_id, place.stage, place.stage_set_at,
      place.last_meeting_at, place.next_meeting_at, place.client_id is null as is_missing,
      coalesce(place.stage_set_by = 'user', false) as is_users
    from public.clients as client
    left join public.pipeline as place
      on place.client_id = any (p_clients) and place.client_id = client.id
    where client.id = any (p_clients)
  ),

  -- resets: what takes everybody to one stage, wherever they stood.
  rules as materialized (
    select
      rule.organization_id,
      jsonb_object_agg(rule.happening, rule.stages) as stages,
      array_agg(rule.happening) filter (where rule.is_reset) as resets
    from (
      select
        known.organization_id, known.happening,
        jsonb_build_object(
          'any', min(known.to_stage) filter (where known.from_stage is null),
          'from', jsonb_object_agg(known.from_stage, known.to_stage)
          filter (where known.from_stage is not null)
        ) as stages,
        bool_and(known.from_stage is null) as is_reset
      from public.pipeline_rules as known
      where known.organization_id = any (array(select distinct state.organization_id from state))
      group by known.organization_id, known.happening
    ) as rule
    group by rule.organization_id
  ),

  life as materialized (
    select
      state.*, summed.last_at, summed.next_at,
      coalesce(summed.is_booked, false) as is_booked,
      coalesce(summed.is_booked or summed.is_asked_for, false) as is_awaited,
      -- Where it ends in a reset, that alone counts.
      case
        when summed.is_booked and 'booked' = any (rules.resets) and not state.is_users
          then rules.stages #>> '{booked,any}'
      end as booked_to,
      case
        when not summed.is_booked
          then least(v_now, greatest(summed.met_at, summed.missed_at, called_off.at))
        else v_now
      end as at,
      -- What was before the last one need not be walked.
      coalesce(
        greatest(
          case when rules.resets && array['booked', 'met'] then summed.met_at end,
          case when rules.resets && array['booked', 'no_show'] then summed.missed_at end,
          case when rules.resets && array['booked', 'cancelled'] then called_off.at end
        ),
        '-infinity'
      ) as walk_from
    from state
    left join (
      -- A tentative meeting is to come, but once its time is over nobody knows that it took place.
      select
        meeting.client_id,
        max(meeting.starts_at) filter (
          where meeting.status = 'completed' -- before its time, too: they have met
            or (meeting.starts_at <= v_now and meeting.status in ('scheduled', 'confirmed'))
        ) as last_at,
        min(meeting.starts_at) filter (
          where meeting.starts_at > v_now
            and meeting.status in ('scheduled', 'confirmed', 'tentative')
        ) as next_at,
        bool_or(meeting.ends_at > v_now and meeting.status in ('scheduled', 'confirmed'))
          as is_booked,
        bool_or(meeting.starts_at > v_now and meeting.status = 'tentative') as is_asked_for,
        max(meeting.ends_at) filter (
          where meeting.status = 'completed'
            or (meeting.ends_at <= v_now and meeting.status in ('scheduled', 'confirmed'))
        ) as met_at,
        max(meeting.ends_at) filter (where meeting.status = 'no_show') as missed_at,
        max(meeting.ends_at) filter (where meeting.status = 'cancelled') as cancelled_at
      from public.meetings as meeting
      where meeting.client_id = any (p_clients) and meeting.merged_into is null
        and meeting.deleted_at is null
      group by meeting.client_id
    ) as summed on summed.client_id = state.client_id
    left join rules on rules.organization_id = state.organization_id
    cross join lateral (
      select
        case when not (summed.is_booked or summed.is_asked_for) then summed.cancelled_at end as at
    ) as called_off
  ),

  walked as (
    select
      step.client_id,
      array_agg(
        step.became
        order by step.ends_at, step.starts_at, step.became = 'met', step.became = 'no_show'
      ) as became
    from (
      select
        meeting.client_id, meeting.starts_at, meeting.ends_at,
        case
          when meeting.status = 'no_show' then 'no_show'
          when meeting.status = 'cancelled' and not life.is_awaited then 'cancelled'
          when meeting.status = 'completed' then 'met'
          when meeting.status in ('scheduled', 'confirmed') and meeting.ends_at <= v_now then 'met'
        end as became
      from public.meetings as meeting
      join life on life.client_id = meeting.client_id
      where meeting.client_id = any (array(
          select walking.client_id from life as walking
          where not walking.is_users and walking.booked_to is null
        ))
        and meeting.ends_at >= life.walk_from and meeting.merged_into is null
        and meeting.deleted_at is null
    ) as step
    where step.became is not null
    group by step.client_id
  ),

  way as materialized (
    select
      life.client_id, life.organization_id,
      coalesce(walked.became, '{}')
      || case when life.is_booked then array['booked'] else '{}' end as became
    from life
    left join walked on walked.client_id = life.client_id
    where not life.is_users and life.booked_to is null
  ),

  -- Most of many went the same way: each way is followed once.
  goal as (
    select
      each_way.organization_id, each_way.became,
      sync.stage_after(rules.stages, each_way.became) as stage
    from (select distinct way.organization_id, way.became from way) as each_way
    left join rules on rules.organization_id = each_way.organization_id
  ),

  told as (
    select
      life.client_id, life.organization_id, stands_at.stage,
      case when stands_at.stage = life.stage then life.stage_set_at else life.at end
        as stage_set_at,
      life.last_at, life.next_at
    from life
    left join way on way.client_id = life.client_id
    left join goal on goal.organization_id = way.organization_id and goal.became = way.became
    cross join lateral (
      select coalesce(life.booked_to, goal.stage, life.stage) as stage
    ) as stands_at
    where life.is_missing
      or (stands_at.stage, life.last_at, life.next_at)
      is distinct from (life.stage, life.last_meeting_at, life.next_meeting_at)
  ),

  written as (
    insert into public.pipeline as known (
      client_id, organization_id, stage, stage_set_at, last_meeting_at, next_meeting_at
    )
    select
      told.client_id, told.organization_id, told.stage, told.stage_set_at, told.last_at,
      told.next_at
    from told
    order by told.client_id
    on conflict (client_id) do update
    set
      stage = excluded.stage, stage_set_at = excluded.stage_set_at,
      last_meeting_at = excluded.last_meeting_at, next_meeting_at = excluded.next_meeting_at
    returning known.next_meeting_at
  )

  select min(written.next_meeting_at) into v_next from written;
  return v_next;
end;
$$;
comment on function sync.write_pipeline(uuid[]) is
'Brings clients'' stage, last and next meeting up to date; what is so already is not written. Returns the first next meeting written.';
revoke all on function sync.write_pipeline(uuid[]) from public;
grant execute on function sync.write_pipeline(uuid[]) to sync_engine;
