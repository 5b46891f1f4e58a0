-- Ingesting a connection's bookings. The functions say in their comments what they do.

-- name: begin_ingest^
select *
from sync.begin_ingest(:task_id, :lease, :connection_id);

-- name: name_account!
select sync.name_account(:task_id, :lease, :connection_id, :provider_account_id);

-- name: open_deliveries
select
  opened.delivery_id,
  opened.body,
  opened.again
from sync.open_deliveries(:connection_id, :most) as opened;

-- name: apply_bookings^
select *
from sync.apply_bookings(
  :task_id, :lease, :connection_id, :bookings::jsonb, p_again => :again, p_keys => :keys
);

-- name: settle_deliveries!
select sync.settle_deliveries(:deliveries::jsonb);

-- name: note_missed!
select sync.note_missed(:task_id, :lease, :connection_id, :can_sweep);

-- name: fetch_delivered!
select sync.fetch_delivered(:task_id, :lease, :connection_id, :provider_ids, :series);

-- name: next_to_fetch^
select *
from sync.next_to_fetch(:connection_id);

-- name: is_behind$
select sync.is_behind(:connection_id, :fetched::jsonb);

-- name: compare_seats$
select sync.compare_seats(:connection_id, :fetched::jsonb);

-- name: end_fetch!
select sync.end_fetch(:task_id, :lease, :connection_id, :provider_id, :fetch_at, :again);

-- name: ids_to_translate
select *
from sync.ids_to_translate(:connection_id);

-- name: keep_translations$
select sync.keep_translations(:task_id, :lease, :connection_id, :asked, :found::jsonb);

-- name: postpone_asking!
select sync.postpone_asking(:task_id, :lease, :connection_id, :pause);

-- name: begin_sweep^
select *
from sync.begin_sweep(:task_id, :lease, :connection_id, :calendar_id);

-- name: turn_sweep_page!
select sync.turn_sweep_page(:task_id, :lease, :connection_id, :page);

-- name: end_sweep!
select sync.end_sweep(:task_id, :lease, :connection_id, :calendar_id);

-- name: finish_ingest$
select sync.finish_ingest(
  :task_id, :lease, :connection_id, :calendar_id, :changes, :can_ask
);
