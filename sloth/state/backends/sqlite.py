"""The backend that is always there: a SQLite file of the controller."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sloth.state.backends import first_format
from sloth.state.backends.backend import Entry
from sloth.state.database import Database, open_database
from sloth.state.patience import patiently

T = TypeVar("T")
# MIGRATIONS[n] leads from format n to n + 1. Never change one that was released: tests/formats has a file of each.
MIGRATIONS = (
    first_format.STATEMENTS,
    (
        "CREATE TABLE entries (name TEXT PRIMARY KEY, value BLOB NOT NULL, version TEXT NOT NULL)",
        first_format.move_entries,
    ),
)
LIMIT = 64 * 1024 * 1024  # bytes


class SQLite:
    """A file, which is opened when it is first used; another process that holds it is waited for."""

    limit = LIMIT

    def __init__(self, path: Path) -> None:
        self.url = f"sqlite://{path}"
        self._path = path
        self._opened: Database | None = None

    async def read(self, key: str) -> Entry | None:
        row = await self._do(
            lambda database: database.execute("SELECT value, version FROM entries WHERE name=?", (key,)).fetchone()
        )
        return Entry(row[0], row[1]) if row else None

    async def write(self, key: str, value: bytes, expected: str | None) -> str | None:
        version = os.urandom(8).hex()
        sql = "UPDATE entries SET value=?, version=? WHERE name=? AND version=?"
        values: tuple[object, ...] = (value, version, key, expected)
        if expected is None:
            sql, values = "INSERT OR IGNORE INTO entries VALUES (?, ?, ?)", (key, value, version)
        done = await self._do(lambda database: database.execute(sql, values).rowcount)
        return version if done else None

    async def names(self, prefix: str) -> list[str]:
        sql = "SELECT name FROM entries WHERE substr(name, 1, ?)=? ORDER BY name"
        rows = await self._do(lambda database: database.execute(sql, (len(prefix), prefix)).fetchall())
        return [row[0] for row in rows]

    async def forget(self, key: str) -> None:
        await self._do(lambda database: database.execute("DELETE FROM entries WHERE name=?", (key,)))

    async def remove(self, key: str, expected: str) -> bool:
        sql, values = "DELETE FROM entries WHERE name=? AND version=?", (key, expected)
        await self._do(lambda database: database.execute(sql, values))
        return await self.read(key) is None

    async def clock(self) -> float:
        return time.time()

    async def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    async def _do(self, work: Callable[[Database], T]) -> T:
        """Return what work() returns, trying again while another process holds the file. Raises StateBusy."""

        def attempt() -> T:
            if self._opened is None:
                self._opened = open_database(self._path, MIGRATIONS, patience=0.0)
            return work(self._opened)

        return await patiently(attempt)
