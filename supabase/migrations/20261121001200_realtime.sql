-- Telling frontends: changes are broadcast from the database to private topics.
--
-- org:<organization_id>         what every member may read
-- org:<organization_id>:admins  alerts
--
-- One INSERT into realtime.messages a statement, whatever it changed: by realtime.send a
-- message would be a subtransaction a row and take twice the time. Payloads:
--
--   {id, operation, schema, table, record, old_record}   event INSERT, UPDATE or DELETE
--   {id, operation, schema, table, ids: [...]}            event BULK: read these rows again
--
-- The first is what realtime.broadcast_changes makes. The second stands for more than 20 changed
-- rows of an organization in one statement, and for a row too large for a message. Rows that did
-- not change are told to nobody.

create function sync.send_changes(
  p_table text, p_operation text, p_audience text,
  p_organizations uuid[], p_keys uuid[], p_records jsonb[], p_old_records jsonb[]
)
returns void
language plpgsql
set search_path = ''
as $$
begin
  with changed as materialized (
    select
      change.organization_id, change.key,
      jsonb_build_object(
        'operation', p_operation, 'schema', 'public', 'table', p_table,
        'record', change.record, 'old_record', change.old_record
      ) as payload,
      coalesce(change.record, change.old_record) is null as is_bare
    from unnest(p_organizations, p_keys, p_records, p_old_records)
      as change (organization_id, key, record, old_record)
  ),

  sorted as materialized (
    select
      changed.*,
      -- 256 KB is the least that hosted plans take; ids of 4,000 rows are 160 KB.
      changed.is_bare or octet_length(changed.payload::text) > 200000 as is_bulk
    from changed
  ),

  bulk as (
    select
      numbered.organization_id,
      jsonb_build_object(
        'operation', p_operation, 'schema', 'public', 'table', p_table,
        'ids', jsonb_agg(numbered.key)
      ) as payload
    from (
      select
        sorted.organization_id, sorted.key,
        row_number() over (partition by sorted.organization_id) / 4000 as part
      from sorted
      where sorted.is_bulk
    ) as numbered
    group by numbered.organization_id, numbered.part
  ),

  messages as materialized (
    select gen_random_uuid() as id, told.*
    from (
      select sorted.organization_id, p_operation as event, sorted.payload
      from sorted
      where not sorted.is_bulk
      union all
      select bulk.organization_id, 'BULK', bulk.payload
      from bulk
    ) as told
  )

  insert into realtime.messages (id, topic, extension, event, payload, private)
  select
    messages.id, 'org:' || messages.organization_id || p_audience, 'broadcast', messages.event,
    messages.payload || jsonb_build_object('id', messages.id), true
  from messages;
exception
  -- As realtime.send does: news that got lost (a day without its partition, say) must not
  -- undo what it was about. Frontends read again when they reconnect.
  when others then
    raise warning 'changes of % were not broadcast: %', p_table, sqlerrm;
end;
$$;
comment on function sync.send_changes(text, text, text, uuid[], uuid[], jsonb[], jsonb[]) is
'Broadcasts the changes of one statement (parallel arrays, the last two may be null; no record = told by id only). What fails is a warning.';
revoke all on function sync.send_changes(text, text, text, uuid[], uuid[], jsonb[], jsonb[])
from public;

-- One trigger an operation: Postgres gives transition tables to no other kind. The functions
-- serve eight tables, one of which is keyed by client_id: in the innermost query a bare name is
-- the row's own column where it has one, else that of `absent`, null.

create function sync.broadcast_rows()
returns trigger
language plpgsql
security definer -- nobody may write realtime.messages: who may, may forge messages
set search_path = ''
as $$
begin
  perform sync.send_changes(
    tg_table_name, tg_op, coalesce(tg_argv[0], ''),
    array_agg(told.organization_id), array_agg(told.key),
    case tg_op when 'INSERT' then array_agg(told.record) end,
    case tg_op when 'DELETE' then array_agg(told.record) end
  )
  from (
    select
      change.organization_id, change.key,
      case
        when count(*) over (partition by change.organization_id) <= 20
          then to_jsonb(change.whole_row)
      end as record
    from (select null::uuid as id, null::uuid as client_id) as absent
    cross join lateral (
      select organization_id, coalesce(id, client_id) as key, whole_row
      from changed_rows as whole_row
      where organization_id is not null
    ) as change
  ) as told
  having count(*) > 0;
  return null;
end;
$$;
comment on function sync.broadcast_rows() is
'Statement trigger: broadcasts new rows, or those that are gone, to their organization''s topic, plus the suffix given.';
revoke all on function sync.broadcast_rows() from public;

create function sync.broadcast_updated()
returns trigger
language plpgsql
security definer -- as broadcast_rows
set search_path = ''
-- The plan a session makes for its first statement stays. Made for one changed row it would be a
-- nested loop, and the next statement's 2,500 rows take 3 s.
set enable_nestloop = off
as $$
begin
  perform sync.send_changes(
    tg_table_name, tg_op, coalesce(tg_argv[0], ''),
    array_agg(counted.organization_id), array_agg(counted.key),
    array_agg(case when counted.total <= 20 then to_jsonb(counted.new_row) end),
    array_agg(case when counted.total <= 20 then to_jsonb(counted.old_row) end)
  )
  from (
    select
      change.organization_id, change.key, change.new_row, before.old_row,
      count(*) over (partition by change.organization_id) as total
    from (select null::uuid as id, null::uuid as client_id) as absent
    cross join lateral (
      select organization_id, coalesce(id, client_id) as key, new_row
      from new_rows as new_row
      where organization_id is not null
    ) as change
    cross join lateral (
      select coalesce(id, client_id) as key, old_row
      from old_rows as old_row
    ) as before
    where before.key = change.key and change.new_row is distinct from before.old_row
  ) as counted
  having count(*) > 0;
  return null;
end;
$$;
comment on function sync.broadcast_updated() is
'Statement trigger: broadcasts rows that changed to their organization''s topic, plus the suffix given.';
revoke all on function sync.broadcast_updated() from public;

do $$
declare
  v_table text;
  v_audience text;
  v_hearers text;
begin
  foreach v_table in array array[
    'meetings', 'clients', 'pipeline', 'calendar_connections', 'calendars',
    'calendar_watch_channels', 'sync_conflicts', 'sync_alerts'
  ] loop
    v_hearers := case v_table when 'sync_alerts' then 'Admins' else 'Members' end;
    v_audience := case v_table when 'sync_alerts' then ':admins' else '' end;
    execute format(
      'create trigger %I after insert on public.%I referencing new table as changed_rows
       for each statement execute function sync.broadcast_rows(%L)',
      v_table || '_broadcast_inserted', v_table, v_audience
    );
    execute format(
      'comment on trigger %I on public.%I is %L',
      v_table || '_broadcast_inserted', v_table,
      format('%s hear of new rows without asking for them.', v_hearers)
    );
    execute format(
      'create trigger %I after update on public.%I
       referencing old table as old_rows new table as new_rows
       for each statement execute function sync.broadcast_updated(%L)',
      v_table || '_broadcast_updated', v_table, v_audience
    );
    execute format(
      'comment on trigger %I on public.%I is %L',
      v_table || '_broadcast_updated', v_table,
      format('%s hear of changes; both images, so that a row that stayed as it was is told to nobody.', v_hearers)
    );
    execute format(
      'create trigger %I after delete on public.%I referencing old table as changed_rows
       for each statement execute function sync.broadcast_rows(%L)',
      v_table || '_broadcast_deleted', v_table, v_audience
    );
    execute format(
      'comment on trigger %I on public.%I is %L',
      v_table || '_broadcast_deleted', v_table,
      format('%s hear which rows to take off their lists.', v_hearers)
    );
  end loop;
end;
$$;

-- Who may listen. Topics are compared as text: casting a part of one to uuid would raise for an
-- application's other private topics and break their joins. One policy, not two: each would be
-- asked for every join. No policy for INSERT: a member could forge changes.

create policy "Members hear their organization's changes, admins its alerts"
on realtime.messages
for select to authenticated
using (
  topic = any(array(select 'org:' || mine from sync.my_organizations() as mine))
  or topic = any(
    array(select 'org:' || mine || ':admins' from sync.my_administered_organizations() as mine)
  )
);

-- Also offered: Postgres Changes, which existing frontends use. Slower, and a DELETE's key is
-- told to every subscriber of the table.

do $$
declare
  v_table text;
begin
  foreach v_table in array array[
    'meetings', 'clients', 'pipeline', 'calendar_connections', 'calendars',
    'calendar_watch_channels', 'sync_conflicts', 'sync_alerts'
  ] loop
    begin
      execute format('alter publication supabase_realtime add table public.%I', v_table);
    exception
      when duplicate_object then
        raise notice 'public.% is published already', v_table;
    end;
  end loop;
end;
$$;
