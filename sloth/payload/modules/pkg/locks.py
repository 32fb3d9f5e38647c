"""Package databases are locked while somebody changes them: waits for such a lock, and says who has it."""

import errno
import fcntl
import os
import struct
import time

from sloth.payload.kernel.resource import Failed

TICK = 0.2  # seconds between looks at a lock
TOLD = 2.0  # seconds of waiting that are worth telling
_FLOCK = "@hhqqi0q"  # struct flock as a Python with large files passes it: type, whence, start, length, pid


def holder(path):
    """Return the pid that holds a POSIX lock on `path` (0: one that we cannot see), or None when nobody does.

    It only asks (F_GETLK): taking the lock to find out could make somebody else's command fail.
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
    return None if kind == fcntl.F_UNLCK else max(0, pid)


def opener(path):
    """Return a pid that has `path` open, or None: for locks that are no POSIX locks, or a file that is just there."""
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


def process(pid):
    """What people call the process `pid`: its name and number."""
    if not pid:
        return "a process that cannot be seen from here"
    try:
        with open("/proc/%d/comm" % pid, encoding="utf-8", errors="replace") as file:
            return "%s (pid %d)" % (file.read().strip(), pid)
    except OSError:
        return "pid %d" % pid


def locked(path, who, seconds):
    """The Failed that says that `path` stayed locked; who: text of process(), or ""."""
    return Failed(
        "%s is locked%s, and was for all the %g seconds that we waited" % (path, " by " + who if who else "", seconds),
        hint="wait until it has ended, or give a longer lock_timeout",
    )


class Patience(object):
    """One deadline for all the locks that a command needs."""

    def __init__(self, host, seconds):
        self._host = host
        self._seconds = seconds
        self._begin = time.monotonic()

    def left(self):
        return max(0.0, self._begin + self._seconds - time.monotonic())

    def wait(self, paths, exists=False):
        """Return when nobody holds a lock on any of `paths` (exists: when none is there); raise Failed at the end."""
        begin = time.monotonic()
        name = ""
        for path in paths:
            while True:
                if not (os.path.lexists(path) if exists else holder(path) is not None):
                    break
                pid = opener(path) if exists else holder(path)
                name = process(pid) if pid is not None else name
                self.pause(path, name)
        if time.monotonic() - begin > TOLD:
            self._host.warn("waited %.0f s for the package database%s" % (time.monotonic() - begin, _held(name)))

    def pause(self, path, name=""):
        """Let a moment pass before the next try; raise Failed when there is no time left, or the run was cancelled."""
        link = self._host.link
        if link is not None and link.cancelled():
            raise Failed("the run was cancelled while %s was locked%s" % (path, " by " + name if name else ""))
        if self.left() == 0:
            raise locked(path, name, self._seconds)
        time.sleep(min(TICK, self.left()))


def _held(name):
    return ", which was locked by " + name if name else ""


def newest(paths):
    """The latest mtime among `paths` (float, epoch seconds), or 0.0 when none is there."""
    times = [0.0]
    for path in paths:
        try:
            times.append(os.stat(path).st_mtime)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
                raise
    return max(times)
