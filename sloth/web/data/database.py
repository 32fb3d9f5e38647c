"""Read-only connections to the controller's database, with a limit on how long a query takes."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from sloth.errors import StateError
from sloth.frozen import mutable
from sloth.web.data.liveness import is_lost

SECONDS = 10.0  # after which a query is given up
STEPS = 1000  # of SQLite's machine between two looks at the clock

Row = sqlite3.Row
Value = str | int | float | None


class TooSlow(StateError):
    """A query took too long."""


@mutable
class Work:
    """What queries have cost: how many there were, the rows that they returned, and thousands of SQLite's steps."""

    queries: int = 0
    rows: int = 0
    steps: int = 0


class ReadOnly:
    """The controller's database, and the index of replicas beside it: each thread has a connection of its own.

    Attributes:
        work: what all queries have cost, since these do not depend on how busy a machine is.
    """

    def __init__(self, directory: Path) -> None:
        """directory: the controller's; its database exists."""
        self._directory = directory
        self._local = threading.local()
        self.work = Work()

    @property
    def directory(self) -> Path:
        return self._directory

    def rows(self, sql: str, values: Sequence[Value] = ()) -> list[Row]:
        """Return the rows of a query. Raises StateError, TooSlow."""
        connection = self._connection()
        end = time.monotonic() + SECONDS
        work = self.work

        def look() -> int:
            work.steps += 1
            return int(time.monotonic() > end)

        connection.set_progress_handler(look, STEPS)
        try:
            found = connection.execute(sql, values).fetchall()
            work.queries += 1
            work.rows += len(found)
            return found
        except sqlite3.OperationalError as error:
            if "interrupted" in str(error):
                raise TooSlow("this takes too long", hint="narrow it down: a filter, or a shorter period") from error
            raise StateError(f"cannot read {self._directory / 'controller.db'}: {error}") from error
        except sqlite3.Error as error:
            raise StateError(f"cannot read {self._directory / 'controller.db'}: {error}") from error

    def row(self, sql: str, values: Sequence[Value] = ()) -> Row | None:
        """Return the first row of a query, or None."""
        found = self.rows(sql, values)
        return found[0] if found else None

    def number(self, sql: str, values: Sequence[Value] = ()) -> int:
        """Return the number that a query answers, 0 for none."""
        found = self.row(sql, values)
        return int(found[0] or 0) if found else 0

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = open_read_only(self._directory / "controller.db")
            connection.execute("ATTACH ? AS cache", (read_only_uri(self._directory / "web.db"),))
            connection.create_function("is_lost", 2, is_lost)
            self._local.connection = connection
        return connection


def read_only_uri(path: Path) -> str:
    """Return the address by which SQLite opens a file without a way to write to it."""
    return f"file:{quote(str(path))}?mode=ro"


def open_read_only(path: Path) -> sqlite3.Connection:
    """Open a database that nothing can be written to. Raises StateError."""
    try:
        connection = sqlite3.connect(read_only_uri(path), uri=True, timeout=5, isolation_level=None)
    except sqlite3.Error as error:
        raise StateError(f"cannot open {path}: {error}") from error
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA query_only=1")
    return connection
