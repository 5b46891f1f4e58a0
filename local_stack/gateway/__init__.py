"""A Realtime server for one machine, which Supabase's own clients take for theirs."""

from local_stack.gateway.server import Gateway, serve
from local_stack.gateway.settings import GatewaySettings

__all__ = ["Gateway", "GatewaySettings", "serve"]
