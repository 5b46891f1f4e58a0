-- Watching a calendar. The functions say in their comments what they do.

-- name: begin_watch^
select *
from sync.begin_watch(:task_id, :lease, :calendar_id);

-- name: open_channel$
select sync.open_channel(
  :task_id, :lease, :calendar_id, :key_id, :address, :id_prefix
);

-- name: open_or_borrow^
select *
from sync.open_or_borrow(
  :task_id, :lease, :calendar_id, :key_id, :address, :id_prefix
);

-- name: activate_channel$
select sync.activate_channel(
  :task_id, :lease, :channel_id, :resource_id, :expires_at
);

-- name: adopt_channel^
select *
from sync.adopt_channel(
  :task_id, :lease, :channel_id, :found_id, :resource_id, :expires_at
);

-- name: keep_channel$
select sync.keep_channel(:task_id, :lease, :channel_id, :expires_at, :key_id, :read);

-- name: doubt_channel!
select sync.doubt_channel(:task_id, :lease, :channel_id, :reason);

-- name: close_channel!
select sync.close_channel(
  :task_id, :lease, :channel_id, :status, :reason, :unused
);

-- name: catch_up!
select sync.catch_up(:task_id, :lease, :calendar_id);

-- name: miss_signing_key!
select sync.miss_signing_key(:task_id, :lease, :connection_id);

-- name: channels_to_stop
select *
from sync.channels_to_stop(:calendar_id, :every);
