-- A demo user's account at a twin, as the OAuth callback would have left it.
with member as (
  select organization_id from public.organization_members
  where user_id = %(user_id)s
  order by created_at
  limit 1
),

connection as (
  insert into public.calendar_connections as known (
    organization_id, owner_id, provider, account_email, scopes
  )
  select organization_id, %(user_id)s, %(provider)s, %(account)s, %(scopes)s::text[] from member
  on conflict (organization_id, provider, account_email) do update
  set status = 'active', status_reason = null, scopes = excluded.scopes
  returning known.id, known.organization_id
),

calendars as (
  insert into public.calendars as known (
    connection_id, organization_id, provider_calendar_id, name, time_zone, kind
  )
  select connection.id, connection.organization_id, entry.id, entry.name, entry.time_zone,
    entry.kind
  from connection
  cross join unnest(%(ids)s::text[], %(names)s::text[], %(time_zones)s::text[], %(kinds)s::text[])
    as entry (id, name, time_zone, kind)
  on conflict (connection_id, provider_calendar_id) do nothing
)

select connection.id from connection;
