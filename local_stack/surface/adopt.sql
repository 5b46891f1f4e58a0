-- What belongs to a database itself: `create database … template` copies none of it.
do $$
begin
  execute format('alter database %I owner to postgres', current_database());
  execute format('grant create on database %I to supabase_realtime_admin', current_database());
  execute format('grant connect, temporary on database %I to public', current_database());
end;
$$;
