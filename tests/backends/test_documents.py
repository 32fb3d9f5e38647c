"""A document is changed exactly once, though rivals write it and answers are lost."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sloth.state.backends import documents
from sloth.state.backends.backend import Unsure
from sloth.state.backends.documents import KEEP, Change
from sloth.state.backends.sqlite import SQLite

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json


class Lossy(SQLite):
    """Half of all answers to writes are lost; what they wrote is there."""

    async def write(self, key: str, value: bytes, expected: str | None) -> str | None:
        version = await super().write(key, value, expected)
        if random.random() < 0.5:
            raise Unsure("the answer was lost")
        return version


def count(content: Json, now: float) -> tuple[Change, int]:
    number = content + 1 if isinstance(content, int) else 1
    return Change(number), number


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", [SQLite, Lossy])
async def test_rivals_lose_no_increment(tmp_path: Path, kind: type[SQLite], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "LONGEST_PAUSE", 0.02)
    clients = [kind(tmp_path / "b.db") for _ in range(5)]

    async def increments(client: SQLite) -> list[int]:
        return [await documents.change(client, "n", count) for _ in range(20)]

    found = await asyncio.gather(*map(increments, clients))
    assert sorted(number for numbers in found for number in numbers) == list(range(1, 101))
    assert await documents.load(clients[0], "n") == 100
    for client in clients:
        await client.close()


@pytest.mark.asyncio
async def test_a_decision_may_leave_a_document_alone(tmp_path: Path) -> None:
    backend = SQLite(tmp_path / "b.db")
    assert await documents.change(backend, "n", lambda content, now: (KEEP, content)) is None
    assert await backend.names("") == []
    await documents.change(backend, "n", lambda content, now: (Change("a"), None))
    assert await documents.change(backend, "n", lambda content, now: (KEEP, content)) == "a"
    await backend.close()
