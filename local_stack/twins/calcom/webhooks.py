"""Cal.com's webhooks: signed over the body, sent once, and never again."""

import hashlib
import hmac
import html
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from local_stack.twins.calcom.behaviour import Behaviour
from local_stack.twins.calcom.bodies import millis
from local_stack.twins.calcom.state import Store, Webhook
from local_stack.twins.outbox import Outbox
from local_stack.twins.passage import Passages
from local_stack.twins.posts import Post, Poster
from local_stack.twins.switchboard import Switchboard

UNSIGNED = "no-secret-provided"
VERSION = "2021-10-20"
PLACE = re.compile(r"\{\{\s*([A-Za-z0-9_.]+)\s*\}\}")
FORM = "application/x-www-form-urlencoded"


class Webhooks:
    """Posts what happens to every webhook that asked for it."""

    def __init__(
        self,
        store: Store,
        behaviour: Behaviour,
        outbox: Outbox,
        switchboard: Switchboard,
    ) -> None:
        self._store = store
        self._behaviour = behaviour
        # One attempt: whatever is answered, and where nothing is.
        self.poster = Poster(outbox, Passages(switchboard), lambda *_: None)

    def tell(
        self, trigger: str, host: str, payload: dict[str, Any], *, flat: bool = False
    ) -> None:
        """Post an event of a host; each webhook of every level gets its own."""
        for webhook in list(self._store.known.webhooks.values()):
            if webhook.host == host and webhook.active and trigger in webhook.triggers:
                self.send(webhook, trigger, payload, flat=flat)

    def ping(self, webhook: Webhook) -> None:
        """Post what the button for a test does: signed, and of no booking."""
        now = millis(self._store.now())
        payload = {
            "type": "Test",
            "title": "Test trigger event",
            "description": "",
            "startTime": now,
            "endTime": now,
            "attendees": [{"email": "jdoe@example.com", "name": "John Doe"}],
            "organizer": {"name": "Cal", "email": "no-reply@cal.com"},
        }
        self.send(webhook, "PING", payload)

    def send(
        self,
        webhook: Webhook,
        trigger: str,
        payload: dict[str, Any],
        *,
        flat: bool = False,
    ) -> None:
        """Post to one webhook."""
        created_at = {"createdAt": millis(self._store.now())}
        if flat:
            document = {"triggerEvent": trigger, **payload}
        else:
            document = {"triggerEvent": trigger, **created_at, "payload": payload}
        content_type, body = "application/json", msgspec.json.encode(document)
        if webhook.template is not None and not flat:
            told = {"triggerEvent": trigger, **created_at, **payload}
            content_type, body = rendered(webhook.template, told)
        headers = {"Content-Type": content_type}
        headers["X-Cal-Signature-256"] = signature(webhook.secret, body)
        if self._behaviour.version_header:
            headers["X-Cal-Webhook-Version"] = VERSION
        post = Post(webhook.id, webhook.url, trigger, body, _always(headers))
        self.poster.post(post)


def signature(secret: str | None, body: bytes) -> str:
    """Sign as Cal.com does: bare hex over the body, or a word where there is no key."""
    if not secret:
        return UNSIGNED
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def rendered(template: str, told: Mapping[str, Any]) -> tuple[str, bytes]:
    """Render a custom template, with the traps that the real one has."""

    def value(match: re.Match[str]) -> str:
        found: Any = told
        for name in match[1].split("."):
            found = found.get(name, "") if isinstance(found, Mapping) else ""
        # Escaped for HTML, and only the quotes are made good.
        return html.escape(str(found)).replace("&quot;", '"')

    text = PLACE.sub(value, template)
    content_type = "application/json" if _is_json(template) else FORM
    if content_type == "application/json" and not _is_json(text):
        text = "false"
    return content_type, text.encode()


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except msgspec.DecodeError:
        return False
    return True


def _always(headers: dict[str, str]) -> Any:
    return lambda _: headers
