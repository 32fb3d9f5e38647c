"""Opens the controller's SQLite files: where they are, their formats, and their transactions."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sloth.errors import StateBusy, StateError
from sloth.payload.kernel.hashing import as_utf8

BUSY_SECONDS = 30.0  # how long to wait for another process that holds a file
POLL = 0.05  # seconds between two tries; SQLite's own waiting answers no Ctrl-C


class Database(sqlite3.Connection):
    """A connection whose errors are StateErrors; it waits `patience` seconds for a process that holds the file."""

    path = Path()
    patience = BUSY_SECONDS

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        return self._patiently(super().execute, sql, parameters)

    def executemany(self, sql: str, parameters: Any, /) -> sqlite3.Cursor:
        return self._patiently(super().executemany, sql, parameters)

    def _patiently(self, do: Callable[[str, Any], sqlite3.Cursor], sql: str, parameters: Any) -> sqlite3.Cursor:
        end = time.monotonic() + self.patience
        while True:
            try:
                return do(sql, parameters)
            except UnicodeEncodeError:  # a name on a host need not be UTF-8, and SQLite takes nothing else
                parameters = tuple(as_utf8(value) if isinstance(value, str) else value for value in parameters)
            except sqlite3.Error as error:
                code = getattr(error, "sqlite_errorcode", 0) & 0xFF
                if code not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                    raise StateError(f"cannot use {self.path}: {error}") from error
                if time.monotonic() >= end:
                    hint = "another sloth-runner, or a program that reads it, has it; try again"
                    raise StateBusy(f"{self.path} is locked by another process", hint=hint) from error
                time.sleep(POLL)


def sloth_home() -> Path:
    """Return the controller's directory: $SLOTH_HOME, or else ~/.sloth-runner."""
    return Path(os.environ.get("SLOTH_HOME") or Path.home() / ".sloth-runner")


Step = str | Callable[["Database"], None]  # a statement, or what needs more than SQL


def open_database(path: Path, migrations: Sequence[Sequence[Step]], patience: float = BUSY_SECONDS) -> Database:
    """Open a SQLite file, creating it (mode 0600) or bringing it to the newest format as needed.

    migrations[n] holds the steps that lead from format n to n + 1; an empty file has format 0. patience: seconds
    to wait for another process that holds it. Raises StateError, StateBusy.
    """
    newest = len(migrations)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _create(path)
        database = sqlite3.connect(path, timeout=POLL, isolation_level=None, factory=Database)
        database.path, database.patience = path, patience
        try:
            version = _migrate(database, migrations)
        except BaseException:
            database.close()
            raise
    except OSError as error:
        raise StateError(f"cannot open {path}: {error.strerror}") from error
    except StateBusy:
        raise
    except StateError as error:
        raise StateError(error.message, hint="move it away; the next run creates a new one") from error
    except sqlite3.Error as error:
        raise StateError(f"cannot open {path}: {error}") from error
    if version > newest:
        database.close()
        raise StateError(
            f"{path} has format {version}, but this sloth-runner supports formats up to {newest}",
            hint="upgrade sloth-runner",
        )
    return database


def _create(path: Path) -> None:
    """Create the file, for its owner alone, where there is none. Raises OSError.

    One that is there is not opened: POSIX gives up all locks of a process on a file when it closes any descriptor of
    it, those of another connection among them. Other processes would then take it for a file that nobody uses, remove
    its log, and lose what is written to that.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        if not path.is_file() or not os.access(path, os.R_OK | os.W_OK):  # the error of opening it says why
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _migrate(database: Database, migrations: Sequence[Sequence[Step]]) -> int:
    """Bring a file to the newest format; return the one that it had."""
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("BEGIN IMMEDIATE")
    version = int(database.execute("PRAGMA user_version").fetchone()[0])
    if version < len(migrations):
        for statements in migrations[version:]:
            for step in statements:
                if isinstance(step, str):
                    database.execute(step)
                else:
                    step(database)
        database.execute(f"PRAGMA user_version={len(migrations)}")
    database.execute("COMMIT")
    return version


class Transaction:
    """A context manager: BEGIN IMMEDIATE at its start, then COMMIT, or ROLLBACK after an exception."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def __enter__(self) -> Database:
        self._database.execute("BEGIN IMMEDIATE")
        return self._database

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._database.execute("ROLLBACK" if kind else "COMMIT")
