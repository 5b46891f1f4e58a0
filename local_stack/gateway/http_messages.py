"""Requests and answers of the gateway's HTTP side."""

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

import msgspec


@dataclass
class HttpRequest:
    """A request, its body complete; header names are lower case."""

    method: str = "GET"
    target: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def raw_path(self) -> str:
        return urlsplit(self.target).path

    @property
    def parameters(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))


@dataclass(frozen=True)
class HttpAnswer:
    """A status and a body: text as it is, anything else as JSON."""

    status: int
    body: object = ""

    def encoded(self) -> tuple[bytes, str]:
        if isinstance(self.body, str):
            return self.body.encode(), "text/plain; charset=utf-8"
        return msgspec.json.encode(self.body), "application/json; charset=utf-8"
