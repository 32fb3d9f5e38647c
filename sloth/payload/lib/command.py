"""Runs a command on the host: its output streams to the report, a deadline or a cancelled run ends it."""

import os
import select
import signal
import time

KEEP = 1024 * 1024  # bytes of each of stdout and stderr that are kept for the result
GRACE = 5.0  # seconds between SIGTERM and SIGKILL
TICK = 0.2  # seconds between looks at whether the run was cancelled


class Completed(object):
    """exit_code: int (negative: died of that signal); stdout, stderr: bytes (the first KEEP); ended: why we killed it.

    `ended` is "" when it ended by itself, "timeout" or "cancelled".
    """

    def __init__(self, exit_code, stdout, stderr, ended, cut):
        self.exit_code = exit_code
        self.stdout = stdout
        self.stderr = stderr
        self.ended = ended
        self.cut = cut  # bool: more was printed than was kept


def run(argv, link, stdin=None, env=None, cwd=None, timeout=None, stream=False, umask=None):
    """Run `argv` (list: no shell; str: /bin/sh -c) and return a Completed.

    stdin: bytes or None (empty); env: dict added to ours; timeout: seconds or None; stream: send output to the report
    as it comes. The child leads its own process group; on timeout or cancel the group gets SIGTERM, after GRACE
    SIGKILL. A background child that keeps our pipes open does not hold us once the command itself has ended.
    Raises OSError when it cannot be started.
    """
    import subprocess

    environment = dict(os.environ)
    environment.update(env or {})

    def prepare():
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
        preexec_fn=prepare,  # calls setsid and umask only, so it is safe beside the reader thread
    )
    try:
        return _converse(child, link, stdin or b"", timeout, stream)
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


def _converse(child, link, stdin, timeout, stream):
    kept = {"stdout": bytearray(), "stderr": bytearray()}
    cut = False
    names = {child.stdout.fileno(): "stdout", child.stderr.fileno(): "stderr"}
    poll = select.poll()
    for descriptor in names:
        poll.register(descriptor, select.POLLIN | select.POLLHUP)
    sent = 0
    if child.stdin is not None:
        os.set_blocking(child.stdin.fileno(), False)
        poll.register(child.stdin.fileno(), select.POLLOUT | select.POLLERR)
    end = None if timeout is None else time.monotonic() + timeout
    ended, kill_at, quiet_polls = "", None, 0
    while names:
        ready = poll.poll(TICK * 1000)
        for descriptor, _ in ready:
            if descriptor not in names:
                sent = _write_some(child, poll, descriptor, stdin, sent)
                continue
            data = os.read(descriptor, 65536)
            if not data:
                poll.unregister(descriptor)
                del names[descriptor]
                continue
            room = KEEP - len(kept[names[descriptor]])
            cut = cut or len(data) > room
            kept[names[descriptor]] += data[: max(0, room)]
            if stream:
                link.output(names[descriptor], data)
        if not ready and child.poll() is not None:
            quiet_polls += 1
            if quiet_polls > 1:  # the command is gone; only something it left behind holds the pipes
                break
        now = time.monotonic()
        if not ended and child.poll() is None and (link.cancelled() or (end is not None and now > end)):
            ended = "cancelled" if link.cancelled() else "timeout"
            _signal_group(child, signal.SIGTERM)
            kill_at = now + GRACE
        if kill_at is not None and now > kill_at:
            _signal_group(child, signal.SIGKILL)
            kill_at = now + GRACE
    while child.poll() is None:  # it closed its pipes and runs on
        now = time.monotonic()
        if not ended and (link.cancelled() or (end is not None and now > end)):
            ended = "cancelled" if link.cancelled() else "timeout"
            _signal_group(child, signal.SIGTERM)
            kill_at = now + GRACE
        if kill_at is not None and now > kill_at:
            _signal_group(child, signal.SIGKILL)
        try:
            child.wait(0.02)
        except Exception:  # TimeoutExpired; naming it would import subprocess at module level
            pass
    return Completed(child.returncode, bytes(kept["stdout"]), bytes(kept["stderr"]), ended, cut)


def _write_some(child, poll, descriptor, stdin, sent):
    try:
        sent += os.write(descriptor, stdin[sent : sent + 65536])
    except BlockingIOError:
        return sent
    except OSError:  # it does not read its input: its own business
        sent = len(stdin)
    if sent >= len(stdin):
        poll.unregister(descriptor)
        child.stdin.close()
        child.stdin = None
    return sent


def _signal_group(child, number):
    try:
        os.killpg(child.pid, number)
    except OSError:
        pass
