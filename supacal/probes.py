"""Test deliveries, signed as a provider signs them: `supacal doctor --send-test`.

They name a channel or an account that is nobody's, so whatever works answers well and
nothing is stored.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

import httpx2
import msgspec

from providers.model import Provider
from providers.signatures import hex_digest
from runtime.settings import ReceiverSettings, SettingsError
from supacal.findings import Finding

FORGED = "a forged delivery is refused"
GENUINE = "a signed delivery is accepted"
ASKED = "it answers to who asks whether it wants deliveries"
CHALLENGE = "supacal doctor"


@dataclass(frozen=True)
class Message:
    """One request, and the answers that are right."""

    what: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    right: tuple[int, ...]
    answer: str | None = None


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
    return [
        await _sent(http, settings.supacal_public_url, message) for message in messages
    ]


async def _sent(http: httpx2.AsyncClient, url: str, message: Message) -> Finding:
    address = url + message.path
    try:
        answer = await http.post(address, headers=message.headers, content=message.body)
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
    advice = "" if is_right else _advice(answer.status_code)
    return Finding(is_right, f"{message.what}{outcome}{advice}")


def _advice(status: int) -> str:
    if status in {401, 403}:
        return "; does webhook_api run with the SUPACAL_SECRET_KEYS given here?"
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
    channel_id = uuid4()
    path = f"/webhooks/calendly/{channel_id}"
    (key, *_) = settings.keyring.signing_keys(channel_id)
    body = msgspec.json.encode({"event": "supacal.doctor", "payload": {}})
    time = str(int(datetime.now(UTC).timestamp()))

    def signed(key: str) -> dict[str, str]:
        digest = hex_digest(key, time.encode() + b"." + body)
        return {"Calendly-Webhook-Signature": f"t={time},v1={digest}"}

    return [
        Message(GENUINE, path, signed(key), body, (200,)),
        Message(FORGED, path, signed("forged"), body, (401, 429)),
    ]


def _calcom(settings: ReceiverSettings) -> list[Message]:
    channel_id = uuid4()
    path = f"/webhooks/calcom/{channel_id}"
    (key, *_) = settings.keyring.signing_keys(channel_id)
    body = msgspec.json.encode({"triggerEvent": "PING", "payload": {}})

    def signed(key: str) -> dict[str, str]:
        return {"X-Cal-Signature-256": hex_digest(key, body)}

    return [
        Message(GENUINE, path, signed(key), body, (200,)),
        Message(FORGED, path, signed("forged"), body, (401, 429)),
    ]


MESSAGES = {
    Provider.GOOGLE: _google,
    Provider.MICROSOFT: _microsoft,
    Provider.CALENDLY: _calendly,
    Provider.CALCOM: _calcom,
}
