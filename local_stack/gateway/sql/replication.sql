-- Replication: the slot, what it publishes, and the days of realtime.messages.

-- name: make_messages_publication
do $$
begin
  if to_regclass('realtime.messages') is not null and not exists (
    select from pg_publication where pubname = 'supabase_realtime_messages_publication'
  ) then
    create publication supabase_realtime_messages_publication for table realtime.messages;
  end if;
end;
$$

-- name: publications
-- Which of $1 exist: a slot that names another fails at its first change.
select pubname from pg_publication where pubname = any($1::text[]) order by pubname

-- name: slot_exists
select exists (select from pg_replication_slots where slot_name = $1)

-- name: make_slot
select pg_create_logical_replication_slot($1, 'pgoutput')

-- name: stop_slot_reader
select pg_terminate_backend(active_pid)
from pg_replication_slots
where slot_name = $1 and active_pid is not null

-- name: drop_slot
select pg_drop_replication_slot(slot_name)
from pg_replication_slots
where slot_name = $1 and not active

-- name: drop_abandoned_slots
-- Slots of gateways that were killed: inactive for a minute, where the server can tell.
select pg_drop_replication_slot(slot.slot_name)
from pg_replication_slots as slot
where
  slot.slot_name like $1
  and not slot.active
  and slot.database = current_database()
  and coalesce(
    (to_jsonb(slot) ->> 'inactive_since')::timestamptz < now() - interval '1 minute', true
  )

-- name: start_replication
START_REPLICATION SLOT {slot} LOGICAL {lsn}
  (proto_version '1', publication_names '{publications}')

-- name: keep_partitions
-- From yesterday to three days ahead; without today's every broadcast is lost.
do $$
declare
  v_today date := timezone('utc', clock_timestamp())::date;
  v_day date;
  v_name text;
begin
  if to_regclass('realtime.messages') is null then
    return;
  end if;
  perform pg_advisory_xact_lock(hashtext('realtime.messages'));
  for v_day in select d::date from generate_series(v_today - 1, v_today + 3, '1 day') as d
  loop
    v_name := 'messages_' || to_char(v_day, 'YYYY_MM_DD');
    if to_regclass('realtime.' || v_name) is null then
      execute format(
        'create table realtime.%I partition of realtime.messages for values from (%L) to (%L)',
        v_name, v_day, v_day + 1
      );
    end if;
  end loop;
end;
$$
