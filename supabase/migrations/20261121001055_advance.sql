-- What time does to meetings and clients, and the settling of what transactions did to them.

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
  v_advance_at timestamptz;
  v_next timestamptz;
  v_put_off uuid[];
begin
  with taken as (
    delete from sync.pipeline_news as news
    where news.transaction_id = pg_current_xact_id()
    returning news.clients, news.advance_at, news.put_off
  )

  select
    (
      select array_agg(distinct whose.client_id)
      from taken cross join lateral unnest(taken.clients) as whose (client_id)
    ),
    (select min(taken.advance_at) from taken),
    (
      select array_agg(whose.meeting_id)
      from taken cross join lateral unnest(taken.put_off) as whose (meeting_id)
    )
  into v_clients, v_advance_at, v_put_off;

  if v_put_off is not null then
    perform sync.reopen_meetings(v_put_off); -- which is noted, and settled after this
  end if;

  if v_clients is not null then
    v_next := sync.write_pipeline(v_clients);
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
comment on trigger pipeline_news_settled on sync.pipeline_news is
'Deferred: however many statements a transaction has, clients are worked out and locked once, in one order, for a moment.';

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
  v_ruled uuid[];
  v_completed integer := 0;
  v_moved integer;
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
  v_ruled := sync.clients_of_changed_rules(p_limit);
  if v_begun <> '{}' or v_ruled <> '{}' then
    insert into sync.pipeline_news (clients) values (v_begun || v_ruled);
  end if;
  -- Now and not at the commit: what comes next is read from what this writes.
  set constraints sync.pipeline_news_settled immediate;
  set constraints sync.pipeline_news_settled deferred;

  v_moved := cardinality(v_begun) + cardinality(v_ruled);
  if greatest(cardinality(v_over), cardinality(v_begun), cardinality(v_ruled)) >= p_limit then
    return query select v_completed, v_moved, v_now;
    return;
  end if;
  if exists (select 1 from sync.changed_rules)
    or not pg_try_advisory_xact_lock(hashtext('supacal'), hashtext('advance'))
  then
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
    v_completed, v_moved,
    case when v_next <= v_now then v_now + interval '1 second' else v_next end;
end;
$$;
comment on function sync.advance(bigint, uuid, integer) is
'Completes meetings that are over, moves next meetings that have begun, goes through clients whose rules changed, at most p_limit of each; next_at = when the next one ends or begins. CS001 where a later lease holds the task.';
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
