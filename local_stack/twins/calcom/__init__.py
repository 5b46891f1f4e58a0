"""The twin of Cal.com."""

from local_stack.twins.calcom.behaviour import Behaviour
from local_stack.twins.calcom.people import Booked, Host
from local_stack.twins.calcom.state import EventType
from local_stack.twins.calcom.twin import CalcomTwin

__all__ = ["Behaviour", "Booked", "CalcomTwin", "EventType", "Host"]
