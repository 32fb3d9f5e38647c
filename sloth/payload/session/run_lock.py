"""The lock that lets only one run at a time change a host: a file lock, which ends with the process that has it."""

import errno
import fcntl
import json
import os
import time

from sloth.payload.kernel.errors import Locked, StoreError
from sloth.payload.kernel.value import InvalidValue
from sloth.payload.session.messages import LockHolder
from sloth.payload.state.database import make_private_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

POLL = 0.1  # seconds between two attempts


class HeldByOther(Locked):
    """Another run holds the host and did not end in time."""

    def __init__(self, holder: "LockHolder") -> "None":
        Locked.__init__(self, "the host is locked by another run")
        self.holder = holder


class RunLock(object):
    """The lock of one account on one host: `<sloth directory>/run.lock`."""

    def __init__(self, directory: "str") -> "None":
        make_private_directory(directory)
        self.path = os.path.join(directory, "run.lock")
        self._file: "int | None" = None

    def acquire(
        self,
        holder: "LockHolder",
        wait: "float",
        on_wait: "Callable[[LockHolder], None]",
        is_cancelled: "Callable[[], bool]",
    ) -> "None":
        """Take the lock for `holder`, trying for `wait` seconds. Raises HeldByOther, StoreError.

        on_wait(other) is called once when another run has the lock; is_cancelled() ends the waiting. If this same run
        has it (in another session, on this account), it need not be taken.
        """
        try:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StoreError("the lock file %s cannot be opened: %s" % (self.path, error.strerror))
        end = time.monotonic() + wait
        is_reported = False
        while not self._try(file):
            other = _read(file)
            if other.run and other.run == holder.run:
                os.close(file)
                return
            if time.monotonic() >= end or is_cancelled():
                os.close(file)
                raise HeldByOther(other)
            if not is_reported:
                is_reported = True
                on_wait(other)
            time.sleep(POLL)
        self._file = file
        note = json.dumps(holder.replace(pid=os.getpid(), since=int(time.time())).plain()).encode("ascii")
        os.ftruncate(file, 0)
        os.pwrite(file, note, 0)

    def _try(self, file: "int") -> "bool":
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return False
            os.close(file)
            raise StoreError("the lock file %s cannot be locked: %s" % (self.path, error.strerror))

    def release(self) -> "None":
        """Give the lock back, if it was taken."""
        if self._file is not None:
            os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = None


def _read(file: "int") -> "LockHolder":
    # The holder writes it after it has the lock, so it may be empty, or still name the one before.
    try:
        return LockHolder.read(json.loads(os.pread(file, 4096, 0).decode("ascii")))
    except (ValueError, RecursionError, InvalidValue):
        return LockHolder()
