"""The gateway's SQL, by name, from the files in sql/."""

import re
from pathlib import Path
from typing import Final

_NAME: Final = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)
# The replication protocol knows no comments.
_LEADING_COMMENT: Final = re.compile(r"\A(?:\s*--[^\n]*\n)+")


def _load(directory: Path) -> dict[str, str]:
    queries: dict[str, str] = {}
    for file in sorted(directory.glob("*.sql")):
        parts = _NAME.split(file.read_text(encoding="utf-8"))[1:]
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            if name in queries:
                raise ValueError(f"{file.name}: the query {name} exists already")
            queries[name] = _LEADING_COMMENT.sub("", text).strip()
    return queries


_QUERIES: Final = _load(Path(__file__).with_name("sql"))


def query(name: str) -> str:
    """Return the text of a named query."""
    return _QUERIES[name]
