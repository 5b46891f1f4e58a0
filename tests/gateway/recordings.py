"""Recordings of a Realtime server: where they lie, and what makes two of them equal.

A recording is a scenario (set-up SQL, steps) and the frames that each subscriber got.
What differs from run to run is replaced by numbers before a comparison, and what the
real server does not promise (the order of topics on one socket) is not compared.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
OWN = ROOT / "tests" / "data" / "realtime"
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
SECONDS = re.compile(r"\d+ seconds")
# Elixir's and Postgres' own detail follows the sentence
DETAIL = re.compile(r": (?:\[|%\{|<redacted>).*", re.DOTALL)

Frames = dict[str, list[Any]]


def shared_directory() -> Path | None:
    """Where recordings of the real server lie, if they do."""
    given = Path(os.environ.get("SUPACAL_SHARED", "../shared"))
    directory = (ROOT / given) / "data" / "realtime"
    return directory if directory.is_dir() else None


def all_recordings() -> list[Path]:
    """Our own and, where present, the real server's."""
    shared = shared_directory()
    directories = [OWN, *([shared] if shared else [])]
    return [file for folder in directories for file in sorted(folder.glob("*.json"))]


def load(file: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return loaded


@dataclass
class Normaliser:
    """Replaces what differs from run to run; subscribers in their order."""

    known_text: str
    _bindings: dict[str, str] = field(default_factory=dict)
    _ids: dict[int, str] = field(default_factory=dict)
    _numbered: dict[str, dict[str, str]] = field(default_factory=dict)

    def frames(self, frames: Iterable[Any]) -> list[Any]:
        return [self._value(self._with_ids(frame)) for frame in frames]

    def _with_ids(self, frame: Any) -> Any:
        payload = _payload(frame)
        if not isinstance(payload, dict):
            return frame
        response = payload.get("response")
        if isinstance(response, dict) and "postgres_changes" in response:
            for binding in response["postgres_changes"]:
                binding["id"] = self._binding(binding)
        if isinstance(payload.get("ids"), list) and "data" in payload:
            # an id that no join told of stays as it is, and shows
            ids = {self._ids.get(number, str(number)) for number in payload["ids"]}
            payload["ids"] = sorted(ids)
        return frame

    def _binding(self, binding: Mapping[str, Any]) -> str:
        number = binding["id"]
        if isinstance(number, str):
            return number
        assert isinstance(number, int)
        assert number > 0
        asked = json.dumps(
            {key: value for key, value in binding.items() if key != "id"},
            sort_keys=True,
        )
        name = self._bindings.setdefault(asked, f"<id:{len(self._bindings) + 1}>")
        self._ids[number] = name
        return name

    def _value(self, value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {
                UUID.sub(self._uuid, k): self._value(value[k], k) for k in sorted(value)
            }
        if isinstance(value, list):
            return [self._value(inner, key) for inner in value]
        if not isinstance(value, str):
            return value
        if key in {"phx_ref", "phx_ref_prev"}:
            return self._number("phx_ref", value)
        if key == "commit_timestamp":
            return TIMESTAMP.sub("<ts>", value)
        if key == "message":
            value = DETAIL.sub("", value)
        if key in {"message", "reason"}:
            value = SECONDS.sub("<n> seconds", value)
        return UUID.sub(self._uuid, value)

    def _uuid(self, match: re.Match[str]) -> str:
        found = match.group()
        return found if found in self.known_text else self._number("uuid", found)

    def _number(self, kind: str, value: str) -> str:
        if value.startswith("<"):
            return value
        known = self._numbered.setdefault(kind, {})
        return known.setdefault(value, f"<{kind}:{len(known) + 1}>")


def _payload(frame: Any) -> Any:
    if isinstance(frame, list):
        return frame[4]
    return frame.get("payload") if isinstance(frame, dict) else None


def _place(frame: Any) -> tuple[str, str]:
    """Topic and event of a frame."""
    if isinstance(frame, list):
        return frame[2], frame[3]
    if "$binary" in frame:
        return frame["$binary"]["topic"], "broadcast"
    return frame.get("topic", ""), frame.get("event", "")


def normalised(recording: Mapping[str, Any], frames: Mapping[str, list[Any]]) -> Frames:
    """Frames by subscriber, fit for a comparison."""
    steps = [{**step, "result": None} for step in recording["steps"]]
    known = json.dumps([recording["setup"], steps, recording["tokens"]])
    normaliser = Normaliser(known)
    names = [subscriber["name"] for subscriber in recording["subscribers"]]
    return {name: normaliser.frames(frames.get(name, [])) for name in names}


def expected(recording: Mapping[str, Any]) -> Frames:
    """What the recorded server sent."""
    frames = {
        name: [json.loads(json.dumps(one["frame"])) for one in recorded]
        for name, recorded in recording["frames"].items()
    }
    return normalised(recording, frames)


def differences(wanted: list[Any], got: list[Any], order: str) -> list[str]:
    """What is missing, more or elsewhere, as far as the order says anything."""
    if order == "any":
        wanted, got = sorted(wanted, key=json.dumps), sorted(got, key=json.dumps)
    by_place, found = _groups(wanted, order), _groups(got, order)
    told = []
    for place in {**by_place, **found}:
        pairs = zip_longest(by_place.get(place, []), found.get(place, []))
        for number, (one, other) in enumerate(pairs):
            if one != other:
                told.append(
                    f"{place} frame {number}:\n  wanted {json.dumps(one)}\n"
                    f"  got    {json.dumps(other)}"
                )
                break
    return told


def _groups(frames: list[Any], order: str) -> dict[tuple[str, str], list[Any]]:
    groups: dict[tuple[str, str], list[Any]] = {}
    for frame in frames:
        topic, event = _place(frame)
        groups.setdefault((topic, event if order == "event" else ""), []).append(frame)
    return groups
