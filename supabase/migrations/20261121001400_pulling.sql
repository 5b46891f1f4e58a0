-- What a pull asks of the database besides applying: what to read, and when to read again.

alter table sync.calendar_state
add column cursor_until timestamptz,
add column round_due_at timestamptz,
add column looks_again smallint not null default 0;
comment on column sync.calendar_state.cursor_until is
'Until when the cursor sees anything, where a window is frozen into it (Microsoft).';
comment on column sync.calendar_state.round_due_at is
'When a full round is due beside the cursor, for a window further on.';
comment on column sync.calendar_state.looks_again is
'How often a notified pull that found nothing was repeated: the provider''s list of changes lags behind its notifications.';

create function sync.begin_pull(p_task_id bigint, p_lease uuid, p_calendar_id uuid)
returns table (
  calendar_id uuid, connection_id uuid, provider text, account_email text,
  provider_calendar_id text, calendar_kind text, projection text, backfill text, cursor text,
  cursor_parameters text,
  window_start timestamptz, window_end timestamptz, window_rolls_at timestamptz,
  wanted_start timestamptz, wanted_end timestamptz, is_round_due boolean, key_id text,
  ciphertext bytea, now_at timestamptz
)
language plpgsql
security definer -- the worker holds no grant on tables: these functions are its reach
set search_path = ''
as $$
#variable_conflict use_column
declare
  v_now timestamptz := sync.clock();
begin
  perform sync.hold_task(p_task_id, p_lease);
  insert into sync.calendar_state as state (calendar_id)
  select calendar.id from public.calendars as calendar
  where calendar.id = p_calendar_id
  on conflict (calendar_id) do nothing;

  return query
  select
    calendar.id, connection.id, connection.provider, connection.account_email,
    calendar.provider_calendar_id, calendar.kind,
    -- What decides, besides an event's content, whether and how it becomes a meeting.
    case calendar.direction when 'outbound' then 'outbound ' else '' end
      || case when calendar.mail_events then 'mail ' else '' end
      || coalesce(calendar.event_tag, ''),
    calendar.backfill,
    case when calendar.full_round_asked_at is null then state.cursor end,
    state.cursor_parameters,
    state.window_start, state.window_end, state.window_rolls_at,
    -- Whole days: a window that moves with the clock would make every read a different one.
    date_trunc('day', v_now - calendar.window_past),
    wanted.window_end,
    coalesce(state.round_due_at <= v_now or state.cursor_until < wanted.window_end, false),
    credentials.key_id, credentials.ciphertext, v_now
  from public.calendars as calendar
  join public.calendar_connections as connection on connection.id = calendar.connection_id
  join sync.calendar_state as state on state.calendar_id = calendar.id
  left join sync.credentials as credentials on credentials.connection_id = connection.id
  cross join lateral (
    select
      date_trunc('day', v_now + calendar.window_future) + interval '1 day' as window_end
  ) as wanted
  where calendar.id = p_calendar_id and calendar.sync_enabled;
end;
$$;
comment on function sync.begin_pull(bigint, uuid, uuid) is
'What a pull needs to begin; no row = the calendar is gone or switched off and the task is over.';
revoke all on function sync.begin_pull(bigint, uuid, uuid) from public;
grant execute on function sync.begin_pull(bigint, uuid, uuid) to sync_worker;

-- A full round notes what it meets in sync.seen_events, which is unlogged: where the server
-- crashes in the midst of one, everything that had been met would count as absent. So the round
-- leaves a mark among the ids (no provider's id has a space), and ends only if it is still there.

create function sync.begin_full_round(
  p_task_id bigint, p_lease uuid, p_calendar_id uuid, p_beside boolean default false
)
returns void
language plpgsql
security definer -- as begin_pull
set search_path = ''
as $$
begin
  perform sync.hold_task(p_task_id, p_lease);
  update public.calendars as calendar set full_round_asked_at = null
  where calendar.id = p_calendar_id and calendar.full_round_asked_at is not null;
  delete from sync.seen_events as seen where seen.calendar_id = p_calendar_id;
  insert into sync.seen_events (calendar_id, provider_event_id) values (p_calendar_id, ' begun');
  update sync.calendar_state as state
  set
    round_started_at = sync.clock(),
    cursor = case when p_beside then state.cursor end,
    cursor_parameters = case when p_beside then state.cursor_parameters end
  where state.calendar_id = p_calendar_id;
end;
$$;
comment on function sync.begin_full_round(bigint, uuid, uuid, boolean) is
'Forgets which events were seen, and the cursor unless the round is made beside it: from here on a pull notes every id it meets.';
revoke all on function sync.begin_full_round(bigint, uuid, uuid, boolean) from public;
grant execute on function sync.begin_full_round(bigint, uuid, uuid, boolean) to sync_worker;

create function sync.is_round_whole(p_calendar_id uuid)
returns boolean
language sql
stable
security definer -- as begin_pull
set search_path = ''
as $$
  select exists (
    select 1 from sync.seen_events as seen
    where seen.calendar_id = p_calendar_id and seen.provider_event_id = ' begun'
  )
$$;
comment on function sync.is_round_whole(uuid) is
'Whether all that the full round under way has met is still noted; false after a crash of the server. Asked in the transaction that ends the round.';
revoke all on function sync.is_round_whole(uuid) from public;
grant execute on function sync.is_round_whole(uuid) to sync_worker;

-- Events that a provider showed no more, or that it names by their id only. Where it looks through
-- a window, something out of sight may be gone or may have moved: a read by id tells.

create function sync.known_events(p_calendar_id uuid, p_ids text[])
returns table (event_id text, role text, series_id text)
language sql
stable
security definer -- as begin_pull
set search_path = ''
as $$
  select event.provider_event_id, event.role, event.series_provider_id
  from public.calendar_events as event
  where event.calendar_id = p_calendar_id and event.provider_event_id = any (p_ids)
    and event.status <> 'cancelled'
  union all
  select aside.provider_event_id, 'single', null
  from sync.set_aside_events as aside
  where aside.calendar_id = p_calendar_id and aside.provider_event_id = any (p_ids)
    and not exists (
      select 1 from public.calendar_events as event
      where event.calendar_id = p_calendar_id
        and event.provider_event_id = aside.provider_event_id and event.status <> 'cancelled'
    )
$$;
comment on function sync.known_events(uuid, text[]) is
'Those of the ids that are mirrored and alive, or set aside, with what they are.';
revoke all on function sync.known_events(uuid, text[]) from public;
grant execute on function sync.known_events(uuid, text[]) to sync_worker;

create function sync.known_exceptions(p_calendar_id uuid, p_series text[], p_from timestamptz)
returns setof text
language sql
stable
security definer -- as begin_pull
set search_path = ''
as $$
  select event.provider_event_id
  from public.calendar_events as event
  where event.calendar_id = p_calendar_id and event.series_provider_id = any (p_series)
    and event.role = 'exception' and event.status <> 'cancelled'
    and (event.ends_at > p_from or event.original_start >= p_from)
  order by event.starts_at, event.provider_event_id
$$;
comment on function sync.known_exceptions(uuid, text[], timestamptz) is
'The mirrored exceptions of some series, however far ahead they are: an expansion that lacks one says neither that it is gone nor that it is elsewhere.';
revoke all on function sync.known_exceptions(uuid, text[], timestamptz) from public;
grant execute on function sync.known_exceptions(uuid, text[], timestamptz) to sync_worker;

create function sync.known_occurrences(
  p_calendar_id uuid, p_series text[], p_from timestamptz, p_until timestamptz
)
returns table (event_id text, series_id text)
language sql
stable
security definer -- as begin_pull
set search_path = ''
as $$
  select event.provider_event_id, event.series_provider_id
  from public.calendar_events as event
  where event.calendar_id = p_calendar_id and event.series_provider_id = any (p_series)
    and event.role = 'occurrence' and event.status <> 'cancelled'
    and event.ends_at > p_from and event.starts_at < p_until
  order by event.starts_at, event.provider_event_id
$$;
comment on function sync.known_occurrences(uuid, text[], timestamptz, timestamptz) is
'The mirrored occurrences of some series in a window: those that an expansion in pages lacks may have slipped through.';
revoke all on function sync.known_occurrences(uuid, text[], timestamptz, timestamptz) from public;
grant execute on function sync.known_occurrences(uuid, text[], timestamptz, timestamptz)
to sync_worker;

create function sync.unmet_events(p_calendar_id uuid, p_from timestamptz, p_until timestamptz)
returns table (event_id text, role text)
language sql
stable
security definer -- as begin_pull
set search_path = ''
as $$
  select unmet.event_id, unmet.role
  from (
    select event.provider_event_id as event_id, event.role, event.starts_at
    from public.calendar_events as event
    where event.calendar_id = p_calendar_id and event.status <> 'cancelled'
      and event.starts_at < p_until
      and case event.role
        when 'single' then event.starts_at >= p_from
        when 'series' then event.starts_at >= p_from or exists (
          select 1 from public.calendar_events as member
          where member.calendar_id = p_calendar_id
            and member.series_provider_id = event.provider_event_id
            and member.status <> 'cancelled' and member.ends_at > p_from
        )
        else false
      end
    union all
    -- Series that went before the round could meet them, after a windowed read had shown theirs.
    select member.series_provider_id, 'series', min(member.starts_at)
    from public.calendar_events as member
    where member.calendar_id = p_calendar_id and member.status <> 'cancelled'
      and member.series_provider_id is not null and member.ends_at > p_from
      and not exists (
        select 1 from public.calendar_events as head
        where head.calendar_id = p_calendar_id
          and head.provider_event_id = member.series_provider_id and head.status <> 'cancelled'
      )
    group by member.series_provider_id
  ) as unmet
  where not exists (
    select 1 from sync.seen_events as seen
    where seen.calendar_id = p_calendar_id and seen.provider_event_id = unmet.event_id
  )
  order by unmet.starts_at, unmet.event_id
$$;
comment on function sync.unmet_events(uuid, timestamptz, timestamptz) is
'Known singles and series that a full round through this window did not meet, soonest first. Exceptions are looked for with their series.';
revoke all on function sync.unmet_events(uuid, timestamptz, timestamptz) from public;
grant execute on function sync.unmet_events(uuid, timestamptz, timestamptz) to sync_worker;

create function sync.meet_events(
  p_task_id bigint, p_lease uuid, p_calendar_id uuid, p_ids text[], p_hashes bytea[]
)
returns integer[]
language plpgsql
security definer -- as begin_pull
set search_path = ''
as $$
begin
  -- A worker that has lost its lease would note what was there when it looked: the round of its
  -- successor would then not miss what vanished in between.
  perform sync.hold_task(p_task_id, p_lease);
  return sync.compare_hashes(p_calendar_id, p_ids, p_hashes, true, true);
end;
$$;
comment on function sync.meet_events(bigint, uuid, uuid, text[], bytea[]) is
'sync.compare_hashes for a page of a full round: notes, besides, what the round has met.';
revoke all on function sync.meet_events(bigint, uuid, uuid, text[], bytea[]) from public;
grant execute on function sync.meet_events(bigint, uuid, uuid, text[], bytea[]) to sync_worker;

-- Graph notifies before its delta shows the change: a notified pull that found nothing looks again
-- after 20 s, 60 s and 3 min.

create function sync.look_again_after(p_calendar_id uuid)
returns interval
language sql
stable
security definer -- as begin_pull
set search_path = ''
as $$
  select (array[interval '20 seconds', interval '1 minute', interval '3 minutes'])[state.looks_again]
  from sync.calendar_state as state
  where state.calendar_id = p_calendar_id
$$;
comment on function sync.look_again_after(uuid) is
'When a pull that found nothing is repeated, though it was notified; null = it is not.';
revoke all on function sync.look_again_after(uuid) from public;

create function sync.finish_pull(
  p_task_id bigint, p_lease uuid, p_calendar_id uuid, p_lane smallint, p_changes integer,
  p_window_start timestamptz, p_window_end timestamptz, p_cursor text,
  p_asked_until timestamptz default null, p_saw_nothing boolean default false
)
returns timestamptz
language plpgsql
security definer -- as begin_pull
set search_path = ''
as $$
declare
  v_now timestamptz := sync.clock();
  v_enabled boolean;
  v_connection_id uuid;
  v_lags boolean;
begin
  perform sync.hold_task(p_task_id, p_lease);
  update public.calendars as calendar set last_error = null
  where calendar.id = p_calendar_id and calendar.last_error is not null;
  select calendar.sync_enabled, connection.id, connection.provider = 'microsoft'
  into v_enabled, v_connection_id, v_lags
  from public.calendars as calendar
  join public.calendar_connections as connection on connection.id = calendar.connection_id
  where calendar.id = p_calendar_id;
  perform sync.resolve_alert('calendar_lost', p_calendar_id);
  perform sync.resolve_alert('key_missing', v_connection_id);
  update sync.calendar_state as state
  set
    cursor = coalesce(p_cursor, state.cursor),
    last_pulled_at = v_now,
    last_changed_at = case when p_changes > 0 then v_now else state.last_changed_at end,
    -- What a full round or a rolling window finds, nobody could have announced. What comes late
    -- was announced all the same.
    announced = state.announced + (
      p_changes > 0 and p_window_end is null and (p_lane = 1 or state.looks_again > 0)
    )::integer,
    unannounced = state.unannounced + (
      p_changes > 0 and p_window_end is null and p_lane = 2 and state.looks_again = 0
    )::integer,
    looks_again = case
      when p_asked_until is not null then state.looks_again -- made beside one that looked
      when not v_lags or not p_saw_nothing then 0
      when p_lane = 1 then 1
      when state.looks_again between 1 and 2 then state.looks_again + 1
      else 0
    end,
    window_start = coalesce(p_window_start, state.window_start),
    window_end = coalesce(p_window_end, state.window_end),
    -- Weekly, each calendar at an hour of its own.
    window_rolls_at = case
      when p_window_end is null then state.window_rolls_at
      else v_now + interval '7 days' * (0.85 + 0.3 * random())
    end,
    cursor_until = coalesce(p_asked_until, state.cursor_until),
    -- Every four weeks. The window asked for is longer than that lasts.
    round_due_at = case
      when p_asked_until is null then state.round_due_at
      else v_now + interval '28 days' * (0.85 + 0.15 * random())
    end,
    round_started_at = null
  where state.calendar_id = p_calendar_id;
  if p_lane = 2 and p_changes = 0 then
    perform sync.count_polls(v_connection_id); -- while nothing is held that others wait for
  end if;
  -- Switched off meanwhile: this was the last pull.
  return case
    when v_enabled then v_now + least(
      sync.polling_interval(p_calendar_id) * (0.85 + 0.3 * random()),
      sync.look_again_after(p_calendar_id)
    )
  end;
end;
$$;
comment on function sync.finish_pull(
  bigint, uuid, uuid, smallint, integer, timestamptz, timestamptz, text, timestamptz, boolean
) is
'Notes a good pull in the transaction that applied its last page; returns when to poll next, null = never. A window is given where this pull read all of it, a cursor where there was nothing to apply, p_asked_until where a full round froze its window into the cursor.';
revoke all on function sync.finish_pull(
  bigint, uuid, uuid, smallint, integer, timestamptz, timestamptz, text, timestamptz, boolean
) from public;
grant execute on function sync.finish_pull(
  bigint, uuid, uuid, smallint, integer, timestamptz, timestamptz, text, timestamptz, boolean
) to sync_worker;

-- What went wrong, where its owner looks.

create function sync.note_calendar_error(
  p_task_id bigint, p_lease uuid, p_calendar_id uuid, p_message text
)
returns void
language plpgsql
security definer -- as begin_pull
set search_path = ''
as $$
begin
  perform sync.hold_task(p_task_id, p_lease);
  update public.calendars as calendar
  set last_error = left(p_message, 500)
  where calendar.id = p_calendar_id and calendar.last_error is distinct from left(p_message, 500);
end;
$$;
comment on function sync.note_calendar_error(bigint, uuid, uuid, text) is
'Shows a calendar''s owner why its last run failed; the next good pull clears it.';
revoke all on function sync.note_calendar_error(bigint, uuid, uuid, text) from public;
grant execute on function sync.note_calendar_error(bigint, uuid, uuid, text) to sync_worker;

create function sync.lose_access(
  p_task_id bigint, p_lease uuid, p_connection_id uuid, p_ciphertext bytea, p_reason text
)
returns boolean
language plpgsql
security definer -- as begin_pull
set search_path = ''
as $$
begin
  perform sync.hold_task(p_task_id, p_lease);
  -- Its owner may have connected it again while this run still used the old tokens.
  if exists (
    select 1 from sync.credentials as credentials
    where credentials.connection_id = p_connection_id
      and credentials.ciphertext is distinct from p_ciphertext
  ) then
    return false;
  end if;
  update public.calendar_connections as connection
  set status = 'needs_reauth', status_reason = p_reason
  where connection.id = p_connection_id and connection.status = 'active';
  if found then
    perform sync.raise_alert(
      'access_lost', p_connection_id, p_connection_id,
      format('The account can no longer be read: %s', p_reason),
      'Its owner connects it again; what changed meanwhile is read then.'
    );
  end if;
  return found;
end;
$$;
comment on function sync.lose_access(bigint, uuid, uuid, bytea, text) is
'A grant is gone for good: the connection waits for its owner, its tasks rest, an alert is open. False where other tokens are stored by now than those that were refused.';
revoke all on function sync.lose_access(bigint, uuid, uuid, bytea, text) from public;
grant execute on function sync.lose_access(bigint, uuid, uuid, bytea, text) to sync_worker;

create function sync.miss_key(p_task_id bigint, p_lease uuid, p_connection_id uuid, p_key_id text)
returns void
language plpgsql
security definer -- as begin_pull
set search_path = ''
as $$
begin
  perform sync.hold_task(p_task_id, p_lease);
  perform sync.raise_alert(
    'key_missing', p_connection_id, p_connection_id,
    format('The account''s tokens are sealed with the key %s, which no worker has.', p_key_id),
    'Put that key back into SUPACAL_SECRET_KEYS behind the newest, or have the owner connect the account again.'
  );
end;
$$;
comment on function sync.miss_key(bigint, uuid, uuid, text) is
'Raises the alert that a connection''s tokens can''t be opened; the next good pull resolves it.';
revoke all on function sync.miss_key(bigint, uuid, uuid, text) from public;
grant execute on function sync.miss_key(bigint, uuid, uuid, text) to sync_worker;

create function sync.lose_calendar(
  p_task_id bigint, p_lease uuid, p_calendar_id uuid, p_reason text
)
returns timestamptz
language plpgsql
security definer -- owned by sync_engine: nobody takes its writes for a user's
set search_path = ''
as $$
declare
  v_connection_id uuid;
begin
  perform sync.hold_task(p_task_id, p_lease);
  -- A calendar that can't be read says nothing about its meetings: they stay, without it.
  update public.meetings as meeting
  set sync_state = 'local'
  where meeting.sync_state <> 'local'
    and meeting.id in (
      select mine.id
      from public.meetings as mine
      join public.calendar_events as event on event.id = mine.event_id
      where event.calendar_id = p_calendar_id and event.scope = 'in'
      order by mine.id
      for no key update of mine
    );
  -- No hash, of series too, so that all is looked at again should the calendar come back.
  update public.calendar_events as event
  set
    scope = case when event.role = 'series' then event.scope else 'detached' end,
    content_hash = ''
  where event.calendar_id = p_calendar_id and event.scope = 'in' and event.content_hash <> '';
  update sync.calendar_state as state
  set cursor = null, cursor_parameters = null
  where state.calendar_id = p_calendar_id;
  update public.calendars as calendar
  set last_error = p_reason
  where calendar.id = p_calendar_id and calendar.last_error is distinct from p_reason;
  select calendar.connection_id into v_connection_id
  from public.calendars as calendar
  where calendar.id = p_calendar_id;
  perform sync.raise_alert(
    'calendar_lost', p_calendar_id, v_connection_id, p_reason,
    'Share the calendar with the account again, or switch its sync off.'
  );
  return sync.clock() + interval '1 hour' * (0.85 + 0.3 * random());
end;
$$;
comment on function sync.lose_calendar(bigint, uuid, uuid, text) is
'The provider says there is no such calendar for us: events are detached, meetings stay; returns when to look again.';
revoke all on function sync.lose_calendar(bigint, uuid, uuid, text) from public;
grant execute on function sync.lose_calendar(bigint, uuid, uuid, text) to sync_worker;
grant create on schema sync to sync_engine; -- owning a function there needs it, for a moment
alter function sync.lose_calendar(bigint, uuid, uuid, text) owner to sync_engine;
revoke create on schema sync from sync_engine;

-- Renewing tokens: one run at a time. A refresh token of Calendly is spent by its use, so that two
-- runs with the same one would lose the grant between them.

alter table sync.credentials add column refreshing_until timestamptz;
comment on column sync.credentials.refreshing_until is
'A run is renewing these tokens, and others wait for it until then at most.';

create function sync.begin_refresh(
  p_task_id bigint, p_lease uuid, p_connection_id uuid, p_ciphertext bytea
)
returns table (is_ours boolean, key_id text, ciphertext bytea)
language plpgsql
security definer -- as begin_pull
set search_path = ''
as $$
#variable_conflict use_column
begin
  perform sync.hold_task(p_task_id, p_lease);
  return query
  update sync.credentials as credentials
  set refreshing_until = sync.clock() + interval '30 seconds'
  where credentials.connection_id = p_connection_id and credentials.ciphertext = p_ciphertext
    and coalesce(credentials.refreshing_until, '-infinity') <= sync.clock()
  returning true, credentials.key_id, credentials.ciphertext;
  if not found then
    return query
    select false, credentials.key_id, credentials.ciphertext
    from sync.credentials as credentials
    where credentials.connection_id = p_connection_id;
  end if;
end;
$$;
comment on function sync.begin_refresh(bigint, uuid, uuid, bytea) is
'Whether it is for this run to renew a connection''s tokens, and what is stored: the same = another run is at it, others = it has done so; no row = nothing is stored.';
revoke all on function sync.begin_refresh(bigint, uuid, uuid, bytea) from public;
grant execute on function sync.begin_refresh(bigint, uuid, uuid, bytea) to sync_worker;

create function sync.end_refresh(p_connection_id uuid, p_ciphertext bytea)
returns void
language sql
security definer -- as begin_pull
set search_path = ''
as $$
  update sync.credentials as credentials
  set refreshing_until = null
  where credentials.connection_id = p_connection_id and credentials.ciphertext = p_ciphertext
$$;
comment on function sync.end_refresh(uuid, bytea) is
'Nothing came of a renewal: the next run may try.';
revoke all on function sync.end_refresh(uuid, bytea) from public;
grant execute on function sync.end_refresh(uuid, bytea) to sync_worker;

-- Fenced by the tokens that were spent, not by the lease: a run may lose its task while it renews,
-- and the new tokens are then the only ones there are.

create function sync.store_credentials(
  p_connection_id uuid, p_key_id text, p_ciphertext bytea, p_instead_of bytea
)
returns void
language sql
security definer -- as begin_pull
set search_path = ''
as $$
  -- Not over newer ones: those of an owner who has just connected again.
  update sync.credentials as credentials
  set
    key_id = p_key_id, ciphertext = p_ciphertext, refreshing_until = null,
    updated_at = sync.clock()
  where credentials.connection_id = p_connection_id and credentials.ciphertext = p_instead_of
$$;
comment on function sync.store_credentials(uuid, text, bytea, bytea) is
'Keeps renewed provider tokens, sealed, in the place of those they were renewed from.';
revoke all on function sync.store_credentials(uuid, text, bytea, bytea) from public;
grant execute on function sync.store_credentials(uuid, text, bytea, bytea) to sync_worker;
