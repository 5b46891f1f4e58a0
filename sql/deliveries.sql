-- name: receive
-- Store requests that came together; say of each, by place, what became of it.
select
  received.place,
  received.outcome
from
  sync.receive(
    :providers, :channel_ids, :routing_keys, :kinds, :headers, :bodies, :received_at
  ) as received
order by received.place;

-- name: replay$
-- Have deliveries of bookings processed again; how many.
select sync.replay_deliveries(
  :ids::bigint[], :since::timestamptz, :until::timestamptz, :provider::text, :connection_id::uuid,
  :states::text[]
);
