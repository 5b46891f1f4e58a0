select count(*) from public.calendar_connections
where owner_id <> all(%(demo_users)s);
