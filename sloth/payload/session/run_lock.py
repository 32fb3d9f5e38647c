"""The lock that lets only one run at a time change a host: a file lock, which ends with the process that has it."""

import errno
import fcntl
import os
import stat
import time

from sloth.payload.kernel import plain_json
from sloth.payload.kernel.errors import Locked, StoreError
from sloth.payload.kernel.value import InvalidValue
from sloth.payload.session.messages import LockHolder
from sloth.payload.state.database import make_private_directory, unusable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

POLL = 0.1  # seconds between two attempts
PREDECESSOR = 30.0  # seconds that a session of the same run has to end after its link was lost


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
        self._is_first = False

    def acquire(
        self,
        holder: "LockHolder",
        wait: "float",
        on_wait: "Callable[[LockHolder], None]",
        is_cancelled: "Callable[[], bool]",
    ) -> "None":
        """Take the lock for `holder`, trying for `wait` seconds. Raises HeldByOther, StoreError.

        on_wait(other) is called once when another run has the lock; is_cancelled() ends the waiting. Sessions of one
        run on one account have it together. Those over a link that was lost meanwhile are asked to end, and waited for:
        they may not have noticed, and still be at work.
        """
        file = self._open()
        end = time.monotonic() + max(wait, POLL)  # who has just taken it has a moment to say who that is
        is_reported = is_asked = False
        while not self._take(file, holder):
            other = _read(file)
            if not is_asked and other.run and other.run == holder.run:
                is_asked = True
                end = max(end, time.monotonic() + PREDECESSOR)
                if other.link < holder.link:  # not a sibling that has just begun, whose note came since _take() looked
                    _ask_to_end(other)
            if time.monotonic() >= end or is_cancelled():
                os.close(file)
                raise HeldByOther(other)
            if not is_reported and (wait or is_asked):
                is_reported = True
                on_wait(other)
            time.sleep(POLL)
        self._file = file

    def _take(self, file: "int", holder: "LockHolder") -> "bool":
        """Take the lock alone, or share it with other sessions of the run; return whether that worked."""
        if self._try(file, fcntl.LOCK_EX):
            self._write_note(file, holder)
            # From now on it is shared, so that further sessions of this run can have it until the last of them ends.
            self._is_first = self._try(file, fcntl.LOCK_SH)
            return self._is_first
        if not _is_sibling(_read(file), holder) or not self._try(file, fcntl.LOCK_SH):
            return False
        if _is_sibling(_read(file), holder):
            return True
        fcntl.flock(file, fcntl.LOCK_UN)  # it changed hands between the two looks
        return False

    def _write_note(self, file: "int", holder: "LockHolder") -> "None":
        note = plain_json.dumps(holder.replace(pid=os.getpid(), since=int(time.time())).plain()).encode("ascii")
        try:
            os.ftruncate(file, 0)
            os.pwrite(file, note, 0)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise StoreError("the lock file %s cannot be written: %s" % (self.path, error.strerror))
            # The lock holds all the same; others are not shown who has it.

    def _open(self) -> "int":
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            file = os.open(self.path, flags, 0o600)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
                raise self._other_than_file()
            raise unusable("the lock file %s cannot be opened" % self.path, error)
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise self._other_than_file()
        return file

    def _other_than_file(self) -> "StoreError":
        return StoreError(
            "the lock file %s is not a regular file" % self.path, hint="look at what it is, and remove it on the host"
        )

    def _try(self, file: "int", kind: "int") -> "bool":
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return False
            os.close(file)
            raise StoreError("the lock file %s cannot be locked: %s" % (self.path, error.strerror))

    @property
    def is_held(self) -> "bool":
        """Whether this session has the lock itself, and not another one of its run."""
        return self._file is not None and self._is_first

    def release(self) -> "None":
        """Give the lock back, if it was taken."""
        if self._file is not None:
            try:
                if self._try(self._file, fcntl.LOCK_EX):  # else another session of this run goes on
                    os.ftruncate(self._file, 0)
            finally:
                os.close(self._file)
                self._file = None


def find_holder(directory: "str") -> "LockHolder | None":
    """Return who holds the lock of an account, None for nobody. It is not taken for that: a run would have to wait."""
    try:
        file = os.open(os.path.join(directory, "run.lock"), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):  # no run can take it, which is an error of those that try
            return None
        holder, inode = _read(file), found.st_ino
    finally:
        os.close(file)
    if not holder.run:
        return None
    # Whoever was killed has left a note, and so have sessions that ended together. The number of its process says
    # little: the process may be about to end, and after a reboot the number is another's.
    is_locked = _is_locked(inode)
    return holder if is_locked or (is_locked is None and _is_running(holder.pid)) else None


def _is_running(pid: "int") -> "bool":
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno == errno.EPERM
    return pid > 1


def _is_locked(inode: "int") -> "bool | None":
    """Return whether a file is locked, None where the kernel does not say."""
    try:
        with open("/proc/locks") as locks:
            return any(" FLOCK " in line and ":%d " % inode in line for line in locks)
    except OSError:
        return None


def _is_sibling(other: "LockHolder", holder: "LockHolder") -> "bool":
    """Return whether both are sessions of one run over the same link."""
    return bool(other.run) and (other.run, other.link) == (holder.run, holder.link)


def _ask_to_end(other: "LockHolder") -> "None":
    """Let a session end as it does when its controller is lost: it interrupts what it runs, and records what it did."""
    try:
        if other.pid > 1:
            os.kill(other.pid, 15)
    except OSError:  # it has ended, or it is another account's
        pass


def _read(file: "int") -> "LockHolder":
    # The holder writes it after it has the lock, so it may be empty, or still name the one before.
    try:
        return LockHolder.read(plain_json.loads(os.pread(file, 4096, 0).decode("ascii")))
    except (ValueError, RecursionError, InvalidValue):
        return LockHolder()
