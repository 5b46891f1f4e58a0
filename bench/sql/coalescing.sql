-- What sync.receive is compared with: the same rows, and nothing asked for by them.

-- name: make_plain_tables#
create table public.plain_deliveries (like sync.webhook_deliveries including all);
create table public.bare_deliveries (
  like sync.webhook_deliveries including defaults, primary key (id)
);

-- name: rest!
truncate public.plain_deliveries, public.bare_deliveries;

-- name: insert_plain!
insert into public.plain_deliveries (
  received_at, provider, kind, channel_id, routing_key, headers, body
)
select
  given.received_at, given.provider, given.kind, given.channel_id, given.routing_key,
  given.headers::jsonb, given.body::jsonb
from unnest(
  cast(:providers as text[]), cast(:channel_ids as uuid[]), cast(:routing_keys as text[]),
  cast(:kinds as text[]), cast(:headers as text[]), cast(:bodies as text[]),
  cast(:received_at as timestamptz[])
) as given (provider, channel_id, routing_key, kind, headers, body, received_at);

-- name: insert_bare!
insert into public.bare_deliveries (
  received_at, provider, kind, channel_id, routing_key, headers, body
)
select
  given.received_at, given.provider, given.kind, given.channel_id, given.routing_key,
  given.headers::jsonb, given.body::jsonb
from unnest(
  cast(:providers as text[]), cast(:channel_ids as uuid[]), cast(:routing_keys as text[]),
  cast(:kinds as text[]), cast(:headers as text[]), cast(:bodies as text[]),
  cast(:received_at as timestamptz[])
) as given (provider, channel_id, routing_key, kind, headers, body, received_at);

-- name: deadlocks$
select deadlocks from pg_catalog.pg_stat_database
where datname = current_database();
