-- What a user switched off stays off: this is for calendars that were never read.
update public.calendars set sync_enabled = true
where connection_id = any(%(connections)s) and backfill = 'pending' and not sync_enabled;
