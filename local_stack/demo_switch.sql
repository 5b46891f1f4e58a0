update public.calendars set sync_enabled = true
where connection_id = any(%(connections)s);
