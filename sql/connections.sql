-- What the worker learns about a connection.

-- name: lose_access!
select sync.lose_access(:task_id, :lease, :connection_id, :reason);

-- name: store_credentials!
select sync.store_credentials(:task_id, :lease, :connection_id, :key_id, :ciphertext);
