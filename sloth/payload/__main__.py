"""The payload's entry: reserves the descriptors of the wire, then serves one session."""

# Without the enumerations that `signal` makes of it, which take a millisecond of every start.
import _signal as signal  # type: ignore[import-not-found]
import os

from sloth.payload import loader
from sloth.payload.kernel.errors import Disconnected
from sloth.payload.lib.host import home_of
from sloth.payload.session import messages, wire
from sloth.payload.session.channel import Channel
from sloth.payload.session.server import Server

# A session without a login may lack the directories in which useradd and the like are.
PATH = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin")


def main() -> "int":
    """Serve one session on fd 0 and fd 1, and return the exit status."""
    channel = Channel(*_reserve())
    os.umask(0o022)
    _leave_foreign_directory()
    path = [directory for directory in os.environ.get("PATH", "").split(os.pathsep) if directory]
    os.environ["PATH"] = os.pathsep.join(path + [directory for directory in PATH if directory not in path])
    if not os.environ.get("HOME"):  # chroot and services come without
        os.environ["HOME"] = home_of(os.geteuid())
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: channel.end("ended by signal %d" % number))
    channel.start()
    server = None
    try:
        server = Server(channel, _greet(channel), before_end=loader.save)
        server.open()
        server.serve()
        return 0
    except Disconnected:
        return 1
    except Exception as error:
        if server is not None:  # before the controller knows, since it ends us then
            server.close(error)
            server = None
        return _fail(channel, error)
    finally:
        if server is not None:
            server.close()


def _leave_foreign_directory() -> "None":
    """Leave a working directory that this account may not enter: sudo keeps that of the login, which may be private."""
    if os.access(".", os.R_OK | os.X_OK):
        return
    for directory in (os.environ.get("HOME", ""), "/"):
        try:
            os.chdir(directory)
            return
        except OSError:
            pass


def _reserve() -> "tuple[int, int]":
    """Take fd 0 and fd 1 for frames: what modules and commands print goes to stderr, and their input is empty."""
    reader, writer = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    return reader, writer


def _greet(channel: "Channel") -> "messages.Hello":
    """Return the first message. Raises WireError when it is no Hello of our version."""
    hello = channel.receive()
    if not isinstance(hello, messages.Hello):
        raise wire.WireError("the first message must be hello")
    if "/" in hello.agent or "\0" in hello.agent:
        raise wire.WireError("the agent's name %r is that of no file" % hello.agent)
    if hello.v != messages.VERSION:
        raise wire.WireError(
            "the controller uses version %d of the protocol, this payload %d" % (hello.v, messages.VERSION)
        )
    return hello


def _fail(channel: "Channel", error: "Exception") -> "int":
    """Report why the session cannot go on; return the exit status."""
    from sloth.payload.session.failures import fail_message

    try:
        channel.send(fail_message(error))
    except Disconnected:
        pass
    return 1


if __name__ == "__main__":
    os._exit(main())
