"""The shared values and locks behind state.set/get/lock/unlock, in SQLite: one controller's runs see the same ones."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sloth.errors import StateError
from sloth.state.memory import _Transaction, open_database, sloth_home

VERSION = 1
Rows = list[dict[str, Any]]  # outside the class, in which `list` is an operation
SCHEMA = (
    "CREATE TABLE shared (name TEXT PRIMARY KEY, value TEXT NOT NULL, expires REAL)",
    "CREATE TABLE locks (name TEXT PRIMARY KEY, holder TEXT NOT NULL, taken REAL NOT NULL, expires REAL NOT NULL)",
)


# What each operation of Lua's `state` takes, and what its arguments must be.
TAKES = {
    "get": ("name", "default = nil"),
    "set": ("name", "value", "options = {ttl = seconds}"),
    "cas": ("name", "expected", "value", "options = {ttl = seconds}"),
    "delete": ("name",),
    "list": ('prefix = ""',),
    "incr": ("name", "by = 1"),
    "lock": ("name", "holder", "ttl = 300"),
    "try_lock": ("name", "holder", "ttl = 300"),
    "unlock": ("name", "holder"),
}
KINDS: dict[str, tuple[Any, str]] = {
    "name": (str, "a string"),
    "prefix": (str, "a string"),
    "holder": (str, "a string"),
    "by": ((int, float), "a number"),
    "ttl": ((int, float), "a number of seconds"),
    "options": ((dict, list), "a table such as {ttl = 60}"),
}


class Shared:
    """Values are any plain data; an expired value or lock is as if it were not there. Times are epoch seconds."""

    def __init__(self, path: Path | None = None) -> None:
        """Opens nothing yet: most runs share nothing."""
        self._path = path or sloth_home() / "shared.db"
        self._opened: Any = None

    @property
    def _database(self) -> Any:
        if self._opened is None:
            self._opened = open_database(self._path, (SCHEMA,), VERSION)
        return self._opened

    def call(self, op: str, args: list[Any]) -> Any:
        """Run the operation `op` of Lua's `state` table. Raises StateError for wrong arguments and for its refusals."""
        if op == "holder":
            return secrets.token_hex(16)
        if op not in TAKES:
            raise StateError(f"there is no state.{op}")
        method: Callable[..., Any] = getattr(self, op)
        takes = TAKES[op]
        usage = f"state.{op}({', '.join(takes)})"
        least = sum("=" not in name for name in takes)
        if not least <= len(args) <= len(takes):
            raise StateError(f"state.{op} was given {len(args)} arguments", hint=usage)
        for name, value in zip(takes, args, strict=False):
            kind = KINDS.get(name.partition(" ")[0])
            optional = value is None and "=" in name
            if kind is not None and not optional and (not isinstance(value, kind[0]) or isinstance(value, bool)):
                raise StateError(f"state.{op}: {name.partition(' ')[0]} must be {kind[1]}", hint=usage)
        return method(*(args[:least] + [value for value in args[least:] if value is not None or op in ("set", "cas")]))

    def get(self, name: str, default: Any = None) -> Any:
        row = self._database.execute(
            "SELECT value FROM shared WHERE name=? AND (expires IS NULL OR expires>?)", (name, time.time())
        ).fetchone()
        return json.loads(row[0]) if row else default

    def set(self, name: str, value: Any, options: Any = None) -> Any:
        """Set a value (None deletes); options: {"ttl": seconds}."""
        if value is None:
            self.delete(name)
            return None
        ttl = options.get("ttl") if isinstance(options, dict) else None
        if ttl is not None and (not isinstance(ttl, (int, float)) or isinstance(ttl, bool)):
            raise StateError(
                f"the ttl of {name} must be a number of seconds", hint='state.set("name", value, {ttl = 60})'
            )
        expires = None if ttl is None else time.time() + ttl
        self._database.execute("INSERT OR REPLACE INTO shared VALUES (?, ?, ?)", (name, json.dumps(value), expires))
        return value

    def cas(self, name: str, expected: Any, value: Any, options: Any = None) -> bool:
        """Set `name` to `value` if it is `expected` (None: not there), atomically; return whether it was."""
        with _Transaction(self._database):
            if self.get(name) != expected:
                return False
            self.set(name, value, options)
            return True

    def delete(self, name: str) -> bool:
        return bool(self._database.execute("DELETE FROM shared WHERE name=?", (name,)).rowcount)

    def list(self, prefix: str = "") -> list[str]:
        rows = self._database.execute(
            "SELECT name FROM shared WHERE expires IS NULL OR expires>? ORDER BY name", (time.time(),)
        )
        return [row[0] for row in rows if row[0].startswith(prefix)]

    def incr(self, name: str, by: float = 1) -> Any:
        """Add to a number (0 when there is none), atomically; return the sum."""
        with _Transaction(self._database):
            value = self.get(name, 0)
            if not isinstance(value, (int, float)) or isinstance(value, bool):
                raise StateError(f"state.incr: {name} is not a number")
            return self.set(name, value + by)

    def try_lock(self, name: str, holder: str, ttl: float = 300) -> bool:
        """Take or renew a lock for `ttl` seconds; False when another holder has it."""
        now = time.time()
        with _Transaction(self._database) as database:
            row = database.execute("SELECT holder, expires FROM locks WHERE name=?", (name,)).fetchone()
            if row and row[0] != holder and row[1] > now:
                return False
            database.execute("INSERT OR REPLACE INTO locks VALUES (?, ?, ?, ?)", (name, holder, now, now + float(ttl)))
            return True

    def lock(self, name: str, holder: str, ttl: float = 300) -> bool:
        """try_lock, or a StateError that names the holder and the time left."""
        if self.try_lock(name, holder, ttl):
            return True
        row = self._database.execute("SELECT holder, expires FROM locks WHERE name=?", (name,)).fetchone()
        left = max(0.0, row[1] - time.time()) if row else 0.0
        raise StateError(
            f"the lock {name} is held by {row[0] if row else '?'} for another {left:.0f} seconds",
            hint=f"sloth-runner state unlock {name}",
        )

    def unlock(self, name: str, holder: str) -> bool:
        """Give a lock back; False when it was not held. Raises StateError when another holder has it."""
        with _Transaction(self._database) as database:
            row = database.execute("SELECT holder, expires FROM locks WHERE name=?", (name,)).fetchone()
            if row is None or row[1] <= time.time():
                return False
            if row[0] != holder:
                raise StateError(f"the lock {name} is held by {row[0]}, not by {holder}")
            database.execute("DELETE FROM locks WHERE name=?", (name,))
            return True

    def break_lock(self, name: str) -> str | None:
        """Take a lock from whoever holds it; return the holder, None when nobody did."""
        with _Transaction(self._database) as database:
            row = database.execute("SELECT holder FROM locks WHERE name=?", (name,)).fetchone()
            database.execute("DELETE FROM locks WHERE name=?", (name,))
            return str(row[0]) if row else None

    def locks(self) -> Rows:
        """The locks that are held: name, holder, taken, expires."""
        rows = self._database.execute(
            "SELECT name, holder, taken, expires FROM locks WHERE expires>? ORDER BY name", (time.time(),)
        )
        return [dict(zip(("name", "holder", "taken", "expires"), row, strict=True)) for row in rows]
