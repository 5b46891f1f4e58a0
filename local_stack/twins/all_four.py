"""The twins of a stack, one a provider."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from local_stack.twins.calcom import CalcomTwin
from local_stack.twins.calendly import CalendlyTwin
from local_stack.twins.google import GoogleTwin
from local_stack.twins.memory import Twin
from local_stack.twins.microsoft import MicrosoftTwin
from providers.model import Provider


@dataclass(frozen=True)
class Twins:
    """One of each."""

    google: GoogleTwin = field(default_factory=GoogleTwin)
    microsoft: MicrosoftTwin = field(default_factory=MicrosoftTwin)
    calendly: CalendlyTwin = field(default_factory=CalendlyTwin)
    calcom: CalcomTwin = field(default_factory=CalcomTwin)

    def __iter__(self) -> Iterator[tuple[Provider, Twin]]:
        yield Provider.GOOGLE, self.google
        yield Provider.MICROSOFT, self.microsoft
        yield Provider.CALENDLY, self.calendly
        yield Provider.CALCOM, self.calcom
