-- The ground: two schemas, four roles, one clock.
--
-- `public` is what frontends read and write. `sync` is the engine: no API role has USAGE on
-- it, what the outside may do there it does through functions. Names in `public` are fixed
-- (docs/decisions/0001-the-schema-is-public.md), so an application's own table of the same
-- name is told about before anything is created.

do $$
declare
  v_taken text;
begin
  select string_agg(format('public.%I', class.relname), ', ' order by class.relname)
  into v_taken
  from pg_catalog.pg_class as class
  join pg_catalog.pg_namespace as namespace on namespace.oid = class.relnamespace
  where namespace.nspname = 'public'
    and class.relname = any (array[
      'organizations', 'organization_members', 'calendar_connections', 'calendars',
      'calendar_watch_channels', 'calendar_events', 'private_event_details', 'clients',
      'meetings', 'meeting_history', 'pipeline', 'pipeline_rules', 'reference_mappings',
      'sync_conflicts', 'sync_alerts', 'webhook_logs', 'sync_coverage_gaps'
    ]);
  if v_taken is not null then
    raise exception using
      errcode = 'CS010',
      message = format('these names are taken: %s', v_taken),
      hint = 'Supacal''s tables live in public under fixed names. Move yours first, for '
        'example: create schema app; alter table public.meetings set schema app;';
  end if;
end;
$$;

create schema sync;
comment on schema sync is
'The sync engine: queue, tasks, cursors, credentials. Not exposed by the Data API.';
revoke all on schema sync from public;

-- Roles belong to the cluster, not to this database: another database may have made them.
do $$
declare
  v_role text;
begin
  foreach v_role in array array['webhook_ingest', 'webhook_connect', 'sync_worker', 'sync_engine']
  loop
    if not exists (select 1 from pg_catalog.pg_roles where rolname = v_role) then
      execute format('create role %I nologin noinherit', v_role);
    end if;
    if current_setting('server_version_num')::integer >= 160000 then
      -- Since Postgres 16 a role's creator may neither `set role` to it nor give it objects.
      execute format('grant %I to current_user with inherit true, set true', v_role);
    else
      execute format('grant %I to current_user', v_role);
    end if;
  end loop;
  -- The engine writes for every organization; users' triggers know its writes by this role.
  if not (select rolbypassrls from pg_catalog.pg_roles where rolname = 'sync_engine') then
    alter role sync_engine bypassrls;
  end if;
end;
$$;

comment on role webhook_ingest is 'The webhook receiver: may execute sync.receive and sync.adopted_tokens, and nothing else.';
comment on role webhook_connect is 'The part of the web server that connects accounts.';
comment on role sync_worker is 'The worker: task functions, reading what a pull needs, applying.';
comment on role sync_engine is
'Owns the functions that write mirrored data; never logs in. Triggers for users skip its writes.';

grant usage on schema sync to webhook_ingest, webhook_connect, sync_worker, sync_engine;
grant usage on schema public to sync_worker, sync_engine;

create function sync.clock()
returns timestamptz
language plpgsql -- its plan is kept: one in SQL is parsed anew in each transaction that asks
volatile
set search_path = ''
as $$
begin
  return clock_timestamp();
end;
$$;
comment on function sync.clock() is
'The time, as every function here reads it. Tests replace this function to move it.';
revoke all on function sync.clock() from public;
grant execute on function sync.clock() to sync_worker, sync_engine;

create function sync.is_time_zone(p_name text)
returns boolean
language plpgsql
stable
set search_path = ''
as $$
begin
  -- Asking is cheaper than reading pg_timezone_names, which opens every zone file.
  perform pg_catalog.timezone(p_name, '2000-01-01 00:00+00'::timestamptz);
  -- Postgres also takes POSIX strings and bare abbreviations; calendars name places.
  return p_name in ('UTC', 'GMT') or p_name ~ '^[A-Za-z]+(/[A-Za-z0-9_+-]+)+$';
exception
  when invalid_parameter_value then
    return false;
end;
$$;
comment on function sync.is_time_zone(text) is
'Whether this names a time zone of the IANA database (Area/Place, UTC or GMT).';
revoke all on function sync.is_time_zone(text) from public;
grant execute on function sync.is_time_zone(text)
to authenticated, service_role, sync_worker, sync_engine;

create function sync.touch_updated_at()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.updated_at := now();
  return new;
end;
$$;
comment on function sync.touch_updated_at() is
'Row trigger: updated_at is the time of the writing transaction. Fired only where a row changed: a write that changes nothing is told to nobody.';
revoke all on function sync.touch_updated_at() from public;
