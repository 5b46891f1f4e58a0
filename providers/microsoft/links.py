"""Links in Graph's answers: the next page, the next delta."""

from typing import Final
from urllib.parse import urlsplit

from providers.errors import Rejected
from providers.model import Provider

VERSION: Final = "/v1.0"


def tail(link: str | None, operation: str) -> str | None:
    """Return what of a link is below the version's root, as it is.

    The host is never followed: a token goes where our setting says, and nowhere else.
    """
    if link is None:
        return None
    parts = urlsplit(link)
    _, version, path = parts.path.partition(f"{VERSION}/")
    if not version:
        raise Rejected(Provider.MICROSOFT, operation, reason="linkLeadsElsewhere")
    return f"/{path}?{parts.query}"
