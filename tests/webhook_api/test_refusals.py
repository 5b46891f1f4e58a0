"""Who is refused how often, and what strangers cannot fill."""

from typing import Any

import httpx2
import pytest
from structlog.testing import capture_logs

from runtime.settings import ReceiverSettings
from tests.support.sessions import Connection
from tests.webhook_api.channels import PATH, Channel, error_of, make_settings
from webhook_api import answers
from webhook_api.limits import Limits
from webhook_api.metrics import Metrics
from webhook_api.refusals import ClientAddresses, Refusals, Refused, RefusedRate


class TestLimited:
    """Two refusals a minute an address."""

    @pytest.fixture
    def settings(self, database_url: str) -> ReceiverSettings:
        return make_settings(
            database_url,
            supacal_rate_refused_per_minute="2",
            supacal_trusted_proxies="127.0.0.1/32",
        )

    async def test_who_fails_verification_too_often_is_limited_and_who_verifies_never(
        self, client: httpx2.AsyncClient, channel: Channel, database: Connection
    ) -> None:
        statuses = [(await client.post(PATH)).status_code for _ in range(4)]
        assert statuses == [401, 401, 429, 429]
        response = await client.post(PATH)
        assert error_of(response) == "rate_limited"
        assert 0 < int(response.headers["retry-after"]) <= 60

        for _ in range(5):
            response = await client.post(PATH, headers=channel.headers())
            assert response.status_code == 200
        count = "select count(*) from sync.webhook_deliveries"
        assert await database.fetchval(count) == 5

    async def test_addresses_behind_a_trusted_proxy_are_told_apart(
        self, client: httpx2.AsyncClient
    ) -> None:
        for address in ("192.0.2.1", "192.0.2.2"):
            headers = {"x-forwarded-for": f"203.0.113.9, {address}"}
            statuses = [
                (await client.post(PATH, headers=headers)).status_code for _ in range(3)
            ]
            assert statuses == [401, 401, 429]


def scope(peer: str | None, *forwarded: str) -> dict[str, Any]:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    return {"client": peer and (peer, 4711), "headers": headers}


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        # A stranger says what it likes.
        ("192.0.2.1", ["198.51.100.7"], "192.0.2.1"),
        ("10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["1.2.3.4, 198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["1.2.3.4", "198.51.100.7, 10.9.9.9"], "198.51.100.7"),
        ("10.0.0.1", ["10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["nonsense"], "unknown"),
        (None, [], "unknown"),
        ("::ffff:192.0.2.1", [], "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", [], "2001:db8:1:2::/64"),
    ],
)
def test_the_address_is_the_first_one_that_no_trusted_proxy_has(
    peer: str | None, forwarded: list[str], address: str
) -> None:
    addresses = ClientAddresses("10.0.0.0/8, fd00::/8")
    assert addresses.of(scope(peer, *forwarded)) == address


def test_a_window_ends() -> None:
    rate = RefusedRate(1, limits=Limits(refused_window_s=60))
    assert [rate.count("a", now) for now in (0, 1, 59)] == [0, 60, 2]
    assert rate.count("a", 60) == 0


def test_memory_is_bounded_and_newcomers_share_a_count() -> None:
    rate = RefusedRate(3, limits=Limits(refused_addresses=100))
    limited = [bool(rate.count(f"10.0.{n // 256}.{n % 256}", 0)) for n in range(1000)]
    assert len(rate._counts) <= 101
    assert not any(limited[:100])
    assert all(limited[103:])
    assert rate.count("10.0.0.1", 0) == 0


def test_refusals_are_logged_sparingly_and_counted_all() -> None:
    clock = [0.0]
    metrics = Metrics()
    refusals = Refusals(
        metrics,
        addresses=ClientAddresses(None),
        per_minute=1_000_000,
        limits=Limits(),
        monotonic=lambda: clock[0],
    )
    refused = Refused(answers.NOT_VERIFIED, "forged token")
    with capture_logs() as logs:
        for _ in range(1000):
            refusals.answer(scope("192.0.2.1"), "google", refused)
        clock[0] = 10
        refusals.answer(scope("192.0.2.1"), "google", refused)
    assert [line["count"] for line in logs] == [1, 1000]
    assert logs[0] == {
        "event": "delivery.refused",
        "log_level": "warning",
        "provider": "google",
        "reason": "forged token",
        "status": 401,
        "count": 1,
    }
    assert metrics.refused.value("google", "forged token") == 1001
