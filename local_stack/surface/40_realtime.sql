-- The surface: broadcasts from the database.
--
-- A message is a row in a table that is emptied by dropping its days. The Realtime service
-- reads them from a publication and hands private ones to whoever its policies let see them.

grant create on schema realtime to supabase_realtime_admin;
set local role supabase_realtime_admin;

create type realtime.action as enum ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'ERROR');
create type realtime.equality_op as enum (
  'eq', 'neq', 'lt', 'lte', 'gt', 'gte', 'in', 'like', 'ilike', 'is', 'match', 'imatch',
  'isdistinct'
);
create type realtime.user_defined_filter as (
  column_name text, op realtime.equality_op, value text, negate boolean
);
create type realtime.wal_column as (
  name text, type_name text, type_oid oid, value jsonb, is_pkey boolean, is_selectable boolean
);
create type realtime.wal_rls as (
  wal jsonb, is_rls_enabled boolean, subscription_ids uuid [], errors text []
);

create table realtime.messages (
  topic text not null,
  extension text not null,
  payload jsonb,
  event text,
  private boolean default false,
  updated_at timestamp not null default now(),
  inserted_at timestamp not null default now(),
  id uuid not null default gen_random_uuid(),
  binary_payload bytea,
  primary key (id, inserted_at),
  constraint messages_payload_exclusive check (payload is null or binary_payload is null)
) partition by range (inserted_at);
comment on table realtime.messages is
'Broadcasts of the last three days, a partition a UTC day; there is no default one.';

create index messages_inserted_at_topic_index on realtime.messages (inserted_at desc, topic)
where extension = 'broadcast' and private;

alter table realtime.messages enable row level security;
grant select, insert, update on realtime.messages
to postgres, anon, authenticated, service_role;

create function realtime.topic() returns text
language sql stable
as $$
  select nullif(current_setting('realtime.topic', true), '')
$$;
comment on function realtime.topic() is
'The topic that is being joined or sent to: for policies on realtime.messages.';

create function realtime.send(
  payload jsonb, event text, topic text, private boolean default true
) returns void
language plpgsql
as $$
declare
  v_id uuid := gen_random_uuid();
  v_payload jsonb := payload;
begin
  -- Nothing that goes wrong in here may undo the caller's work.
  begin
    if jsonb_typeof(payload) <> 'object' then
      raise exception 'a payload must be a JSON object, not %', jsonb_typeof(payload);
    end if;
    if not payload ? 'id' then
      v_payload := payload || jsonb_build_object('id', v_id);
    end if;
    perform set_config('realtime.topic', topic, true);
    insert into realtime.messages (id, payload, event, topic, private, extension)
    values (v_id, v_payload, event, topic, private, 'broadcast');
  exception when others then
    raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
  end;
end;
$$;
comment on function realtime.send(jsonb, text, text, boolean) is
'Broadcasts a JSON object to a topic; what goes wrong is a warning, and the message is lost.';

create function realtime.send_binary(
  payload bytea, event text, topic text, private boolean default true
) returns void
language plpgsql
as $$
begin
  begin
    perform set_config('realtime.topic', topic, true);
    insert into realtime.messages (binary_payload, event, topic, private, extension)
    values (payload, event, topic, private, 'broadcast');
  exception when others then
    raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
  end;
end;
$$;
comment on function realtime.send_binary(bytea, text, text, boolean) is
'Broadcasts bytes to a topic, as realtime.send does JSON.';

create function realtime.broadcast_changes(
  topic_name text,
  event_name text,
  operation text,
  table_name text,
  table_schema text,
  new record,
  old record,
  level text default 'ROW'
) returns void
language plpgsql
as $$
begin
  if level <> 'ROW' then
    raise exception 'it is for row triggers, not for level %', level;
  end if;
  if operation not in ('INSERT', 'UPDATE', 'DELETE') then
    raise exception 'unknown operation %', operation;
  end if;
  perform realtime.send(
    jsonb_build_object(
      'old_record', to_jsonb(old),
      'record', to_jsonb(new),
      'operation', operation,
      'table', table_name,
      'schema', table_schema
    ),
    event_name,
    topic_name
  );
exception when others then
  raise exception 'Failed to process the row: %', sqlerrm;
end;
$$;
comment on function realtime.broadcast_changes(
  text, text, text, text, text, record, record, text
) is 'Broadcasts a changed row to a private topic, out of a row trigger.';

reset role;
revoke create on schema realtime from supabase_realtime_admin;

-- The publication that a Realtime service reads broadcasts from.
create publication supabase_realtime_messages_publication for table realtime.messages;
alter publication supabase_realtime_messages_publication owner to supabase_realtime_admin;

create function local_stack.keep_message_partitions() returns void
language plpgsql
security definer -- nobody but the superuser may create in the schema
set search_path = ''
as $$
declare
  v_today date := pg_catalog.timezone('UTC', pg_catalog.clock_timestamp())::pg_catalog.date;
  v_day date;
  v_name text;
begin
  -- Two at once must not both make a day.
  perform pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('realtime.messages'));
  for v_day in
    select day::pg_catalog.date
    from pg_catalog.generate_series(v_today - 1, v_today + 3, '1 day') as day
  loop
    v_name := 'messages_' || pg_catalog.to_char(v_day, 'YYYY_MM_DD');
    if pg_catalog.to_regclass('realtime.' || v_name) is null then
      execute pg_catalog.format(
        'create table realtime.%I partition of realtime.messages for values from (%L) to (%L)',
        v_name, v_day, v_day + 1
      );
      execute pg_catalog.format('alter table realtime.%I owner to supabase_realtime_admin', v_name);
    end if;
  end loop;

  -- Dropping waits for readers, and senders would wait behind it: give up soon, and let
  -- the next call try again.
  perform pg_catalog.set_config('lock_timeout', '200ms', true);
  for v_name in
    select child.relname
    from pg_catalog.pg_inherits
    inner join pg_catalog.pg_class as child on child.oid = pg_inherits.inhrelid
    where pg_inherits.inhparent = 'realtime.messages'::pg_catalog.regclass
      and child.relname < 'messages_' || pg_catalog.to_char(v_today - 3, 'YYYY_MM_DD')
  loop
    begin
      execute pg_catalog.format('drop table realtime.%I', v_name);
    exception when lock_not_available then
      null;
    end;
  end loop;
end;
$$;
comment on function local_stack.keep_message_partitions() is
'Makes the days of realtime.messages from yesterday to three ahead, and drops old ones.';
revoke all on function local_stack.keep_message_partitions() from public;
grant execute on function local_stack.keep_message_partitions() to postgres;
