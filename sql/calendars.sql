-- Pulling a calendar. The functions say in their comments what they do.

-- name: begin_pull^
select *
from sync.begin_pull(:task_id, :lease, :calendar_id);

-- name: begin_full_round!
select sync.begin_full_round(:task_id, :lease, :calendar_id, :beside);

-- name: compare_hashes$
select sync.compare_hashes(:calendar_id, :ids, :content_hashes, false, :unexpanded);

-- name: meet_events$
select sync.meet_events(:task_id, :lease, :calendar_id, :ids, :content_hashes);

-- name: doubtful_events
select doubtful.event_id
from sync.doubtful_events(:calendar_id, :asked_from) as doubtful (event_id);

-- name: known_events
select *
from sync.known_events(:calendar_id, :ids);

-- name: known_exceptions
select known.event_id
from sync.known_exceptions(:calendar_id, :series, :since) as known (event_id);

-- name: known_occurrences
select *
from sync.known_occurrences(:calendar_id, :series, :since, :until);

-- name: unmet_events
select *
from sync.unmet_events(:calendar_id, :since, :until);

-- name: is_round_whole$
select sync.is_round_whole(:calendar_id);

-- name: apply_events^
select *
from sync.apply_events(:task_id, :lease, :calendar_id, :events::jsonb, :round::jsonb);

-- name: finish_pull$
select sync.finish_pull(
  :task_id, :lease, :calendar_id, :lane, :changes, :window_start, :window_end, :cursor,
  :asked_until, :saw_nothing
);

-- name: note_calendar_error!
select sync.note_calendar_error(:task_id, :lease, :calendar_id, :message);

-- name: lose_calendar$
select sync.lose_calendar(:task_id, :lease, :calendar_id, :reason);
