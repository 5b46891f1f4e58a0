"""Subscriptions: their handshake, their limits, and what they bring."""

from datetime import timedelta
from typing import Any

import httpx2
import pytest

from local_stack.twins.microsoft import Account, Calendar, MicrosoftTwin
from local_stack.twins.switchboard import Fault, FaultKind
from runtime.clock import ManualClock
from tests.support.eventually import eventually
from tests.twins.graph_calls import Endpoint, Graph, berlin, refusal


async def test_both_addresses_are_validated_before_the_subscription_is_there(
    graph: Graph, endpoint: Endpoint
) -> None:
    answer = await graph.subscribe(
        lifecycleNotificationUrl="https://hooks.test/ms/lifecycle"
    )
    assert answer.status_code == 201
    made = answer.json()
    assert endpoint.handshakes == ["/ms", "/ms/lifecycle"]
    assert made["clientState"] == "secret"
    assert made["expirationDateTime"] == "2026-11-25T12:00:00Z"
    [listed] = (await graph.page("/subscriptions"))["value"]
    assert (listed["id"], listed["clientState"]) == (made["id"], None)
    assert listed["notificationUrl"] == "https://hooks.test/ms?channel=1"


@pytest.mark.parametrize(
    "wrong",
    [
        (202, b"text/plain", None),
        (200, b"text/html", None),
        (200, b"text/plain", b"hello"),
        (404, b"text/plain", None),
    ],
)
async def test_an_address_that_answers_wrongly_is_refused(
    graph: Graph, endpoint: Endpoint, wrong: Any
) -> None:
    endpoint.handshake = wrong
    assert refusal(await graph.subscribe()) == (400, "ValidationError")
    assert (await graph.page("/subscriptions"))["value"] == []


async def test_an_address_that_is_slow_to_answer_is_refused(
    graph: Graph, outlook: MicrosoftTwin, endpoint: Endpoint
) -> None:
    outlook.behaviour.handshake_limit_s = 0.02
    endpoint.delay_s = 1
    assert refusal(await graph.subscribe()) == (400, "ValidationError")


@pytest.mark.parametrize(
    ("wish", "code"),
    [
        ({"clientState": "x" * 129}, "InvalidRequest"),
        ({"notificationUrl": "http://hooks.test/ms"}, "InvalidRequest"),
        ({"notificationUrl": None}, "InvalidRequest"),
        ({"changeType": "moved"}, "InvalidRequest"),
        ({"resource": "me/messages"}, "InvalidRequest"),
        ({"expirationDateTime": None}, "InvalidRequest"),
        ({"expirationDateTime": "2026-11-29T12:00:00Z"}, "ExtensionError"),
    ],
)
async def test_what_graph_would_not_take_is_refused(
    graph: Graph, endpoint: Endpoint, wish: dict[str, Any], code: str
) -> None:
    assert refusal(await graph.subscribe(**wish)) == (400, code)


async def test_a_short_life_is_raised_to_45_minutes(
    graph: Graph, endpoint: Endpoint
) -> None:
    answer = await graph.subscribe(expirationDateTime="2026-11-21T12:01:00Z")
    assert answer.json()["expirationDateTime"] == "2026-11-21T12:45:00Z"


async def test_clouds_that_hold_the_older_limit_refuse_a_week(
    graph: Graph, outlook: MicrosoftTwin, endpoint: Endpoint
) -> None:
    outlook.behaviour.longest_subscription_min = 4_230
    assert refusal(await graph.subscribe()) == (400, "ExtensionError")
    answer = await graph.subscribe(expirationDateTime="2026-11-24T10:00:00Z")
    assert answer.status_code == 201


async def test_a_second_one_to_the_same_thing_is_409_whoever_asks(
    graph: Graph, outlook: MicrosoftTwin, mira: Account, endpoint: Endpoint
) -> None:
    await graph.subscribe()
    async with Graph(outlook, mira.sign_in().access_token) as another_organization:
        address = "https://hooks.test/ms?channel=2"
        again = await another_organization.subscribe(notificationUrl=address)
        assert refusal(again) == (409, "Conflict")
        [known] = (await another_organization.page("/subscriptions"))["value"]
        assert known["notificationUrl"].endswith("channel=1")
    async with Graph(
        outlook, mira.sign_in(client_id="another app").access_token
    ) as another_app:
        assert (await another_app.subscribe()).status_code == 201
    resource = f"me/calendars/{mira.primary.id}/events"
    assert (await graph.subscribe(resource=resource)).status_code == 201
    outlook.behaviour.duplicate_subscriptions = "accept"
    assert (await graph.subscribe()).status_code == 201


async def test_a_change_is_told_with_the_secret_and_names_no_calendar(
    graph: Graph, outlook: MicrosoftTwin, agenda: Calendar, endpoint: Endpoint
) -> None:
    made = (await graph.subscribe()).json()
    event = agenda.add("Review", berlin(24, 9))
    agenda.rename(event, "Budget review")
    agenda.cancel(event)
    await outlook.pushes.drain()

    assert endpoint.kinds() == ["created", "updated", "deleted"]
    assert set(endpoint.paths) == {"/ms?channel=1"}
    item = endpoint.items[1]
    assert item["resourceData"].pop("@odata.type").lower() == "#microsoft.graph.event"
    path = item["resource"]
    assert path.endswith(f"/Events/{event.id}")
    assert item == {
        "subscriptionId": made["id"],
        "subscriptionExpirationDateTime": "2026-11-25T12:00:00+00:00",
        "clientState": "secret",
        "tenantId": item["tenantId"],
        "changeType": "updated",
        "resource": path,
        "resourceData": {
            "@odata.id": path,
            "@odata.etag": item["resourceData"]["@odata.etag"],
            "id": event.id,
        },
    }


async def test_ids_in_notifications_are_of_the_kind_asked_for_at_creation(
    graph: Graph, outlook: MicrosoftTwin, agenda: Calendar, endpoint: Endpoint
) -> None:
    graph.http.headers["Prefer"] = ""
    await graph.subscribe()
    event = agenda.add("Review", berlin(24, 9))
    await outlook.pushes.drain()
    [item] = endpoint.items
    assert item["resourceData"]["id"] == event.ids.mutable


async def test_one_save_is_told_several_times_in_one_request(
    graph: Graph, outlook: MicrosoftTwin, agenda: Calendar, endpoint: Endpoint
) -> None:
    outlook.behaviour.notifications_per_change = 3
    await graph.subscribe()
    agenda.add("Review", berlin(24, 9))
    await outlook.pushes.drain()
    assert endpoint.kinds() == ["created", "updated", "updated"]
    assert len(endpoint.requests) == 1


async def test_one_request_may_mix_subscriptions(
    graph: Graph, outlook: MicrosoftTwin, endpoint: Endpoint, agenda: Calendar
) -> None:
    outlook.behaviour.mix_subscriptions = True
    await graph.subscribe()
    ben = outlook.account("ben@example.org")
    async with Graph(outlook, ben.sign_in().access_token) as his:
        address = "https://hooks.test/ms?channel=2"
        await his.subscribe(notificationUrl=address, clientState="other")
    agenda.add("Review", berlin(24, 9), attendees=["ben@example.org"])
    await outlook.pushes.drain()
    [items] = endpoint.requests
    assert {item["clientState"] for item in items} == {"secret", "other"}


async def test_a_subscription_to_a_calendar_hears_of_that_calendar_only(
    graph: Graph, outlook: MicrosoftTwin, mira: Account, endpoint: Endpoint
) -> None:
    other = mira.add_calendar("Praxis")
    resource = f"/me/calendars/{other.id}/events"
    assert (await graph.subscribe(resource=resource)).status_code == 201
    mira.primary.add("Privat", berlin(24, 9))
    event = other.add("Praxis", berlin(24, 9))
    await outlook.pushes.drain()
    assert [item["resourceData"]["id"] for item in endpoint.items] == [event.id]


@pytest.mark.parametrize("status", [500, 503, 404, 429])
async def test_whatever_is_no_2xx_is_sent_again(
    graph: Graph,
    outlook: MicrosoftTwin,
    agenda: Calendar,
    endpoint: Endpoint,
    status: int,
) -> None:
    await graph.subscribe()
    endpoint.answers = [status, status]
    agenda.add("Review", berlin(24, 9))
    await outlook.pushes.drain()
    assert len(endpoint.requests) == 3
    assert endpoint.requests[0] == endpoint.requests[2]
    log = [(one.attempt, one.status, one.outcome) for one in outlook.pushes.log]
    assert log == [
        (1, status, "retrying"),
        (2, status, "retrying"),
        (3, 202, "delivered"),
    ]


async def test_a_slow_answer_is_no_answer(
    graph: Graph, outlook: MicrosoftTwin, agenda: Calendar, endpoint: Endpoint
) -> None:
    await graph.subscribe()
    outlook.behaviour.answer_limit_s, endpoint.delay_s = 0.02, 0.1
    agenda.add("Review", berlin(24, 9))
    await outlook.pushes.drain()
    assert [one.outcome for one in outlook.pushes.log] == ["retrying", "delivered"]


async def test_a_host_of_slow_answers_gets_its_items_late(
    graph: Graph, outlook: MicrosoftTwin, agenda: Calendar, endpoint: Endpoint
) -> None:
    await graph.subscribe()
    behaviour = outlook.behaviour
    behaviour.answer_limit_s, behaviour.judged_after = 0.02, 2
    behaviour.slow_delay_s = 0.05
    endpoint.delay_s = 0.03
    agenda.add("Review", berlin(24, 9))
    await outlook.pushes.drain()
    assert outlook.pushes.hosts.state("https://hooks.test/ms") == "slow"
    endpoint.delay_s = 0
    agenda.add("Lunch", berlin(24, 12))
    await outlook.pushes.drain()
    last = outlook.pushes.log[-1]
    assert last.sent_at - last.changed_at >= timedelta(seconds=0.05)


async def test_a_dropped_host_loses_items_and_is_told_so_at_the_end(
    graph: Graph, outlook: MicrosoftTwin, agenda: Calendar, endpoint: Endpoint
) -> None:
    await graph.subscribe(lifecycleNotificationUrl="https://hooks.test/ms/lifecycle")
    outlook.pushes.hosts.judge("hooks.test", "drop")
    agenda.add("Review", berlin(24, 9))
    await outlook.pushes.drain()
    assert endpoint.items == []
    outlook.pushes.hosts.judge("hooks.test", "normal")
    assert outlook.say_all_missed() == 1
    await outlook.pushes.drain()
    assert endpoint.kinds() == ["missed"]


async def test_lifecycle_events_go_to_their_own_address_and_name_no_event(
    graph: Graph, outlook: MicrosoftTwin, endpoint: Endpoint
) -> None:
    made = await graph.subscribe(
        lifecycleNotificationUrl="https://hooks.test/ms/lifecycle?channel=1"
    )
    subscription_id = made.json()["id"]
    assert outlook.ask_to_reauthorize(subscription_id)
    assert outlook.say_missed(subscription_id)
    assert outlook.remove_subscription(subscription_id)
    await outlook.pushes.drain()
    assert sorted(endpoint.kinds()) == [
        "missed",
        "reauthorizationRequired",
        "subscriptionRemoved",
    ]
    assert set(endpoint.paths) == {"/ms/lifecycle?channel=1"}
    assert set(endpoint.items[0]) == {
        "subscriptionId",
        "subscriptionExpirationDateTime",
        "tenantId",
        "clientState",
        "lifecycleEvent",
    }
    gone = await graph.http.patch(f"/subscriptions/{subscription_id}", json={})
    assert refusal(gone) == (404, "ResourceNotFound")


async def test_without_a_lifecycle_address_nobody_is_told(
    graph: Graph, outlook: MicrosoftTwin, endpoint: Endpoint
) -> None:
    subscription_id = (await graph.subscribe()).json()["id"]
    assert outlook.say_missed(subscription_id) is False
    added = {"lifecycleNotificationUrl": "https://hooks.test/ms/lifecycle"}
    answer = await graph.http.patch(f"/subscriptions/{subscription_id}", json=added)
    assert refusal(answer) == (400, "InvalidRequest")


async def test_a_subscription_is_renewed_reauthorized_and_deleted(
    graph: Graph, endpoint: Endpoint, clock: ManualClock
) -> None:
    path = f"/subscriptions/{(await graph.subscribe()).json()['id']}"
    new = {"expirationDateTime": "2026-11-27T12:00:00Z"}
    renewed = await graph.http.patch(path, json=new)
    assert renewed.json()["expirationDateTime"] == "2026-11-27T12:00:00Z"
    assert (await graph.http.post(f"{path}/reauthorize")).status_code == 204
    assert (await graph.http.delete(path)).status_code == 204
    assert (await graph.http.delete(path)).status_code == 404


async def test_an_expired_subscription_is_silent_and_gone(
    graph: Graph,
    outlook: MicrosoftTwin,
    mira: Account,
    agenda: Calendar,
    endpoint: Endpoint,
    clock: ManualClock,
) -> None:
    path = f"/subscriptions/{(await graph.subscribe()).json()['id']}"
    clock.advance(timedelta(days=5))
    agenda.add("Review", berlin(24, 9))
    await outlook.pushes.drain()
    assert endpoint.items == []
    token = mira.sign_in().access_token
    graph.http.headers["Authorization"] = f"Bearer {token}"
    assert refusal(await graph.http.patch(path, json={}))[0] == 404


async def test_the_switchboard_loses_doubles_delays_and_reorders(
    graph: Graph, outlook: MicrosoftTwin, agenda: Calendar, endpoint: Endpoint
) -> None:
    await graph.subscribe()
    outlook.switchboard.drop_pushes()
    event = agenda.add("Review", berlin(24, 9))
    await outlook.pushes.drain()
    assert endpoint.items == []

    outlook.switchboard.duplicate_pushes()
    agenda.rename(event, "Twice")
    await outlook.pushes.drain()
    assert endpoint.kinds() == ["updated", "updated"]

    outlook.switchboard.reorder_pushes()
    agenda.rename(event, "Late")
    agenda.cancel(event)
    await outlook.pushes.drain()
    assert endpoint.kinds()[2:] == ["deleted", "updated"]

    outlook.switchboard.add(Fault(kind=FaultKind.DELAY, operation="push", delay_s=0.02))
    agenda.add("Lunch", berlin(24, 12))
    await eventually(lambda: len(endpoint.items) == 5)


async def test_an_address_that_nobody_serves_is_refused(
    graph: Graph, outlook: MicrosoftTwin
) -> None:
    class Down(httpx2.AsyncBaseTransport):
        async def handle_async_request(
            self, request: httpx2.Request
        ) -> httpx2.Response:
            raise httpx2.ConnectError("nobody is there", request=request)

    outlook.deliver_to("https://down.test", Down())
    answer = await graph.subscribe(notificationUrl="https://down.test/ms")
    assert refusal(answer) == (400, "ValidationError")
