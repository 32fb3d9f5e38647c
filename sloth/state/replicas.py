"""The controller's copies of hosts' state files: how one takes over what its host has changed, and what others lack.

A replica is always the state of its host as of one sequence number. It remembers the keys that were removed from it,
and from which number on (its floor): so what lies between two numbers can be told from it, a delta for a backend.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from sloth.errors import StateError
from sloth.frozen import frozen
from sloth.payload.kernel.errors import StoreError
from sloth.payload.kernel.record import ReplicaChange, ReplicaPosition
from sloth.payload.state.store import Store

if TYPE_CHECKING:
    from sloth.payload.kernel.values import JsonObject

_FLOOR = "replica_floor"  # in the table `meta`
_INVALID = (StoreError, KeyError, OverflowError, RecursionError, TypeError, ValueError)


@frozen
class Position:
    """Up to where a replica has its host's state: the id of the host's file, and a sequence number."""

    store: str
    seq: int


def absorb(path: Path, change: ReplicaChange, rows: Iterable[JsonObject], since: int | None = None) -> Position | None:
    """Bring a replica up to what changes_since() of its host returned; return where it is now.

    since: the number from which on `change` has all; None: where the replica is. Returns None when the replica lacks
    what is before: it is left alone, and the host must be asked for all of its state. Raises StateError.
    """
    if not change.whole and not path.exists():
        return None
    try:
        replica = Store(str(path))
        try:
            return _absorb(replica, change, rows, since)
        except BaseException:
            replica.abandon()
            raise
        finally:
            replica.close()
    except _INVALID as error:
        raise StateError(f"cannot write the replica {path}: {error}") from error


def _absorb(replica: Store, change: ReplicaChange, rows: Iterable[JsonObject], since: int | None) -> Position | None:
    replica.write("UPDATE meta SET value=value WHERE name='seq'")  # from here on no other process writes it
    own, seq = replica.meta("id"), int(replica.meta("seq") or 0)
    if not change.whole:
        if own != change.id or (since is not None and since > seq):
            return None
        if change.seq <= seq:  # another run was faster; what is older must not replace what is newer
            return Position(change.id, seq)
    else:
        replica.write("DELETE FROM resources")
        replica.write("DELETE FROM tombstones")
        replica.set_meta(_FLOOR, str(change.seq))
    for row in rows:
        replica.records.put_row(row)
    for key in change.removed:
        replica.write("DELETE FROM resources WHERE key=?", (key,))
        replica.write("INSERT OR REPLACE INTO tombstones VALUES (?, ?)", (key, change.seq))
    if replica.meta(_FLOOR) is None:  # from a version that remembered no removals
        replica.set_meta(_FLOOR, str(change.seq))
    replica.set_meta("id", change.id)
    replica.set_meta("seq", str(change.seq))
    replica.commit()
    return Position(change.id, change.seq)


@frozen
class Lacking:
    """What a copy lacks of a replica. `change` is None when that is nothing."""

    position: Position
    change: ReplicaChange | None


def lacking(path: Path, store: str, other: Position | None, whole: bool = False) -> Lacking | None:
    """Return what a copy at `other` (None: an empty one) lacks of a replica; None if it is not of the file `store`.

    whole: return all of it. It is all of it, too, where the copy is of another file, or is too old. Raises StateError.
    """
    if not path.exists():
        return None
    try:
        replica = Store(str(path), readonly=True)
        try:
            replica.execute("BEGIN")  # one view of the file, whatever is written meanwhile
            here = Position(replica.meta("id") or "", int(replica.meta("seq") or 0))
            if here.store != store:
                return None
            floor = replica.meta(_FLOOR)
            if other is not None and other.store == store and not whole:
                if other.seq >= here.seq:
                    return Lacking(here, None)
                if floor is not None and other.seq >= int(floor):
                    return Lacking(here, replica.changes_since(ReplicaPosition(id=store, seq=other.seq)))
            return Lacking(here, replica.changes_since(None))
        finally:
            replica.close()
    except _INVALID as error:
        raise StateError(f"cannot read the replica {path}: {error}") from error
