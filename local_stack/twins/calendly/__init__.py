"""The twin of Calendly."""

from local_stack.twins.calendly.behaviour import Behaviour
from local_stack.twins.calendly.people import Booking, Host
from local_stack.twins.calendly.state import EventType
from local_stack.twins.calendly.twin import CalendlyTwin

__all__ = ["Behaviour", "Booking", "CalendlyTwin", "EventType", "Host"]
