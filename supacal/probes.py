"""Test deliveries, signed as a provider signs them: `supacal doctor --send-test`.

They reach the database, and mean nothing: a channel that is nobody's is told of, so
nothing is stored. A webhook made by hand names no channel, but something that is no
booking: where it is somebody's, it is stored as ignored.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

import httpx2
import msgspec
from pydantic import SecretStr

from providers.model import Provider
from providers.signatures import hex_digest
from runtime.settings import ReceiverSettings, SettingsError
from supacal.findings import Finding

FORGED = "a forged delivery is refused"
GENUINE = "a signed delivery is accepted"
BY_HAND = "a delivery of a webhook made by hand is accepted"
ASKED = "it answers to who asks whether it wants deliveries"
CHALLENGE = "supacal doctor"
# What is no trigger of bookings is kept at most, and never read.
NO_BOOKING = "supacal.doctor"
DERIVED = "SUPACAL_SECRET_KEYS"
SHARED = {
    Provider.CALENDLY: "CALENDLY_WEBHOOK_SIGNING_KEY",
    Provider.CALCOM: "CALCOM_WEBHOOK_SECRET",
}


@dataclass(frozen=True)
class Message:
    """One request, and the answers that are right."""

    what: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    right: tuple[int, ...]
    answer: str | None = None
    secret: str = DERIVED


async def send_test(
    http: httpx2.AsyncClient, provider: str, settings: ReceiverSettings
) -> list[Finding]:
    """Post a provider's test deliveries to SUPACAL_PUBLIC_URL.

    Raises:
        SettingsError: there is no address to send them to.
    """
    if settings.supacal_public_url is None:
        raise SettingsError(["SUPACAL_PUBLIC_URL is missing"])
    messages = MESSAGES[Provider(provider)](settings)
    found = [
        await _sent(http, settings.supacal_public_url, message) for message in messages
    ]
    shared = SHARED.get(Provider(provider))
    if shared is not None and shared not in {message.secret for message in messages}:
        said = f"no {shared} is set here: webhooks made by hand are not tested"
        found.append(Finding(True, said))
    return found


async def _sent(http: httpx2.AsyncClient, url: str, message: Message) -> Finding:
    address = url + message.path
    try:
        answer = await http.post(address, headers=message.headers, content=message.body)
    except httpx2.ReadTimeout:
        return Finding(
            False,
            f"{message.what}: {address} takes too long; can webhook_api reach its "
            "database? See /readyz",
        )
    except httpx2.TransportError as failure:
        return Finding(
            False,
            f"{message.what}: {address} does not answer ({type(failure).__name__}); "
            "start `supacal api`, and let the proxy in front of it reach it",
        )
    is_right = answer.status_code in message.right
    if message.answer is not None:
        is_right = is_right and answer.text == message.answer
    outcome = "" if is_right else f": the answer was {answer.status_code}"
    advice = "" if is_right else _advice(answer.status_code, message)
    return Finding(is_right, f"{message.what}{outcome}{advice}")


def _advice(status: int, message: Message) -> str:
    if status in {401, 403}:
        return f"; does webhook_api run with the {message.secret} given here?"
    if status in {404, 405}:
        return "; does SUPACAL_PUBLIC_URL lead to webhook_api?"
    return "; see the log of webhook_api"


def _google(settings: ReceiverSettings) -> list[Message]:
    channel_id = uuid4()
    token = settings.keyring.channel_token(channel_id)
    headers = {
        "X-Goog-Channel-ID": str(channel_id),
        "X-Goog-Channel-Token": token,
        "X-Goog-Resource-ID": "supacal-doctor",
        "X-Goog-Resource-State": "sync",
        "X-Goog-Message-Number": "1",
    }
    forged = headers | {"X-Goog-Channel-Token": "v1.forged"}
    return [
        Message(GENUINE, "/webhooks/google", headers, b"", (200,)),
        Message(FORGED, "/webhooks/google", forged, b"", (401, 429)),
    ]


def _microsoft(settings: ReceiverSettings) -> list[Message]:
    path = "/webhooks/microsoft"
    kind = {"Content-Type": "application/json"}

    def told(client_state: str) -> bytes:
        item = {
            "subscriptionId": str(uuid4()),
            "clientState": client_state,
            "changeType": "updated",
        }
        return msgspec.json.encode({"value": [item]})

    genuine = told(settings.keyring.channel_token(uuid4()))
    asking = f"{path}?validationToken={CHALLENGE.replace(' ', '%20')}"
    return [
        Message(ASKED, asking, {}, b"", (200,), answer=CHALLENGE),
        Message(GENUINE, path, kind, genuine, (200, 202)),
        Message(FORGED, path, kind, told("forged"), (401, 429)),
    ]


def _calendly(settings: ReceiverSettings) -> list[Message]:
    body = msgspec.json.encode({"event": NO_BOOKING, "payload": {}})
    time = str(int(datetime.now(UTC).timestamp()))

    def signed(key: str) -> dict[str, str]:
        digest = hex_digest(key, time.encode() + b"." + body)
        return {"Calendly-Webhook-Signature": f"t={time},v1={digest}"}

    shared = settings.calendly_webhook_signing_key
    return _bookings(settings, Provider.CALENDLY, body, signed, shared)


def _calcom(settings: ReceiverSettings) -> list[Message]:
    body = msgspec.json.encode({"triggerEvent": NO_BOOKING, "payload": {}})

    def signed(key: str) -> dict[str, str]:
        return {"X-Cal-Signature-256": hex_digest(key, body)}

    shared = settings.calcom_webhook_secret
    return _bookings(settings, Provider.CALCOM, body, signed, shared)


def _bookings(
    settings: ReceiverSettings,
    provider: Provider,
    body: bytes,
    signed: Callable[[str], Mapping[str, str]],
    shared: SecretStr | None,
) -> list[Message]:
    channel_id = uuid4()
    by_hand = f"/webhooks/{provider}"
    path = f"{by_hand}/{channel_id}"
    (key, *_) = settings.keyring.signing_keys(channel_id)
    messages = [
        Message(GENUINE, path, signed(key), body, (200,)),
        Message(FORGED, path, signed("forged"), body, (401, 429)),
    ]
    if shared is not None:
        headers, secret = signed(shared.get_secret_value()), SHARED[provider]
        messages.append(Message(BY_HAND, by_hand, headers, body, (200,), secret=secret))
    return messages


MESSAGES = {
    Provider.GOOGLE: _google,
    Provider.MICROSOFT: _microsoft,
    Provider.CALENDLY: _calendly,
    Provider.CALCOM: _calcom,
}
