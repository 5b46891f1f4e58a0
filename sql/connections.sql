-- What the worker learns about a connection.

-- name: lose_access$
select sync.lose_access(:task_id, :lease, :connection_id, :ciphertext, :reason);

-- name: miss_key!
select sync.miss_key(:task_id, :lease, :connection_id, :key_id);

-- name: begin_refresh^
select *
from sync.begin_refresh(:task_id, :lease, :connection_id, :ciphertext);

-- name: end_refresh!
select sync.end_refresh(:connection_id, :ciphertext);

-- name: store_credentials!
select sync.store_credentials(:connection_id, :key_id, :ciphertext, :instead_of);
