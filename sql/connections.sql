-- What the worker learns about a connection.

-- name: lose_access$
select sync.lose_access(:task_id, :lease, :connection_id, :ciphertext, :reason);

-- name: miss_key!
select sync.miss_key(:task_id, :lease, :connection_id, :key_id);

-- name: store_credentials!
select sync.store_credentials(
  :task_id, :lease, :connection_id, :key_id, :ciphertext, :instead_of
);
