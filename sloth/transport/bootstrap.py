"""Starts the payload on a host: finds a Python, becomes another account by sudo, uploads the payload if it must.

The start is one command. It runs stage 1, a few lines of Python that read the rest from stdin, check it and run it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import secrets
import zlib
from dataclasses import dataclass, field

from sloth.errors import BootstrapError, HostError, ProtocolError, UsageError
from sloth.payload.session import wire
from sloth.transport import exit_errors
from sloth.transport.bundle import Bundle
from sloth.transport.connection import Connection, RemoteProcess
from sloth.transport.outbox import Outbox

NOISE = 64 * 1024  # bytes that a login shell may print before the payload starts
READ = 256 * 1024
# What stage 1 prints on stdout after wire.MARK, a line each.
OK = b"OK\n"
NEED = b"NEED\n"
ERROR = b"ERR "
TRY_NEXT = 75  # exit status: this Python cannot be used
NEEDS_BUNDLE = 76  # exit status: the payload is not here
NO_PYTHON = exit_errors.NO_PYTHON  # on stderr, then what was tried
HEADER = "%64s %012d\n"  # the bundle's hash, and how many bytes of it follow
CANDIDATES = (
    "python3", "python3.14", "python3.13", "python3.12", "python3.11", "python3.10", "python3.9", "python3.8",
    "python3.7", "python3.6", "/usr/bin/python3", "/usr/local/bin/python3", "/usr/libexec/platform-python",
)  # fmt: skip

# Parses on any Python 3, and is the only code that an old or incomplete one gets to see. It reads from fd 0 no byte
# more than its own, since the payload reads on. Every directory on the way must belong to the account and be closed to
# others: the files in it are run, perhaps as root.
SOURCE = """
import os, sys
if sys.version_info < (3, 6):
    os._exit(75)
try:
    import _sqlite3, fcntl, json, pwd, select, struct, threading, zlib
except ImportError:
    os._exit(75)

def say(data):
    os.write(1, data)

def read(count):
    parts = []
    while count:
        part = os.read(0, min(count, 1048576))
        if not part:
            os._exit(74)
        parts.append(part)
        count -= len(part)
    return b"".join(parts)

def private(path):
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    info = os.lstat(path)
    if info.st_uid != os.geteuid() or info.st_mode & 0o170022 != 0o040000:
        raise RuntimeError("%s is not a directory that only its owner can write" % path)

def install(root, target, name, data):
    import hashlib, io, shutil, time, zipfile
    if hashlib.sha256(data).hexdigest() != name:
        raise RuntimeError("the payload arrived damaged")
    new = "%s/.new-%d-%s" % (root, os.getpid(), os.urandom(4).hex())
    os.mkdir(new, 0o700)
    try:
        zipfile.ZipFile(io.BytesIO(zlib.decompress(data))).extractall(new)
        try:
            os.rename(new, target)
        except OSError:
            if not os.path.isdir(target):
                raise
    finally:
        shutil.rmtree(new, True)
    for other in os.listdir(root):
        path = root + "/" + other
        if other != name and time.time() - os.lstat(path).st_mtime > 30 * 86400:
            shutil.rmtree(path, True)

def main():
    os.umask(0o077)
    say(MARK)
    name, size = read(78).decode("ascii").split()
    uid = os.geteuid()
    home = os.environ.get("HOME", "")
    try:
        if not home.startswith("/") or os.stat(home).st_uid != uid:
            raise OSError
    except OSError:
        home = pwd.getpwuid(uid).pw_dir
    data = read(int(size))
    root = home + "/.sloth-runner/payload"
    target = root + "/" + name
    try:
        private(home + "/.sloth-runner")
        private(root)
        if not os.path.isdir(target):
            if not data:
                say(b"NEED\\n")
                os._exit(76)
            install(root, target, name, data)
        private(target)
    except (OSError, RuntimeError) as error:
        say(("ERR %s\\n" % (str(error).replace("\\n", " "),)).encode("utf-8", "replace"))
        os._exit(77)
    sys.path.insert(0, target)
    say(b"OK\\n")
    from sloth.payload.__main__ import main
    code = main()
    try:
        sys.stderr.flush()
    finally:
        os._exit(code)

main()
"""

PLAIN_PATH = re.compile(r"[A-Za-z0-9_./+-]+\Z")
_SAFE_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\$?\Z")


def _packed() -> str:
    source = f"MARK = {wire.MARK!r}\n{SOURCE}"
    return base64.b64encode(zlib.compress(source.encode("ascii"), 9)).decode("ascii")


def command(python: str | None, become: str | None = None, prompt: str = "") -> str:
    """Return the command line that starts stage 1 on a host.

    python: the interpreter to use (None: look for one); become: the account to become by sudo (None: nobody);
    prompt: what sudo prints to stderr when it wants the password (empty: it must not want one). The line is safe in
    every login shell: single quotes around characters that no shell touches. Raises UsageError for other names.
    """
    if python is not None and not PLAIN_PATH.match(python):
        raise UsageError(f"python = {python!r} is not the plain path of an interpreter")
    candidates = python or " ".join(CANDIDATES)
    start = "import sys,base64,zlib;exec(zlib.decompress(base64.b64decode(sys.argv[1])))"
    loop = (
        f'for p in {candidates}; do command -v "$p" >/dev/null 2>&1 || continue; '
        f'"$p" -I -S -E -c "{start}" {_packed()}; r=$?; [ $r = {TRY_NEXT} ] || exit $r; t="$t $p"; done; '
        f'echo "{NO_PYTHON}$t" >&2; exit 127'
    )
    shell = f"sh -c '{loop}'"
    if become is None:
        return shell
    if not _SAFE_USER.match(become):
        raise UsageError(f"become: {become!r} is not the name of an account")
    how = f"-S -p {prompt}" if prompt else "-n"
    return f"sudo {how} -H -u {become} -- {shell}"


@dataclass(frozen=True)
class Become:
    """The account to become by sudo, and the password for that (None: sudo must not want one)."""

    account: str
    password: str | None = field(default=None, repr=False)


class Bootstrap:
    """Starts one payload: runs stage 1, answers sudo, sends the bundle if the host lacks it."""

    def __init__(
        self,
        host: str,
        bundle: Bundle,
        *,
        known: bool,
        python: str | None = None,
        become: Become | None = None,
        timeout: float = 30.0,
    ) -> None:
        """known: the host is believed to have the bundle; timeout: seconds until the payload must have started."""
        self.host = host
        self.timeout = timeout
        self.uploaded = False
        self._bundle = bundle
        self._known = known
        self._python = python
        self._become = become
        self._process: RemoteProcess | None = None
        self._first = b""  # what was read while we waited for a prompt
        self._greeting = b""

    @property
    def process(self) -> RemoteProcess:
        """The process that was started last."""
        assert self._process is not None
        return self._process

    async def start(self, connection: Connection, outbox: Outbox, greeting: bytes) -> None:
        """Start the payload, and write `greeting` to it. Raises HostError."""
        self._greeting = greeting
        await self._start(connection, outbox, upload=not self._known)

    async def _start(self, connection: Connection, outbox: Outbox, upload: bool) -> None:
        become = self._become
        prompt = f"sloth-{secrets.token_hex(8)}:" if become and become.password is not None else ""
        python = self._python or (None if become else connection.python)
        self._process = await connection.start(command(python, become.account if become else None, prompt))
        if become and prompt:
            self._first = await self._sudo(self._process, prompt, become.password or "")
        self.uploaded = upload
        data = self._bundle.data if upload else b""
        header = (HEADER % (self._bundle.sha256, len(data))).encode("ascii")
        await outbox.begin(self._process, header + data + self._greeting)

    async def _sudo(self, process: RemoteProcess, prompt: str, password: str) -> bytes:
        """Answer sudo's prompt, once; return what the process printed meanwhile.

        If sudo needs no password it prints no prompt: then stage 1 writes first.
        """
        prompted = asyncio.ensure_future(process.stderr_contains(prompt, 0))
        written = asyncio.ensure_future(process.read(READ))
        again: asyncio.Future[int] | None = None
        try:
            await asyncio.wait({prompted, written}, timeout=self.timeout, return_when=asyncio.FIRST_COMPLETED)
            if prompted.done() and not written.done():
                with contextlib.suppress(OSError):
                    await process.write(password.encode() + b"\n")
                again = asyncio.ensure_future(process.stderr_contains(prompt, prompted.result()))
                await asyncio.wait({again, written}, timeout=self.timeout, return_when=asyncio.FIRST_COMPLETED)
                if again.done():
                    process.kill()
                    raise exit_errors.wrong_password(self.host)
            if not written.done():
                process.kill()
                raise BootstrapError(f"{self.host}: no response from sudo within {self.timeout:g} seconds")
            return written.result()
        finally:
            for future in (prompted, written, again):
                if future is not None:
                    future.cancel()

    async def handshake(self, connection: Connection, outbox: Outbox) -> bytes:
        """Read until stage 1 reports OK (sending the bundle if needed); return what came after. Raises HostError."""
        try:
            async with asyncio.timeout(self.timeout):
                while True:
                    line, rest = await self._first_line()
                    if line == OK.strip():
                        outbox.confirm()
                        return rest
                    if line != NEED.strip() or self.uploaded:
                        text = line.removeprefix(ERROR).decode("utf-8", "replace")
                        hint = "free some space on the host" if "Errno 28" in text else ""
                        raise BootstrapError(f"{self.host}: the payload cannot be installed: {text}", hint=hint)
                    await self._start(connection, outbox, upload=True)
        except TimeoutError:
            raise BootstrapError(
                f"{self.host}: the payload did not start within {self.timeout:g} seconds",
                hint=f"it printed: {self.process.stderr_tail()[-200:]!r}",
            ) from None

    async def _first_line(self) -> tuple[bytes, bytes]:
        """Return stage 1's first line after its mark, and what came with it."""
        seen, self._first = self._first, b""
        while wire.MARK not in seen:
            seen += await self._read(seen)
        seen = seen.partition(wire.MARK)[2]
        while b"\n" not in seen:
            seen += await self._read(seen)
        line, _, rest = seen.partition(b"\n")
        return line, rest

    async def _read(self, seen: bytes) -> bytes:
        if len(seen) > NOISE:
            raise ProtocolError(
                f"{self.host} prints too much before the payload starts: {seen[:100]!r}",
                hint="check the account's shell start-up files",
            )
        data = await self.process.read(READ)
        if not data:
            raise await self.explain_end(begun=False, noise=seen)
        return data

    async def explain_end(self, begun: bool, noise: bytes = b"") -> HostError:
        """Return the error for a process that ended by itself; begun: the payload had started."""
        status: int | None = None
        with contextlib.suppress(TimeoutError):
            status = await asyncio.wait_for(self.process.wait(), 5)
        printed = self.process.stderr_tail() or noise.decode("utf-8", "replace")
        return exit_errors.explain(self.host, status, printed, begun)

    def kill(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.kill()
