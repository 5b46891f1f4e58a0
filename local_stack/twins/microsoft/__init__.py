"""The twin of Microsoft Graph: Outlook's calendars."""

from local_stack.twins.microsoft.behaviour import Behaviour
from local_stack.twins.microsoft.people import Account
from local_stack.twins.microsoft.personal_calendars import Calendar
from local_stack.twins.microsoft.personal_events import Event
from local_stack.twins.microsoft.push import PushRecord
from local_stack.twins.microsoft.twin import MicrosoftTwin
from local_stack.twins.serve import serving, serving_in_thread

__all__ = [
    "Account",
    "Behaviour",
    "Calendar",
    "Event",
    "MicrosoftTwin",
    "PushRecord",
    "serving",
    "serving_in_thread",
]
