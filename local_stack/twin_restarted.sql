-- A twin keeps its calendars when the stack ends, but no channel, and no memory of what a cursor
-- stands for: what was watched is to be watched anew, and all is to be read whole.
update public.calendar_watch_channels as channel
set status = 'expired'
from public.calendars as calendar
inner join public.calendar_connections as connection on calendar.connection_id = connection.id
where
  channel.calendar_id = calendar.id
  and connection.provider = %(provider)s
  and channel.status in ('pending', 'active', 'replaced');

create temporary table woken on commit drop as
select calendar.id, calendar.sync_enabled
from public.calendars as calendar
inner join public.calendar_connections as connection on calendar.connection_id = connection.id
where connection.provider = %(provider)s;

-- The switch, off and on again, asks for a channel, and that for a pull.
update public.calendars as calendar
set sync_enabled = false, full_round_asked_at = now()
from woken
where calendar.id = woken.id;

update public.calendars as calendar
set sync_enabled = true
from woken
where calendar.id = woken.id and woken.sync_enabled;
