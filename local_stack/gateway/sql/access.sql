-- Access: being a client for the length of a transaction.

-- name: become
-- $1 role, $2 claims as JSON
select
  set_config('role', $1, true),
  set_config('request.jwt.claims', $2, true),
  set_config('request.jwt.claim.role', $1, true),
  set_config('request.jwt.claim.sub', coalesce($2::jsonb ->> 'sub', ''), true)

-- name: set_topic
-- $1 topic, $2 request headers as JSON
select
  set_config('realtime.topic', $1, true),
  set_config('request.headers', $2, true)

-- name: insert_probes
-- Rows that a policy either shows or hides; the transaction is rolled back. $1 topic,
-- $2 extensions
insert into realtime.messages (topic, extension)
select $1, extension from unnest($2::text[]) as extension
returning id, extension

-- name: seen_probes
select id from realtime.messages where topic = $1 and id = any($2::uuid[])

-- name: insert_probe
insert into realtime.messages (topic, extension) values ($1, $2)

-- name: replay
-- The last $3 private broadcasts of topic $1 since $2 (milliseconds), oldest first.
select recent.id::text as id, recent.event, recent.payload::text as payload, recent.binary_payload
from (
  select id, event, payload, binary_payload, inserted_at
  from realtime.messages
  where
    topic = $1
    and private
    and extension = 'broadcast'
    and inserted_at >= to_timestamp($2::double precision / 1000) at time zone 'utc'
  order by inserted_at desc
  limit $3
) as recent
order by recent.inserted_at
