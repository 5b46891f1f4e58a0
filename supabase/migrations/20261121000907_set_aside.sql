-- Applying, step 1, the end: what is put aside, and what says nothing.
--
-- Whatever cannot be applied is set aside with its reason; the others go on.

create function sync.set_aside(p_batch sync.batch, p_malformed jsonb)
returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_count integer;
begin
  insert into sync.set_aside_events as aside (calendar_id, provider_event_id, reason, raw, seen_at)
  select distinct on (refused.provider_event_id)
    coalesce(refused.calendar_id, (p_batch).calendar_id), refused.provider_event_id,
    refused.reason,
    -- A reason for refusing may be its size.
    case
      when octet_length(refused.raw::text) <= 65536 then refused.raw
      else jsonb_build_object('omitted_bytes', octet_length(refused.raw::text))
    end,
    (p_batch).now_at
  from (
    select
      staged.calendar_id, staged.provider_event_id, staged.refusal as reason,
      coalesce(staged.private -> 'raw', staged.raw) as raw
    from sync.staged_events as staged
    where staged.batch_id = (p_batch).id and staged.refusal is not null
    union all
    select
      null,
      coalesce(
        sync.indexable_id(item.malformed ->> 'provider_event_id'),
        'no id: ' || md5(item.malformed::text)
      ),
      coalesce(item.malformed ->> 'reason', 'it cannot be read'),
      coalesce(item.malformed -> 'raw', '{}')
    from jsonb_array_elements(coalesce(p_malformed, '[]')) as item (malformed)
  ) as refused
  order by refused.provider_event_id
  on conflict (calendar_id, provider_event_id) do update
  set reason = excluded.reason, raw = excluded.raw, seen_at = excluded.seen_at
  where (aside.reason, aside.raw) is distinct from (excluded.reason, excluded.raw);

  delete from sync.staged_events as staged
  where staged.batch_id = (p_batch).id and staged.refusal is not null;
  get diagnostics v_count = row_count;

  -- What comes again well leaves.
  delete from sync.set_aside_events as aside
  using sync.staged_events as staged
  where aside.calendar_id = any ((p_batch).told_in) and staged.batch_id = (p_batch).id
    and staged.provider_event_id = aside.provider_event_id;
  return v_count + jsonb_array_length(coalesce(p_malformed, '[]'));
end;
$$;
comment on function sync.set_aside(sync.batch, jsonb) is
'Moves refused events, and those the worker could not read, to sync.set_aside_events; returns how many.';

-- A tombstone of something we never had says nothing, unless it is an occurrence's: that is the
-- series' EXDATE, and stays. Of a series that came and went between two reads we may have the
-- occurrences, which go with it. Where nothing may be cancelled, no tombstone counts.

create function sync.drop_unknown_tombstones(p_batch sync.batch)
returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_count integer;
begin
  if not (p_batch).upsert_only then
    perform sync.stage_mirrored(p_batch, 'orphaned', array(
      select member.id
      from public.calendar_events as member
      where member.calendar_id = (p_batch).calendar_id and member.status <> 'cancelled'
        and member.series_provider_id = any (array(
          select head.provider_event_id from sync.staged_events as head
          where head.batch_id = (p_batch).id and head.status = 'cancelled' and not head.is_known
        ))
        and member.id <> all (array(
          select staged.event_id from sync.staged_events as staged
          where staged.batch_id = (p_batch).id
        ))
    ));
  end if;
  delete from sync.staged_events as staged
  where staged.batch_id = (p_batch).id and staged.status = 'cancelled'
    and (
      (p_batch).upsert_only
      or (
        not staged.is_known
        and (staged.series_provider_id is null or staged.original_start is null)
      )
    );
  get diagnostics v_count = row_count;
  return v_count;
end;
$$;
comment on function sync.drop_unknown_tombstones(sync.batch) is
'Forgets staged cancellations that can mean nothing; returns how many.';

-- Changes are told of whatever age: what was over before the window began, and is not known,
-- was not asked for.

create function sync.drop_past(p_batch sync.batch)
returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_count integer;
begin
  delete from sync.staged_events as staged
  where staged.batch_id = (p_batch).id and not staged.is_known and staged.status <> 'cancelled'
    and staged.role in ('single', 'occurrence', 'exception')
    and staged.ends_at <= (p_batch).window_start;
  get diagnostics v_count = row_count;
  return v_count;
end;
$$;
comment on function sync.drop_past(sync.batch) is
'Forgets staged events that nobody asked for: unknown, and over before the window; returns how many.';
