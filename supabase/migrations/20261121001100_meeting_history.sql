-- History: who changed what of a meeting, when, and from which side.
--
-- A statement's rows are noted together. Of each only what means something to people: not the
-- event it is written to, sync state, edits or version. The side is told by two triggers, each
-- with a condition: inside the function, which runs as its owner, current_user tells nothing.
--
-- The fields stand here one by one, long as that is: comparing them as columns costs 2 µs a row,
-- turning rows into jsonb and comparing its keys 20.

create function sync.note_new_meetings()
returns trigger
language plpgsql
security definer -- nobody may write history
set search_path = ''
as $$
begin
  insert into public.meeting_history (organization_id, meeting_id, side, user_id, changes)
  select
    new_row.organization_id, new_row.id, tg_argv[0],
    case when tg_argv[0] = 'app' then (select auth.uid()) end,
    jsonb_strip_nulls(
      jsonb_build_object(
        'client_id', case
          when new_row.client_id is not null then jsonb_build_object('to', new_row.client_id)
        end,
        'calendar_id', case
          when new_row.calendar_id is not null then jsonb_build_object('to', new_row.calendar_id)
        end,
        'title', case
          when new_row.title is not null then jsonb_build_object('to', new_row.title)
        end,
        'description', case
          when new_row.description is not null then jsonb_build_object('to', new_row.description)
        end,
        'location', case
          when new_row.location is not null then jsonb_build_object('to', new_row.location)
        end,
        'starts_at', case
          when new_row.starts_at is not null then jsonb_build_object('to', new_row.starts_at)
        end,
        'ends_at', case
          when new_row.ends_at is not null then jsonb_build_object('to', new_row.ends_at)
        end,
        'all_day', case
          when new_row.all_day is not null then jsonb_build_object('to', new_row.all_day)
        end,
        'start_date', case
          when new_row.start_date is not null then jsonb_build_object('to', new_row.start_date)
        end,
        'end_date', case
          when new_row.end_date is not null then jsonb_build_object('to', new_row.end_date)
        end,
        'time_zone', case
          when new_row.time_zone is not null then jsonb_build_object('to', new_row.time_zone)
        end,
        'status', case
          when new_row.status is not null then jsonb_build_object('to', new_row.status)
        end,
        'meeting_url', case
          when new_row.meeting_url is not null then jsonb_build_object('to', new_row.meeting_url)
        end,
        'attendee_name', case
          when new_row.attendee_name is not null then jsonb_build_object('to', new_row.attendee_name)
        end,
        'attendee_email', case
          when new_row.attendee_email is not null then jsonb_build_object('to', new_row.attendee_email)
        end,
        'attendee_phone', case
          when new_row.attendee_phone is not null then jsonb_build_object('to', new_row.attendee_phone)
        end
      )
    ) || case
      when new_row.metadata <> '{}'
        then jsonb_build_object('metadata', jsonb_build_object('to', new_row.metadata))
      else '{}'
    end
  from new_rows as new_row;
  return null;
end;
$$;
comment on function sync.note_new_meetings() is
'Statement trigger: a line of history for each new meeting; its argument is the side.';
revoke all on function sync.note_new_meetings() from public;

create function sync.note_changed_meetings()
returns trigger
language plpgsql
security definer -- as note_new_meetings
set search_path = ''
set enable_nestloop = off -- as sync.broadcast_updated(): the plan for one row must do for 2,500
as $$
begin
  insert into public.meeting_history (organization_id, meeting_id, side, user_id, changes)
  with noted as materialized (
    select
      new_row.organization_id, new_row.id,
      jsonb_strip_nulls(
        jsonb_build_object(
          'client_id', case
            when new_row.client_id is distinct from old_row.client_id
              then jsonb_build_object('from', old_row.client_id, 'to', new_row.client_id)
          end,
          'calendar_id', case
            when new_row.calendar_id is distinct from old_row.calendar_id
              then jsonb_build_object('from', old_row.calendar_id, 'to', new_row.calendar_id)
          end,
          'title', case
            when new_row.title is distinct from old_row.title
              then jsonb_build_object('from', old_row.title, 'to', new_row.title)
          end,
          'description', case
            when new_row.description is distinct from old_row.description
              then jsonb_build_object('from', old_row.description, 'to', new_row.description)
          end,
          'location', case
            when new_row.location is distinct from old_row.location
              then jsonb_build_object('from', old_row.location, 'to', new_row.location)
          end,
          'starts_at', case
            when new_row.starts_at is distinct from old_row.starts_at
              then jsonb_build_object('from', old_row.starts_at, 'to', new_row.starts_at)
          end,
          'ends_at', case
            when new_row.ends_at is distinct from old_row.ends_at
              then jsonb_build_object('from', old_row.ends_at, 'to', new_row.ends_at)
          end,
          'all_day', case
            when new_row.all_day is distinct from old_row.all_day
              then jsonb_build_object('from', old_row.all_day, 'to', new_row.all_day)
          end,
          'start_date', case
            when new_row.start_date is distinct from old_row.start_date
              then jsonb_build_object('from', old_row.start_date, 'to', new_row.start_date)
          end,
          'end_date', case
            when new_row.end_date is distinct from old_row.end_date
              then jsonb_build_object('from', old_row.end_date, 'to', new_row.end_date)
          end,
          'time_zone', case
            when new_row.time_zone is distinct from old_row.time_zone
              then jsonb_build_object('from', old_row.time_zone, 'to', new_row.time_zone)
          end,
          'status', case
            when new_row.status is distinct from old_row.status
              then jsonb_build_object('from', old_row.status, 'to', new_row.status)
          end,
          'meeting_url', case
            when new_row.meeting_url is distinct from old_row.meeting_url
              then jsonb_build_object('from', old_row.meeting_url, 'to', new_row.meeting_url)
          end,
          'attendee_name', case
            when new_row.attendee_name is distinct from old_row.attendee_name
              then jsonb_build_object('from', old_row.attendee_name, 'to', new_row.attendee_name)
          end,
          'attendee_email', case
            when new_row.attendee_email is distinct from old_row.attendee_email
              then jsonb_build_object('from', old_row.attendee_email, 'to', new_row.attendee_email)
          end,
          'attendee_phone', case
            when new_row.attendee_phone is distinct from old_row.attendee_phone
              then jsonb_build_object('from', old_row.attendee_phone, 'to', new_row.attendee_phone)
          end,
          'merged_into', case
            when new_row.merged_into is distinct from old_row.merged_into
              then jsonb_build_object('from', old_row.merged_into, 'to', new_row.merged_into)
          end,
          'deleted_at', case
            when new_row.deleted_at is distinct from old_row.deleted_at
              then jsonb_build_object('from', old_row.deleted_at, 'to', new_row.deleted_at)
          end
        )
      ) || case
        when new_row.metadata <> old_row.metadata
          then jsonb_build_object(
            'metadata', jsonb_build_object('from', old_row.metadata, 'to', new_row.metadata)
          )
        else '{}'
      end as changes
    from new_rows as new_row
    join old_rows as old_row on old_row.id = new_row.id
  )

  select
    noted.organization_id, noted.id,
    -- No provider can say these two: they are the engine's own doing.
    case
      when tg_argv[0] = 'provider'
        and (noted.changes ? 'merged_into' or noted.changes #>> '{status,to}' = 'completed')
        then 'engine'
      else tg_argv[0]
    end,
    case when tg_argv[0] = 'app' then (select auth.uid()) end,
    noted.changes
  from noted
  where noted.changes <> '{}';
  return null;
end;
$$;
comment on function sync.note_changed_meetings() is
'Statement trigger: a line of history for each meeting of which something changed that means something to people; its argument is the side.';
revoke all on function sync.note_changed_meetings() from public;

create trigger meetings_history_inserted_by_provider after insert on public.meetings
referencing new table as new_rows
for each statement when (current_user = 'sync_engine')
execute function sync.note_new_meetings('provider');
comment on trigger meetings_history_inserted_by_provider on public.meetings is
'Its condition alone can tell that the engine writes; the function is handed the side.';

create trigger meetings_history_inserted_by_app after insert on public.meetings
referencing new table as new_rows
for each statement when (current_user <> 'sync_engine')
execute function sync.note_new_meetings('app');
comment on trigger meetings_history_inserted_by_app on public.meetings is
'The other half of it: for all who are not the engine, with a user''s token or without.';

create trigger meetings_history_updated_by_provider after update on public.meetings
referencing old table as old_rows new table as new_rows
for each statement when (current_user = 'sync_engine')
execute function sync.note_changed_meetings('provider');
comment on trigger meetings_history_updated_by_provider on public.meetings is
'As for new meetings; that time completed one, or two became one, the function tells from the change.';

create trigger meetings_history_updated_by_app after update on public.meetings
referencing old table as old_rows new table as new_rows
for each statement when (current_user <> 'sync_engine')
execute function sync.note_changed_meetings('app');
comment on trigger meetings_history_updated_by_app on public.meetings is
'As for new meetings; deletions by rpc are updates, and so are told here.';
