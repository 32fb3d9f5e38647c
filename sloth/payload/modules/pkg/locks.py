"""Wait until no other process has locked the package database, and name the process that has."""

import fcntl
import os
import struct
import time

from sloth.payload.kernel.resource import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterable

    from sloth.payload.lib.host import Host

TICK = 0.2  # seconds between looks at a lock
NOTABLE = 2.0  # seconds of waiting from which on there is a warning
_FLOCK = "@hhqqi0q"  # struct flock as a Python with large files passes it: type, whence, start, length, pid


def holder(path: "str") -> "int | None":
    """Return the pid that holds a POSIX lock on `path` (0: in another container), or None when it is not locked.

    It uses F_GETLK: taking the lock to find out could make the command of another process fail.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        question = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, question))
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return None if kind == fcntl.F_UNLCK else max(0, int(pid))


def opener(path: "str") -> "int | None":
    """Return a pid that has `path` open, or None: for a lock that consists in the existence of a file."""
    for pid in os.listdir("/proc"):
        if not pid.isdigit() or int(pid) == os.getpid():
            continue
        try:
            for descriptor in os.listdir("/proc/%s/fd" % pid):
                if os.readlink("/proc/%s/fd/%s" % (pid, descriptor)) == path:
                    return int(pid)
        except OSError:
            continue
    return None


def process(pid: "int") -> "str":
    """Return the name and number of the process `pid`."""
    if not pid:
        return "a process that cannot be seen from here"
    try:
        with open("/proc/%d/comm" % pid, encoding="utf-8", errors="replace") as file:
            return "%s (pid %d)" % (file.read().strip(), pid)
    except OSError:
        return "pid %d" % pid


def locked(path: "str", who: "str", seconds: "float") -> "Failed":
    """Return the error for a `path` that stayed locked; who: what process() returned, or ""."""
    return Failed(
        "%s is still locked%s after %g seconds" % (path, " by " + who if who else "", seconds),
        hint="wait until that process has ended, or give a longer lock_timeout",
    )


class Patience(object):
    """One deadline for all the locks that a command needs."""

    def __init__(self, host: "Host", seconds: "float") -> "None":
        self._host = host
        self._seconds = seconds
        self._begin = time.monotonic()

    def left(self) -> "float":
        """Return the seconds that are left."""
        return max(0.0, self._begin + self._seconds - time.monotonic())

    def wait(self, paths: "Iterable[str]", exists: "bool" = False) -> "None":
        """Return when none of `paths` is locked (exists: when none exists); raise Failed when time is up."""
        begin = time.monotonic()
        name = ""
        for path in paths:
            while True:
                if not (os.path.lexists(path) if exists else holder(path) is not None):
                    break
                pid = opener(path) if exists else holder(path)
                name = process(pid) if pid is not None else name
                self.pause(path, name)
        if time.monotonic() - begin > NOTABLE:
            self._host.warn("waited %.0f s for the package database%s" % (time.monotonic() - begin, _held(name)))

    def pause(self, path: "str", name: "str" = "") -> "None":
        """Wait a moment before the next try; raise Failed when no time is left, or the run was cancelled."""
        if self._host.link.cancelled():
            raise Failed("the run was cancelled while %s was locked%s" % (path, " by " + name if name else ""))
        if self.left() == 0:
            raise locked(path, name, self._seconds)
        time.sleep(min(TICK, self.left()))


def _held(name: "str") -> "str":
    return ", which was locked by " + name if name else ""
