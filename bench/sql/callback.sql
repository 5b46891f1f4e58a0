-- A user with a Google account of two calendars, as the OAuth callback would have left it.

-- name: sign_up!
insert into auth.users (id, aud, role, email, created_at, updated_at)
values (:user_id, 'authenticated', 'authenticated', :email, now(), now());

-- name: organization$
select organization_id from public.organization_members where user_id = :user_id;

-- name: connect$
insert into public.calendar_connections (organization_id, owner_id, provider, account_email)
values (:organization_id, :user_id, 'google', :email)
returning id;

-- name: add_calendar$
insert into public.calendars (
  connection_id, organization_id, provider_calendar_id, name, time_zone
)
values (:connection_id, :organization_id, :provider_calendar_id, 'Calendar', 'Europe/Berlin')
returning id;

-- name: switch_on!
update public.calendars set sync_enabled = true where id = :calendar_id;

-- name: is_read_whole$
select calendar.backfill = 'complete' and exists (
  select 1 from public.calendar_watch_channels as channel
  where channel.calendar_id = calendar.id and channel.status = 'active'
)
from public.calendars as calendar
where calendar.id = :calendar_id;
