"""The index of what can be installed: its age, whether it has changed, and its refresh."""

import os
import time

from sloth.payload.kernel.hashing import sha256
from sloth.payload.modules.pkg import execution

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.modules.pkg.backend import Backend
    from sloth.payload.modules.pkg.options import Options

SMALL = 1024 * 1024  # bytes; an index file up to this size is compared by content


def signature(path: "str") -> "list[int] | None":
    """Return what tells one state of a file from another (inode, size, mtime in ns), or None without a file."""
    try:
        info = os.stat(path)
    except OSError:
        return None
    return [info.st_ino, info.st_size, info.st_mtime_ns]


def fingerprint(backend: "Backend") -> "list[object]":
    """Return a plain value that differs when what the index says differs."""
    found: "list[object]" = []
    for path in sorted(backend.index_files()):
        state: "object" = signature(path)
        if state is not None and os.path.getsize(path) <= SMALL:
            with open(path, "rb") as file:
                state = sha256(file.read()).hexdigest()
        found.append([path, state])
    return found


def age(backend: "Backend") -> "float | None":
    """Return the seconds since the index was refreshed, or None when there is no index."""
    refreshed = _changed_at(backend.path(backend.index))
    return max(0.0, time.time() - refreshed) if refreshed and backend.index_files() else None


def is_fresh(backend: "Backend", valid_time: "int") -> "bool":
    """Return whether the index was refreshed within `valid_time` seconds (0: never fresh), after its sources changed.

    A source that was added, edited, moved in from elsewhere or removed since makes any index stale.
    """
    seconds = age(backend)
    if not valid_time or seconds is None or seconds > valid_time:
        return False
    refreshed = time.time() - seconds
    return all(_changed_at(path) <= refreshed + 0.01 for path in backend.source_files())


def refresh(backend: "Backend", options: "Options") -> "bool":
    """Refresh the index; return whether it has changed."""
    before = fingerprint(backend)
    execution.execute(backend, backend.refresh_commands(options), options, backend.index_locks)
    try:
        os.utime(backend.path(backend.index), None)  # when nothing is new the tools leave no trace of a refresh
    except OSError:
        pass
    return fingerprint(backend) != before


def _changed_at(path: "str") -> "float":
    """Return when the file or directory last changed, in epoch seconds; 0.0 when it does not exist.

    A file that is moved in keeps its old mtime; ctime shows the move. Of a directory only the list of names counts.
    """
    try:
        info = os.stat(path)
    except OSError:
        return 0.0
    return info.st_mtime if os.path.isdir(path) else max(info.st_mtime, info.st_ctime)
