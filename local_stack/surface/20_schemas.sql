-- The surface: schemas, extensions, and what new tables give to whom.

create schema extensions authorization postgres;
create schema auth;
create schema realtime;
create schema vault;

-- What only a local stack has; nothing that is meant for the hosted platform may use it.
create schema local_stack;
do $$
begin
  execute format(
    'comment on schema local_stack is %L',
    'Upkeep that the hosted platform does by itself. Supabase surface, version '
    || current_setting('supacal.surface_version')
  );
end;
$$;

grant usage on schema public to postgres, anon, authenticated, service_role;
grant usage, create on schema public to supabase_realtime_admin;
grant usage on schema extensions to anon, authenticated, service_role, supabase_realtime_admin;
grant all on schema extensions to dashboard_user;
grant usage on schema auth
to postgres, anon, authenticated, service_role, supabase_realtime_admin;
grant usage, create on schema auth to supabase_auth_admin;
grant all on schema auth to dashboard_user;
grant usage on schema realtime to postgres with grant option;
grant usage on schema realtime to anon, authenticated, service_role;
-- The hosted role may create here as well; `postgres` would inherit that, and may not.
grant usage on schema realtime to supabase_realtime_admin with grant option;
grant usage on schema vault to postgres with grant option;
grant usage on schema local_stack to postgres;

create extension if not exists pgcrypto with schema extensions;

-- Few embedded servers have these two, and one ships a library that does not load.
do $$
begin
  create extension if not exists pg_stat_statements with schema extensions;
exception when others then
  raise notice 'without pg_stat_statements: %', sqlerrm;
end;
$$;

do $$
begin
  create extension if not exists "uuid-ossp" with schema extensions;
exception when others then
  create function extensions.uuid_generate_v4() returns uuid
  language sql volatile parallel safe
  begin atomic
    select gen_random_uuid();
  end;
  create function extensions.uuid_nil() returns uuid
  language sql immutable parallel safe
  begin atomic
    select '00000000-0000-0000-0000-000000000000'::uuid;
  end;
  alter function extensions.uuid_generate_v4() owner to postgres;
  alter function extensions.uuid_nil() owner to postgres;
  comment on function extensions.uuid_generate_v4() is
  'Stands in for the extension uuid-ossp, which this server has not.';
  comment on function extensions.uuid_nil() is
  'Stands in for the extension uuid-ossp, which this server has not.';
end;
$$;

-- Who may do what with objects made from now on. Before 30 October 2026 whatever `postgres`
-- made in public was open to the API's roles; since then reading and writing, and calling,
-- must be granted. What else "all" holds (truncate, references, trigger) stayed.
alter default privileges for role postgres in schema public
grant all on tables to anon, authenticated, service_role;
alter default privileges for role postgres in schema public
grant all on sequences to anon, authenticated, service_role;
alter default privileges for role postgres in schema public
grant all on functions to anon, authenticated, service_role;
alter default privileges for role supabase_admin in schema public
grant all on tables to postgres, anon, authenticated, service_role;
alter default privileges for role supabase_admin in schema public
grant all on sequences to postgres, anon, authenticated, service_role;
alter default privileges for role supabase_admin in schema public
grant all on functions to postgres, anon, authenticated, service_role;

do $$
begin
  if current_setting('supacal.grants') = 'strict' then
    alter default privileges for role postgres in schema public
    revoke select, insert, update, delete on tables from anon, authenticated, service_role;
    alter default privileges for role postgres in schema public
    revoke usage, select on sequences from anon, authenticated, service_role;
    alter default privileges for role postgres in schema public
    revoke execute on functions from anon, authenticated, service_role;
  end if;
end;
$$;

alter default privileges for role supabase_auth_admin in schema auth
grant all on tables to postgres, dashboard_user;
alter default privileges for role supabase_auth_admin in schema auth
grant all on sequences to postgres, dashboard_user;
alter default privileges for role supabase_auth_admin in schema auth
grant all on functions to postgres, dashboard_user;
alter default privileges for role supabase_admin in schema realtime
grant all on tables to postgres, dashboard_user;
alter default privileges for role supabase_admin in schema realtime
grant all on sequences to postgres, dashboard_user;
alter default privileges for role supabase_admin in schema realtime
grant all on functions to postgres, dashboard_user;
alter default privileges for role supabase_admin in schema extensions
grant all on tables to postgres with grant option;
alter default privileges for role supabase_admin in schema extensions
grant all on sequences to postgres with grant option;
alter default privileges for role supabase_admin in schema extensions
grant all on functions to postgres with grant option;

create publication supabase_realtime;
alter publication supabase_realtime owner to postgres;
