-- The queue's first half: webhook requests as received, verified and stored. Append-only.
--
-- A day is a partition, so old days leave by DROP and hot tables stay small. No default
-- partition takes rows silently: the one there is only keeps the receiver answering should the
-- days run out, and `check` raises an alert as soon as it holds a row. Nothing references these
-- tables: a foreign key to a partitioned queue would block dropping.

create sequence sync.webhook_deliveries_id_seq as bigint;
comment on sequence sync.webhook_deliveries_id_seq is
'Ids of deliveries. Not in commit order: never read a queue by "greater than the last id".';

create table sync.webhook_deliveries (
  id bigint not null default nextval('sync.webhook_deliveries_id_seq'),
  received_at timestamptz not null,
  provider text not null,
  kind text not null,
  organization_id uuid,
  connection_id uuid,
  channel_id uuid,
  routing_key text,
  headers jsonb not null default '{}',
  body jsonb,
  primary key (id, received_at),
  constraint webhook_deliveries_kind_is_known
  check (kind in ('hello', 'change', 'lifecycle', 'booking'))
) partition by range (received_at);
comment on table sync.webhook_deliveries is
'The queue: every webhook request that was verified and is ours, as received. Append-only, a partition a day.';
comment on column sync.webhook_deliveries.kind is
'hello (a channel''s first message), change (something changed: pull), lifecycle (about the channel), booking (carries data).';
comment on column sync.webhook_deliveries.headers is 'Only the headers that matter, under short names; never a token.';
create index webhook_deliveries_channel on sync.webhook_deliveries (channel_id, received_at);
comment on index sync.webhook_deliveries_channel is
'What came by a channel, and when: for whoever looks why a calendar is behind, as `supacal tour` does.';
create index webhook_deliveries_organization
on sync.webhook_deliveries (organization_id, received_at);
comment on index sync.webhook_deliveries_organization is
'public.webhook_logs is read by organization, newest first; webhook_success and sync_lag read its last day.';

create table sync.webhook_deliveries_default partition of sync.webhook_deliveries default;
comment on table sync.webhook_deliveries_default is 'An alarm: a row here means that the days ahead ran out.';

create table sync.delivery_states (
  delivery_id bigint primary key,
  received_at timestamptz not null,
  connection_id uuid not null,
  kind text not null default 'booking',
  state text not null default 'received',
  attempts integer not null default 0,
  retry_at timestamptz,
  error text,
  updated_at timestamptz not null default now(),
  constraint delivery_states_kind_is_known check (kind in ('booking', 'lifecycle')),
  constraint delivery_states_state_is_known
  check (state in ('received', 'done', 'ignored', 'failed', 'dead'))
);
comment on table sync.delivery_states is
'What became of a delivery of a booking provider. Narrow, so that the wide delivery is never rewritten.';
comment on column sync.delivery_states.kind is
'booking, or lifecycle: something was missed, and a sweep has to find it.';
comment on column sync.delivery_states.state is
'received, done, ignored (no booking), failed (tried again at retry_at), dead (not any more, unless replayed).';
create index delivery_states_open on sync.delivery_states (connection_id, delivery_id)
where state in ('received', 'failed') and kind = 'booking';
comment on index sync.delivery_states_open is
'sync.open_deliveries takes from the head of a connection''s line, oldest first; those that are done are not in it.';
create index delivery_states_missed on sync.delivery_states (connection_id)
where state = 'received' and kind = 'lifecycle';
comment on index sync.delivery_states_missed is
'Each ingest asks here whether something was not delivered, which nearly always is nothing.';
create index delivery_states_dead on sync.delivery_states (connection_id)
where state = 'dead';
comment on index sync.delivery_states_dead is
'sync.finish_ingest closes the alert once none is left of the connection.';

create sequence sync.runs_id_seq as bigint;
comment on sequence sync.runs_id_seq is 'Ids of runs.';

create table sync.runs (
  id bigint not null default nextval('sync.runs_id_seq'),
  started_at timestamptz not null,
  finished_at timestamptz not null,
  task_id bigint not null,
  kind text not null,
  subject_id uuid not null,
  connection_id uuid,
  lane smallint not null,
  attempt integer not null,
  due_at timestamptz not null,
  outcome text not null,
  error text,
  created integer not null default 0,
  updated integer not null default 0,
  cancelled integer not null default 0,
  unchanged integer not null default 0,
  set_aside integer not null default 0,
  api_calls integer not null default 0,
  steps jsonb not null default '{}',
  primary key (id, started_at),
  constraint runs_outcome_is_known check (outcome in ('done', 'failed', 'lost'))
) partition by range (started_at);
comment on table sync.runs is
'One row per run of a task that did something (idle polls only count): what, how long each step, how it ended.';
comment on column sync.runs.due_at is 'When the task had been due: started_at minus this is the wait.';
comment on column sync.runs.outcome is 'done; failed (again later); lost (the lease went to another worker).';
comment on column sync.runs.steps is 'Milliseconds by step: {"api": 41.2, "apply": 7.9}.';
create index runs_subject on sync.runs (subject_id, started_at);
comment on index sync.runs_subject is
'The first good run after a notification is its answer; sync_health reads the last one''s lag.';

create table sync.runs_default partition of sync.runs default;
comment on table sync.runs_default is 'An alarm: a row here means that the days ahead ran out.';

-- Days ahead are made, days gone are dropped. DDL on a busy parent waits for a lock, and whoever
-- comes behind it waits too: 200 ms, then the next run of `keep` tries again.

create function sync.make_partition(p_parent text, p_day date)
returns boolean
language plpgsql
set search_path = ''
set lock_timeout = '200ms'
as $$
declare
  v_name text := format('%s_%s', p_parent, to_char(p_day, 'YYYYMMDD'));
  v_time text := case p_parent when 'runs' then 'started_at' else 'received_at' end;
  v_from text := p_day::text || ' 00:00+00';
  v_to text := (p_day + 1)::text || ' 00:00+00';
begin
  if to_regclass(format('sync.%I', v_name)) is not null then
    return false;
  end if;
  -- Made beside the parent and then attached: attaching lets inserts pass, `partition of` would not.
  execute format('create table sync.%I (like sync.%I including all)', v_name, p_parent);
  execute format('alter table sync.%I enable row level security', v_name);
  execute format('comment on table sync.%I is %L', v_name, format('%s of %s, UTC.', p_parent, p_day));
  -- One row of the day in the default partition would forbid attaching it, for good.
  execute format('lock table sync.%I in access exclusive mode', p_parent || '_default');
  execute format(
    'with strays as (
       delete from sync.%I as stray where stray.%I >= %L and stray.%I < %L returning stray.*
     )
     insert into sync.%I select strays.* from strays',
    p_parent || '_default', v_time, v_from, v_time, v_to, v_name
  );
  execute format(
    'alter table sync.%I attach partition sync.%I for values from (%L) to (%L)',
    p_parent, v_name, v_from, v_to
  );
  return true;
end;
$$;
comment on function sync.make_partition(text, date) is
'Adds one UTC day to a table of the queue, with the rows that had to go to the default partition for want of it; false where it is there already.';
revoke all on function sync.make_partition(text, date) from public;

create function sync.make_partitions(p_days_ahead integer)
returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_today date := (sync.clock() at time zone 'UTC')::date;
  v_made integer := 0;
  v_parent text;
  v_day date;
begin
  foreach v_parent in array array['webhook_deliveries', 'runs'] loop
    for v_day in
      select generate_series(v_today - 1, v_today + p_days_ahead, interval '1 day')::date
    loop
      begin
        v_made := v_made + sync.make_partition(v_parent, v_day)::integer;
      exception
        when lock_not_available then
          -- A dump reads the queue, say. There are weeks of days ahead: try next time.
          return v_made;
      end;
    end loop;
  end loop;
  return v_made;
end;
$$;
comment on function sync.make_partitions(integer) is
'Makes the partitions from yesterday to so many days ahead, unless somebody reads the queue just now; returns how many it made.';
revoke all on function sync.make_partitions(integer) from public;

create function sync.drop_partitions(p_days_kept integer)
returns integer
language plpgsql
set search_path = ''
set lock_timeout = '200ms'
as $$
declare
  v_oldest text := to_char((sync.clock() at time zone 'UTC')::date - p_days_kept, 'YYYYMMDD');
  v_dropped integer := 0;
  v_partition record;
  v_open boolean;
begin
  for v_partition in
    select class.relname as name, parent.relname as parent_name
    from pg_catalog.pg_inherits as inherits
    join pg_catalog.pg_class as class on class.oid = inherits.inhrelid
    join pg_catalog.pg_class as parent on parent.oid = inherits.inhparent
    where inherits.inhparent in ('sync.webhook_deliveries'::regclass, 'sync.runs'::regclass)
      and class.relname ~ '_[0-9]{8}$'
      and right(class.relname, 8) < v_oldest
    order by class.relname
  loop
    v_open := false;
    if v_partition.parent_name = 'webhook_deliveries' then
      execute format(
        'select exists (select 1 from sync.delivery_states as state
           join sync.%I as delivery on delivery.id = state.delivery_id
           where state.state in (''received'', ''failed''))',
        v_partition.name
      ) into v_open;
    end if;
    if not v_open then
      begin
        if v_partition.parent_name = 'webhook_deliveries' then
          execute format(
            'delete from sync.delivery_states as state
             using sync.%I as delivery
             where state.delivery_id = delivery.id',
            v_partition.name
          );
        end if;
        execute format('drop table sync.%I', v_partition.name);
        v_dropped := v_dropped + 1;
      exception
        when lock_not_available then
          -- A dump reads the queue, say. Inserts wait behind us: let them pass, try next time.
          exit;
      end;
    end if;
  end loop;
  return v_dropped;
end;
$$;
comment on function sync.drop_partitions(integer) is
'Drops days older than so many, with what became of their deliveries, except those with booking deliveries still open and those that somebody reads just now; returns how many.';
revoke all on function sync.drop_partitions(integer) from public;

create function sync.keep_partitions(
  p_days_ahead integer default 30, p_days_kept integer default 14
)
returns integer
language plpgsql
security definer -- the worker may keep the queue's days, and own nothing for it
set search_path = ''
as $$
begin
  return sync.make_partitions(p_days_ahead) + sync.drop_partitions(p_days_kept);
end;
$$;
comment on function sync.keep_partitions(integer, integer) is
'Makes the days ahead and drops the days gone; returns how many tables that touched.';
revoke all on function sync.keep_partitions(integer, integer) from public;
grant execute on function sync.keep_partitions(integer, integer) to sync_worker;

select sync.make_partitions(30);
