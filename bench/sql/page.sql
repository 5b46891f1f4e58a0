-- What the line about pages needs of one calendar.

-- name: due!
update sync.tasks set run_at = now()
where subject_id = :calendar_id and kind = 'pull';

-- name: claim^
select claimed.task_id, claimed.lease, claimed.due_at, claimed.claimed_at, claimed.connection_id
from sync.claim_tasks(array['pull'], 1, interval '1 hour') as claimed
where claimed.task_id is not null;

-- name: store_credentials!
insert into sync.credentials (connection_id, key_id, ciphertext)
values (:connection_id, :key_id, :ciphertext);

-- name: wal$
select pg_current_wal_insert_lsn() - '0/0'::pg_lsn;

-- name: count$
select count(*) from public.calendar_events
where calendar_id = :calendar_id;
