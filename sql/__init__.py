"""Every statement that Python runs, by file and name: ``queries.tasks.finish(…)``.

    from sql import queries

    await queries.tasks.finish(connection, task_id=…, lease=…)

aiosql reads the files and drives asyncpg: ``name`` gives an async iterator of rows,
``name^`` one row, ``name$`` one value, ``name!`` nothing, ``name*!`` runs over many.
It adds 8 to 14 µs to a call, where the quickest call takes 200. Mind that it takes
a ``:word`` in a comment behind a line of SQL for a parameter.
"""

from pathlib import Path
from typing import Any

import aiosql


class Queries:
    """The files of this folder as attributes, their queries as functions."""

    def __init__(self, folder: Path) -> None:
        self._files = {
            file.stem: aiosql.from_path(file, "asyncpg", mandatory_parameters=False)
            for file in sorted(folder.glob("*.sql"))
        }

    def __getattr__(self, file: str) -> Any:
        try:
            return self._files[file]
        except KeyError:
            raise AttributeError(f"there is no file sql/{file}.sql") from None

    def texts(self) -> dict[str, str]:
        """Return the text of each query as Postgres gets it, by ``file.name``."""
        return {
            f"{file}.{name}": getattr(queries, name).sql
            for file, queries in self._files.items()
            for name in queries.available_queries
            if not name.endswith("_cursor")
        }


queries = Queries(Path(__file__).parent)
