-- The Supabase CLI's own table, as it makes it.
do $$
begin
  perform pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('supabase_migrations'));
  if pg_catalog.to_regclass('supabase_migrations.schema_migrations') is null then
    create schema if not exists supabase_migrations;
    create table supabase_migrations.schema_migrations (
      version text not null primary key,
      statements text [],
      name text
    );
  end if;
end;
$$;
