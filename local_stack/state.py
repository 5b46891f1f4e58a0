"""What the local stack keeps between runs, in one folder that can go at any time."""

import shutil
from functools import cached_property
from pathlib import Path

import msgspec

from local_stack.errors import StackError
from local_stack.tokens import JWT_SECRET, anon_key, service_role_key
from runtime.sealing import Keyring

README = """\
The local stack of Supacal keeps its database and its keys here. None of it is needed
elsewhere: `supacal dev --reset` removes the folder and starts afresh.
"""


class _Kept(msgspec.Struct, frozen=True):
    secret_keys: str
    anon_key: str
    service_role_key: str


class State:
    """The folder; made where it is missing.

    Raises:
        StackError: it can't be written.
    """

    def __init__(self, directory: Path, *, secret_keys: str | None = None) -> None:
        self.directory = directory.absolute()
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            # The database's user must get through to its own folder below.
            self.directory.chmod(0o711)
            (self.directory / "README.txt").write_text(README)
        except OSError as error:
            raise StackError(
                f"No permission to write {self.directory}: mend its owner or mode, or "
                "name another folder in SUPACAL_STATE_DIR."
            ) from error
        self._given_keys = secret_keys

    @classmethod
    def reset(cls, directory: Path) -> None:
        """Remove the folder, if it is one of ours."""
        if not directory.exists():
            return
        if any(directory.iterdir()) and not (directory / "README.txt").exists():
            raise StackError(
                f"{directory} was not made by the local stack, and stays as it is: "
                "name another folder in SUPACAL_STATE_DIR."
            )
        shutil.rmtree(directory)

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

    @cached_property
    def _kept(self) -> _Kept:
        file = self.directory / "keys.json"
        if not file.exists():
            fresh = _Kept(
                secret_keys=Keyring.generate(),
                anon_key=anon_key(),
                service_role_key=service_role_key(),
            )
            file.touch(mode=0o600)
            file.write_bytes(msgspec.json.encode(fresh))
        return msgspec.json.decode(file.read_bytes(), type=_Kept)
