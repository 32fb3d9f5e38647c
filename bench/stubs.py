"""Hosts that are stubs: the real engine.Run, over connections whose other end answers the wire as a payload does.

`python -m bench stubs HOSTS [--latency S] [--forks N] [--resources N] [--site FILE] [--output KIND]
[--workers N]` runs a site over that many of them and prints what each host cost the controller. With workers, that is
what it cost the run's own process, and beside it the workers, whose CPU has that of the stubs in it. No host does
anything, so what grows faster than the hosts is the controller's own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import gc
import io
import os
import resource
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from sloth.engine.options import Options
from sloth.engine.sessions import Sessions
from sloth.inventory import Host
from sloth.payload.kernel.status import Status
from sloth.payload.session import messages, wire
from sloth.transport import stage1
from sloth.transport.connection import Connection, Opening

HEADER = len(stage1.HEADER % ("", 0))
# What workers run, so that their hosts are stubs, too.
WORKER = """import ast, sys
sys.path[:] = ast.literal_eval(sys.argv[1])
from bench.stubs import report_spent, stubbed
stub = stubbed({latency}, {work})
stub.__enter__()
import atexit, os
atexit.register(report_spent, {directory!r})
{code}"""
FACTS = {"hostname": "stub", "os": "linux", "arch": "x86_64", "memory_mb": 1024, "cpus": 2}


class StubProcess:
    """A payload that has nothing to do: each frame is answered `latency` seconds later, a call after `work` more."""

    def __init__(self, latency: float, work: float) -> None:
        self._latency = latency
        self._work = work
        self._out: list[bytes] = []
        self._more: asyncio.Future[None] | None = None
        self._head = b""
        self._has_begun = False

    async def write(self, data: bytes) -> None:
        begun = time.perf_counter()
        self._take(data)
        Spent.seconds += time.perf_counter() - begun

    def _take(self, data: bytes) -> None:
        data = self._head + data
        if not self._has_begun:
            rest = _after_bundle(data)
            if rest is None:
                self._head = data
                return
            self._has_begun = True
            data = rest
            self._later(self._latency, wire.MARK + b"OK\n")
        answers: list[bytes] = []
        has_calls = is_last = False
        start = 0
        while len(data) - start >= wire.HEADER.size:
            end = start + wire.HEADER.size + wire.HEADER.unpack_from(data, start)[0]
            if end > len(data):
                break
            answer, is_call, is_close = _answers(data[start:end])
            answers.append(answer)
            has_calls, is_last = has_calls or is_call, is_last or is_close
            start = end
        self._head = data[start:]
        if any(answers):
            self._later(self._latency + (self._work if has_calls else 0), b"".join(answers), is_last)

    def _later(self, seconds: float, data: bytes, is_last: bool = False) -> None:
        loop = asyncio.get_running_loop()
        if seconds:
            loop.call_later(seconds, self._put, data, is_last)
        else:
            loop.call_soon(self._put, data, is_last)

    def _put(self, data: bytes, is_last: bool) -> None:
        self._out += [data, b""] if is_last else [data]
        if self._more is not None and not self._more.done():
            self._more.set_result(None)

    async def read(self, limit: int) -> bytes:
        if not self._out:
            self._more = asyncio.get_running_loop().create_future()
            await self._more
        return self._out.pop(0)

    def stderr_tail(self) -> str:
        return ""

    async def stderr_contains(self, text: str, after: int) -> int:
        await asyncio.Event().wait()
        return 0

    async def wait(self) -> int | None:
        return 0

    def kill(self) -> None:
        pass


class Spent:
    """What the stubs of this process have cost, in seconds of wall time: the clock of a thread costs as much again."""

    seconds = 0.0


def _after_bundle(data: bytes) -> bytes | None:
    """Return what comes after the bundle, and the code that follows one that is sent; None: it is not whole yet."""
    parts = 1
    while parts:
        if len(data) < HEADER:
            return None
        size = int(data[:HEADER].split()[-1])
        if len(data) < HEADER + size:
            return None
        data = data[HEADER + size :]
        parts = int(bool(size) and _is_header(data))
    return data


def _is_header(data: bytes) -> bool:
    return len(data) >= HEADER and data[HEADER - 1 : HEADER] == b"\n" and data[HEADER - 13 : HEADER - 1].isdigit()


@functools.lru_cache(maxsize=10_000)
def _answers(frame: bytes) -> tuple[bytes, bool, bool]:
    """Return what answers a frame, and whether it is a call, or the goodbye. Most hosts are sent the same frames."""
    (message,) = wire.Decoder(messages.FROM_CONTROLLER).feed(frame)
    answer = _answer(message)
    packed = b"" if answer is None else wire.pack(answer)
    return packed, isinstance(message, messages.Call), isinstance(message, messages.Close)


def _answer(frame: messages.Message | wire.Blob) -> messages.Message | None:
    if isinstance(frame, messages.Hello):
        return messages.Ready(v=messages.VERSION, python="3.11", user="root", home="/root", pid=1)
    if isinstance(frame, messages.Call):
        what = frame.args.get("path") or frame.args.get("dest") or frame.id
        return messages.Reply(
            id=frame.id,
            status=Status.UNCHANGED,
            key=f"{frame.name.replace('.', ':')}:{what}",
            values=FACTS if frame.name == "facts.gather" else {},
            seconds=0.001,
        )
    if isinstance(frame, messages.StateQuery):
        return messages.Rows(id=frame.id)
    if isinstance(frame, messages.Ping):  # a host that waits for others gives signs of life
        return messages.Alive()
    return messages.Bye() if isinstance(frame, messages.Close) else None


class StubConnection:
    """A connection to a stub."""

    python = "/usr/bin/python3"
    opening = Opening()

    def __init__(self, latency: float, work: float) -> None:
        self._latency = latency
        self._work = work

    async def start(self, command: str) -> StubProcess:
        await asyncio.sleep(self._latency)
        return StubProcess(self._latency, self._work)

    async def close(self) -> None:
        pass


@contextlib.contextmanager
def stubbed(latency: float = 0.0, work: float = 0.0) -> Iterator[None]:
    """Let every session of this process be with a stub. latency: seconds of a round trip; work: of all calls."""

    async def connect(self: Sessions, host: Host) -> Connection:
        await asyncio.sleep(2 * latency)
        return StubConnection(latency, work)

    real = Sessions._connect
    Sessions._connect = connect  # type: ignore[method-assign]
    try:
        yield
    finally:
        Sessions._connect = real  # type: ignore[method-assign]


def report_spent(directory: str) -> None:
    """Leave the seconds of this process's stubs for the run's process."""
    Path(directory, f"spent-{os.getpid()}").write_text(str(Spent.seconds))


def write_site(directory: Path, resources: int) -> Path:
    """Write a site of two tasks, of which the second depends on the first; return its path."""
    half = max(1, resources // 2)
    tasks = []
    for name, begin, end, options in (("base", 0, half, ""), ("rest", half, resources, 'depends_on = {"base"}, ')):
        calls = "".join(f'  file.copy({{dest = "/etc/conf{n}", content = "value {n}"}})\n' for n in range(begin, end))
        tasks.append(f'task({{name = "{name}", {options}run = function()\n{calls}end}})\n')
    path = directory / "site.sloth"
    path.write_text("".join(tasks))
    return path


def write_inventory(directory: Path, hosts: int) -> Path:
    """Write an inventory of so many hosts in ten groups; return its path."""
    names = [f"h{number:06}" for number in range(hosts)]
    text = "[hosts]\n" + "".join(f'{name} = {{address = "127.9.9.9"}}\n' for name in names)
    for group in range(10):
        text += f"[groups.g{group}]\nhosts = [{', '.join(repr(name) for name in names[group::10])}]\n"
    path = directory / "inventory.toml"
    path.write_text(text)
    return path


def main(words: list[str]) -> None:
    """Run a site over stubs and print what a host cost."""
    parser = argparse.ArgumentParser(prog="python -m bench stubs")
    parser.add_argument("hosts", type=int, nargs="+")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds of a round trip")
    parser.add_argument("--work", type=float, default=0.0, help="seconds that a host needs for its calls")
    parser.add_argument("--forks", type=int, default=50)
    parser.add_argument("--resources", type=int, default=20)
    parser.add_argument("--site", type=Path)
    parser.add_argument("--output", default="none", help="none, plain, rich, json or ndjson")
    parser.add_argument("--strategy", default="free")
    parser.add_argument("--workers", type=int, default=0)
    given = parser.parse_args(words)
    print(
        "| hosts | wall | controller CPU | CPU a host | memory | a host beyond the first row | events | status |"
        " workers' CPU a host | largest worker | stubs among it |"
    )
    print("|---" * 11 + "|")
    first: tuple[int, float] | None = None
    for hosts in given.hosts:
        reading, writing = os.pipe()
        child = os.fork()  # each size in a process of its own: the most memory of a process never shrinks
        if child == 0:
            os.close(reading)
            try:
                os.write(writing, _measured(hosts, given).encode())
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            wall, cpu, memory, events, status, workers_cpu, workers_memory, spent = pipe.read().split()
        os.waitpid(child, 0)
        first = first or (hosts, float(memory))
        more = f"{(float(memory) - first[1]) / (hosts - first[0]):.0f} KB" if hosts > first[0] else ""
        print(
            f"| {hosts} | {float(wall):.1f} s | {float(cpu):.1f} s | {float(cpu) / hosts * 1000:.2f} ms |"
            f" {float(memory) / 1024:.0f} MB | {more} | {events} | {status} |"
            f" {float(workers_cpu) / hosts * 1000:.2f} ms | {float(workers_memory) / 1024:.0f} MB |"
            f" {float(spent) / hosts * 1000:.2f} ms |",
            flush=True,
        )


def _measured(hosts: int, given: argparse.Namespace) -> str:
    """Return what main() prints of a run in this process: wall, CPU, memory in KB, ..."""
    from sloth.cli import COLLECT
    from sloth.cli.execute import execute
    from sloth.engine.events import Event
    from sloth.engine.workers import child
    from sloth.inventory import Inventory
    from sloth.playbook import Site
    from sloth.report import make
    from sloth.state.storage import Storage
    from sloth.transport import bundle

    gc.freeze()  # as the program does when it has started
    gc.set_threshold(COLLECT)
    with tempfile.TemporaryDirectory(prefix="sloth-stubs-") as name, stubbed(given.latency, given.work):
        directory = Path(name)
        os.environ["SLOTH_HOME"] = os.environ["HOME"] = name
        path = given.site or write_site(directory, given.resources)
        inventory = write_inventory(directory, hosts)
        counts: Counter[str] = Counter()
        bundle.build({}, directory)  # kept from one run to the next, and not built for each
        begun, cpu = time.monotonic(), time.process_time()
        out = io.StringIO()
        inner = (
            make(given.output, diff=False, verbosity=0, stdout=out, stderr=io.StringIO())
            if given.output != "none"
            else None
        )

        class Counting:
            def emit(self, event: Event) -> None:
                counts[type(event).__name__] += 1
                if inner is not None:
                    inner.emit(event)

            def close(self) -> None:
                if inner is not None:
                    inner.close()

        everything = Inventory.read(inventory)
        site = Site.read(str(path))
        options = Options(forks=given.forks, linear=given.strategy == "linear", workers=given.workers)
        child.CODE = WORKER.format(latency=given.latency, work=given.work, directory=name, code=child.CODE)
        status = execute(
            site, everything, tuple(everything.hosts.values()), options, reporter=Counting(), storage=Storage()
        )
        wall, cpu = time.monotonic() - begun, time.process_time() - cpu
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        spent = Spent.seconds + sum(float(path.read_text()) for path in directory.glob("spent-*"))
    workers_usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    divided = f"{workers_usage.ru_utime + workers_usage.ru_stime} {workers_usage.ru_maxrss}"
    return f"{wall} {cpu} {memory} {counts.total()} {status} {divided} {spent}"
