"""Google Meet links: made on request, and only for clients that know of them."""

import hashlib

from local_stack.twins.google.state import Json


def heard(given: Json, version: str | None) -> Json:
    """Return a write as a client of this conferenceDataVersion means it.

    A client of version 0 neither sets nor clears a conference.
    """
    if version == "1":
        return {"conferenceData": None, **given}
    return {key: value for key, value in given.items() if key != "conferenceData"}


def heard_patch(given: Json, version: str | None) -> Json:
    """Return a PATCH likewise: what it does not name stays."""
    return given if version == "1" else heard(given, version)


def with_meeting(body: Json) -> Json:
    """Fulfil a create request, at once; Google itself may take a moment."""
    conference = body.get("conferenceData") or {}
    request = conference.get("createRequest")
    if request is None or conference.get("conferenceId"):
        return body
    digest = hashlib.blake2b(str(request.get("requestId")).encode(), digest_size=5)
    letters = "".join(chr(ord("a") + int(c, 16)) for c in digest.hexdigest())
    code = f"{letters[:3]}-{letters[3:7]}-{letters[7:]}"
    link = f"https://meet.google.com/{code}"
    made = {
        "createRequest": {**request, "status": {"statusCode": "success"}},
        "entryPoints": [{"entryPointType": "video", "uri": link, "label": link[8:]}],
        "conferenceSolution": {
            "key": {"type": "hangoutsMeet"},
            "name": "Google Meet",
        },
        "conferenceId": code,
    }
    return {**body, "hangoutLink": link, "conferenceData": {**conference, **made}}
