"""The twin of Google Calendar."""

from local_stack.twins.google.behaviour import Behaviour
from local_stack.twins.google.people import Account
from local_stack.twins.google.personal_calendars import Calendar
from local_stack.twins.google.personal_events import Event
from local_stack.twins.google.push import PushRecord
from local_stack.twins.google.twin import GoogleTwin
from local_stack.twins.memory import Unreadable
from local_stack.twins.serve import serving, serving_in_thread

__all__ = [
    "Account",
    "Behaviour",
    "Calendar",
    "Event",
    "GoogleTwin",
    "PushRecord",
    "Unreadable",
    "serving",
    "serving_in_thread",
]
