"""The shared values and locks of Lua's `state` table, in SQLite: every run of this controller sees the same ones."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sloth.errors import StateError
from sloth.frozen import frozen
from sloth.payload.kernel.redact import MASK
from sloth.state.database import BUSY_SECONDS, Database, Transaction, open_database, sloth_home

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json

MIGRATIONS = (
    (
        "CREATE TABLE shared (name TEXT PRIMARY KEY, value TEXT NOT NULL, expires REAL)",
        "CREATE TABLE locks (name TEXT PRIMARY KEY, holder TEXT NOT NULL, taken REAL NOT NULL, expires REAL NOT NULL)",
    ),
)
TTL = 300.0  # seconds for which a lock is held unless its holder says otherwise


SEALED = "sealed "  # what the text of an encrypted value begins with


class Sealer(Protocol):
    """Encrypts the values that need it."""

    def seal(self, name: str, value: Json) -> str | None:
        """Return the text to store, which begins with SEALED; None for a value that need not be encrypted."""

    def open(self, name: str, text: str) -> Json:
        """Return the value of such a text. Raises StateError."""

    def check_name(self, name: str) -> None:
        """Raise StateError when a name, or a lock's holder, may not be stored as it is."""


class _Kind(StrEnum):
    """What an argument must be; the value is what an error says."""

    ANY = "plain data"
    STRING = "a string"
    NUMBER = "a number"
    SECONDS = "a number of seconds"
    OPTIONS = "a table such as {ttl = 60}"

    def accepts(self, value: object) -> bool:
        if self is _Kind.STRING:
            return isinstance(value, str)
        if self is _Kind.OPTIONS:
            return isinstance(value, (dict, list))
        if self in (_Kind.NUMBER, _Kind.SECONDS):
            return isinstance(value, (int, float)) and not isinstance(value, bool)
        return True


@frozen
class _Parameter:
    """A parameter of an operation; `default` is Lua text for its usage line, "" where a value is required."""

    name: str
    kind: _Kind = _Kind.ANY
    default: str = ""
    is_null_kept: bool = False  # whether nil is passed on, rather than left to the default

    def __str__(self) -> str:
        return f"{self.name} = {self.default}" if self.default else self.name


_NAME = _Parameter("name", _Kind.STRING)
_HOLDER = _Parameter("holder", _Kind.STRING)
_TTL = _Parameter("ttl", _Kind.SECONDS, f"{TTL:.0f}")
_OPTIONS = _Parameter("options", _Kind.OPTIONS, "{ttl = seconds}", is_null_kept=True)
# The operations of Lua's `state` that are methods of Shared.
_OPERATIONS: dict[str, tuple[_Parameter, ...]] = {
    "get": (_NAME, _Parameter("default", default="nil")),
    "set": (_NAME, _Parameter("value"), _OPTIONS),
    "cas": (_NAME, _Parameter("expected"), _Parameter("value"), _OPTIONS),
    "delete": (_NAME,),
    "list": (_Parameter("prefix", _Kind.STRING, '""'),),
    "incr": (_NAME, _Parameter("by", _Kind.NUMBER, "1")),
    "lock": (_NAME, _HOLDER, _TTL),
    "try_lock": (_NAME, _HOLDER, _TTL),
    "unlock": (_NAME, _HOLDER),
}


@frozen
class Lock:
    """A lock that is held. Times are epoch seconds."""

    name: str
    holder: str
    taken: float
    expires: float


Locks = list[Lock]  # inside the class, `list` is an operation
Names = list[str]


class Shared:
    """Shared values, which are any plain data, and shared locks. Once expired, either counts as absent."""

    def __init__(self, path: Path | None = None) -> None:
        """Open nothing yet: most runs share nothing."""
        self._path = path or sloth_home() / "shared.db"
        self._opened: Database | None = None
        self.sealer: Sealer | None = None  # of a run; people are not shown what is sealed
        self._patience = BUSY_SECONDS

    @property
    def _database(self) -> Database:
        if self._opened is None:
            self._opened = open_database(self._path, MIGRATIONS, self._patience)
        return self._opened

    def do_not_block(self) -> None:
        """Raise StateBusy at once when another process holds the file: the caller tries again by itself."""
        self._patience = 0.0
        if self._opened is not None:
            self._opened.patience = 0.0

    def call(self, op: str, args: Sequence[Json]) -> Json:
        """Perform the operation `op` of Lua's `state` table. Raises StateError, also for invalid arguments."""
        if op == "holder":
            return secrets.token_hex(16)
        parameters = _OPERATIONS.get(op)
        if parameters is None:
            raise StateError(f"unknown function state.{op}")
        usage = f"state.{op}({', '.join(map(str, parameters))})"
        required = sum(not parameter.default for parameter in parameters)
        if not required <= len(args) <= len(parameters):
            raise StateError(f"state.{op}: invalid number of arguments: {len(args)}", hint=usage)
        given: list[Json] = []
        for parameter, value in zip(parameters, args, strict=False):
            if value is None and parameter.default:
                if parameter.is_null_kept:
                    given.append(value)
                continue
            if not parameter.kind.accepts(value):
                raise StateError(f"state.{op}: {parameter.name} must be {parameter.kind.value}", hint=usage)
            given.append(value)
        method: Callable[..., Json] = getattr(self, op)
        return method(*given)

    # Values

    def get(self, name: str, default: Json = None) -> Json:
        row = self._database.execute(
            "SELECT value FROM shared WHERE name=? AND (expires IS NULL OR expires>?)", (name, time.time())
        ).fetchone()
        return self._value(name, row[0]) if row else default

    def _value(self, name: str, text: str) -> Json:
        if not text.startswith(SEALED):
            value: Json = json.loads(text)
            return value
        return MASK if self.sealer is None else self.sealer.open(name, text)

    def _text(self, name: str, value: Json) -> str:
        sealed = self.sealer.seal(name, value) if self.sealer is not None else None
        return json.dumps(value) if sealed is None else sealed

    def set(self, name: str, value: Json, options: Json = None) -> Json:
        """Set a value and return it; None deletes it. options: {"ttl": seconds}."""
        if value is None:
            self.delete(name)
            return None
        ttl = options.get("ttl") if isinstance(options, dict) else None
        if ttl is not None and not _Kind.SECONDS.accepts(ttl):
            raise StateError(
                f"the ttl of {name} must be a number of seconds", hint='state.set("name", value, {ttl = 60})'
            )
        expires = None if ttl is None else time.time() + ttl
        self._database.execute(
            "INSERT OR REPLACE INTO shared VALUES (?, ?, ?)", (name, self._text(name, value), expires)
        )
        return value

    def cas(self, name: str, expected: Json, value: Json, options: Json = None) -> bool:
        """Set a value if it equals `expected` (None: there is none), atomically; return whether it was set."""
        with Transaction(self._database):
            if self.get(name) != expected:
                return False
            self.set(name, value, options)
            return True

    def delete(self, name: str) -> bool:
        """Delete a value; return whether there was one."""
        return bool(self._database.execute("DELETE FROM shared WHERE name=?", (name,)).rowcount)

    def list(self, prefix: str = "") -> Names:
        """Return the names of all values that begin with `prefix`, sorted."""
        rows = self._database.execute(
            "SELECT name FROM shared WHERE expires IS NULL OR expires>? ORDER BY name", (time.time(),)
        )
        return [row[0] for row in rows if row[0].startswith(prefix)]

    def incr(self, name: str, by: float = 1) -> float:
        """Add `by` to a number (0 if there is none), atomically; return the sum. Raises StateError."""
        with Transaction(self._database):
            value = self.get(name, 0)
            if not _Kind.NUMBER.accepts(value):
                raise StateError(f"state.incr: {name} is not a number")
            total: float = value + by
            self.set(name, total)
            return total

    # Locks

    def try_lock(self, name: str, holder: str, ttl: float = TTL) -> bool:
        """Take or renew a lock for `ttl` seconds; return False if another holder has it."""
        for text in (name, holder):
            if self.sealer is not None:
                self.sealer.check_name(text)
        now = time.time()
        with Transaction(self._database) as database:
            # The clock was set back since a lock was taken: from now on it holds as long as it was to hold then.
            database.execute("UPDATE locks SET expires=?+expires-taken, taken=? WHERE taken>?", (now, now, now))
            row = database.execute("SELECT holder, expires FROM locks WHERE name=?", (name,)).fetchone()
            if row and row[0] != holder and row[1] > now:
                return False
            database.execute("INSERT OR REPLACE INTO locks VALUES (?, ?, ?, ?)", (name, holder, now, now + float(ttl)))
            return True

    def lock(self, name: str, holder: str, ttl: float = TTL) -> bool:
        """Take or renew a lock. Raises StateError, with the holder and the time left, if another holder has it."""
        if self.try_lock(name, holder, ttl):
            return True
        row = self._database.execute("SELECT holder, expires FROM locks WHERE name=?", (name,)).fetchone()
        left = max(0.0, row[1] - time.time()) if row else 0.0
        raise StateError(
            f"the lock {name} is held by {row[0] if row else '?'} for another {left:.0f} seconds",
            hint=f"sloth-runner state unlock {name}",
        )

    def unlock(self, name: str, holder: str) -> bool:
        """Release a lock; return whether it was held. Raises StateError if another holder has it."""
        with Transaction(self._database) as database:
            row = database.execute("SELECT holder, expires FROM locks WHERE name=?", (name,)).fetchone()
            if row is None or row[1] <= time.time():
                return False
            if row[0] != holder:
                raise StateError(f"the lock {name} is held by {row[0]}, not by {holder}")
            database.execute("DELETE FROM locks WHERE name=?", (name,))
            return True

    def break_lock(self, name: str) -> str | None:
        """Release a lock, whoever holds it; return the holder, or None if it was not held."""
        with Transaction(self._database) as database:
            row = database.execute("SELECT holder FROM locks WHERE name=?", (name,)).fetchone()
            database.execute("DELETE FROM locks WHERE name=?", (name,))
            return str(row[0]) if row else None

    def locks(self) -> Locks:
        """Return the locks that are held, sorted by name."""
        rows = self._database.execute(
            "SELECT name, holder, taken, expires FROM locks WHERE expires>? ORDER BY name", (time.time(),)
        )
        return [Lock(*row) for row in rows]
