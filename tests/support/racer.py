"""A process of a race: `python -m tests.support.racer URL WORK ROUNDS` changes documents of a backend."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

from sloth.state.backends.backend import Backend, BackendUnavailable
from sloth.state.backends.documents import KEEP, Change, change, load
from sloth.state.backends.location import open_backend, parse
from sloth.state.keys import Keys

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json


async def patiently_change(backend: Backend, key: str, number: int) -> None:
    """Count one up. Giving up after the patience of change() is not what is raced here."""
    await change(backend, key, lambda content, now: (Change((content or 0) + number), None))


async def increments(backend: Backend, rounds: int) -> None:
    for _ in range(rounds):
        await patiently_change(backend, "count", 1)


async def cas(backend: Backend, rounds: int) -> None:
    """Count up by reading the value, and writing it where it is still the same."""
    for _ in range(rounds):
        done = False
        while not done:
            seen = await load(backend, "cas")

            def decide(content: Json, now: float, seen: Json = seen) -> tuple[Change, bool]:
                return (Change((seen or 0) + 1), True) if content == seen else (KEEP, False)

            done = await change(backend, "cas", decide)


async def killed(backend: Backend, rounds: int) -> None:
    """Count up, and die with a request on its way; print what was confirmed before."""
    for number in range(rounds):
        await patiently_change(backend, "count", 1)
        print(number + 1, flush=True)
    work = asyncio.ensure_future(patiently_change(backend, "count", 1))
    await asyncio.sleep(0.002)
    os.kill(os.getpid(), signal.SIGKILL)
    await work


WORKS = {"increments": increments, "cas": cas, "killed": killed}


async def main(url: str, work: str, rounds: int) -> None:
    backend = open_backend(parse(url), Keys() if os.environ.get("SLOTH_KEY") else None)
    try:
        await WORKS[work](backend, rounds)
    except BackendUnavailable as error:
        sys.exit(str(error))
    finally:
        await backend.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
