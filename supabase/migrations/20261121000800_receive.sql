-- Receiving: the receiver's one statement.

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
security definer -- the receiver's role may execute this function and nothing else
set search_path = ''
set lock_timeout = '2s' -- better a 503 now than a provider's time-out
set plan_cache_mode = force_generic_plan -- planned once, whatever the batch's size
set enable_seqscan = off -- what looks cheap while tables are small stays when they are not
as $$
#variable_conflict use_column
declare
  v_now timestamptz := sync.clock();
  v_outcomes text[];
  v_kinds text[];
  v_subjects uuid[];
  v_connections uuid[];
begin
  with incoming as materialized (
    select
      request.place::integer as place, request.provider, request.channel_id,
      request.routing_key, request.kind, request.headers::jsonb as headers,
      request.body::jsonb as body, request.received_at
    from unnest(
      p_provider, p_channel_id, p_routing_key, p_kind, p_headers, p_body, p_received_at
    ) with ordinality
      as request (provider, channel_id, routing_key, kind, headers, body, received_at, place)
  ),

  channels as materialized (
    select
      channel.id, channel.organization_id, connection.id as connection_id,
      connection.provider, connection.account_email, calendar.provider_calendar_id
    from public.calendar_watch_channels as channel
    join public.calendars as calendar on calendar.id = channel.calendar_id
    join public.calendar_connections as connection on connection.id = calendar.connection_id
    where channel.id in (select incoming.channel_id from incoming)
      -- A channel being replaced still speaks, and so does one whose creation is unanswered.
      and channel.status in ('pending', 'active', 'replaced')
  ),

  known as materialized (
    select incoming.*, channels.organization_id, channels.connection_id
    from incoming
    join channels on channels.id = incoming.channel_id and channels.provider = incoming.provider
  ),

  stored as (
    insert into sync.webhook_deliveries (
      received_at, provider, kind, organization_id, connection_id, channel_id, routing_key,
      headers, body
    )
    select
      known.received_at, known.provider, known.kind, known.organization_id, known.connection_id,
      known.channel_id, known.routing_key, known.headers, known.body
    from known
  ),

  -- One provider channel may serve several organizations: every enabled calendar of the same
  -- account and calendar is woken.
  woken as (
    select distinct calendar.id, calendar.connection_id
    from channels
    join public.calendars as calendar
      on calendar.provider_calendar_id = channels.provider_calendar_id and calendar.sync_enabled
      and (calendar.connection_id = channels.connection_id or exists (
        select 1 from public.calendar_connections as connection
        where connection.id = calendar.connection_id
          and connection.provider = channels.provider
          and connection.account_email = channels.account_email
      ))
    where channels.id in (select known.channel_id from known where known.kind = 'change')
  ),

  asked as (
    select
      array_agg('pull'::text) as kinds, array_agg(woken.id) as subjects,
      array_agg(woken.connection_id) as connections
    from woken
  ),

  answers as (
    select
      array_agg(
        case when known.place is null then 'ignored' else 'accepted' end
        order by incoming.place
      ) as outcomes
    from incoming
    left join known on known.place = incoming.place
  )

  select answers.outcomes, asked.kinds, asked.subjects, asked.connections
  into v_outcomes, v_kinds, v_subjects, v_connections
  from answers cross join asked;

  if v_kinds is not null then
    perform sync.request_tasks(
      v_kinds, v_subjects, v_connections,
      array_fill(1::smallint, array[cardinality(v_kinds)]),
      array_fill(v_now, array[cardinality(v_kinds)])
    );
  end if;

  -- The hello brings the resource id: with it a channel can be stopped whose creation was
  -- never answered.
  if 'hello' = any (p_kind) then
    insert into sync.channel_state as state (channel_id, resource_id, hello_at)
    select distinct on (request.channel_id)
      request.channel_id, request.headers::jsonb ->> 'resource_id', request.received_at
    from unnest(p_channel_id, p_kind, p_headers, p_received_at, v_outcomes)
      as request (channel_id, kind, headers, received_at, outcome)
    where request.kind = 'hello' and request.outcome = 'accepted'
    order by request.channel_id
    on conflict (channel_id) do update
    set resource_id = excluded.resource_id, hello_at = excluded.hello_at;
  end if;

  return query
  select answer.place::integer, answer.outcome
  from unnest(v_outcomes) with ordinality as answer (outcome, place);
end;
$$;
comment on function sync.receive(text[], uuid[], text[], text[], text[], text[], timestamptz[]) is
'Stores verified webhook requests that came together (parallel arrays; headers and body as JSON text) and asks for the work they mean. Says per place in them: accepted, or ignored (a channel that is no longer ours: nothing is stored).';
revoke all on function sync.receive(text[], uuid[], text[], text[], text[], text[], timestamptz[])
from public;
grant execute
on function sync.receive(text[], uuid[], text[], text[], text[], text[], timestamptz[])
to webhook_ingest;
