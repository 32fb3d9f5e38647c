"""host.wait_for: waits until a port, a file or a text in one of them is there, or gone."""

import errno
import os
import socket
import time

from sloth.payload.kernel.resource import Action, ArgumentError, Failed, Field
from sloth.payload.lib.regex import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator

    from sloth.payload.kernel.values import Arguments, Attributes

READ = 1024 * 1024  # bytes of a file or a port in which a text is looked for
LISTEN, TIME_WAIT = "0A", "06"  # states of connections in /proc/net/tcp


class WaitFor(Action):
    """Wait for a port or a path, also as `wait_for({port = 22})`. It changes nothing, and a check does not wait.

    State `started` (or `present`) waits until the port accepts connections or the path exists, and with `search_regex`
    until the text is there; `stopped` (or `absent`) until it is not so; `drained` until a local port has no connection.

    Other than Ansible: without `port` or `path` it is an error; `sleep(seconds)` waits for a time. A `timeout` in
    `stopped` counts from the first look. `active_connection_states` are all but LISTEN and TIME_WAIT.
    """

    name = "host.wait_for"
    subject = "path"
    only_waits = True
    unknown_hint = "a check does not wait"
    fields = (
        Field("port", "int", help="a TCP port"),
        Field("host", "str", "127.0.0.1", help="whose port, as the host sees it"),
        Field("path", "path", help="a path on the host"),
        Field(
            "state",
            "str",
            "started",
            choices=("started", "present", "stopped", "absent", "drained"),
            help="what is waited for",
        ),
        Field("search_regex", "str", help="a text in the file, or in what the port sends first"),
        Field("timeout", "float", 300.0, how=True, help="seconds after which it fails"),
        Field("delay", "float", 0.0, how=True, help="seconds before the first look"),
        Field("sleep", "float", 1.0, how=True, help="seconds between two looks"),
        Field("connect_timeout", "float", 5.0, how=True, help="seconds for one connection"),
        Field("exclude_hosts", "list", help="addresses whose connections do not count for drained"),
        Field("msg", "str", help="the error when the time is over"),
    )
    returns = (Field("elapsed", "int", help="how many seconds it took"),)
    example = """task({name = "restarted", run = function()
    systemd.restart("nginx")
    host.wait_for({port = 80, timeout = 60})
end})"""  # fmt: skip

    @classmethod
    def check_together(cls, values: "Arguments") -> "None":
        port, path, state = values["port"], values["path"], values["state"]
        if (port is None) == (path is None):
            raise ArgumentError("wait_for needs either port or path", hint="sleep(seconds) waits for a time")
        if port is not None and not 0 < port < 65536:
            raise ArgumentError("wait_for: port must be a number from 1 to 65535, not %d" % port)
        if state == "drained" and port is None:
            raise ArgumentError("wait_for: state drained needs a port")
        try:
            re.compile((values["search_regex"] or "").encode("utf-8", "surrogateescape"))
        except re.error as error:
            raise ArgumentError("wait_for: search_regex is no regular expression: %s" % error)

    def identity(self) -> "str":
        args = self.args
        return "%s %s" % (self._thing(), args.state) if args.state != "started" else self._thing()

    def _thing(self) -> "str":
        args = self.args
        return self.host.expand(args.path) if args.path else "%s:%d" % (args.host, args.port)

    def unrun(self, why: "str") -> "Attributes":
        return {"elapsed": 0}

    def run(self) -> "Attributes":
        args = self.args
        begun = time.monotonic()
        self._pause(args.delay)
        while True:
            if self._holds():
                return {"elapsed": int(time.monotonic() - begun), "changed": False}
            left = args.delay + args.timeout - (time.monotonic() - begun)
            if left <= 0:
                raise Failed(args.msg or "%s is not %s after %g seconds" % (self._thing(), args.state, args.timeout))
            self._pause(min(args.sleep, left))

    def _pause(self, seconds: "float") -> "None":
        """Wait; raise Failed as soon as the run is cancelled."""
        end = time.monotonic() + seconds
        while True:
            if self.host.link.cancelled():
                raise Failed("the run was cancelled while waiting for %s" % self._thing())
            left = end - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, 0.2))

    def _holds(self) -> "bool":
        state = self.args.state
        if state == "drained":
            return not any(self._connections())
        is_there = self._is_in_path() if self.args.path else self._is_in_port()
        return is_there == (state in ("started", "present"))

    def _is_in_path(self) -> "bool":
        path = self.host.expand(self.args.path)
        if not self.args.search_regex:
            return os.path.lexists(path)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return False
            raise
        with open(descriptor, "rb") as file:
            return self._matches(file.read(READ))

    def _is_in_port(self) -> "bool":
        args = self.args
        try:
            connection = socket.create_connection((args.host, args.port), args.connect_timeout)
        except (OSError, UnicodeError):
            return False
        with connection:
            return not args.search_regex or self._sends(connection)

    def _sends(self, connection: "socket.socket") -> "bool":
        """Return whether the port sends the text within connect_timeout."""
        seen, end = b"", time.monotonic() + self.args.connect_timeout
        while len(seen) < READ and not self.host.link.cancelled():
            left = end - time.monotonic()
            if left <= 0:
                return False
            connection.settimeout(min(left, 0.5))
            try:
                data = connection.recv(4096)
            except socket.timeout:
                continue
            except OSError:
                return False
            if not data:
                return False
            seen += data
            if self._matches(seen):
                return True
        return False

    def _matches(self, data: "bytes") -> "bool":
        return bool(re.search(self.args.search_regex.encode("utf-8", "surrogateescape"), data, re.MULTILINE))

    def _connections(self) -> "Iterator[str]":
        """Yield the other ends of the connections that the port has."""
        excluded = set(self.args.exclude_hosts or ())
        for name in ("/proc/net/tcp", "/proc/net/tcp6"):
            try:
                with open(name) as file:
                    lines = file.read().splitlines()[1:]
            except OSError:
                continue
            for line in lines:
                words = line.split()
                if int(words[1].rpartition(":")[2], 16) != self.args.port or words[3] in (LISTEN, TIME_WAIT):
                    continue
                other = _address(words[2].rpartition(":")[0])
                if other not in excluded:
                    yield other


def _address(text: "str") -> "str":
    """Return an address of /proc/net/tcp as people write it; it has 32-bit words in the machine's order."""
    words = [bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, len(text), 8)]
    data = b"".join(words)
    if len(data) == 16 and data[:12] == b"\0" * 10 + b"\xff\xff":
        data = data[12:]
    return socket.inet_ntop(socket.AF_INET if len(data) == 4 else socket.AF_INET6, data)
