"""Broadcasts from the database: rows of realtime.messages, on their way to rooms."""

from typing import Final

from local_stack.gateway.frames import ENCODING_BINARY, ENCODING_JSON, UserPayload
from local_stack.gateway.pgoutput import Change, Relation
from local_stack.gateway.rooms import RoomName, Rooms, Said

SCHEMA: Final = "realtime"
TABLE: Final = "messages"


def is_messages(relation: Relation) -> bool:
    """Tell realtime.messages, or one of its days, from other tables."""
    return relation.schema == SCHEMA and (
        relation.table == TABLE or relation.table.startswith(f"{TABLE}_")
    )


def say_message(rooms: Rooms, change: Change) -> None:
    """Send a new row of realtime.messages to its room; others are no broadcasts."""
    if change.kind != "INSERT" or change.new is None:
        return
    row = dict(zip(change.relation.columns, change.new, strict=True))
    topic, event = row.get("topic"), row.get("event")
    payload, data = row.get("payload"), row.get("binary_payload")
    if not isinstance(topic, str) or not isinstance(event, str):
        return
    if isinstance(payload, str):
        user = UserPayload(event, ENCODING_JSON, payload.encode())
    elif isinstance(data, str):
        user = UserPayload(event, ENCODING_BINARY, bytes.fromhex(data[2:]))
    else:
        return
    message_id = row.get("id")
    said = Said(user, message_id=message_id if isinstance(message_id, str) else None)
    rooms.say(RoomName(topic, row.get("private") == "t"), said)
