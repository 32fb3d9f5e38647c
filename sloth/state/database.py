"""Opens the controller's SQLite files: where they are, their formats, and their transactions."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from sloth.errors import StateError

BUSY_SECONDS = 30.0  # how long to wait for another process that holds a file


def sloth_home() -> Path:
    """Return the controller's directory: $SLOTH_HOME, or else ~/.sloth-runner."""
    return Path(os.environ.get("SLOTH_HOME") or Path.home() / ".sloth-runner")


def open_database(path: Path, migrations: Sequence[Sequence[str]]) -> sqlite3.Connection:
    """Open a SQLite file, creating it (mode 0600) or bringing it to the newest format as needed.

    migrations[n] holds the statements that lead from format n to n + 1; an empty file has format 0. Raises StateError.
    """
    newest = len(migrations)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        database = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
        _use_wal(database)
        database.execute("BEGIN IMMEDIATE")
        version = int(database.execute("PRAGMA user_version").fetchone()[0])
        if version < newest:
            for statements in migrations[version:]:
                for statement in statements:
                    database.execute(statement)
            database.execute(f"PRAGMA user_version={newest}")
        database.execute("COMMIT")
    except OSError as error:
        raise StateError(f"cannot open {path}: {error.strerror}") from error
    except sqlite3.Error as error:
        raise StateError(f"cannot use {path}: {error}", hint="move it away; the next run creates a new one") from error
    if version > newest:
        database.close()
        raise StateError(
            f"{path} has format {version}, but this sloth-runner supports formats up to {newest}",
            hint="upgrade sloth-runner",
        )
    return database


def _use_wal(database: sqlite3.Connection) -> None:
    """Switch to write-ahead logging. SQLite's busy timeout does not cover the switch, so wait here."""
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            database.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.01)


class Transaction:
    """A context manager: BEGIN IMMEDIATE at its start, then COMMIT, or ROLLBACK after an exception."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __enter__(self) -> sqlite3.Connection:
        self._database.execute("BEGIN IMMEDIATE")
        return self._database

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._database.execute("ROLLBACK" if kind else "COMMIT")
