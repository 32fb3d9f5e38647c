"""Processes that change the same documents lose nothing: with lost and late answers, and when one of them is killed.

A short form here; SLOTH_ATTACK_ROUNDS=200 for 10 processes with 200 increments and 200 compare-and-swaps each.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import sys
from pathlib import Path

import pytest

from sloth.state.backends.documents import Change, change, load
from sloth.state.backends.location import open_backend, parse
from tests.support.lossy import lossy

LONG = "SLOTH_ATTACK_ROUNDS" in os.environ
ROUNDS = int(os.environ.get("SLOTH_ATTACK_ROUNDS", "8"))
PROCESSES = 10 if LONG else 3
ROOT = Path(__file__).parent.parent.parent

pytestmark = pytest.mark.timeout(3000 if LONG else 300)


async def start(url: str, work: str, rounds: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.racer", url, work, str(rounds),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def race(url: str, works: list[str], rounds: int) -> None:
    """Run a process for each work; all must end well."""
    processes = await asyncio.gather(*(start(url, work, rounds) for work in works))
    for process in processes:
        _, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()[-2000:]


async def document(url: str, key: str) -> object:
    backend = open_backend(parse(url), None if "SLOTH_KEY" not in os.environ else _keys())
    try:
        return await load(backend, key)
    finally:
        await backend.close()


def _keys() -> object:
    from sloth.state.keys import Keys

    return Keys()


@pytest.fixture(params=[False, True], ids=["plain", "sealed"])
def sealing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a key in the environment, or without."""
    if not request.param:
        monkeypatch.delenv("SLOTH_KEY")
    elif not LONG and "etcd" not in request.node.callspec.id:
        pytest.skip("what is in the values does not matter; SLOTH_ATTACK_ROUNDS=200 tries it all the same")


async def test_processes_lose_no_change(server_url: str, sealing: None) -> None:
    await race(server_url, ["increments"] * PROCESSES, ROUNDS)
    assert await document(server_url, "count") == PROCESSES * ROUNDS
    await race(server_url, ["cas"] * PROCESSES, ROUNDS)
    assert await document(server_url, "cas") == PROCESSES * ROUNDS


@pytest.mark.parametrize("share_late", [(0.1, 0.0), (0.0, 0.1)], ids=["lost", "late"])
async def test_processes_lose_no_change_though_answers_are_lost(
    server_url: str, sealing: None, share_late: tuple[float, float], request: pytest.FixtureRequest
) -> None:
    if server_url.startswith("sqlite"):
        pytest.skip("there is no network to it")
    share, late = share_late
    if late and "moto" in request.node.callspec.id and not LONG:
        pytest.skip("one S3 server is enough; SLOTH_ATTACK_ROUNDS=200 tries both")
    found = re.search(r"127\.0\.0\.1:(\d+)", server_url)
    assert found
    async with lossy(int(found[1]), share) as proxy:
        proxy.late = late
        through = server_url.replace(found[0], f"127.0.0.1:{proxy.port}")
        await race(through, ["increments"] * PROCESSES + ["cas"] * PROCESSES, ROUNDS)
        assert proxy.lost > 0
        print(f"lost {proxy.lost} of {server_url}")
    # What was passed on late and is still on its way must not count either.
    await asyncio.sleep(proxy.delay if late else 0)
    assert await document(server_url, "count") == PROCESSES * ROUNDS
    assert await document(server_url, "cas") == PROCESSES * ROUNDS


async def test_a_killed_process_loses_nothing_that_was_confirmed(server_url: str, sealing: None) -> None:
    process = await start(server_url, "killed", ROUNDS)
    output, _ = await process.communicate()
    assert process.returncode == -9
    confirmed = int(output.split()[-1])
    assert confirmed == ROUNDS
    found = await document(server_url, "count")
    assert found in (confirmed, confirmed + 1), "the last one may have happened"
    backend = open_backend(parse(server_url), _keys() if "SLOTH_KEY" in os.environ else None)
    await change(backend, "count", lambda content, now: (Change((content or 0) + 1), None))
    assert await load(backend, "count") in (confirmed + 1, confirmed + 2)
    await backend.close()


async def test_large_values_of_many_writers_are_whole(server_url: str, sealing: None) -> None:
    """Values in pieces are replaced by several writers at once, and read meanwhile: each is one that was written."""
    if server_url.startswith("sqlite") and not LONG:
        pytest.skip("its limit is large")
    backends = [open_backend(parse(server_url), _keys() if "SLOTH_KEY" in os.environ else None) for _ in range(3)]
    size = getattr(backends[0], "piece_size", 0) + 1000

    async def write(number: int) -> None:
        for _ in range(3):
            text = secrets.token_hex(4) * (size // 8)
            await change(backends[number], "large", lambda content, now, text=text: (Change(text), None))

    async def read() -> None:
        for _ in range(5):
            text = await load(backends[2], "large")
            assert text is None or text == text[:8] * (size // 8)
            await asyncio.sleep(0.01)

    await asyncio.gather(write(0), write(1), read())
    for one in backends:
        await one.close()
