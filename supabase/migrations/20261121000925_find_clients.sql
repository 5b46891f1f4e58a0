-- Applying, step 4a: whom a meeting is with. After the keys, before the meetings, as the order of
-- locks demands.

-- Somebody the organization meets. Addresses of its own connections were left out in staging.

create function sync.find_clients(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
begin
  insert into public.clients (organization_id, email, name)
  select distinct on (staged.attendee_email)
    (p_batch).organization_id, staged.attendee_email, staged.attendee_name
  from sync.staged_events as staged
  where staged.batch_id = (p_batch).id and staged.attendee_email is not null
    and not staged.is_same and staged.meeting_id is not null and staged.is_wanted
    and staged.status <> 'cancelled' and staged.role <> 'series'
  order by staged.attendee_email, staged.attendee_name nulls last
  on conflict (organization_id, email) do nothing;
end;
$$;
comment on function sync.find_clients(sync.batch) is 'Makes clients of attendees that are none yet.';
