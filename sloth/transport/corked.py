"""Fewer system calls and packets: what asyncssh writes in one turn of the event loop is sent at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncssh

LIMIT = 128 * 1024  # bytes that wait for more: the server decrypts them while the next ones are being encrypted
MSG_IGNORE = 2
# Each packet has a nonce of its own, which its sender does not choose by what came before.
AUTHENTICATED = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com")


def cork(connection: asyncssh.SSHClientConnection) -> None:
    """Let a connection that has just been made send its packets together, and those that mean nothing not at all.

    asyncssh writes each packet by itself, and one that is to be ignored before each: with CBC, whose packets begin with
    the end of the one before, it keeps an attacker from choosing what is encrypted (RFC 4251, 9.3.1). Ciphers that
    authenticate do not need it, and OpenSSH does not send it with them; with others it stays.
    """
    transport = getattr(connection, "_transport", None)
    if transport is not None:  # a version of asyncssh that keeps it elsewhere is slower, but works
        setattr(connection, "_transport", Corked(transport))  # noqa: B010  it is not ours
    setattr(connection, "send_packet", partial(_send, connection, connection.send_packet))  # noqa: B010


def _send(
    connection: asyncssh.SSHClientConnection, send: Callable[..., None], kind: int, *parts: bytes, **more: Any
) -> None:
    if kind != MSG_IGNORE or connection.get_extra_info("send_cipher") not in AUTHENTICATED:
        send(kind, *parts, **more)


class Corked:
    """A transport (asyncio's, or a channel through a jump host) that writes once in a turn of the event loop."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._waiting: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        """Write `data` before this turn of the loop ends, or now if much is waiting."""
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(data)
        self._size += len(data)
        if self._size >= LIMIT:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            data = self._waiting[0] if len(self._waiting) == 1 else b"".join(self._waiting)
            self._waiting = []
            self._size = 0
            with contextlib.suppress(ConnectionError):  # as asyncssh does; the end of the connection is read
                self._transport.write(data)

    def close(self) -> None:
        """Close it when everything is written."""
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Close it now, after an attempt to write what waits: it may be why the connection ends."""
        self._flush()
        self._transport.abort()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
