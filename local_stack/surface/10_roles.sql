-- The surface of a hosted Supabase project: its roles.
--
-- Roles belong to the whole server: a second database finds them made. `postgres` is whom
-- people, migrations and the Supabase CLI log in as. It is no superuser: SQL that only a
-- superuser may run must fail here, not on the hosted platform.

do $$
declare
  v_role record;
begin
  for v_role in
    select *
    from (values
      ('postgres', 'login createdb createrole replication bypassrls'),
      ('anon', 'nologin inherit'),
      ('authenticated', 'nologin inherit'),
      ('service_role', 'nologin inherit bypassrls'),
      ('authenticator', 'login noinherit'),
      ('supabase_auth_admin', 'login noinherit'),
      ('supabase_realtime_admin', 'login noinherit replication'),
      ('supabase_storage_admin', 'login noinherit'),
      ('supabase_read_only_user', 'login bypassrls'),
      ('supabase_replication_admin', 'login replication'),
      ('dashboard_user', 'nologin createdb createrole replication')
    ) as needed (name, attributes)
    where not exists (select from pg_catalog.pg_roles where rolname = needed.name)
  loop
    execute format('create role %I %s', v_role.name, v_role.attributes);
    if v_role.attributes like 'login%' and current_setting('supacal.password') <> '' then
      execute format(
        'alter role %I password %L', v_role.name, current_setting('supacal.password')
      );
    end if;
  end loop;
end;
$$;

grant anon, authenticated, service_role to authenticator;
grant anon, authenticated, service_role to supabase_realtime_admin;
grant anon, authenticated, service_role to postgres with admin option;
grant pg_monitor, pg_read_all_data, pg_signal_backend to postgres;
grant pg_read_all_data to supabase_read_only_user;
grant authenticator to supabase_storage_admin;

-- On the hosted platform an extension of the server lets `postgres` write policies on
-- these roles' tables. Membership is the nearest that plain Postgres has. It allows more
-- (to drop the tables, say): SQL that needs more than policies works here only.
grant supabase_realtime_admin, supabase_storage_admin to postgres;

alter role supabase_admin set search_path = "$user", public, auth, extensions;
alter role postgres set search_path = "$user", public, extensions;
alter role supabase_auth_admin set search_path = auth;
alter role supabase_auth_admin set idle_in_transaction_session_timeout = '60s';
alter role supabase_realtime_admin set search_path = public, extensions, realtime;
alter role supabase_storage_admin set search_path = storage;
alter role anon set statement_timeout = '3s';
alter role authenticated set statement_timeout = '8s';
alter role authenticator set statement_timeout = '8s';
alter role authenticator set lock_timeout = '8s';

grant set on parameter log_min_messages to supabase_realtime_admin;
