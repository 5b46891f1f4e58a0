"""A plain receiver of bookings' webhooks, and a client of the twin for adapters."""

from starlette.types import Receive, Scope, Send


class BookingInbox:
    """Takes every webhook with its body, answers what it was told to, 200 otherwise."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self.answers: list[int] = []
        self.always: int = 200

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        self.paths.append(scope["path"])
        self.headers.append({k.decode(): v.decode() for k, v in scope["headers"]})
        self.bodies.append(body)
        status = self.answers.pop(0) if self.answers else self.always
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})
