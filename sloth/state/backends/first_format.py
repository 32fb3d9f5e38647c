"""Leads shared.db from format 1, which had tables of values and locks, to entries as every backend has them."""

from __future__ import annotations

import json
import os

from sloth.state.backends.documents import encode_name, pack
from sloth.state.database import Database

STATEMENTS = (
    "CREATE TABLE shared (name TEXT PRIMARY KEY, value TEXT NOT NULL, expires REAL)",
    "CREATE TABLE locks (name TEXT PRIMARY KEY, holder TEXT NOT NULL, taken REAL NOT NULL, expires REAL NOT NULL)",
)
SEALED = "sealed "  # what the text of an encrypted value begins with


def move_entries(database: Database) -> None:
    """Make an entry of each value and of each lock, and remove the former tables."""
    for name, value, expires in database.execute("SELECT name, value, expires FROM shared").fetchall():
        held = {"sealed": value} if value.startswith(SEALED) else {"value": json.loads(value)}
        _add(database, f"shared/{encode_name(name)}", {"name": name, **held, "expires": expires})
    for name, holder, taken, expires in database.execute("SELECT name, holder, taken, expires FROM locks").fetchall():
        lock = {
            "name": name, "holder": holder, "since": taken, "renewed": taken, "expires": expires, "number": 1,
        }  # fmt: skip
        _add(database, f"locks/{encode_name(name)}", lock)
    database.execute("DROP TABLE shared")
    database.execute("DROP TABLE locks")


def _add(database: Database, key: str, content: dict[str, object]) -> None:
    values = (key, pack(content, []), os.urandom(8).hex())
    database.execute("INSERT INTO entries VALUES (?, ?, ?)", values)
