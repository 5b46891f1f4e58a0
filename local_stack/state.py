"""What the local stack keeps between runs, in one folder that can go at any time."""

import fcntl
import os
import shutil
from functools import cached_property
from pathlib import Path
from typing import IO, Self

import msgspec

from local_stack.errors import StackError
from local_stack.tokens import JWT_SECRET, anon_key, service_role_key
from runtime.sealing import Keyring

README = """\
The local stack of Supacal keeps its database and its keys here. None of it is needed
elsewhere: `supacal dev --reset` removes it and starts afresh.
"""
MARK = README.split(".", 1)[0]
# All that a stack makes here; --reset removes nothing else.
OURS = ("postgres", "lite", "logs", "twins", "keys.json", "running.json")


def running_file(directory: Path) -> Path:
    """Where a stack that keeps its state in this folder says what is where."""
    return directory / "running.json"


def is_running(directory: Path) -> bool:
    """Whether a stack runs on this folder: one that was killed says so no more."""
    try:
        lock = (directory / "lock").open("rb")
    except OSError:
        return False
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return running_file(directory).exists()
    return False


class _Kept(msgspec.Struct, frozen=True):
    secret_keys: str
    anon_key: str
    service_role_key: str


class State:
    """The folder, made where it is missing, and held by one stack at a time.

    Raises:
        StackError: it can't be written, is somebody's, or another stack holds it.
    """

    def __init__(self, directory: Path, *, secret_keys: str | None = None) -> None:
        self.directory = directory.absolute()
        self._given_keys = secret_keys
        try:
            self._lock = self._take()
        except OSError as error:
            raise StackError(
                f"{self.directory} can't be written ({error.strerror}): mend its owner "
                "or mode, or name another folder in SUPACAL_STATE_DIR."
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    def reset(self) -> None:
        """Forget everything."""
        for name in OURS:
            path = self.directory / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        self.__dict__.pop("_kept", None)

    @property
    def jwt_secret(self) -> str:
        return JWT_SECRET

    @property
    def secret_keys(self) -> str:
        """SUPACAL_SECRET_KEYS of this stack."""
        return self._given_keys or self._kept.secret_keys

    @property
    def keyring(self) -> Keyring:
        return Keyring.parse(self.secret_keys)

    @property
    def anon_key(self) -> str:
        return self._kept.anon_key

    @property
    def service_role_key(self) -> str:
        return self._kept.service_role_key

    def log(self, name: str) -> Path:
        """Where a program's output goes."""
        return self.directory / "logs" / f"{name}.log"

    @property
    def running(self) -> Path:
        """Where everything is, while a stack runs."""
        return running_file(self.directory)

    def twin(self, name: str) -> Path:
        """Where a twin is kept."""
        return self.directory / "twins" / f"{name}.json"

    def _take(self) -> IO[bytes]:
        self._refuse_a_stranger_s()
        self.directory.mkdir(parents=True, exist_ok=True)
        # First of all: whatever else is there, the next one knows it for ours.
        (self.directory / "README.txt").write_text(README)
        lock = (self.directory / "lock").open("ab")
        try:
            # Gone with its holder, however that ended: unlike a file with a pid.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            holder = (self.directory / "lock").read_text()
            raise StackError(
                f"Another local stack (process {holder}) runs on {self.directory}: "
                "stop that one first, or name another folder in SUPACAL_STATE_DIR."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()).encode())
        lock.flush()
        # The database's user must get through to its own folder below.
        self.directory.chmod(0o711)
        return lock

    def _refuse_a_stranger_s(self) -> None:
        mark = self.directory / "README.txt"
        if not self.directory.is_dir() or not any(self.directory.iterdir()):
            return
        if not (mark.exists() and mark.read_text(errors="replace").startswith(MARK)):
            raise StackError(
                f"{self.directory} was not made by the local stack, and stays as it "
                "is: name another folder in SUPACAL_STATE_DIR."
            )

    @cached_property
    def _kept(self) -> _Kept:
        file = self.directory / "keys.json"
        if not file.exists():
            fresh = _Kept(
                secret_keys=Keyring.generate(),
                anon_key=anon_key(),
                service_role_key=service_role_key(),
            )
            draft = file.with_suffix(".draft")
            draft.touch(mode=0o600)
            draft.write_bytes(msgspec.json.encode(fresh))
            draft.replace(file)
        return msgspec.json.decode(file.read_bytes(), type=_Kept)
