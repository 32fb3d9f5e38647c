"""Runs a command on the host: its output streams to the report, a deadline or a cancelled run ends it."""

import os
import select
import signal
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from subprocess import Popen
    from typing import Mapping, Protocol, Sequence

    class Link(Protocol):
        """What a command needs of the connection to the controller."""

        def cancelled(self) -> "bool": ...

        def output(self, stream: "str", data: "bytes") -> "None": ...


KEEP = 1024 * 1024  # bytes of each of stdout and stderr that are kept for the result
LAST = 16 * 1024  # bytes at their ends that are kept, too: a failure is explained there
GRACE = 5.0  # seconds between SIGTERM and SIGKILL
CANCELLED = 3.0  # the same for a command of a run that was interrupted, or of a task whose time is over
TICK = 0.2  # seconds between looks at whether the run was cancelled


class Completed(object):
    """A command that has ended.

    exit_code: negative when it died of that signal; stdout, stderr: the first KEEP bytes of each; ended: "" when it
    ended by itself, "timeout" or "cancelled" when it was killed; cut: whether it printed more than was kept; last: the
    last lines of stderr, or of stdout when it printed nothing there, as far as they are within its last LAST bytes.
    """

    __slots__ = ("cut", "ended", "exit_code", "last", "stderr", "stdout")

    def __init__(
        self, exit_code: "int", stdout: "bytes", stderr: "bytes", ended: "str", cut: "bool", last: "bytes" = b""
    ) -> "None":
        self.exit_code = exit_code
        self.stdout = stdout
        self.stderr = stderr
        self.ended = ended
        self.cut = cut
        self.last = last


def run(
    argv: "str | Sequence[str | bytes]",
    link: "Link",
    stdin: "bytes | None" = None,
    env: "Mapping[str, str] | None" = None,
    cwd: "str | None" = None,
    timeout: "float | None" = None,
    stream: "bool" = False,
    umask: "int | None" = None,
) -> "Completed":
    """Run `argv` (a list: without a shell; a str: by /bin/sh -c) and return its Completed. Raises OSError.

    stdin: None is empty; env: added to the payload's own; timeout: seconds; stream: send the output to the report as it
    comes. The child leads a process group of its own; on timeout or cancellation the group gets SIGTERM, and SIGKILL
    after GRACE. A background process that keeps the pipes open does not delay the end of the command itself.
    """
    import subprocess

    environment = dict(os.environ)
    environment.update(env or {})

    def prepare() -> "None":
        os.setsid()
        if umask is not None:
            os.umask(umask)

    child = subprocess.Popen(
        argv if not isinstance(argv, str) else ["/bin/sh", "-c", argv],
        stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        cwd=cwd,
        preexec_fn=prepare,  # it calls setsid and umask only, so it is safe beside the reader thread
    )
    try:
        return _Conversation(child, link, stdin or b"", timeout, stream).run()
    finally:
        for pipe in (child.stdin, child.stdout, child.stderr):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    pass
        if child.poll() is None:
            _signal_group(child, signal.SIGKILL)
            child.wait()


class _Conversation(object):
    """A running command: feeds its stdin, collects its output, and ends it when its time is up."""

    def __init__(
        self, child: "Popen[bytes]", link: "Link", stdin: "bytes", timeout: "float | None", stream: "bool"
    ) -> "None":
        assert child.stdout is not None
        assert child.stderr is not None
        self._child = child
        self._link = link
        self._stdin = memoryview(stdin)
        self._stream = stream
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._names = {child.stdout.fileno(): "stdout", child.stderr.fileno(): "stderr"}
        self._kept = {"stdout": bytearray(), "stderr": bytearray()}
        self._last = {"stdout": b"", "stderr": b""}
        self._cut = False
        self._ended = ""
        self._kill_at: "float | None" = None
        self._poll = select.poll()

    def run(self) -> "Completed":
        for descriptor in self._names:
            self._poll.register(descriptor, select.POLLIN | select.POLLHUP)
        if self._child.stdin is not None:
            os.set_blocking(self._child.stdin.fileno(), False)
            self._poll.register(self._child.stdin.fileno(), select.POLLOUT | select.POLLERR)
        quiet_polls = 0
        while self._names:
            ready = self._poll.poll(TICK * 1000)
            for descriptor, _ in ready:
                if descriptor in self._names:
                    self._read(descriptor)
                else:
                    self._write(descriptor)
            if not ready and self._child.poll() is not None:
                quiet_polls += 1
                if quiet_polls > 1:  # the command has ended; only a process that it left behind holds the pipes
                    break
            self._end_when_due()
        while self._child.poll() is None:  # it has closed its pipes and runs on
            self._end_when_due()
            try:
                self._child.wait(0.02)
            except Exception:  # TimeoutExpired; naming it would import subprocess at module level
                pass
        stdout, stderr = bytes(self._kept["stdout"]), bytes(self._kept["stderr"])
        last = self._last["stderr"] or self._last["stdout"]
        if len(last) == LAST:  # a line without its beginning may begin with a part of a secret, which nobody would know
            last = last.partition(b"\n")[2]
        return Completed(self._child.returncode, stdout, stderr, self._ended, self._cut, last)

    def _read(self, descriptor: "int") -> "None":
        data = os.read(descriptor, 65536)
        if not data:
            self._poll.unregister(descriptor)
            del self._names[descriptor]
            return
        name = self._names[descriptor]
        room = KEEP - len(self._kept[name])
        self._cut = self._cut or len(data) > room
        self._kept[name] += data[: max(0, room)]
        self._last[name] = (self._last[name] + data)[-LAST:]
        if self._stream:
            self._link.output(name, data)

    def _write(self, descriptor: "int") -> "None":
        assert self._child.stdin is not None
        try:
            self._stdin = self._stdin[os.write(descriptor, self._stdin[:65536]) :]
        except BlockingIOError:
            return
        except OSError:  # it does not read its input, which is no error of ours
            self._stdin = self._stdin[:0]
        if not self._stdin:
            self._poll.unregister(descriptor)
            self._child.stdin.close()
            self._child.stdin = None

    def _end_when_due(self) -> "None":
        now = time.monotonic()
        is_late = self._deadline is not None and now > self._deadline
        if not self._ended and self._child.poll() is None and (is_late or self._link.cancelled()):
            self._ended = "cancelled" if self._link.cancelled() else "timeout"
            _signal_group(self._child, signal.SIGTERM)
            self._kill_at = now + (CANCELLED if self._ended == "cancelled" else GRACE)
        if self._kill_at is not None and now > self._kill_at:
            _signal_group(self._child, signal.SIGKILL)
            self._kill_at = now + GRACE


def _signal_group(child: "Popen[bytes]", number: "int") -> "None":
    try:
        os.killpg(child.pid, number)
    except OSError:
        pass
