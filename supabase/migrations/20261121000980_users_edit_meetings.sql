-- Users edit meetings: what they change is noted beside the meeting, with the base it was made
-- on, so that a merge can tell their change from the calendar's.
--
-- Who writes is told by the role: sync.apply_events belongs to sync_engine. Settings can be
-- forged, and trigger depth lies as soon as an application adds a trigger of its own. What is
-- noted here waits in meetings.edits; writing it back to the calendar is the task `push`.

create function sync.refuse_engine_columns(p_old public.meetings, p_new public.meetings)
returns void
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_touched text;
begin
  select string_agg(touched.name, ', ') into v_touched
  from (values
    ('id', p_new.id is distinct from p_old.id),
    ('organization_id', p_new.organization_id is distinct from p_old.organization_id),
    -- Emptied by a foreign key: the calendar, event or meeting was deleted. Users have no right to.
    ('calendar_id', p_new.calendar_id <> p_old.calendar_id),
    ('event_id', p_new.event_id is not null and p_new.event_id is distinct from p_old.event_id),
    ('sync_state', p_new.sync_state is distinct from p_old.sync_state),
    ('sync_error', p_new.sync_error is distinct from p_old.sync_error),
    ('edits', p_new.edits is distinct from p_old.edits),
    ('version', p_new.version is distinct from p_old.version),
    (
      'merged_into',
      p_new.merged_into is not null and p_new.merged_into is distinct from p_old.merged_into
    ),
    ('created_at', p_new.created_at is distinct from p_old.created_at)
  ) as touched (name, is_touched)
  where touched.is_touched;
  if v_touched is not null then
    raise exception using
      errcode = 'CS030',
      message = format('the sync engine keeps these columns of a meeting: %s', v_touched),
      hint = 'Leave them out of the update. What you change of the meeting itself is synced by itself.';
  end if;
end;
$$;
comment on function sync.refuse_engine_columns(public.meetings, public.meetings) is
'Refuses (CS030) an update that touches columns only the engine writes.';
revoke all on function sync.refuse_engine_columns(public.meetings, public.meetings) from public;

create function sync.next_edits(p_old public.meetings, p_new public.meetings, p_at timestamptz)
returns jsonb
language sql
immutable
set search_path = ''
as $$
  select coalesce(jsonb_object_agg(noted.field, noted.edit), '{}')
  from (
    select
      ours.field,
      case
        when sync.same_field(ours.field, ours.value, theirs.value)
          then p_old.edits -> ours.field
        -- Taken back, and nothing of it is under way: as if it had never been.
        when not p_old.edits #> array[ours.field] ? 'sent'
          and sync.same_field(ours.field, ours.value, p_old.edits #> array[ours.field, 'base'])
          then null
        else
          jsonb_build_object('base', theirs.value)
          || coalesce(p_old.edits -> ours.field, '{}')
          || jsonb_build_object(
            'at', to_char(p_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
            'version', p_old.version + 1
          )
      end as edit
    from jsonb_each(sync.meeting_fields(p_new)) as ours (field, value)
    join jsonb_each(sync.meeting_fields(p_old)) as theirs (field, value) using (field)
  ) as noted
  where noted.edit is not null
$$;
comment on function sync.next_edits(public.meetings, public.meetings, timestamptz) is
'The edits of a meeting after a user''s change: per changed field the base it was first made on, when, and the version it made.';
revoke all on function sync.next_edits(public.meetings, public.meetings, timestamptz) from public;

create function sync.on_meeting_edited()
returns trigger
language plpgsql
security definer -- users have no right on edits, nor on what is asked here
set search_path = ''
as $$
declare
  v_scope text;
begin
  perform sync.refuse_engine_columns(old, new);
  -- The same values again are no change.
  if to_jsonb(new) - 'updated_at' = to_jsonb(old) - 'updated_at' then
    return new;
  end if;
  new.version := old.version + 1;

  if new.calendar_id is null and old.calendar_id is not null then
    -- Its calendar was deleted: from now on it is here only.
    new.sync_state := 'local';
    new.sync_error := null;
    new.edits := '{}';
    return new;
  end if;

  select event.scope into v_scope
  from public.calendar_events as event
  join public.calendars as calendar on calendar.id = event.calendar_id
  where event.id = new.event_id and calendar.direction in ('two_way', 'outbound');
  if v_scope is null then
    return new;
  end if;
  new.edits := sync.next_edits(old, new, sync.clock());
  -- A meeting without its event keeps its edits for the day the event comes back.
  if v_scope = 'in' and old.sync_state <> 'conflict' then
    new.sync_state := case
      when new.edits <> '{}' then 'pending'
      when old.sync_state in ('pending', 'failed') then 'synced'
      else old.sync_state
    end;
  end if;
  return new;
end;
$$;
comment on function sync.on_meeting_edited() is
'Row trigger for everybody but the engine: notes what a user changed of a meeting that a calendar has too.';
revoke all on function sync.on_meeting_edited() from public;

create trigger meetings_edited before update on public.meetings
for each row when (current_user <> 'sync_engine')
execute function sync.on_meeting_edited();
comment on trigger meetings_edited on public.meetings is
'Before, so that an edit is noted in the row that it changes: nobody ever reads the one without the other.';

create function sync.on_meeting_added()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.event_id := null;
  new.sync_state := 'local';
  new.sync_error := null;
  new.edits := '{}';
  new.version := 1;
  new.merged_into := null;
  new.deleted_at := null;
  return new;
end;
$$;
comment on function sync.on_meeting_added() is
'Row trigger for everybody but the engine: a meeting that a user makes is here only, at first.';
revoke all on function sync.on_meeting_added() from public;

create trigger meetings_added before insert on public.meetings
for each row when (current_user <> 'sync_engine')
execute function sync.on_meeting_added();
comment on trigger meetings_added on public.meetings is
'Users have no right on these columns; whoever has more cannot pretend either that a calendar has the meeting.';
