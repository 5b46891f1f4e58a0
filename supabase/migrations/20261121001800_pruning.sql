-- What is over for good is cleared away by the task `keep`, once an hour.
--
-- An attempt to watch that failed leaves a row, and so does each channel before the one that
-- lives. Deliveries, which name their channel, are kept for two weeks.

create function sync.prune_channels(p_days_kept integer default 30)
returns integer
language plpgsql
security definer -- the worker may clear away, and delete no row of its choice
set search_path = ''
as $$
declare
  v_pruned integer;
begin
  with over as materialized (
    select channel.id
    from public.calendar_watch_channels as channel
    where channel.status in ('failed', 'stopped', 'expired')
      and channel.updated_at < sync.clock() - make_interval(days => p_days_kept)
      -- The last one says how it ended.
      and exists (
        select 1 from public.calendar_watch_channels as newer
        where newer.calendar_id = channel.calendar_id
          and (newer.created_at, newer.id) > (channel.created_at, channel.id)
      )
    order by channel.id
    limit 1000 -- the next run takes the next thousand
    for update skip locked
  )

  delete from public.calendar_watch_channels as channel
  using over
  where channel.id = over.id;
  get diagnostics v_pruned = row_count;
  return v_pruned;
end;
$$;
comment on function sync.prune_channels(integer) is
'Deletes channels that ended (failed, stopped, expired) longer than so many days ago, but for the newest of each calendar; a thousand at a time, returns how many.';
revoke all on function sync.prune_channels(integer) from public;
grant execute on function sync.prune_channels(integer) to sync_worker;
