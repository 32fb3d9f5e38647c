"""A process that opens a SQLite file twice keeps its locks on it: else others remove the log that it writes to."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sloth.payload.state.store import Store
from sloth.state.database import open_database

# What another process does: it opens the file, reads, and is the last one to close it as far as it can see.
OTHER = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1])
print(database.execute("SELECT count(*) FROM runs").fetchone()[0])
database.close()
"""


def controller(path: Path) -> Any:
    return open_database(path, (("CREATE TABLE runs (n INTEGER)",),))


def host(path: Path) -> Any:
    return Store(str(path))


def write(database: Any, number: int) -> None:
    if isinstance(database, Store):
        database.runs.begin(f"20260101-00000{number}-abcdef", "s", "w", "o")
        database.commit()
    else:
        database.execute("INSERT INTO runs VALUES (1)")


@pytest.mark.parametrize("opened", [controller, host])
def test_what_is_written_after_a_second_connection_is_there(tmp_path: Path, opened: Callable[[Path], Any]) -> None:
    path = tmp_path / "state.db"
    first = opened(path)
    for number in range(1, 4):
        opened(path).close()
        for _ in range(2):  # the first of them may remove what it takes for left over
            done = subprocess.run([sys.executable, "-c", OTHER, str(path)], capture_output=True, text=True, check=False)
            assert (done.returncode, done.stdout.strip()) == (0, str(number - 1)), done.stderr
        write(first, number)
    first.close()
