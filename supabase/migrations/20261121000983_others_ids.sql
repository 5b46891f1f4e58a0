-- Ids that change. Calendly and Cal.com name the event in a host's Outlook by its ordinary id,
-- which changes whenever the event is moved; the mirror has the one that does not. Only Outlook
-- can tell which is which, so the worker asks it (translateExchangeIds), through any account of the
-- organization, and the bookings that told the id are looked at anew.

create table sync.others_ids (
  connection_id uuid not null references public.calendar_connections (id) on delete cascade,
  id text collate "C" not null,
  key text collate "C" not null,
  immutable_id text,
  ask_at timestamptz,
  attempts integer not null default 0,
  primary key (connection_id, id, key)
);
comment on table sync.others_ids is
'Ids by which bookings name events in Outlook, with the id that the mirror has.';
comment on column sync.others_ids.connection_id is 'Whose bookings tell it.';
comment on column sync.others_ids.key is 'The key of the booking that tells it.';
comment on column sync.others_ids.immutable_id is 'Null = nobody could say yet.';
comment on column sync.others_ids.ask_at is 'When Outlook is to be asked; null = it has answered, or was asked often enough.';
create index others_ids_due on sync.others_ids (connection_id, ask_at) where ask_at is not null;
comment on index sync.others_ids_due is
'An ingest takes from it the ids that Outlook is to be asked for next, and when the following ones are due.';
alter table sync.others_ids enable row level security;
grant select, insert on sync.others_ids to sync_engine;

create function sync.outlook_ids(p_references jsonb)
returns text[]
language plpgsql
immutable
set search_path = ''
as $$
begin
  return array(
    select substr(named.key, length('reference:microsoft:') + 1)
    from unnest(sync.reference_keys(p_references)) as named (key)
    where named.key like 'reference:microsoft:%'
  );
end;
$$;
comment on function sync.outlook_ids(jsonb) is 'The ids of events in Outlook that a booking''s calendar_references name.';
revoke all on function sync.outlook_ids(jsonb) from public;
grant execute on function sync.outlook_ids(jsonb) to sync_engine;

create function sync.translate_references(
  p_connection_id uuid, p_joined sync.joined_booking[]
)
returns sync.joined_booking[]
language plpgsql
set search_path = ''
as $$
declare
  -- What one account's bookings name is what another's do.
  v_accounts uuid[];
begin
  if not exists (
    select 1 from unnest(p_joined) as one
    where one.fields ? 'calendar_references'
      and sync.outlook_ids(one.fields -> 'calendar_references') <> '{}'
  ) then
    return p_joined;
  end if;
  v_accounts := array(
    select account.id from public.calendar_connections as account
    join public.calendar_connections as told on told.organization_id = account.organization_id
    where told.id = p_connection_id and account.provider = told.provider
  );
  insert into sync.others_ids (connection_id, id, key, immutable_id, ask_at)
  select distinct on (named.id, one.current_key)
    p_connection_id, named.id, one.current_key, known.immutable_id,
    case when known.id is null then sync.clock() end
  from unnest(p_joined) as one
  cross join lateral unnest(sync.outlook_ids(one.fields -> 'calendar_references')) as named (id)
  left join sync.others_ids as known
    on known.connection_id = any (v_accounts) and known.id = named.id
    and known.immutable_id is not null
  where octet_length(one.current_key) <= 1024
  order by named.id, one.current_key
  on conflict do nothing;

  return array(
    select row(
      one.keys, one.current_key, one.provider_id, one.slot_id, one.seat_id, one.state, one.phase,
      one.no_show, one.version, one.as_of,
      case
        when translated.told is null then one.fields
        else one.fields || jsonb_build_object(
          'calendar_references', (one.fields -> 'calendar_references') || translated.told
        )
      end
    )::sync.joined_booking
    from unnest(p_joined) with ordinality as one (
      keys, current_key, provider_id, slot_id, seat_id, state, phase, no_show, version, as_of,
      fields, place
    )
    cross join lateral (
      select jsonb_agg(distinct jsonb_build_object(
        'kind', 'outlook', 'external_id', known.immutable_id
      )) as told
      from sync.others_ids as known
      where known.connection_id = any (v_accounts) and known.immutable_id is not null
        and known.id = any (sync.outlook_ids(one.fields -> 'calendar_references'))
    ) as translated
    order by one.place
  );
end;
$$;
comment on function sync.translate_references(uuid, sync.joined_booking[]) is
'Adds to joined bookings, beside the ids of Outlook that they were told with, those that the mirror has; what is not known yet is to be asked for.';
revoke all on function sync.translate_references(uuid, sync.joined_booking[]) from public;
grant execute on function sync.translate_references(uuid, sync.joined_booking[]) to sync_engine;

-- Whoever of the organization may ask Outlook.

create function sync.outlook_accounts(p_connection_id uuid)
returns table (
  connection_id uuid, provider text, account_email text, key_id text, ciphertext bytea
)
language sql
stable
set search_path = ''
as $$
  select
    outlook.id, outlook.provider, outlook.account_email, credentials.key_id,
    credentials.ciphertext
  from public.calendar_connections as booked
  join public.calendar_connections as outlook
    on outlook.organization_id = booked.organization_id and outlook.provider = 'microsoft'
    and outlook.status = 'active'
  join sync.credentials as credentials on credentials.connection_id = outlook.id
  where booked.id = p_connection_id
    and not exists (
      select 1 from sync.connection_state as state
      where state.connection_id = outlook.id and state.backoff_until > sync.clock()
    )
$$;
comment on function sync.outlook_accounts(uuid) is
'The accounts at Outlook, of the organization of a connection, that can be asked now.';
revoke all on function sync.outlook_accounts(uuid) from public;

create function sync.ids_to_translate(p_connection_id uuid)
returns table (
  connection_id uuid, provider text, account_email text, key_id text, ciphertext bytea, ids text[]
)
language plpgsql
stable
security definer -- the worker holds no grant on tables
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_ids text[] := array(
    select wanted.id from sync.others_ids as wanted
    where wanted.connection_id = p_connection_id and wanted.ask_at <= sync.clock()
    group by wanted.id
    order by min(wanted.ask_at)
    limit 50 -- where one of them is refused, each may have to be asked for alone
  );
begin
  if v_ids <> '{}' then
    return query
    select account.*, v_ids from sync.outlook_accounts(p_connection_id) as account
    order by account.connection_id;
  end if;
end;
$$;
comment on function sync.ids_to_translate(uuid) is
'Which ids Outlook is to be asked for now, beside each account that can ask; none where there is nothing to ask, or nobody.';
revoke all on function sync.ids_to_translate(uuid) from public;
grant execute on function sync.ids_to_translate(uuid) to sync_worker;

create function sync.keep_translations(
  p_task_id bigint, p_lease uuid, p_connection_id uuid, p_asked text[], p_found jsonb
)
returns text[]
language plpgsql
security definer -- as ids_to_translate
set search_path = ''
as $$
declare
  v_pauses interval[] := array[
    interval '1 minute', interval '10 minutes', interval '1 hour', interval '6 hours',
    interval '1 day'
  ];
  v_keys text[];
begin
  perform sync.hold_task(p_task_id, p_lease);
  with kept as (
    update sync.others_ids as known
    set
      immutable_id = p_found ->> known.id,
      attempts = known.attempts + 1,
      -- It may be in an account that is not connected yet, or gone.
      ask_at = case
        when not p_found ? known.id then sync.clock() + v_pauses[known.attempts + 1]
      end
    where known.connection_id = p_connection_id and known.id = any (p_asked)
      and known.ask_at is not null
    returning known.key, known.immutable_id
  )

  select array_agg(distinct kept.key) into v_keys
  from kept
  where kept.immutable_id is not null;
  return coalesce(v_keys, '{}');
end;
$$;
comment on function sync.keep_translations(bigint, uuid, uuid, text[], jsonb) is
'Keeps what Outlook answered ({id: immutable id}), and when the other ids are to be asked for again; returns the keys of the bookings that are to be looked at anew.';
revoke all on function sync.keep_translations(bigint, uuid, uuid, text[], jsonb) from public;
grant execute on function sync.keep_translations(bigint, uuid, uuid, text[], jsonb)
to sync_worker;

create function sync.next_translation(p_connection_id uuid)
returns timestamptz
language plpgsql
stable
set search_path = ''
as $$
begin
  return (
    select min(wanted.ask_at) from sync.others_ids as wanted
    where wanted.connection_id = p_connection_id and wanted.ask_at is not null
      and exists (select 1 from sync.outlook_accounts(p_connection_id))
  );
end;
$$;
comment on function sync.next_translation(uuid) is
'When Outlook is to be asked next for ids that bookings name; null where nobody can ask.';
revoke all on function sync.next_translation(uuid) from public;
