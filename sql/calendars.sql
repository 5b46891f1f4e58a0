-- Pulling a calendar. The functions say in their comments what they do.

-- name: begin_pull^
select *
from sync.begin_pull(:task_id, :lease, :calendar_id);

-- name: begin_full_round!
select sync.begin_full_round(:task_id, :lease, :calendar_id);

-- name: compare_hashes$
select sync.compare_hashes( :calendar_id, :ids, :hashes, :note_seen);

-- name: apply_events^
select *
from sync.apply_events(:task_id, :lease, :calendar_id, :events::jsonb, :round::jsonb);

-- name: finish_pull$
select sync.finish_pull(
  :task_id, :lease, :calendar_id, :lane, :changes, :window_start, :window_end
);

-- name: note_calendar_error!
select sync.note_calendar_error(:task_id, :lease, :calendar_id, :message);

-- name: lose_calendar$
select sync.lose_calendar(:task_id, :lease, :calendar_id, :reason);
