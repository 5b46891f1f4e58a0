-- name: receive$
-- Store requests that came together; what became of each, in order. One value: a row for each
-- costs the receiver more than all of them together.
select array_agg(received.outcome order by received.place) as outcomes
from
  sync.receive(
    :providers, :channel_ids, :routing_keys, :kinds, :headers, :bodies, :received_at
  ) as received;

-- name: adopted_tokens^
-- Channels of an older system that are believed beside our own; parallel arrays in one row, for
-- several rows would be read by a cursor, whose end a time-out would have to wait for.
select
  coalesce(array_agg(adopted.token_hash), '{}') as token_hashes,
  coalesce(array_agg(adopted.provider_channel_id), '{}') as provider_channel_ids,
  coalesce(array_agg(adopted.channel_id), '{}') as channel_ids,
  coalesce(array_agg(adopted.expires_at), '{}') as ends
from sync.adopted_tokens() as adopted;

-- name: replay$
-- Have deliveries of bookings processed again; how many.
select sync.replay_deliveries(
  :ids::bigint[], :since::timestamptz, :until::timestamptz, :provider::text, :connection_id::uuid,
  :states::text[]
);
