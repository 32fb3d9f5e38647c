"""The changes of a task that must be confirmed: what is noted of them, and the one decision about them.

What is noted lies in a directory of the account, so that it survives the session and its process: the watchdog
(watchdog.py) and later sessions read it. Whoever removes `pending.json` under the lock has decided: it is confirmed
then, or taken back.
"""

import fcntl
import os
import signal
import time

from sloth.payload.kernel import plain_json
from sloth.payload.kernel.errors import StoreError
from sloth.payload.kernel.status import Word
from sloth.payload.kernel.value import InvalidValue, Value, uses_words
from sloth.payload.lib.boot import boot_identity, process_start
from sloth.payload.state.database import make_private_directory, unusable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from sloth.payload.kernel.values import JsonObject

DIRECTORY = "confirm"
PENDING = "pending.json"
BEAT = 0.2  # seconds between two notes that the controller was heard


class Phase(Word):
    """How far a task is whose changes must be confirmed."""

    WORKING = "working"  # its changes are being made, while the controller is heard
    WAITING = "waiting"  # they are made; a new connection must confirm them in time
    REVERTING = "reverting"  # they are being taken back


uses_words(Phase)


class PlannedCall(Value):
    """A call of a handler, which is made again after its changes were taken back."""

    handler: "str"
    name: "str"
    args: "JsonObject" = {}


class Pending(Value):
    """A task whose changes must be confirmed.

    deadline: by the monotonic clock of the boot `boot`, with WAITING; tasks: the task and its handlers; keep: handlers
    that other tasks want, too; claimant, claimed: the process that takes the changes back, and when it began.
    """

    run: "str"
    agent: "str"
    task: "str"
    seconds: "float"
    site: "str" = ""
    who: "str" = ""
    origin: "str" = ""
    tasks: "list[str]" = []
    handlers: "list[PlannedCall]" = []
    keep: "list[str]" = []
    phase: "Phase" = Phase.WORKING
    deadline: "float" = 0.0
    boot: "str" = ""
    pid: "int" = 0
    started: "str" = ""  # when the process `pid` began: its number may be another's by now
    claimant: "int" = 0
    claimed: "str" = ""
    why: "str" = ""
    since: "int" = 0  # epoch seconds


class Confirmation(object):
    """The one task of an account whose changes may wait for a confirmation."""

    def __init__(self, directory: "str") -> "None":
        """directory: that of the account (Host.directory)."""
        self.account = directory
        self.directory = os.path.join(directory, DIRECTORY)
        self._heard = 0.0

    def _path(self, name: "str") -> "str":
        return os.path.join(self.directory, name)

    # What is noted

    def read(self) -> "Pending | None":
        """Return what must be confirmed, None when there is nothing. Raises StoreError when the note is damaged."""
        try:
            with open(self._path(PENDING), "rb") as file:
                return Pending.read(plain_json.loads(file.read().decode("utf-8")))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, InvalidValue) as error:
            raise StoreError(
                "the note %s about changes that must be confirmed cannot be read: %s" % (self._path(PENDING), error),
                hint="look at what the run has changed, and remove the file",
            )

    def write(self, pending: "Pending") -> "None":
        """Write the note durably. Raises StoreError."""
        make_private_directory(self.directory)
        _write(self._path(PENDING), pending.plain())

    def heard(self) -> "None":
        """Note that the controller was heard; the channel's thread calls it."""
        now = time.monotonic()
        if now - self._heard < BEAT:
            return
        self._heard = now
        try:
            file = os.open(self._path("beat"), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.pwrite(file, b"%020.6f" % now, 0)
            finally:
                os.close(file)
        except OSError:  # then time passes as if it was not heard
            pass

    def last_heard(self) -> "float":
        """Return when the controller was heard last, by the monotonic clock."""
        try:
            with open(self._path("beat"), "rb") as file:
                return float(file.read(20))
        except (OSError, ValueError):
            return 0.0

    def seconds_left(self, pending: "Pending", begun: "float") -> "float":
        """Return how many seconds are left; begun: when this process began to watch, by the monotonic clock."""
        now = time.monotonic()
        if pending.boot != boot_identity():
            return begun + pending.seconds - now
        if pending.phase is Phase.WAITING:
            return pending.deadline - now
        return self.last_heard() + pending.seconds - now

    # The decision

    def lock(self) -> "_Lock":
        """Return the lock under which the note is read and changed; for `with`."""
        return _Lock(self._path("lock"))

    def hold(self, run: "str") -> "float":
        """Let the time for the confirmation begin; return how many seconds it is. Raises StoreError."""
        with self.lock():
            pending = self._own(run)
            self.write(
                pending.replace(phase=Phase.WAITING, deadline=time.monotonic() + pending.seconds, boot=boot_identity())
            )
            return pending.seconds

    def confirm(self, run: "str") -> "None":
        """Let the changes of the run be; from now on nobody takes them back. Raises StoreError when it is too late."""
        with self.lock():
            self._own(run)
            self.remove()

    def _own(self, run: "str") -> "Pending":
        pending = self.read()
        if pending is None or pending.run != run:
            raise StoreError("the changes were taken back already, or there are none to confirm")
        if pending.phase is Phase.REVERTING:
            raise StoreError("the host takes the changes back: %s" % pending.why)
        return pending

    def claim(self, why: "str") -> "Pending | None":
        """Decide that the changes are taken back, by this process; None when that is decided otherwise already."""
        with self.lock():
            pending = self.read()
            if pending is None:
                return None
            if pending.phase is Phase.REVERTING:
                if is_running(pending.claimant, pending.claimed):
                    return None
                why = pending.why
            pid = os.getpid()
            pending = pending.replace(phase=Phase.REVERTING, why=why, claimant=pid, claimed=process_start(pid))
            self.write(pending)
            return pending

    def remove(self) -> "None":
        """Remove the note, and what starts the watchdog when the host boots."""
        from sloth.payload.session.launch import forget_boot_unit

        os.unlink(self._path(PENDING))
        _sync(self.directory)
        forget_boot_unit()
        for name in ("beat", "pids"):
            try:
                os.unlink(self._path(name))
            except OSError:
                pass

    # Processes

    def join(self) -> "None":
        """Note that this process is a session of the run whose changes must be confirmed."""
        try:
            with open(self._path("pids"), "a", encoding="ascii") as file:
                file.write("%d %s\n" % (os.getpid(), process_start(os.getpid())))
        except OSError:
            pass

    def sessions(self) -> "list[tuple[int, str]]":
        """Return the processes that have joined, and when each began."""
        try:
            with open(self._path("pids"), encoding="ascii") as file:
                words = [line.split() for line in file.read().splitlines()]
        except OSError:
            return []
        return [(int(pair[0]), pair[1]) for pair in words if len(pair) == 2 and pair[0].isdigit()]

    def watch(self, wait: "bool" = False) -> "int | None":
        """Take the lock that shows that a watchdog lives; None when another one has it, unless it is waited for."""
        make_private_directory(self.directory)
        file = os.open(self._path("alive"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except OSError:
            os.close(file)
            return None

    def is_watched(self) -> "bool":
        """Return whether a watchdog lives."""
        try:
            file = self.watch()
        except (OSError, StoreError):
            return False
        if file is None:
            return True
        os.close(file)
        return False

    # What the next session reports

    def report(self, pending: "Pending", rows: "list[JsonObject]", error: "str" = "") -> "None":
        """Leave for the next session what was taken back, and why."""
        old = self.reports()
        new = {"run": pending.run, "task": pending.task, "why": pending.why, "at": int(time.time()), "error": error,
               "rows": rows}  # fmt: skip
        _write(self._path("reverted.json"), {"reports": [*old, new]})

    def reports(self) -> "list[JsonObject]":
        """Return what was taken back and not yet reported."""
        try:
            with open(self._path("reverted.json"), "rb") as file:
                found: "list[JsonObject]" = plain_json.loads(file.read().decode("utf-8"))["reports"]
                return found
        except (OSError, ValueError, KeyError, TypeError):
            return []

    def forget_reports(self) -> "None":
        try:
            os.unlink(self._path("reverted.json"))
        except OSError:
            pass


class _Lock(object):
    def __init__(self, path: "str") -> "None":
        self._path = path
        self._file = -1

    def __enter__(self) -> "None":
        make_private_directory(os.path.dirname(self._path))
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise unusable("the lock file %s cannot be opened" % self._path, error)
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None"
    ) -> "None":
        os.close(self._file)


def is_running(pid: "int", started: "str") -> "bool":
    """Return whether the process `pid` still runs, and began when `started` states."""
    return pid > 0 and bool(started) and process_start(pid) == started


def end_process(pid: "int", started: "str", wait: "float") -> "None":
    """Let a session end as it does without a controller; kill it when it has not ended after `wait` seconds."""
    end = time.monotonic() + wait
    for number in (signal.SIGTERM, signal.SIGKILL):
        if not is_running(pid, started):
            return
        try:
            os.kill(pid, number)
        except OSError:
            return
        while is_running(pid, started) and time.monotonic() < end:
            time.sleep(0.05)
        end = time.monotonic() + wait


def _write(path: "str", data: "JsonObject") -> "None":
    """Replace a file by one that is whole, and durable. Raises StoreError."""
    new = path + ".new"
    try:
        file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            view = memoryview(plain_json.dumps(data).encode("utf-8"))
            while view:
                view = view[os.write(file, view) :]
            os.fsync(file)
        finally:
            os.close(file)
        os.rename(new, path)
        _sync(os.path.dirname(path))
    except OSError as error:
        raise unusable("the file %s cannot be written" % path, error)


def _sync(directory: "str") -> "None":
    file = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
