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
