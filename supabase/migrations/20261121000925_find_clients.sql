-- Applying, step 4a: whom a meeting is with. After the keys, before the meetings, as the order of
-- locks demands.
--
-- The client of a meeting is one person: its first guest. A thousand attendees make no thousand
-- clients. Rooms, the organizer and the addresses of the organization's own accounts are nobody's
-- client. Who that one is, is told
--
--   by a reference   a key of the booking's metadata that public.reference_mappings of its
--                    connection names, in the order in which the mappings were made: it means
--                    the client whose external_refs has that value, or whose id it is
--   else by address  trimmed and in lower case, else as it is written
--   else             it is somebody new
--
-- A reference goes before the address: it is the business's own word, and people book under
-- their partner's address. ada+dog@… and ada@… are two: who shares a mailbox that way means to
-- be told apart, and of two clients that should be one nobody sees the other's appointments.
--
-- Twice never: addresses are claimed by inserting them, sorted; new references under a lock that
-- calls with references take one after the other. Rows that are there are locked after that, by
-- id, and only where something is missing. What stands there stays: a user may have written it.

create function sync.own_addresses(p_organization_id uuid)
returns text[]
language sql
stable
set search_path = ''
as $$
  select coalesce(array_agg(distinct connection.account_email), '{}')
  from public.calendar_connections as connection
  where connection.organization_id = p_organization_id
$$;
comment on function sync.own_addresses(uuid) is 'The addresses of an organization''s own accounts: nobody''s client.';
revoke all on function sync.own_addresses(uuid) from public;
grant execute on function sync.own_addresses(uuid) to sync_engine;

-- The rows of a batch that are with somebody. What a booking says counts though it is cancelled:
-- its deliveries may come in any order.

create function sync.guests(p_batch sync.batch)
returns table (place integer, client_id uuid, email text, name text, phone text, metadata jsonb)
language sql
stable
set search_path = ''
as $$
  select
    staged.place, staged.client_id, staged.attendee_email, staged.attendee_name,
    staged.attendee_phone, staged.metadata
  from sync.staged_events as staged
  where staged.batch_id = (p_batch).id and not staged.is_same and staged.is_wanted
    and staged.meeting_id is not null and staged.role <> 'series'
    and (staged.status <> 'cancelled' or staged.meeting_status is not null)
$$;
comment on function sync.guests(sync.batch) is 'Whom the staged events that are or become meetings are with.';

-- References.

create function sync.told_references(p_batch sync.batch)
returns table (
  place integer, rank integer, metadata_key text, reference text, value text, client_id uuid,
  is_elsewhere boolean
)
language plpgsql
stable
set search_path = ''
as $$
#variable_conflict use_column
begin
  return query
  with mapping as materialized (
    select
      row_number() over (order by known.created_at, known.metadata_key)::integer as rank,
      known.metadata_key, known.reference
    from public.reference_mappings as known
    where known.connection_id = (p_batch).connection_id
  ),

  told as materialized (
    select
      guest.place, mapping.rank, mapping.metadata_key, mapping.reference,
      btrim(guest.metadata ->> mapping.metadata_key) as value
    from sync.guests(p_batch) as guest
    join mapping on guest.metadata ? mapping.metadata_key
    where jsonb_typeof(guest.metadata -> mapping.metadata_key) in ('string', 'number')
      and length(btrim(guest.metadata ->> mapping.metadata_key)) between 1 and 200
  ),

  named as materialized (
    select distinct told.reference, told.value from told
  ),

  holders as materialized (
    select named.reference, named.value, holder.id, holder.organization_id, holder.created_at
    from named
    cross join lateral (
      select client.id, client.organization_id, client.created_at
      from public.clients as client
      where client.external_refs <> '{}'
        and client.external_refs @> jsonb_build_object(named.reference, named.value)
      union all
      -- Some write their numbers as numbers.
      select client.id, client.organization_id, client.created_at
      from public.clients as client
      where client.external_refs <> '{}'
        and client.external_refs @> jsonb_build_object(
          named.reference,
          case when named.value ~ '^(0|[1-9][0-9]{0,17})$' then named.value::bigint end
        )
        and named.value ~ '^(0|[1-9][0-9]{0,17})$'
      union all
      select client.id, client.organization_id, client.created_at
      from public.clients as client
      where client.id = case
        when named.value ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then named.value::uuid
      end
    ) as holder
  ),

  own as (
    select distinct on (holders.reference, holders.value)
      holders.reference, holders.value, holders.id
    from holders
    where holders.organization_id = (p_batch).organization_id
    order by holders.reference, holders.value, holders.created_at, holders.id
  )

  select
    told.place, told.rank, told.metadata_key, told.reference, told.value, own.id,
    own.id is null and (told.reference, told.value) in (
      select holders.reference, holders.value from holders
    )
  from told
  left join own on own.reference = told.reference and own.value = told.value;
end;
$$;
comment on function sync.told_references(sync.batch) is
'The external references that staged bookings tell, with the client of this organization that each means, or whether only another organization has it.';

create function sync.link_references(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
begin
  update sync.staged_events as staged
  set client_id = meant.client_id
  from (
    select distinct on (told.place) told.place, told.client_id
    from sync.told_references(p_batch) as told
    where told.client_id is not null
    order by told.place, told.rank
  ) as meant
  where staged.batch_id = (p_batch).id and staged.place = meant.place
    and staged.client_id is null;
end;
$$;
comment on function sync.link_references(sync.batch) is
'Gives staged bookings the client that the first of their references means.';

-- Of bookings that bring the same new reference one brings its client, and the others follow.

create function sync.new_references(p_batch sync.batch)
returns table (reference text, value text, first_place integer, places integer[])
language sql
stable
set search_path = ''
as $$
  select
    told.reference, told.value,
    (array_agg(
      told.place order by guest.client_id nulls last, guest.email nulls last, told.place
    ))[1],
    array_agg(told.place)
  from sync.told_references(p_batch) as told
  join sync.guests(p_batch) as guest on guest.place = told.place
  where told.client_id is null and not told.is_elsewhere
  group by told.reference, told.value
$$;
comment on function sync.new_references(sync.batch) is
'References that no client has yet, with the staged booking whose client gets each.';

create function sync.tell_foreign_references(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_keys text;
begin
  select string_agg(distinct told.metadata_key, ', ') into v_keys
  from sync.told_references(p_batch) as told
  where told.is_elsewhere;
  if v_keys is null then
    perform sync.resolve_alert('foreign_reference', (p_batch).connection_id);
    return;
  end if;
  perform sync.raise_alert(
    'foreign_reference', (p_batch).connection_id, (p_batch).connection_id,
    format('A booking names a client who is not this organization''s (metadata: %s). It was not linked by that.', v_keys),
    'Look where that booking''s metadata comes from. If the reference is yours, write it into external_refs of your client.'
  );
end;
$$;
comment on function sync.tell_foreign_references(sync.batch) is
'Raises an alert where metadata names a client of another organization, without telling which; resolves it where none does any more.';

create function sync.has_references(p_batch sync.batch)
returns boolean
language plpgsql
stable
set search_path = ''
as $$
declare
  v_keys text[] := array(
    select mapping.metadata_key from public.reference_mappings as mapping
    where mapping.connection_id = (p_batch).connection_id
  );
begin
  return v_keys <> '{}' and exists (
    select 1 from sync.staged_events as staged
    where staged.batch_id = (p_batch).id and not staged.is_same and staged.metadata ?| v_keys
  );
end;
$$;
comment on function sync.has_references(sync.batch) is 'Whether any staged booking tells a mapped reference.';

-- Who is new.

create function sync.make_clients(p_batch sync.batch, p_followers integer[])
returns boolean
language plpgsql
set search_path = ''
as $$
declare
  v_own text[] := sync.own_addresses((p_batch).organization_id);
  v_some_were_known boolean;
begin
  with named as materialized (
    -- The least of several names: the same in whatever order they came.
    select guest.email, min(guest.name) as name, min(guest.phone) as phone
    from sync.guests(p_batch) as guest
    where guest.email is not null and guest.client_id is null
      and guest.place <> all (p_followers) and guest.email <> all (v_own)
    group by guest.email
  ),

  made as (
    insert into public.clients (organization_id, email, name, phone)
    select (p_batch).organization_id, named.email, named.name, named.phone
    from named
    order by named.email
    on conflict (organization_id, email) do nothing
    returning id
  )

  select (select count(*) from made) < (select count(*) from named) into v_some_were_known;
  return v_some_were_known;
end;
$$;
comment on function sync.make_clients(sync.batch, integer[]) is
'Makes clients of the addresses that are none yet, but not of those who follow another booking''s reference; whether some were clients before.';

create function sync.make_clients_without_address(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_own text[] := sync.own_addresses((p_batch).organization_id);
begin
  insert into public.clients (organization_id, name, phone, external_refs)
  select
    (p_batch).organization_id, min(guest.name), min(guest.phone),
    jsonb_object_agg(fresh.reference, fresh.value)
  from sync.new_references(p_batch) as fresh
  join sync.guests(p_batch) as guest on guest.place = fresh.first_place
  where guest.client_id is null
    and coalesce(guest.email = any (v_own), true)
  group by guest.place
  order by guest.place;
end;
$$;
comment on function sync.make_clients_without_address(sync.batch) is
'Makes clients of whom only a new reference tells.';

-- What is missing. Read first without a lock: mostly nothing is.

create function sync.missing_of_clients(p_batch sync.batch, p_has_references boolean)
returns table (client_id uuid, name text, phone text, email text, external_refs jsonb)
language plpgsql
stable
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_own text[] := sync.own_addresses((p_batch).organization_id);
begin
  return query
  with guest as materialized (
    select told.* from sync.guests(p_batch) as told
  ),

  pair as materialized (
    select guest.place, client.id, guest.name, guest.phone, null::text as email
    from guest
    join public.clients as client on client.email = guest.email
    where guest.client_id is null and client.organization_id = (p_batch).organization_id
      and client.email = any (array(select named.email from guest as named))
    union all
    select guest.place, guest.client_id, guest.name, guest.phone, guest.email
    from guest
    where guest.client_id is not null
  ),

  fresh as (
    select pair.id, jsonb_object_agg(new.reference, new.value) as external_refs
    from sync.new_references(p_batch) as new
    join pair on pair.place = new.first_place
    where p_has_references
    group by pair.id
  ),

  told as (
    select pair.id, min(pair.name) as name, min(pair.phone) as phone, min(pair.email) as email
    from pair
    group by pair.id
  )

  select
    client.id, told.name, told.phone,
    case
      when client.email is null and told.email <> all (v_own)
        and row_number() over (
          partition by told.email order by client.email nulls first, client.created_at, client.id
        ) = 1
        and not exists (
          select 1 from public.clients as other
          where other.organization_id = (p_batch).organization_id and other.email = told.email
        )
        then told.email
    end,
    coalesce(fresh.external_refs, '{}')
  from told
  join public.clients as client on client.id = told.id
  left join fresh on fresh.id = told.id
  where client.id = any (array(select told.id from told))
    and (
      (coalesce(client.name, '') = '' and told.name is not null)
      or (coalesce(client.phone, '') = '' and told.phone is not null)
      or (client.email is null and told.email is not null)
      or not client.external_refs ?& array(select jsonb_object_keys(fresh.external_refs))
    );
end;
$$;
comment on function sync.missing_of_clients(sync.batch, boolean) is
'What staged events tell of their clients that the clients lack.';

create function sync.fill_clients(p_batch sync.batch, p_has_references boolean)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_ids uuid[];
  v_names text[];
  v_phones text[];
  v_emails text[];
  v_refs jsonb[];
begin
  select
    array_agg(missing.client_id), array_agg(missing.name), array_agg(missing.phone),
    array_agg(missing.email), array_agg(missing.external_refs)
  into v_ids, v_names, v_phones, v_emails, v_refs
  from sync.missing_of_clients(p_batch, p_has_references) as missing;
  if v_ids is null then
    return;
  end if;
  perform 1 from public.clients as client
  where client.id = any (v_ids)
  order by client.id
  for no key update;
  update public.clients as client
  set
    name = coalesce(nullif(client.name, ''), missing.name),
    phone = coalesce(nullif(client.phone, ''), missing.phone),
    external_refs = missing.refs || client.external_refs
  from unnest(v_ids, v_names, v_phones, v_refs) as missing (id, name, phone, refs)
  where client.id = any (v_ids) and client.id = missing.id
    and (client.name, client.phone, client.external_refs) is distinct from (
      coalesce(nullif(client.name, ''), missing.name),
      coalesce(nullif(client.phone, ''), missing.phone),
      missing.refs || client.external_refs
    );
  if array_remove(v_emails, null) <> '{}' then
    begin
      update public.clients as client
      set email = missing.email
      from unnest(v_ids, v_emails) as missing (id, email)
      where client.id = any (v_ids) and client.id = missing.id and client.email is null
        and missing.email is not null;
    exception
      when unique_violation then
        null; -- somebody with that address was added meanwhile: theirs it is
    end;
  end if;
end;
$$;
comment on function sync.fill_clients(sync.batch, boolean) is
'Fills name, phone, address and references of clients where they are empty; what stands there stays.';

create function sync.find_clients(p_batch sync.batch)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_has_references boolean := sync.has_references(p_batch);
  v_followers integer[] := '{}'::integer[];
  v_some_were_known boolean;
begin
  if v_has_references then
    -- Who looks for a reference and finds none makes its client: one call after the other.
    perform pg_advisory_xact_lock(
      hashtextextended('references of ' || (p_batch).organization_id, 0)
    );
    perform sync.link_references(p_batch);
    perform sync.tell_foreign_references(p_batch);
    v_followers := array(
      select unnest(fresh.places) from sync.new_references(p_batch) as fresh
      except
      select fresh.first_place from sync.new_references(p_batch) as fresh
    );
  end if;
  v_some_were_known := sync.make_clients(p_batch, v_followers);
  if v_has_references then
    perform sync.make_clients_without_address(p_batch);
  end if;
  if v_some_were_known or v_has_references then
    perform sync.fill_clients(p_batch, v_has_references);
  end if;
  if v_has_references then
    perform sync.link_references(p_batch);
  end if;
  if v_followers <> '{}' then
    -- Whose reference went to nobody: their address's client has another one.
    perform sync.make_clients(p_batch, '{}');
  end if;
end;
$$;
comment on function sync.find_clients(sync.batch) is
'Finds or makes the client of each staged event that is with somebody: by reference (staged_events.client_id), else by address.';
