"""The payload's process: it takes file descriptors 0 and 1 for the wire, and serves one session."""

import os
import signal

from sloth.payload.kernel.errors import Disconnected, PayloadError, StoreError
from sloth.payload.kernel.status import FailureKind
from sloth.payload.session import messages, wire
from sloth.payload.session.channel import Channel
from sloth.payload.session.run_lock import HeldByOther
from sloth.payload.session.server import Server

SYSTEM_PATH = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin")


def main() -> "int":
    """Serve one session on fd 0 and fd 1; return the exit status."""
    reader, writer = _reserve()
    os.umask(0o022)
    known = os.environ.get("PATH", "").split(os.pathsep)
    # A session without a login may lack the directories in which useradd and the like are.
    more = [path for path in SYSTEM_PATH if path not in known]
    os.environ["PATH"] = os.pathsep.join([path for path in known if path] + more)
    channel = Channel(reader, writer)
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: channel.end("ended by signal %d" % number))
    channel.start()
    server = None
    try:
        hello = channel.next()
        if not isinstance(hello, messages.Hello) or hello.v != wire.VERSION:
            version = hello.v if isinstance(hello, messages.Hello) else None
            raise wire.WireError("the controller uses version %r, this payload %d" % (version, wire.VERSION))
        server = Server(channel, hello)
        server.open()
        server.serve()
        return 0
    except Disconnected:
        return 1
    except Exception as error:
        if server is not None:  # before the controller is told, since it ends us then
            server.is_damaged = isinstance(error, StoreError) and error.damaged
            server.close()
            server = None
        return _fail(channel, error)
    finally:
        if server is not None:
            server.close()


def _reserve() -> "tuple[int, int]":
    """Take fd 0 and fd 1 for the wire; what modules and children print goes to stderr, what they read is empty."""
    reader, writer = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    return reader, writer


def _fail(channel: "Channel", error: "Exception") -> "int":
    """Report why the session cannot go on; return the exit status."""
    message = messages.Fail(kind=FailureKind.CRASH, error=str(error))
    if isinstance(error, PayloadError):
        message.hint = error.hint
    if isinstance(error, HeldByOther):
        message.kind, message.holder = FailureKind.LOCKED, error.holder
    elif isinstance(error, StoreError):
        message.kind = FailureKind.STATE
    elif isinstance(error, wire.WireError):
        message.kind = FailureKind.PROTOCOL
    else:
        import traceback

        message.error = "%s: %s" % (type(error).__name__, error)
        message.detail = traceback.format_exc()[-8000:]
    try:
        channel.send(message)
    except Disconnected:
        pass
    return 1


if __name__ == "__main__":
    os._exit(main())
