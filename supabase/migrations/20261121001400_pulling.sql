-- What a pull asks of the database besides applying: what to read, and when to read again.

create function sync.begin_pull(p_task_id bigint, p_lease uuid, p_calendar_id uuid)
returns table (
  calendar_id uuid, connection_id uuid, provider text, account_email text,
  provider_calendar_id text, calendar_kind text, projection text, backfill text, cursor text,
  cursor_parameters text,
  window_start timestamptz, window_end timestamptz, window_rolls_at timestamptz,
  wanted_start timestamptz, wanted_end timestamptz, key_id text, ciphertext bytea,
  now_at timestamptz
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
    date_trunc('day', v_now + calendar.window_future) + interval '1 day',
    credentials.key_id, credentials.ciphertext, v_now
  from public.calendars as calendar
  join public.calendar_connections as connection on connection.id = calendar.connection_id
  join sync.calendar_state as state on state.calendar_id = calendar.id
  left join sync.credentials as credentials on credentials.connection_id = connection.id
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

create function sync.begin_full_round(p_task_id bigint, p_lease uuid, p_calendar_id uuid)
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
  set round_started_at = sync.clock(), cursor = null, cursor_parameters = null
  where state.calendar_id = p_calendar_id;
end;
$$;
comment on function sync.begin_full_round(bigint, uuid, uuid) is
'Forgets the cursor and which events were seen: from here on a pull notes every id it meets.';
revoke all on function sync.begin_full_round(bigint, uuid, uuid) from public;
grant execute on function sync.begin_full_round(bigint, uuid, uuid) to sync_worker;

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

-- When to poll next, if nobody calls before. Polling is what stands in for missed pushes.

create function sync.polling_interval(p_calendar_id uuid)
returns interval
language sql
stable
security definer -- as begin_pull
set search_path = ''
as $$
  select case
    when calendar.poll_every > interval '0' then calendar.poll_every
    -- Zero means never while a channel lives; when it should have ended, somebody looks.
    when calendar.poll_every = interval '0' and channel.alive
      then coalesce(channel.ends_at - sync.clock() + interval '1 minute', interval '100 years')
    when calendar.kind = 'generated' then interval '1 day'
    -- Proven: each push that was missed has to be made good by twenty that came.
    when channel.alive and state.announced >= 20 * (1 + state.unannounced) then interval '1 hour'
    when channel.alive then interval '15 minutes'
    when channel.unwatchable then interval '1 hour'
    when state.channel_lost_at > sync.clock() - interval '15 minutes' then interval '1 minute'
    when state.channel_lost_at > sync.clock() - interval '1 hour' then interval '5 minutes'
    else interval '15 minutes'
  end
  from public.calendars as calendar
  left join sync.calendar_state as state on state.calendar_id = calendar.id
  cross join lateral (
    select
      coalesce(bool_or(
        watch.status = 'active' and (watch.expires_at is null or watch.expires_at > sync.clock())
      ), false) as alive,
      max(watch.expires_at) filter (where watch.status = 'active') as ends_at,
      coalesce(bool_or(watch.status = 'unwatchable'), false) as unwatchable
    from public.calendar_watch_channels as watch
    where watch.calendar_id = calendar.id
  ) as channel
  where calendar.id = p_calendar_id
$$;
comment on function sync.polling_interval(uuid) is
'How long a calendar may go without a poll: short after its channel was lost, long where pushes have proven reliable.';
revoke all on function sync.polling_interval(uuid) from public;

create function sync.finish_pull(
  p_task_id bigint, p_lease uuid, p_calendar_id uuid, p_lane smallint, p_changes integer,
  p_window_start timestamptz, p_window_end timestamptz, p_cursor text
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
begin
  perform sync.hold_task(p_task_id, p_lease);
  update public.calendars as calendar set last_error = null
  where calendar.id = p_calendar_id and calendar.last_error is not null;
  select calendar.sync_enabled, calendar.connection_id into v_enabled, v_connection_id
  from public.calendars as calendar
  where calendar.id = p_calendar_id;
  perform sync.resolve_alert('calendar_lost', p_calendar_id);
  perform sync.resolve_alert('key_missing', v_connection_id);
  update sync.calendar_state as state
  set
    cursor = coalesce(p_cursor, state.cursor),
    last_pulled_at = v_now,
    last_changed_at = case when p_changes > 0 then v_now else state.last_changed_at end,
    -- What a full round or a rolling window finds, nobody could have announced.
    announced = state.announced
      + (p_changes > 0 and p_lane = 1 and p_window_end is null)::integer,
    unannounced = state.unannounced
      + (p_changes > 0 and p_lane = 2 and p_window_end is null)::integer,
    window_start = coalesce(p_window_start, state.window_start),
    window_end = coalesce(p_window_end, state.window_end),
    -- Weekly, each calendar at an hour of its own.
    window_rolls_at = case
      when p_window_end is null then state.window_rolls_at
      else v_now + interval '7 days' * (0.85 + 0.3 * random())
    end,
    round_started_at = null
  where state.calendar_id = p_calendar_id;
  -- Switched off meanwhile: this was the last pull.
  return case
    when v_enabled
      then v_now + sync.polling_interval(p_calendar_id) * (0.85 + 0.3 * random())
  end;
end;
$$;
comment on function sync.finish_pull(
  bigint, uuid, uuid, smallint, integer, timestamptz, timestamptz, text
) is
'Notes a good pull in the transaction that applied its last page; returns when to poll next, null = never. A window is given where this pull read all of it, a cursor where there was nothing to apply.';
revoke all on function sync.finish_pull(
  bigint, uuid, uuid, smallint, integer, timestamptz, timestamptz, text
) from public;
grant execute on function sync.finish_pull(
  bigint, uuid, uuid, smallint, integer, timestamptz, timestamptz, text
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
