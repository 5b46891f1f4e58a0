"""Requests that are refused: counted, told of sparingly, and limited by address.

Only what fails verification counts against an address; what verifies is never limited.
Nothing here grows with the number of strangers.
"""

import ipaddress
import time
from collections.abc import Callable

import structlog
from starlette.types import Scope

from webhook_api import answers
from webhook_api.answers import Answer
from webhook_api.limits import Limits
from webhook_api.metrics import Metrics

log = structlog.get_logger()

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
# Strangers must not fill the disk with our log either.
LOG_EVERY_S = 10
UNKNOWN = "unknown"
OTHERS = "others"


class Refused(Exception):
    """Ends a request with this answer; the reason is counted, never told."""

    def __init__(self, answer: Answer, reason: str) -> None:
        self.answer = answer
        self.reason = reason
        super().__init__(reason)


class Refusals:
    """Decides how a refused request is answered, and keeps count."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        addresses: "ClientAddresses",
        per_minute: int,
        limits: Limits,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metrics = metrics
        self._addresses = addresses
        self._rate = RefusedRate(per_minute, limits=limits)
        self._monotonic = monotonic
        self._untold: dict[tuple[str, str], int] = {}
        self._told_at: dict[tuple[str, str], float] = {}

    def answer(self, scope: Scope, provider: str, refused: Refused) -> Answer:
        """Count a refusal; who fails verification too often gets 429 instead."""
        now = self._monotonic()
        # A stale time was rightly signed: no stranger did that.
        if refused.answer.status_code == 401 and refused.answer is not answers.STALE:
            address = self._addresses.of(scope)
            retry_after_s = self._rate.count(address, now)
            if retry_after_s:
                self._note(provider, "rate limited", 429, now)
                return answers.rate_limited(retry_after_s)
        self._note(provider, refused.reason, refused.answer.status_code, now)
        return refused.answer

    def _note(self, provider: str, reason: str, status: int, now: float) -> None:
        self._metrics.refused.add(provider, reason)
        what = (provider, reason)
        self._untold[what] = self._untold.get(what, 0) + 1
        if now - self._told_at.get(what, -LOG_EVERY_S) < LOG_EVERY_S:
            return
        log.warning(
            "delivery.refused",
            provider=provider,
            reason=reason,
            status=status,
            count=self._untold.pop(what),
        )
        self._told_at[what] = now


class RefusedRate:
    """How often each address was refused in this window, in bounded memory."""

    def __init__(self, per_window: int, *, limits: Limits) -> None:
        self._per_window = per_window
        self._limits = limits
        self._counts: dict[str, int] = {}
        self._ends_at = 0.0

    def count(self, address: str, now: float) -> int:
        """Count one; returns the seconds to wait if that was too many, else 0."""
        if now >= self._ends_at:
            self._counts.clear()
            self._ends_at = now + self._limits.refused_window_s
        if len(self._counts) >= self._limits.refused_addresses:
            # Whoever has this many addresses shares one count with all newcomers.
            address = address if address in self._counts else OTHERS
        count = self._counts.get(address, 0) + 1
        self._counts[address] = count
        return int(self._ends_at - now) + 1 if count > self._per_window else 0


class ClientAddresses:
    """Who sent a request; X-Forwarded-For is believed from trusted proxies only."""

    def __init__(self, trusted_proxies: str | None) -> None:
        self._trusted: list[Network] = [
            ipaddress.ip_network(network.strip())
            for network in (trusted_proxies or "").split(",")
            if network.strip()
        ]

    def of(self, scope: Scope) -> str:
        """Return the address; of IPv6 the network that one customer gets."""
        peer = (scope.get("client") or (UNKNOWN,))[0]
        hops = [peer, *reversed(_forwarded(scope))]
        for hop in hops:
            address = _parse(hop)
            if address is None:
                return UNKNOWN
            if not any(address in network for network in self._trusted):
                break
        else:
            address = _parse(hops[-1])
        if isinstance(address, ipaddress.IPv6Address):
            return str(ipaddress.ip_network((address, 64), strict=False))
        return str(address)


def _forwarded(scope: Scope) -> list[str]:
    values = [
        value.decode("latin-1")
        for name, value in scope["headers"]
        if name == b"x-forwarded-for"
    ]
    return [hop.strip() for hop in ",".join(values).split(",") if hop.strip()]


def _parse(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    # A server listening on :: sees IPv4 peers as ::ffff:192.0.2.1.
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address
