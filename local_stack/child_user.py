"""Postgres refuses to run as root: as root, only its process changes user."""

import os
import pwd
import shutil
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from local_stack.errors import StackError

NAMES = ("postgres", "nobody")
# Enough to enter a checkout below /root; all other rights end with the change of user.
ENTER = "+dac_override"


@dataclass(frozen=True)
class ChildUser:
    """The user that a server's process runs as; `uid` None means: as we do."""

    uid: int | None = None
    gid: int | None = None
    through: tuple[str, ...] = ()

    @classmethod
    def choose(cls, data: Path, reach: Iterable[Path]) -> "ChildUser":
        """Return the user for a server: the owner of its data, where there is one.

        Raises:
            StackError: there is no such user, or it cannot enter one of `reach`.
        """
        if os.geteuid() != 0:
            return cls()
        user = _owner(data) or _first_of(NAMES)
        closed = [path for path in reach if not user.may_enter(path)]
        return user._with_rights_to_enter(closed[0]) if closed else user

    def command(self, argv: Sequence[str | Path]) -> list[str]:
        """Return the words to start, led by what gives the child its rights."""
        return [*self.through, *map(str, argv)]

    def start_options(self) -> dict[str, Any]:
        """Return the keyword arguments of `Popen` that change the user."""
        if self.uid is None or self.through:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def own(self, path: Path) -> None:
        """Give `path` to the user."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)

    def may_enter(self, directory: Path) -> bool:
        """Whether the user can reach what lies in `directory`."""
        return all(self._may_search(path) for path in (directory, *directory.parents))

    def _may_search(self, directory: Path) -> bool:
        status = directory.stat()
        if status.st_uid == self.uid:
            return bool(status.st_mode & stat.S_IXUSR)
        if status.st_gid == self.gid:
            return bool(status.st_mode & stat.S_IXGRP)
        return bool(status.st_mode & stat.S_IXOTH)

    def _with_rights_to_enter(self, closed: Path) -> "ChildUser":
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            raise StackError(
                f"Postgres refuses to run as root, and the user it runs as instead "
                f"({self.uid}) cannot enter {closed}. Move the checkout to a directory "
                "open to all (/srv, /opt), or run this as a user who is not root."
            )
        who = (f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups")
        rights = (f"--inh-caps={ENTER}", f"--ambient-caps={ENTER}")
        return replace(self, through=(setpriv, *who, *rights, "--"))


def _owner(data: Path) -> ChildUser | None:
    if not data.exists() or data.stat().st_uid == 0:
        return None
    return ChildUser(data.stat().st_uid, data.stat().st_gid)


def _first_of(names: Iterable[str]) -> ChildUser:
    for name in names:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return ChildUser(entry.pw_uid, entry.pw_gid)
    raise StackError(
        "Postgres refuses to run as root, and this machine has neither a user "
        "'postgres' nor 'nobody' to switch to: run this as a user who is not root, or "
        "add one with `useradd --system postgres`."
    )
