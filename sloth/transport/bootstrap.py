"""Starts the payload on a host: finds a Python, becomes another account, uploads the payload if it must.

The start is one command, which runs stage 1 (stage1.py).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection

from sloth.errors import BecomeError, BootstrapError, HostError, ProtocolError
from sloth.payload.session import wire
from sloth.transport import exit_errors
from sloth.transport.become import Become
from sloth.transport.bundle import Bundle
from sloth.transport.connection import Connection, NoFurtherSession, RemoteProcess
from sloth.transport.outbox import Outbox
from sloth.transport.stage1 import ERROR, HEADER, HOME, NEED, OK, command, make_directory, shell

NOISE = 64 * 1024  # bytes that a login shell may print before the payload starts
READ = 256 * 1024
NEAR = 0.01  # seconds for a round trip; links that take longer are often slow, and a host compiles in 0.1 seconds


def _with_header(name: str, data: bytes) -> bytes:
    return (HEADER % (name, len(data))).encode("ascii") + data


class Bootstrap:
    """Starts one payload: runs stage 1, gives a password, sends the bundle if the host lacks it."""

    def __init__(
        self,
        host: str,
        bundle: Bundle,
        *,
        known: bool,
        python: str | None = None,
        become: Become | None = None,
        timeout: float = 30.0,
        calls: Collection[str] = (),
    ) -> None:
        """Prepare the start.

        known: the host is believed to have the bundle; timeout: seconds until the payload must have started; calls:
        the names of those that will be made, as far as they are known.
        """
        self.host = host
        self.timeout = timeout
        self.uploaded = False
        self._bundle = bundle
        self._known = known
        self._calls = calls
        self._anywhere = False  # the account's home cannot hold its files, and root has made no directory for it
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
        self._process = await self._launch(
            connection, lambda python, prompt: command(python, self._become, prompt, anywhere=self._anywhere)
        )
        self.uploaded = upload
        header = _with_header(self._bundle.sha256, self._bundle.data if upload else b"")
        if upload:
            round_trip = connection.opening.round_trip
            is_near = round_trip is not None and round_trip < NEAR
            header += _with_header(*self._bundle.code(self._calls if is_near else None))
        await outbox.begin(self._process, header + self._greeting)

    async def _launch(self, connection: Connection, line: Callable[[str | None, str], str]) -> RemoteProcess:
        """Start the command line(python, prompt), and give the password if one is wanted."""
        become = self._become
        prompt = become.prompt() if become else ""
        python = self._python or (None if become else connection.python)
        process = await self._begin(connection, line(python, prompt))
        self._process = process
        if become and prompt:
            self._first = await self._answer(process, prompt, become)
        return process

    async def _begin(self, connection: Connection, command_line: str) -> RemoteProcess:
        """Start a command after the one before has ended: a host may allow only one at a time."""
        if self._process is None:
            return await connection.start(command_line)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), 5)
        for pause in (0.02, 0.1, 0.5):
            try:
                return await connection.start(command_line)
            except NoFurtherSession:  # sshd has not cleaned up yet
                await asyncio.sleep(pause)
        return await connection.start(command_line)

    async def shell(self, connection: Connection, script: str) -> tuple[int | None, bytes, str]:
        """Run a shell script, for hosts without Python; return its exit status, stdout and the end of its stderr.

        Raises HostError, also when it fails and has printed nothing to stdout: then sudo may have refused it.
        """
        process = await self._launch(connection, lambda python, prompt: shell(script, self._become, prompt))
        output = self._first
        while data := await process.read(READ):
            output += data
            if len(output) > NOISE:
                process.kill()
                raise ProtocolError(f"{self.host} prints too much")
        status, printed = await process.wait(), process.stderr_tail()
        if status != 0 and not output:
            raise exit_errors.explain(self.host, status, printed, False, self._become)
        return status, output, printed

    async def _make_directory(self, connection: Connection) -> None:
        """Let root make a directory for the account's files; whether that worked, stage 1 finds out."""
        self._anywhere = True
        with contextlib.suppress(BecomeError):  # the login account need not be allowed to become root
            process = await self._launch(
                connection, lambda python, prompt: make_directory(python, self._become, prompt)
            )
            while await process.read(READ):
                pass
            await process.wait()
        self._first = b""

    async def _answer(self, process: RemoteProcess, prompt: str, become: Become) -> bytes:
        """Answer the prompt, once; return what the process printed meanwhile.

        If no password is wanted no prompt is printed: then stage 1 writes first.
        """
        prompted = asyncio.ensure_future(process.stderr_contains(prompt, 0))
        written = asyncio.ensure_future(process.read(READ))
        again: asyncio.Future[int] | None = None
        try:
            await asyncio.wait({prompted, written}, timeout=self.timeout, return_when=asyncio.FIRST_COMPLETED)
            if prompted.done() and not written.done():
                with contextlib.suppress(OSError):
                    await process.write((become.password or "").encode("utf-8", "surrogateescape") + b"\n")
                again = asyncio.ensure_future(process.stderr_contains(prompt, prompted.result()))
                await asyncio.wait({again, written}, timeout=self.timeout, return_when=asyncio.FIRST_COMPLETED)
                if again.done():
                    process.kill()
                    raise exit_errors.wrong_password(self.host, become)
            if not written.done():
                process.kill()
                printed = process.stderr_tail().strip()[-200:]
                raise BecomeError(
                    f"{self.host}: no response from {become.method} within {self.timeout:g} seconds"
                    + (f"; it printed: {printed}" if printed else ""),
                    hint="if it asks for a password in its own words, remove passprompt_override from its sudoers",
                )
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
                    if line == HOME.strip() and not self._anywhere:
                        await self._make_directory(connection)
                        await self._start(connection, outbox, upload=self.uploaded)
                        continue
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
        return exit_errors.explain(self.host, status, printed, begun, self._become)

    def kill(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.kill()
