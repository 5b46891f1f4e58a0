-- When to poll next, if nobody calls before. Polling is what stands in for missed pushes.

create view sync.polls as
with present as (
  select sync.clock() as at -- once: called for each calendar it takes longest of all
),

known as (
  select
    calendar.id,
    calendar.kind,
    calendar.poll_every,
    connection.provider,
    state.announced,
    state.unannounced,
    state.channel_lost_at,
    channel.expires_at,
    present.at,
    calendar.sync_enabled and connection.status = 'active' as is_on,
    channel.id is not null
    and (channel.expires_at is null or channel.expires_at > present.at) as is_heard
  from public.calendars as calendar
  inner join public.calendar_connections as connection on calendar.connection_id = connection.id
  left join sync.calendar_state as state on calendar.id = state.calendar_id
  left join public.calendar_watch_channels as channel
    on calendar.id = channel.calendar_id and channel.status = 'active'
  cross join present
)

select
  known.id as calendar_id,
  known.provider,
  known.expires_at as channel_ends_at,
  known.is_on and known.kind <> 'bookings' as is_polled, -- bookings are swept
  coalesce(known.poll_every > interval '0', false) as is_wished,
  case
    when known.poll_every > interval '0' then known.poll_every
    -- Zero means never while a channel lives.
    when known.poll_every = interval '0' and known.is_heard then null
    when known.kind = 'generated' then interval '1 day'
    -- Proven: each push that was missed has to be made good by twenty that came.
    when known.is_heard and known.announced >= 20 * (1 + known.unannounced) then interval '1 hour'
    when known.is_heard then interval '15 minutes'
    when exists (
      select 1 from public.calendar_watch_channels as refused
      where refused.calendar_id = known.id and refused.status = 'unwatchable'
    ) then interval '1 hour'
    when known.channel_lost_at > known.at - interval '15 minutes' then interval '1 minute'
    when known.channel_lost_at > known.at - interval '1 hour' then interval '5 minutes'
    else interval '15 minutes'
  end as every
from known;
comment on view sync.polls is
'How often each calendar should be polled: often after its channel was lost, rarely where pushes have proven reliable.';
comment on column sync.polls.is_wished is 'Whether calendars.poll_every says so.';
comment on column sync.polls.every is 'Null = never: its channel lives, and poll_every is zero.';
revoke all on sync.polls from public;

-- The budget. A poll is one request; half of what the provider grants a project is for polls, the
-- other half for what pushes, users and watches ask for, whose tasks are claimed first, too.
--
-- Google grants a project 10,000 requests a minute ("Manage quotas" in the Calendar API's guides),
-- and 600 a minute to each user. The others count by mailbox (Outlook: 10,000 in ten minutes), user
-- (Calendly: 500 a minute, on the free plan 50) or key (Cal.com: 120 a minute), never by project:
-- they have no row.

create table sync.poll_budgets (
  provider text primary key,
  polls_a_minute double precision not null,
  wished double precision not null default 0,
  adaptive double precision not null default 0,
  counted_at timestamptz not null default '-infinity',
  constraint poll_budgets_budget_is_positive check (polls_a_minute > 0)
);
comment on table sync.poll_budgets is
'What polls may take of a provider''s quota for our project, and what they would take. No row = the provider has no such quota.';
comment on column sync.poll_budgets.polls_a_minute is 'Half of the quota.';
comment on column sync.poll_budgets.wished is
'Polls a minute that calendars.poll_every asks for: served first, from three quarters of the budget.';
comment on column sync.poll_budgets.adaptive is
'Polls a minute of all other calendars: they have what is left, a quarter at least.';
comment on column sync.poll_budgets.counted_at is 'When both were counted: once a minute at most.';
alter table sync.poll_budgets enable row level security;

insert into sync.poll_budgets (provider, polls_a_minute) values ('google', 5000);

create function sync.count_polls(p_connection_id uuid)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_now timestamptz := sync.clock();
  v_provider text;
begin
  select budget.provider into v_provider
  from sync.poll_budgets as budget
  join public.calendar_connections as connection on connection.provider = budget.provider
  where connection.id = p_connection_id and budget.counted_at <= v_now - interval '1 minute'
  for update of budget skip locked; -- one counts, nobody waits
  if found then
    update sync.poll_budgets as budget
    set wished = asked.wished, adaptive = asked.adaptive, counted_at = v_now
    from (
      select
        coalesce(sum(a_minute.polls) filter (where polls.is_wished), 0) as wished,
        coalesce(sum(a_minute.polls) filter (where not polls.is_wished), 0) as adaptive
      from sync.polls as polls
      cross join lateral (select 60 / extract(epoch from polls.every)::double precision as polls)
        as a_minute
      where polls.provider = v_provider and polls.is_polled
    ) as asked
    where budget.provider = v_provider;
  end if;
end;
$$;
comment on function sync.count_polls(uuid) is
'Counts anew, if a minute has passed, how many polls a minute the calendars of this connection''s provider ask for.';
revoke all on function sync.count_polls(uuid) from public;

create function sync.polling_interval(p_calendar_id uuid)
returns interval
language plpgsql -- its plan is kept: every pull asks
stable
security definer -- the worker holds no grant on tables
set search_path = ''
as $$
declare
  v_poll record;
begin
  select
    polls.every, polls.channel_ends_at,
    greatest(1, case -- 1 where there is no budget
      when polls.is_wished then budget.wished / (0.75 * budget.polls_a_minute)
      else budget.adaptive
        / (budget.polls_a_minute - least(budget.wished, 0.75 * budget.polls_a_minute))
    end) as stretch
  into v_poll
  from sync.polls as polls
  left join sync.poll_budgets as budget on budget.provider = polls.provider
  where polls.calendar_id = p_calendar_id;
  return case
    when v_poll.every is not null
      then greatest(v_poll.every, least(v_poll.every * v_poll.stretch, interval '1 day'))
    -- When the channel should have ended, somebody looks.
    else coalesce(
      v_poll.channel_ends_at - sync.clock() + interval '1 minute', interval '100 years'
    )
  end;
end;
$$;
comment on function sync.polling_interval(uuid) is
'How long a calendar goes without a poll: as it should, and longer where its provider''s budget is short, but then a day at most.';
revoke all on function sync.polling_interval(uuid) from public;
