"""The check of a backend: our rights, whether conditions count, its clock, the sizes it takes, and how fast it is."""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import TypeVar

from sloth.errors import SlothError
from sloth.frozen import frozen
from sloth.state.backends.backend import Backend, BackendUnavailable, Entry, Unsure
from sloth.state.backends.documents import patiently
from sloth.state.backends.pieced import Pieced

T = TypeVar("T")
ROUNDS = 10  # of reads and of writes, for the latency
SKEW = 2.0  # seconds by which clocks may differ without a word
SLOW = 1.0  # seconds
LARGEST = 8 * 1024 * 1024  # bytes that are tried, where the limit is larger


class Aspect(Enum):
    """What is checked."""

    READ = "read"
    WRITE = "write"
    LIST = "list"
    DELETE = "delete"
    CONDITIONS = "conditions"
    CLOCK = "clock"
    SIZE = "size"
    LATENCY = "latency"
    ENCRYPTION = "encryption"


class Verdict(Enum):
    """What the check of one aspect has come to."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@frozen
class Finding:
    """The result of one aspect.

    Attributes:
        text: what was found, one sentence.
        hint: what to do about it, or "".
        seconds: the median of reads and of writes, for the latency; the server's clock less ours, for the clock.
    """

    aspect: Aspect
    verdict: Verdict
    text: str
    hint: str = ""
    seconds: tuple[float, ...] = ()


async def check(backend: Backend) -> list[Finding]:
    """Return what was found, failures too; it writes entries below "check/" and deletes them again.

    It also sweeps the pieces that killed writers have left.

    Raises BackendUnavailable when the backend does not answer at all.
    """
    key = f"check/{secrets.token_hex(8)}"
    findings: list[Finding] = []
    try:
        if await _try(findings, Aspect.READ, "reads entries", lambda: _read_nothing(backend, key)):
            if await _try(findings, Aspect.WRITE, "writes entries", lambda: _write(backend, key)):
                findings.append(await _conditions(backend, key))
                await _try(findings, Aspect.LIST, "lists entries", lambda: _list(backend, key))
                await _try(findings, Aspect.SIZE, "", lambda: _size(backend, key))
                await _try(findings, Aspect.LATENCY, "", lambda: _latency(backend, key))
                await _try(findings, Aspect.DELETE, "deletes entries", lambda: _delete(backend, key))
            await _try(findings, Aspect.CLOCK, "", lambda: _clock(backend))
            await _sweep(backend)
    finally:
        await _tidy(backend, key)
    findings.append(_encryption(backend))
    return findings


class _Wrong(SlothError):
    """An aspect is not as it must be."""


async def _try(
    findings: list[Finding], aspect: Aspect, text: str, work: Callable[[], Awaitable[Finding | None]]
) -> bool:
    """Add what work() finds, or that it fails; return whether it did not fail."""
    try:
        found = await work()
    except BackendUnavailable:
        raise
    except SlothError as error:
        findings.append(Finding(aspect, Verdict.FAILED, error.message, error.hint))
        return False
    findings.append(found or Finding(aspect, Verdict.OK, text))
    return True


async def _read_nothing(backend: Backend, key: str) -> None:
    if await patiently(lambda: backend.read(key)) is not None:
        raise _Wrong("reads an entry that was never written")


async def _write(backend: Backend, key: str) -> None:
    value = secrets.token_bytes(1000)
    await _create(backend, key, value)
    entry = await patiently(lambda: backend.read(key))
    if entry is None or entry.value != value:
        raise _Wrong("what was written is not what is read", hint="is there a cache between?")


async def _create(backend: Backend, key: str, value: bytes) -> None:
    """Create an entry, perhaps by several tries: after a lost answer, "it is there" means that ours was written."""
    await patiently(lambda: backend.write(key, value, None))


async def _conditions(backend: Backend, key: str) -> Finding:
    """Return whether a write is done when, and only when, the entry is as expected."""
    own = f"{key}-conditions"
    wrong = Finding(Aspect.CONDITIONS, Verdict.FAILED, "", hint="locks and shared values need conditional writes")
    try:
        await _create(backend, own, b"1")
        first = await _entry(backend, own)
        if await backend.write(own, b"2", None) is not None:
            return _with(wrong, "an entry that exists is created again")
        second = await backend.write(own, b"2", first.version)
        if second is None:
            return _with(wrong, "an entry is not written, though it is as expected")
        if await backend.write(own, b"3", first.version) is not None:
            return _with(wrong, "an entry is written, though another writer has changed it")
        await backend.forget(own)
        if await backend.write(own, b"4", second) is not None:
            return _with(wrong, "an entry is written, though it was deleted")
        again = await backend.write(own, b"1", None)
        if again is None or again in (first.version, second):
            return _with(wrong, "an entry that was deleted cannot be told from its successor")
    except Unsure as error:
        text = f"an answer was lost: {error.message}"
        return Finding(Aspect.CONDITIONS, Verdict.WARNING, text, "try again")
    except BackendUnavailable:
        raise
    except SlothError as error:
        return Finding(Aspect.CONDITIONS, Verdict.FAILED, error.message, error.hint)
    finally:
        await _tidy(backend, own)
    return Finding(Aspect.CONDITIONS, Verdict.OK, "writes only what is as expected")


async def _entry(backend: Backend, key: str) -> Entry:
    entry = await patiently(lambda: backend.read(key))
    if entry is None:
        raise _Wrong("an entry that was written is not there")
    return entry


async def _list(backend: Backend, key: str) -> None:
    names = await patiently(lambda: backend.names("check/"))
    if key not in names:
        raise _Wrong(f"{len(names)} entries are listed, and the one that was written is not among them")


async def _size(backend: Backend, key: str) -> Finding:
    """Write an entry as large as it may be, and one that needs pieces."""
    limit = backend.piece_size if isinstance(backend, Pieced) else min(backend.limit, LARGEST)
    size = limit + 1 if isinstance(backend, Pieced) else limit
    own = f"{key}-size"
    value = secrets.token_bytes(size)
    try:
        await _create(backend, own, value)
        if (await _entry(backend, own)).value != value:
            raise _Wrong(f"an entry of {size} bytes is not read as it was written")
    finally:
        await _tidy(backend, own)
    pieces = ", and larger ones in pieces" if isinstance(backend, Pieced) else ""
    return Finding(Aspect.SIZE, Verdict.OK, f"takes entries of {limit // 1024} KB{pieces}")


async def _latency(backend: Backend, key: str) -> Finding:
    reads, writes = [], []
    entry = await _entry(backend, key)
    version: str | None = entry.version
    for _ in range(ROUNDS):
        started = time.monotonic()
        entry = await _entry(backend, key)
        reads.append(time.monotonic() - started)
        started = time.monotonic()
        try:
            version = await backend.write(key, secrets.token_bytes(1000), entry.version)
        except Unsure:  # the next round reads it
            continue
        writes.append(time.monotonic() - started)
        if version is None:
            raise _Wrong("an entry of ours was written by somebody else")
    read, write = statistics.median(reads), statistics.median(writes or [0.0])
    text = f"reads in {read * 1000:.1f} ms, writes in {write * 1000:.1f} ms"
    is_slow = max(read, write) > SLOW
    hint = "a server that is nearer, or on faster disks" if is_slow else ""
    return Finding(Aspect.LATENCY, Verdict.WARNING if is_slow else Verdict.OK, text, hint, (read, write))


async def _delete(backend: Backend, key: str) -> None:
    await patiently(lambda: backend.forget(key))
    if await patiently(lambda: backend.read(key)) is not None:
        raise _Wrong("an entry that was deleted is still there")


async def _clock(backend: Backend) -> Finding:
    server = await patiently(backend.clock)
    ahead = server - time.time()
    if abs(ahead) <= SKEW:
        return Finding(Aspect.CLOCK, Verdict.OK, "its clock is ours, give or take a second", seconds=(ahead,))
    text = f"its clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} ours"
    hint = "expiry goes by the server's clock; set the one that is wrong"
    return Finding(Aspect.CLOCK, Verdict.WARNING, text, hint, (ahead,))


def _encryption(backend: Backend) -> Finding:
    if isinstance(backend, Pieced) and backend.is_sealed:
        return Finding(Aspect.ENCRYPTION, Verdict.OK, "values are encrypted on this side; names and sizes are visible")
    hint = "encrypt = true encrypts them on this side"
    return Finding(Aspect.ENCRYPTION, Verdict.OK, "values are not encrypted: the server can read them", hint)


def _with(finding: Finding, text: str) -> Finding:
    return Finding(finding.aspect, finding.verdict, text, finding.hint)


async def _sweep(backend: Backend) -> None:
    if isinstance(backend, Pieced):
        try:
            await backend.sweep()
        except SlothError:  # it is no part of what was asked
            pass


async def _tidy(backend: Backend, key: str) -> None:
    """Delete an entry of the check; what cannot be deleted is a finding of its own."""
    try:
        await backend.forget(key)
    except SlothError:
        pass
