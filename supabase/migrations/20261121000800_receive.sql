-- Receiving: the receiver's one statement, and its steps.
--
-- Nearly all that comes is a change on a channel. What only the rest needs stands in steps of its
-- own, which run where there is any of it in the batch.

create function sync.wants_bookings(p_connection_id uuid)
returns boolean
language sql
stable
set search_path = ''
as $$
  select coalesce(bool_or(calendar.sync_enabled), true)
  from public.calendars as calendar
  where calendar.connection_id = p_connection_id
$$;
comment on function sync.wants_bookings(uuid) is
'Whether what comes for this connection is to be taken in: a calendar of it is switched on, or it has none yet, and ingest makes it.';
revoke all on function sync.wants_bookings(uuid) from public;

-- Deliveries that name no channel: of webhooks made by hand.

create function sync.tell_strangers(p_known text[], p_strange text[])
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_account text;
begin
  update public.sync_alerts as alert
  set resolved_at = sync.clock()
  where alert.kind = 'delivery_unrouted' and alert.resolved_at is null
    and alert.subject_id in (select md5(known.account)::uuid from unnest(p_known) as known (account));
  foreach v_account in array coalesce(p_strange, '{}') loop
    perform sync.raise_alert(
      'delivery_unrouted', md5(v_account)::uuid, null,
      format('Bookings come whose account is not connected, or not told: %s', v_account),
      'Connect the account, or remove the webhook that was made by hand: what comes is dropped.'
    );
  end loop;
end;
$$;
comment on function sync.tell_strangers(text[], text[]) is
'Opens an alert for each account (provider and routing key) whose deliveries are nobody''s, and closes those of accounts that are known by now.';
revoke all on function sync.tell_strangers(text[], text[]) from public;

create function sync.route_deliveries(
  p_provider text[], p_channel_id uuid[], p_routing_key text[], p_kind text[], p_headers text[],
  p_body text[]
)
returns table (place integer, connection_id uuid)
language plpgsql
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_places integer[];
  v_connections uuid[];
  v_known text[];
  v_strange text[];
begin
  with unnamed as materialized (
    select
      request.place::integer as place, request.provider,
      coalesce(request.routing_key, '') as routing_key,
      request.headers::jsonb ? 'ignored' as is_idle,
      -- An outage of ours is everybody's.
      request.kind = 'lifecycle' and request.headers::jsonb ->> 'reason' = 'outage' as for_all,
      case when coalesce(request.routing_key, '') = '' then coalesce(
        request.body::jsonb #>> '{payload,bookingUid}', request.body::jsonb #>> '{payload,uid}'
      ) end as booking
    from unnest(p_provider, p_channel_id, p_routing_key, p_kind, p_headers, p_body) with ordinality
      as request (provider, channel_id, routing_key, kind, headers, body, place)
    where request.channel_id is null
  ),

  named as materialized (
    select unnamed.place, connection.id, connection.status
    from unnamed
    join public.calendar_connections as connection
      on connection.provider = 'calendly' and connection.provider_account_id = unnamed.routing_key
    where unnamed.provider = 'calendly' and not unnamed.for_all
    union all
    select unnamed.place, connection.id, connection.status
    from unnamed
    join public.calendar_connections as connection
      on connection.provider = 'calcom' and connection.account_email = lower(unnamed.routing_key)
    where unnamed.provider = 'calcom' and not unnamed.for_all
    union all
    -- Cal.com's no-shows name no host, but a booking: theirs who were told of it.
    select unnamed.place, connection.id, connection.status
    from unnamed
    join public.calendar_connections as connection on connection.provider = 'calcom'
    where unnamed.provider = 'calcom' and exists (
      select 1 from sync.told_bookings as told
      -- A seat's key goes on with "#"; "$" comes after that.
      where told.organization_id = connection.organization_id
        and told.connection_id = connection.id and told.key >= unnamed.booking
        and told.key < unnamed.booking || '$' and split_part(told.key, '#', 1) = unnamed.booking
    )
    union all
    select unnamed.place, connection.id, connection.status
    from unnamed
    join public.calendar_connections as connection on connection.provider = unnamed.provider
    where unnamed.for_all
  ),

  unknown as materialized (
    select unnamed.place, unnamed.provider, unnamed.routing_key, unnamed.is_idle
    from unnamed
    where not unnamed.for_all and unnamed.place not in (select named.place from named)
  ),

  -- Who has webhooks alone, and nobody beside them who has: it can only be theirs.
  lone as materialized (
    select connection.provider, (array_agg(connection.id))[1] as id
    from public.calendar_connections as connection
    where connection.provider in (select unknown.provider from unknown)
      and connection.status <> 'revoked' and sync.wants_bookings(connection.id)
      and not exists (
        select 1 from sync.credentials as credentials
        where credentials.connection_id = connection.id
      )
    group by connection.provider
    having count(*) = 1
  ),

  routed as (
    select named.place, named.id from named
    where named.status <> 'revoked' and sync.wants_bookings(named.id)
    union all
    select unknown.place, lone.id
    from unknown
    join lone on lone.provider = unknown.provider
  )

  select
    array_agg(routed.place), array_agg(routed.id),
    array_agg(distinct unnamed.provider || ' ' || unnamed.routing_key),
    (
      select array_agg(distinct unknown.provider || ' ' || unknown.routing_key)
      from unknown
      -- What would be read by nobody is no loss.
      where not unknown.is_idle and unknown.provider not in (select lone.provider from lone)
    )
  into v_places, v_connections, v_known, v_strange
  from routed
  join unnamed on unnamed.place = routed.place;

  perform sync.tell_strangers(v_known, v_strange);
  return query
  select routed.place, routed.id from unnest(v_places, v_connections) as routed (place, id);
end;
$$;
comment on function sync.route_deliveries(text[], uuid[], text[], text[], text[], text[]) is
'Whose deliveries are that name no channel: those of the routing key''s account, or of who was told of the booking, in every organization, else of the only connection that has webhooks alone. Nobody''s raise an alert, if they tell of bookings.';
revoke all on function sync.route_deliveries(text[], uuid[], text[], text[], text[], text[])
from public;

-- Storing.

create function sync.store_deliveries(
  p_provider text[],
  p_channel_id uuid[],
  p_routing_key text[],
  p_kind text[],
  p_headers text[],
  p_body text[],
  p_received_at timestamptz[],
  p_routed integer[],
  p_connections uuid[],
  p_now timestamptz,
  out stored integer[],
  out woken uuid[],
  out woken_of uuid[],
  out telling bigint[]
)
language plpgsql
set search_path = ''
as $$
#variable_conflict use_column
begin
  with known as materialized (
    select
      incoming.*, channel.organization_id, calendar.connection_id, calendar.provider_calendar_id,
      connection.account_email, connection.status = 'active' as is_active
    from unnest(
      p_provider, p_channel_id, p_routing_key, p_kind, p_headers, p_body, p_received_at
    ) with ordinality
      as incoming (provider, channel_id, routing_key, kind, headers, body, received_at, place)
    join public.calendar_watch_channels as channel
      on channel.id = incoming.channel_id
      -- A channel being replaced still speaks, and so does one whose creation is unanswered.
      and channel.status in ('pending', 'active', 'replaced')
    join public.calendars as calendar on calendar.id = channel.calendar_id
    join public.calendar_connections as connection
      on connection.id = calendar.connection_id and connection.provider = incoming.provider
    union all
    select incoming.*, connection.organization_id, connection.id, null, null, null
    from unnest(p_routed, p_connections) as routed (place, connection_id)
    join public.calendar_connections as connection on connection.id = routed.connection_id
    cross join lateral (
      select
        p_provider[routed.place], p_channel_id[routed.place], p_routing_key[routed.place],
        p_kind[routed.place], p_headers[routed.place], p_body[routed.place],
        p_received_at[routed.place], routed.place
    ) as incoming (provider, channel_id, routing_key, kind, headers, body, received_at, place)
  ),

  added as (
    insert into sync.webhook_deliveries (
      received_at, provider, kind, organization_id, connection_id, channel_id, routing_key,
      headers, body
    )
    select
      known.received_at, known.provider, known.kind, known.organization_id, known.connection_id,
      known.channel_id, known.routing_key, known.headers::jsonb, known.body::jsonb
    from known
    returning id, kind
  ),

  -- One provider channel may serve several organizations: every enabled calendar of the same
  -- account and calendar is woken. A connection that rests reads all it missed when it is back.
  rung as (
    select calendar.id, calendar.connection_id
    from known
    join public.calendars as calendar
      on calendar.provider_calendar_id = known.provider_calendar_id and calendar.sync_enabled
      and case when calendar.connection_id = known.connection_id then known.is_active else exists (
        select 1 from public.calendar_connections as connection
        where connection.id = calendar.connection_id
          and connection.provider = known.provider
          and connection.account_email = known.account_email
          and connection.status = 'active'
      ) end
    where known.kind = 'change'
      -- Whose pull is due already needs no waking, nor the lock on its task: the change was made
      -- before we were told, so a pull that is claimed after this look will read it. Others, who
      -- ask for what this transaction writes, must take the lock (sync.request_tasks).
      and not exists (
        select 1 from sync.tasks as task
        where task.subject_id = calendar.id and task.kind = 'pull' and task.lease is null
          and task.lane <= 1 and task.run_at <= p_now
      )
  )

  select
    (select array_agg(known.place::integer) from known),
    asked.subjects, asked.connections,
    (select array_agg(added.id) from added where added.kind in ('booking', 'lifecycle'))
  into stored, woken, woken_of, telling
  from (
    select array_agg(rung.id) as subjects, array_agg(rung.connection_id) as connections
    from rung
  ) as asked;
end;
$$;
comment on function sync.store_deliveries(
  text[], uuid[], text[], text[], text[], text[], timestamptz[], integer[], uuid[], timestamptz
) is
'Stores those requests of a batch that are ours, by channel, or by place where they were routed to a connection. Answers the places of these, which calendars are to be read that are not due at p_now already (and of which connections they are; doubles are possible), and the ids of those that tell more than that.';
revoke all on function sync.store_deliveries(
  text[], uuid[], text[], text[], text[], text[], timestamptz[], integer[], uuid[], timestamptz
) from public;

-- The hello brings the resource id: with it a channel can be stopped whose creation was never
-- answered.

create function sync.note_hellos(
  p_channel_id uuid[], p_kind text[], p_headers text[], p_received_at timestamptz[],
  p_stored integer[]
)
returns void
language sql
set search_path = ''
as $$
  insert into sync.channel_state as state (channel_id, resource_id, hello_at)
  select distinct on (request.channel_id)
    request.channel_id, request.headers::jsonb ->> 'resource_id', request.received_at
  from unnest(p_channel_id, p_kind, p_headers, p_received_at) with ordinality
    as request (channel_id, kind, headers, received_at, place)
  where request.kind = 'hello' and request.place = any (p_stored)
  order by request.channel_id
  on conflict (channel_id) do update
  set resource_id = excluded.resource_id, hello_at = excluded.hello_at
$$;
comment on function sync.note_hellos(uuid[], text[], text[], timestamptz[], integer[]) is
'Keeps what the first messages of channels tell: how to stop them.';
revoke all on function sync.note_hellos(uuid[], text[], text[], timestamptz[], integer[])
from public;

-- Bookings, and what is told about channels.

create function sync.open_deliveries_of(
  p_ids bigint[], p_from timestamptz, p_until timestamptz
)
returns table (kinds text[], subjects uuid[], connections uuid[])
language plpgsql
set search_path = ''
as $$
declare
  v_now timestamptz := sync.clock();
begin
  -- Those of booking providers wait for their ingest: the data they carry, or that some is missing.
  insert into sync.delivery_states (delivery_id, received_at, connection_id, kind, updated_at)
  select delivery.id, delivery.received_at, delivery.connection_id, delivery.kind, v_now
  from sync.webhook_deliveries as delivery
  where delivery.id = any (p_ids) and delivery.received_at between p_from and p_until
    and delivery.provider in ('calendly', 'calcom');

  -- What has to be authorized anew, or is gone, is due for renewal.
  update sync.channel_state as state
  set renew_at = v_now
  from sync.webhook_deliveries as delivery
  where delivery.id = any (p_ids) and delivery.received_at between p_from and p_until
    and delivery.headers ->> 'reason' in ('reauthorizationRequired', 'subscriptionRemoved')
    and state.channel_id = delivery.channel_id;

  return query
  select
    array_agg(asked.kind), array_agg(asked.subject_id), array_agg(asked.connection_id)
  from (
    select 'ingest' as kind, delivery.connection_id as subject_id, delivery.connection_id
    from sync.webhook_deliveries as delivery
    where delivery.id = any (p_ids) and delivery.received_at between p_from and p_until
      and delivery.provider in ('calendly', 'calcom')
    union
    select
      case delivery.headers ->> 'reason' when 'missed' then 'pull' else 'watch' end,
      calendar.id, calendar.connection_id
    from sync.webhook_deliveries as delivery
    -- What is said of a channel is said to all for whom it speaks.
    cross join lateral (
      select delivery.channel_id as id
      union all
      select state.channel_id from sync.channel_state as state
      where state.heard_as = delivery.channel_id
    ) as meant
    join public.calendar_watch_channels as channel on channel.id = meant.id
    join public.calendars as calendar on calendar.id = channel.calendar_id
    where delivery.id = any (p_ids) and delivery.received_at between p_from and p_until
      and delivery.provider not in ('calendly', 'calcom') and calendar.sync_enabled
      and delivery.headers ->> 'reason'
        in ('missed', 'reauthorizationRequired', 'subscriptionRemoved')
  ) as asked;
end;
$$;
comment on function sync.open_deliveries_of(bigint[], timestamptz, timestamptz) is
'What deliveries ask for that tell more than "something changed": an ingest of the bookings, a watch of a channel that ends, a pull where some were missed. Others ask for nothing.';
revoke all on function sync.open_deliveries_of(bigint[], timestamptz, timestamptz) from public;

-- All of it.

create function sync.receive(
  p_provider text[],
  p_channel_id uuid[],
  p_routing_key text[],
  p_kind text[],
  p_headers text[],
  p_body text[],
  p_received_at timestamptz[]
)
returns table (place integer, outcome text)
language plpgsql
security definer -- the receiver's role reaches no table
set search_path = ''
set lock_timeout = '2s' -- better a 503 now than a provider's time-out
set plan_cache_mode = force_generic_plan -- planned once, whatever the batch's size
set enable_seqscan = off -- what looks cheap while tables are small stays when they are not
as $$
declare
  v_now timestamptz := sync.clock();
  v_places integer[];
  v_routes uuid[];
  v_stored integer[];
  v_woken uuid[];
  v_woken_of uuid[];
  v_telling bigint[];
  v_asked record;
  v_kinds text[] := array[]::text[];
  v_subjects uuid[] := array[]::uuid[];
  v_connections uuid[] := array[]::uuid[];
begin
  if array_position(p_channel_id, null) is not null then
    select array_agg(routed.place), array_agg(routed.connection_id) into v_places, v_routes
    from sync.route_deliveries(
      p_provider, p_channel_id, p_routing_key, p_kind, p_headers, p_body
    ) as routed;
  end if;
  select done.stored, done.woken, done.woken_of, done.telling
  into v_stored, v_woken, v_woken_of, v_telling
  from sync.store_deliveries(
    p_provider, p_channel_id, p_routing_key, p_kind, p_headers, p_body, p_received_at,
    v_places, v_routes, v_now
  ) as done;

  if v_woken is not null then
    v_kinds := array_fill('pull'::text, array[cardinality(v_woken)]);
    v_subjects := v_woken;
    v_connections := v_woken_of;
  end if;
  if v_telling is not null then
    select opened.* into v_asked
    from sync.open_deliveries_of(
      v_telling,
      (select min(came.at) from unnest(p_received_at) as came (at)),
      (select max(came.at) from unnest(p_received_at) as came (at))
    ) as opened;
    v_kinds := v_kinds || v_asked.kinds;
    v_subjects := v_subjects || v_asked.subjects;
    v_connections := v_connections || v_asked.connections;
  end if;
  if cardinality(v_kinds) > 0 then
    perform sync.request_tasks( -- once, or flushes could lock tasks in different orders
      v_kinds, v_subjects, v_connections,
      array_fill(1::smallint, array[cardinality(v_kinds)]),
      array_fill(v_now, array[cardinality(v_kinds)])
    );
  end if;
  if 'hello' = any (p_kind) then
    perform sync.note_hellos(p_channel_id, p_kind, p_headers, p_received_at, v_stored);
  end if;

  return query
  select
    asked.place,
    case
      when asked.place in (select kept.place from unnest(v_stored) as kept (place)) then 'accepted'
      else 'ignored'
    end
  from generate_series(1, cardinality(p_kind)) as asked (place);
end;
$$;
comment on function sync.receive(text[], uuid[], text[], text[], text[], text[], timestamptz[]) is
'Stores verified webhook requests that came together (parallel arrays; headers and body as JSON text) and asks for the work they mean. Says per place in them: accepted, or ignored (a channel that is no longer ours, an account that is not connected: nothing is stored).';
revoke all on function sync.receive(text[], uuid[], text[], text[], text[], text[], timestamptz[])
from public;
grant execute
on function sync.receive(text[], uuid[], text[], text[], text[], text[], timestamptz[])
to webhook_ingest;
