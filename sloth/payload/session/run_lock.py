"""One run at a time may change a host: the kernel's own file lock, which falls with the process that holds it."""

import errno
import fcntl
import json
import os
import time

from sloth.payload.kernel.errors import StoreError
from sloth.payload.state.database import make_private_directory

POLL = 0.1  # seconds between two tries


class Locked(Exception):
    """Another run holds the host and did not end in time; the text says who and since when."""


class RunLock(object):
    """The lock of one account on one host: `<sloth directory>/run.lock`."""

    def __init__(self, directory):
        make_private_directory(directory)
        self.path = os.path.join(directory, "run.lock")
        self._file = None

    def acquire(self, holder, wait, on_wait, gone):
        """Take the lock for `holder` (dict: run, who, origin), trying for `wait` seconds.

        on_wait(text) is called once when somebody else has it; gone() ends the waiting. A lock that our own run
        holds (another session of it on this account) is no obstacle. Raises Locked, StoreError.
        """
        try:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StoreError("the lock file %s cannot be opened: %s" % (self.path, error.strerror))
        end = time.monotonic() + wait
        told = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    os.close(file)
                    raise StoreError("the lock file %s cannot be locked: %s" % (self.path, error.strerror))
            other = _read(file)
            if other.get("run") and other.get("run") == holder["run"]:
                os.close(file)
                return
            if time.monotonic() >= end or gone():
                os.close(file)
                raise Locked(_describe(other))
            if not told:
                told = True
                on_wait(_describe(other))
            time.sleep(POLL)
        self._file = file
        note = json.dumps(dict(holder, pid=os.getpid(), since=int(time.time()))).encode("ascii")
        os.ftruncate(file, 0)
        os.pwrite(file, note, 0)

    def release(self):
        if self._file is not None:
            os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = None


def _read(file):
    try:
        return json.loads(os.pread(file, 4096, 0).decode("ascii"))
    except ValueError:
        return {}


def _describe(holder):
    if not holder:
        return "another run"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder.get("since", 0)))
    return "%s from %s (run %s, process %s) since %s" % (
        holder.get("who", "?"),
        holder.get("origin", "?"),
        holder.get("run", "?"),
        holder.get("pid", "?"),
        since,
    )
