-- The rules that a stage follows from: what becomes of clients when they change, and those to begin
-- with.

-- Other rules, other stages, for all clients of an organization: maybe many. The task `advance`
-- goes through them, so many at a time.

create table sync.changed_rules (
  organization_id uuid primary key references public.organizations (id) on delete cascade,
  heard_before xid8,
  after_client uuid
);
comment on table sync.changed_rules is
'Organizations whose pipeline rules changed, until all their clients stand where the new ones say.';
comment on column sync.changed_rules.heard_before is
'Transactions before this one may have read the rules of before: first they must be over.';
comment on column sync.changed_rules.after_client is 'How far it got, by id.';
alter table sync.changed_rules enable row level security;
grant select, update, delete on sync.changed_rules to sync_engine;

create function sync.note_rule_changed()
returns trigger
language plpgsql
security definer -- as note_meetings_inserted
set search_path = ''
as $$
begin
  insert into sync.changed_rules (organization_id)
  select organization.id from public.organizations as organization
  where organization.id in (new.organization_id, old.organization_id)
    and organization.created_at < now() -- one that is made just now has no clients
  on conflict (organization_id) do update
  set heard_before = null, after_client = null;
  if found then
    insert into sync.pipeline_news (advance_at) values (sync.clock());
  end if;
  return null;
end;
$$;
comment on function sync.note_rule_changed() is
'Row trigger on pipeline_rules: asks that the organization''s clients are gone through by the rules as they are now.';
revoke all on function sync.note_rule_changed() from public;

create trigger pipeline_rules_changed after insert or update or delete on public.pipeline_rules
for each row execute function sync.note_rule_changed();
comment on trigger pipeline_rules_changed on public.pipeline_rules is
'By row: rules are few, and an organization that is noted twice is noted once.';

create function sync.clients_of_changed_rules(p_limit integer)
returns uuid[]
language plpgsql
set search_path = ''
as $$
declare
  v_rules sync.changed_rules;
  v_clients uuid[];
begin
  select changed.* into v_rules
  from sync.changed_rules as changed
  order by changed.organization_id
  limit 1
  for update skip locked;
  if not found then
    return array[]::uuid[];
  end if;
  if v_rules.heard_before is null then
    update sync.changed_rules as changed
    set heard_before = pg_snapshot_xmax(pg_current_snapshot())
    where changed.organization_id = v_rules.organization_id;
    return array[]::uuid[];
  end if;
  if v_rules.heard_before > pg_snapshot_xmin(pg_current_snapshot()) then
    return array[]::uuid[];
  end if;
  v_clients := array(
    select client.id from public.clients as client
    where client.organization_id = v_rules.organization_id
      and (v_rules.after_client is null or client.id > v_rules.after_client)
    order by client.id
    limit p_limit
  );
  if cardinality(v_clients) < p_limit then
    delete from sync.changed_rules as changed
    where changed.organization_id = v_rules.organization_id;
  else
    update sync.changed_rules as changed
    set after_client = v_clients[p_limit]
    where changed.organization_id = v_rules.organization_id;
  end if;
  return v_clients;
end;
$$;
comment on function sync.clients_of_changed_rules(integer) is
'The next clients, p_limit at most, who may stand elsewhere under rules that changed; none while somebody may still write by the old ones.';
revoke all on function sync.clients_of_changed_rules(integer) from public;
grant execute on function sync.clients_of_changed_rules(integer) to sync_engine;

-- Rules to begin with: useful as they are, and the organization's to change.

create function sync.seed_pipeline_rules()
returns trigger
language plpgsql
security definer -- whoever makes an organization has no rules yet to be admin of
set search_path = ''
as $$
begin
  insert into public.pipeline_rules (organization_id, happening, to_stage)
  select organization.id, happening.name, happening.name
  from new_rows as organization
  cross join unnest(array['booked', 'met', 'cancelled', 'no_show']) as happening (name)
  on conflict do nothing;
  return null;
end;
$$;
comment on function sync.seed_pipeline_rules() is
'Statement trigger: a new organization''s rules: whatever happens moves its client to the stage of that name.';
revoke all on function sync.seed_pipeline_rules() from public;

create trigger organizations_pipeline_rules after insert on public.organizations
referencing new table as new_rows
for each statement execute function sync.seed_pipeline_rules();
comment on trigger organizations_pipeline_rules on public.organizations is
'However an organization is made, by a sign-up, by rpc or with the service key, its clients move from the first day.';

insert into public.pipeline_rules (organization_id, happening, to_stage)
select organization.id, happening.name, happening.name as to_stage
from public.organizations as organization
cross join unnest(array['booked', 'met', 'cancelled', 'no_show']) as happening (name)
on conflict do nothing;

-- Who was there before all this.
insert into sync.pipeline_news (clients)
select array_agg(client.id) from public.clients as client
having count(*) > 0;
