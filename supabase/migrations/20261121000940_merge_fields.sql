-- Applying, step 6: what a user changed meanwhile, against what the calendar says.
--
-- meetings.edits tells per field that ours changed: {base, at, version}, and once a push is
-- under way {sent: {value, version}}. So a merge needs no second copy of the event:
--
--   not edited                      theirs
--   theirs is what ours is          theirs; the edit is done
--   theirs is what was sent         ours stays; done, unless it was edited again since
--   theirs is the edit's base       ours stays
--   else                            both changed: the calendar's policy decides, and
--                                   sync_conflicts keeps all three
--
-- Start, end, all-day and zone are one field, `time`: half a move is no move.

create function sync.normal_text(p_value text)
returns text
language sql
immutable
set search_path = ''
as $$
  select nullif(btrim(replace(p_value, E'\r\n', E'\n'), E' \t\n'), '')
$$;
comment on function sync.normal_text(text) is 'A text as it is compared: no CR, nothing around it, empty is null.';

create function sync.time_field(
  p_starts_at timestamptz, p_ends_at timestamptz, p_all_day boolean, p_start_date date,
  p_end_date date, p_time_zone text
)
returns jsonb
language sql
immutable
set search_path = ''
as $$
  select jsonb_build_object(
    -- Not to_jsonb: that depends on the session's zone.
    'starts_at', to_char(p_starts_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    'ends_at', to_char(p_ends_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    'all_day', p_all_day,
    'start_date', to_char(p_start_date, 'YYYY-MM-DD'),
    'end_date', to_char(p_end_date, 'YYYY-MM-DD'),
    'time_zone', p_time_zone
  )
$$;
comment on function sync.time_field(timestamptz, timestamptz, boolean, date, date, text) is
'When a meeting is, as one value.';

create function sync.provider_status(p_status text)
returns text
language sql
immutable
set search_path = ''
as $$
  select case
    when p_status in ('scheduled', 'completed', 'no_show') then 'confirmed'
    else p_status
  end
$$;
comment on function sync.provider_status(text) is
'A meeting''s status in a calendar''s words: confirmed, tentative or cancelled.';

create function sync.meeting_fields(p_meeting public.meetings)
returns jsonb
language sql
immutable
set search_path = ''
as $$
  select jsonb_build_object(
    'title', (p_meeting).title,
    'description', (p_meeting).description,
    'location', (p_meeting).location,
    'time', sync.time_field(
      (p_meeting).starts_at, (p_meeting).ends_at, (p_meeting).all_day, (p_meeting).start_date,
      (p_meeting).end_date, (p_meeting).time_zone
    ),
    'status', (p_meeting).status,
    'meeting_url', (p_meeting).meeting_url,
    'attendee_name', (p_meeting).attendee_name,
    'attendee_email', (p_meeting).attendee_email
  )
$$;
comment on function sync.meeting_fields(public.meetings) is
'What of a meeting a calendar knows too, field by field: the unit of the merge.';

create function sync.same_field(p_field text, p_one jsonb, p_other jsonb)
returns boolean
language sql
immutable
set search_path = ''
as $$
  select case p_field
    when 'time' then
      -- The same moment told with another zone, or none, is the same.
      (p_one - 'time_zone') is not distinct from (p_other - 'time_zone')
    when 'status' then
      sync.provider_status(p_one #>> '{}') is not distinct from sync.provider_status(p_other #>> '{}')
    else sync.normal_text(p_one #>> '{}') is not distinct from sync.normal_text(p_other #>> '{}')
  end
$$;
comment on function sync.same_field(text, jsonb, jsonb) is 'Whether two values of a field say the same.';

create type sync.merged_field as (value jsonb, edit jsonb, winner text, reason text);
comment on type sync.merged_field is
'What a merge made of a field: its value, the edit that is left (null = none), and of a conflict who won (ours, theirs, nobody) and why.';

create function sync.merge_field(
  p_field text, p_ours jsonb, p_theirs jsonb, p_edit jsonb, p_policy text,
  p_theirs_at timestamptz
)
returns sync.merged_field
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_sent jsonb := p_edit -> 'sent';
  v_winner text;
  v_reason text;
begin
  if p_edit is null then
    return row(p_theirs, null, null, null)::sync.merged_field;
  end if;
  if sync.same_field(p_field, p_theirs, p_ours) then
    return row(p_ours, null, null, null)::sync.merged_field;
  end if;
  if v_sent is not null and sync.same_field(p_field, p_theirs, v_sent -> 'value') then
    -- The provider has what was sent; ours was edited again since.
    return row(
      p_ours, (p_edit - 'sent') || jsonb_build_object('base', p_theirs), null, null
    )::sync.merged_field;
  end if;
  if sync.same_field(p_field, p_theirs, p_edit -> 'base') then
    return row(p_ours, p_edit, null, null)::sync.merged_field;
  end if;

  if p_policy = 'provider' then
    v_winner := 'theirs';
    v_reason := 'this calendar''s changes win';
  elsif p_policy = 'local' then
    v_winner := 'ours';
    v_reason := 'changes made here win';
  elsif p_policy = 'ask' then
    v_winner := 'nobody';
    v_reason := 'a person is asked; ours is shown until then';
  elsif coalesce((p_edit ->> 'at')::timestamptz > p_theirs_at, false) then
    v_winner := 'ours';
    v_reason := 'ours is the latest change';
  else
    v_winner := 'theirs';
    v_reason := 'theirs is the latest change';
  end if;
  if v_winner = 'theirs' then
    return row(p_theirs, null, v_winner, v_reason)::sync.merged_field;
  end if;
  -- Ours was weighed against this value of theirs: it is the base now.
  return row(
    p_ours, (p_edit - 'sent') || jsonb_build_object('base', p_theirs), v_winner, v_reason
  )::sync.merged_field;
end;
$$;
comment on function sync.merge_field(text, jsonb, jsonb, jsonb, text, timestamptz) is
'The three-way merge of one field: ours, theirs, and the edit that knows their base.';

create function sync.staged_fields(p_staged sync.staged_events, p_batch sync.batch, p_status text)
returns jsonb
language sql
immutable
set search_path = ''
as $$
  select jsonb_build_object(
    'title', coalesce((p_staged).title, ''),
    'description', (p_staged).description,
    'location', (p_staged).location,
    'time', sync.time_field(
      (p_staged).starts_at, (p_staged).ends_at, (p_staged).all_day, (p_staged).start_date,
      (p_staged).end_date, coalesce((p_staged).time_zone, (p_batch).time_zone)
    ),
    'status', p_status,
    'meeting_url', (p_staged).conference_url,
    'attendee_name', (p_staged).attendee_name,
    'attendee_email', (p_staged).attendee_email
  )
$$;
comment on function sync.staged_fields(sync.staged_events, sync.batch, text) is
'What a staged event says, field by field as sync.meeting_fields() has it.';

-- A calendar knows nothing of `scheduled`, `completed` and `no_show`: where it says no more than
-- that the event stands, ours stays.

create function sync.next_status(p_ours text, p_theirs text)
returns text
language sql
immutable
set search_path = ''
as $$
  select case
    when p_ours in ('completed', 'no_show') then p_ours
    when p_ours = 'scheduled' and p_theirs = 'confirmed' then p_ours
    else p_theirs
  end
$$;
comment on function sync.next_status(text, text) is 'A meeting''s status after its calendar said one.';

-- Few meetings have edits at any time; only these are taken apart field by field.

create function sync.merge_edited(p_batch sync.batch)
returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_edited uuid[] := array(
    select meeting.id from public.meetings as meeting
    where meeting.edits <> '{}'
      and meeting.id = any (array(
        select mine.meeting_id from sync.staged_events as mine
        where mine.batch_id = (p_batch).id and (mine.feeds or mine.verdict = 'cancel')
      ))
  );
  v_count integer;
begin
  if v_edited = '{}' then
    return 0;
  end if;
  with incoming as materialized (
    select
      meeting.id, meeting.edits, sync.meeting_fields(meeting) as ours,
      coalesce(staged.provider_updated_at, (p_batch).now_at) as theirs_at,
      staged.event_id,
      case
        when staged.feeds then coalesce(
          (select event.calendar_id from public.calendar_events as event
           where event.id = staged.event_id and staged.origin in ('follower', 'booking')),
          staged.calendar_id, (p_batch).calendar_id
        )
        else meeting.calendar_id
      end as calendar_id,
      case
        when staged.feeds
          then sync.staged_fields(staged, p_batch, case
            when staged.meeting_status is null then sync.next_status(meeting.status, staged.status)
            else sync.told_status(meeting.status, staged.meeting_status, staged.told_before)
          end)
        else jsonb_build_object('status', 'cancelled')
      end as theirs,
      -- Of these no edit is noted: no calendar has them.
      sync.told_phone(meeting.attendee_phone, staged.attendee_phone, staged.told_before)
        as attendee_phone,
      sync.told_metadata(meeting.metadata, staged.metadata, staged.told_before) as metadata
    from sync.staged_events as staged
    join public.meetings as meeting on meeting.id = staged.meeting_id
    where staged.batch_id = (p_batch).id
      and meeting.id = any (v_edited)
      and (
        staged.feeds
        or (staged.verdict = 'cancel' and meeting.edits ? 'status')
      )
  ),

  merged as materialized (
    select
      incoming.id, field.name, incoming.ours -> field.name as ours, field.theirs,
      incoming.edits #> array[field.name, 'base'] as base,
      result.value, result.edit, result.winner, result.reason
    from incoming
    cross join lateral jsonb_each(incoming.theirs) as field (name, theirs)
    cross join lateral sync.merge_field(
      field.name, incoming.ours -> field.name, field.theirs, incoming.edits -> field.name,
      (p_batch).conflict_policy, incoming.theirs_at
    ) as result
  ),

  asked_again as (
    update public.sync_conflicts as conflict
    set theirs = merged.theirs, ours = merged.ours
    from merged
    where merged.winner = 'nobody' and conflict.meeting_id = any (v_edited)
      and conflict.meeting_id = merged.id
      and conflict.field = merged.name and conflict.resolved_at is null
    returning conflict.meeting_id, conflict.field
  ),

  kept as (
    insert into public.sync_conflicts (
      organization_id, meeting_id, field, base, ours, theirs, winner, reason, resolved_at
    )
    select
      (p_batch).organization_id, merged.id, merged.name, merged.base, merged.ours, merged.theirs,
      nullif(merged.winner, 'nobody'), merged.reason,
      case when merged.winner <> 'nobody' then (p_batch).now_at end
    from merged
    where merged.winner is not null
      and (merged.id, merged.name) not in (
        select asked_again.meeting_id, asked_again.field from asked_again
      )
  ),

  -- Both sides came to say the same: nobody needs to be asked any more.
  settled as (
    update public.sync_conflicts as conflict
    set resolved_at = (p_batch).now_at, winner = 'ours', reason = 'both sides say the same now'
    from merged
    where merged.edit is null and merged.winner is null
      and conflict.meeting_id = any (v_edited) and conflict.meeting_id = merged.id
      and conflict.field = merged.name and conflict.resolved_at is null
    returning conflict.id
  ),

  summed as (
    select
      merged.id,
      jsonb_object_agg(merged.name, merged.value) as fields,
      coalesce(jsonb_object_agg(merged.name, merged.edit) filter (where merged.edit is not null), '{}')
        as edits,
      array_agg(merged.name) as names,
      bool_or(merged.winner = 'nobody') as asks
    from merged
    group by merged.id
  ),

  results as (
    select
      summed.id, incoming.calendar_id, incoming.event_id, incoming.attendee_phone,
      incoming.metadata,
      sync.meeting_fields(meeting) || summed.fields as fields,
      (meeting.edits - summed.names) || summed.edits as edits,
      summed.asks or exists (
        select 1 from public.sync_conflicts as conflict
        where conflict.meeting_id = any (v_edited) and conflict.meeting_id = summed.id
          and conflict.resolved_at is null
          and conflict.id not in (select settled.id from settled)
      ) as asks
    from summed
    join incoming on incoming.id = summed.id
    join public.meetings as meeting on meeting.id = any (v_edited) and meeting.id = summed.id
  )

  update public.meetings as meeting
  set
    title = results.fields ->> 'title',
    description = results.fields ->> 'description',
    location = results.fields ->> 'location',
    starts_at = (results.fields #>> '{time,starts_at}')::timestamptz,
    ends_at = (results.fields #>> '{time,ends_at}')::timestamptz,
    all_day = (results.fields #>> '{time,all_day}')::boolean,
    start_date = (results.fields #>> '{time,start_date}')::date,
    end_date = (results.fields #>> '{time,end_date}')::date,
    time_zone = results.fields #>> '{time,time_zone}',
    status = results.fields ->> 'status',
    meeting_url = results.fields ->> 'meeting_url',
    attendee_name = results.fields ->> 'attendee_name',
    attendee_email = results.fields ->> 'attendee_email',
    attendee_phone = results.attendee_phone,
    metadata = results.metadata,
    calendar_id = results.calendar_id,
    event_id = results.event_id,
    edits = results.edits,
    sync_state = next.sync_state,
    sync_error = case when next.sync_state = 'synced' then null else meeting.sync_error end,
    version = meeting.version + 1
  from results
  cross join lateral (
    select case
      when results.edits = '{}' then 'synced'
      when results.asks then 'conflict'
      else 'pending'
    end as sync_state
  ) as next
  where meeting.id = any (v_edited) and meeting.id = results.id
    and (
      sync.meeting_fields(meeting), meeting.edits, meeting.sync_state, meeting.calendar_id,
      meeting.event_id, meeting.attendee_phone, meeting.metadata
    ) is distinct from (
      results.fields, results.edits, next.sync_state, results.calendar_id, results.event_id,
      results.attendee_phone, results.metadata
    );
  get diagnostics v_count = row_count;
  return v_count;
end;
$$;
comment on function sync.merge_edited(sync.batch) is
'Merges what is staged into meetings that have edits; returns how many changed.';
