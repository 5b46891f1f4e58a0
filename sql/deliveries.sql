-- name: receive$
-- Store requests that came together; what became of each, in order. One value: a row for each
-- costs the receiver more than all of them together.
select array_agg(received.outcome order by received.place) as outcomes
from
  sync.receive(
    :providers, :channel_ids, :routing_keys, :kinds, :headers, :bodies, :received_at
  ) as received;

-- name: replay$
-- Have deliveries of bookings processed again; how many.
select sync.replay_deliveries(
  :ids::bigint[], :since::timestamptz, :until::timestamptz, :provider::text, :connection_id::uuid,
  :states::text[]
);
