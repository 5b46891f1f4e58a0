"""Which adapter reads the deliveries of which provider.

Apart from the clients, so that the receiver cannot make a call before it has answered.
"""

from collections.abc import Mapping

from providers.google.receiver import GoogleReceiver
from providers.model import Provider
from providers.protocols import Receiver

RECEIVERS: Mapping[Provider, Receiver] = {Provider.GOOGLE: GoogleReceiver()}
