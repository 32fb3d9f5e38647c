"""What asyncssh sends in one turn of the event loop goes out together; packets that mean nothing do not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sloth.transport.corked import AUTHENTICATED, LIMIT, MSG_IGNORE, Corked, cork


class Transport(asyncio.Transport):
    """Keeps what is written to it; `error`: what writing to it raises."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__({"peername": "web1"})
        self.events: list[object] = []
        self._error = error

    def write(self, data: Any) -> None:
        if self._error is not None:
            raise self._error
        self.events.append(bytes(data))

    def close(self) -> None:
        self.events.append("closed")

    def abort(self) -> None:
        self.events.append("aborted")


class Connection:
    """What cork() needs of a connection of asyncssh."""

    def __init__(self, cipher: str) -> None:
        self.sent: list[tuple[int, tuple[bytes, ...]]] = []
        self._cipher = cipher

    def get_extra_info(self, name: str) -> str:
        assert name == "send_cipher"
        return self._cipher

    def send_packet(self, kind: int, *parts: bytes) -> None:
        self.sent.append((kind, parts))


async def test_a_turn_of_the_loop_is_one_write() -> None:
    corked = Corked(transport := Transport())
    corked.write(b"a")
    corked.write(b"b")
    assert transport.events == []
    await asyncio.sleep(0)
    corked.write(b"c")
    await asyncio.sleep(0)
    assert transport.events == [b"ab", b"c"]
    corked.write(b"x" * LIMIT)
    assert transport.events[2:] == [b"x" * LIMIT], "much does not wait"
    await asyncio.sleep(0)
    assert len(transport.events) == 3
    assert corked.get_extra_info("peername") == "web1"


@pytest.mark.parametrize("end", ["closed", "aborted"])
async def test_what_waits_is_written_before_the_end(end: str) -> None:
    """It may be why the connection ends."""
    corked = Corked(transport := Transport())
    corked.write(b"why")
    corked.close() if end == "closed" else corked.abort()
    assert transport.events == [b"why", end]
    broken = Corked(Transport(ConnectionResetError()))
    broken.write(b"why")
    broken.close()


@pytest.mark.parametrize("cipher", [*AUTHENTICATED, "aes128-cbc"])
async def test_packets_to_be_ignored_are_sent_where_they_protect(cipher: str) -> None:
    """A version of asyncssh that keeps its transport elsewhere is slower, but works."""
    connection = Connection(cipher)
    cork(connection)  # type: ignore[arg-type]
    connection.send_packet(MSG_IGNORE, b"")
    connection.send_packet(94, b"data")
    ignored = [] if cipher in AUTHENTICATED else [(MSG_IGNORE, (b"",))]
    assert connection.sent == [*ignored, (94, (b"data",))]
