"""Runs that are killed at any moment: payload, controller, link, sshd; and what must be true afterwards.

A round changes what the site describes, starts a run, and kills something in it. Then, file by file and record by
record: every file is the old one or the new one, and the next run converges, runs the handlers that are owed, leaves no
temporary file, and reports no drift, because nobody changed the host by hand. 40 rounds with a fixed seed;
SLOTH_ATTACK_ROUNDS=500 for the long form, SLOTH_ATTACK_SEED=1 for other moments.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from sloth.engine.events import Event
from sloth.engine.options import Options
from sloth.engine.run import Run
from sloth.inventory import Inventory
from sloth.playbook import Site
from sloth.state.backends.sqlite import SQLite
from sloth.state.memory import Memory
from sloth.state.shared import Shared
from sloth.transport import bundle, session, slim, stage1
from sloth.transport.loopback import LoopbackFleet
from tests.support.link import Link
from tests.support.paths import ROOT
from tests.support.running import finished_hosts, results

ROUNDS = int(os.environ.get("SLOTH_ATTACK_ROUNDS", "40"))
SEED = int(os.environ.get("SLOTH_ATTACK_SEED", "20261126"))
# What is killed. "frozen": the payload stops, then the link breaks, as with a host that hangs and is reset; "silent":
# the link passes nothing on any more, and neither end is told.
FAULTS = ("payload", "payload", "payload", "link", "link", "sshd", "frozen", "ended", "controller", "group", "silent")
SILENCE = 3.0  # seconds, in place of the real limits of a minute at both ends
pytestmark = [
    pytest.mark.attack,
    pytest.mark.timeout(120 + 10 * ROUNDS),
    # The server in this process is cut off in the middle of its work, and leaves its coroutines unfinished.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
PATIENCE = 60.0  # seconds until what was killed must be dead: the machine may be slow

SITE = """
task({{ name = "files", notify = "reload", run = function()
    file.directory({{ path = "~/tree", mode = "{directory_mode}" }})
    file.copy({{ dest = "~/tree/conf", content = "{word}\\n" }})
    file.copy({{ dest = "~/tree/" .. ("n"):rep(240), content = "{word}\\n", backup = {backup} }})
    file.lineinfile({{ path = "~/tree/lines", line = "version={word}", regexp = "^version=", create = true }})
    file.blockinfile({{ path = "~/tree/lines", block = "{word} 1\\n{word} 2" }})
    file.link({{ path = "~/tree/link", src = "{word}", force = true }})
    file.copy({{ src = "big", dest = "~/tree/big", mode = "{mode}" }})
    file.copy({{ src = "small/", dest = "~/tree/small/" }})
end }})
task({{ name = "action", run = function()
    exec.run({{ cmd = "echo {word} >> ~/done; sleep 0.02" }})
    file.template({{ src = "t.j2", dest = "~/tree/template" }})
end }})
handler({{ name = "reload", run = function()
    exec.run("cat ~/tree/conf > ~/running.new && mv ~/running.new ~/running")
end }})
"""


def describe_process(pid: int) -> str:
    """Return what a process is and what it waits for."""
    said = [str(pid)]
    for name in ("cmdline", "wchan", "stat"):
        with contextlib.suppress(OSError):
            said.append(Path(f"/proc/{pid}/{name}").read_bytes()[:120].decode(errors="replace").replace("\0", " "))
    return " | ".join(said)


class Victim:
    """A host whose runs are killed, and the controller of these runs."""

    def __init__(self, servers: LoopbackFleet, link: Link, directory: Path) -> None:
        self.servers = servers
        self.link = link
        self.directory = directory
        self.home = servers.homes["web1"]
        self.controller = directory / "controller"
        self.version = 0
        inventory = servers.inventory_toml().replace(f"port = {servers.ports['web1']}", f"port = {link.port}")
        (directory / "inventory.toml").write_text(inventory)
        with servers.known_hosts.open("a") as known:
            known.write(servers.known_hosts.read_text().replace(f":{servers.ports['web1']} ", f":{link.port} "))
        self.inventory = Inventory.read(directory / "inventory.toml")
        (directory / "small").mkdir()

    def describe(self, version: int) -> dict[str, str]:
        """Write the site of a version; return the hash of every file that it describes, by its path below the home."""
        word = f"word{version}"
        options = {"word": word, "mode": ("0640", "0604")[version % 2], "backup": ("false", "true")[version % 3 == 0]}
        (self.directory / "site.sloth").write_text(SITE.format(directory_mode=("0755", "0711")[version % 2], **options))
        (self.directory / "t.j2").write_text(word + " {{ host.name }}\n")
        big = (word * 1000).encode() * 60  # about half a megabyte: it is sent in several pieces
        (self.directory / "big").write_bytes(big)
        line = f"{word}\n".encode()
        described = {"conf": line, "n" * 240: line, "big": big, "template": f"{word} web1\n".encode()}
        for number in range(4):
            data = f"{word} {number}\n".encode()
            (self.directory / "small" / str(number)).write_bytes(data)
            described[f"small/{number}"] = data
        return {f"tree/{name}": hashlib.sha256(data).hexdigest() for name, data in described.items()}

    def found(self, names: Iterator[str] | dict[str, str]) -> dict[str, str]:
        return {
            name: hashlib.sha256((self.home / name).read_bytes()).hexdigest()
            for name in names
            if (self.home / name).exists()
        }

    async def run(self, on_event: Callable[[Event], None] = lambda event: None, check: bool = False) -> list[Event]:
        events: list[Event] = []

        def emit(event: Event) -> None:
            events.append(event)
            on_event(event)

        memory = Memory(self.controller)
        try:
            shared = Shared(SQLite(self.controller / "shared.db"))
            site = Site.read(str(self.directory / "site.sloth"))
            hosts = self.inventory.select("web1")
            await Run(site, self.inventory, hosts, Options(check=check), emit, memory, shared).run()
        finally:
            memory.close()
        return events

    # Kills

    def processes(self) -> list[int]:
        """Return the processes on the host, which are those with its home."""
        mark = b"HOME=" + os.fsencode(self.home) + b"\0"
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) != os.getpid():
                with contextlib.suppress(OSError):
                    if mark in Path(f"/proc/{name}/environ").read_bytes():
                        found.append(int(name))
        return found

    def payloads(self) -> list[int]:
        """Return the processes that run stage 1 or the payload."""
        found = []
        for pid in self.processes():
            with contextlib.suppress(OSError):
                if b"-I\0-S\0-E\0-c" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return found

    def signal(self, number: int, pids: list[int]) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    async def strike(self, fault: str) -> None:
        """Break what the fault names, once."""
        if fault == "payload":
            self.signal(signal.SIGKILL, self.payloads())
        elif fault == "ended":
            self.signal(signal.SIGTERM, self.payloads())
        elif fault == "group":
            self.signal(signal.SIGKILL, self.processes())
        elif fault == "link":
            self.servers.cut("web1")
        elif fault == "frozen":
            stopped = self.payloads()
            self.signal(signal.SIGSTOP, stopped)
            self.servers.cut("web1")
            await asyncio.sleep(0.02)
            self.signal(signal.SIGKILL, stopped)
        elif fault == "silent":
            self.link.fall_silent()
        elif fault == "sshd":
            await self.servers.stop("web1")
            await self.servers.start("web1")

    async def killed_run(self, fault: str, after: int, delay: float) -> None:
        """Start a run, and break it `delay` seconds after event number `after`."""
        if fault == "controller":
            return await self._killed_controller(delay)
        count = 0
        strikes: list[asyncio.Task[None]] = []

        async def later() -> None:
            await asyncio.sleep(delay)
            await self.strike(fault)

        def on_event(event: Event) -> None:
            nonlocal count
            count += 1
            if count == after + 1:
                strikes.append(asyncio.create_task(later()))

        await asyncio.wait_for(self.run(on_event), PATIENCE)
        for strike in strikes:
            await strike
        return None

    async def _killed_controller(self, delay: float) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "SLOTH_HOME": str(self.controller)}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "sloth", "run", "-i", "inventory.toml", "-f", "site.sloth", "--limit", "web1",
            cwd=self.directory, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        end = time.monotonic() + PATIENCE
        while not self.payloads() and process.returncode is None and time.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        await asyncio.sleep(delay)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()

    async def quiet(self, where: str) -> None:
        """Wait until nothing runs on the host any more."""
        end = time.monotonic() + PATIENCE
        while self.processes():
            assert time.monotonic() < end, f"{where}: still running: {list(map(describe_process, self.processes()))}"
            await asyncio.sleep(0.005)

    # What must be true

    def leftovers(self) -> list[str]:
        own = self.home / ".sloth-runner"
        found = [str(path) for path in self.home.rglob("*") if ".sloth-" in path.name and path != own]
        found += [str(path) for path in own.glob("unfinished/*")]
        found += [str(path) for path in (*own.glob("payload/.new-*"), *own.glob("payload/*/.new-*"))]
        found += [str(path) for path in own.glob("archives/*") if path.suffix != ".json"]
        return [*found, *(str(path) for path in self.home.glob("running.new"))]

    def is_locked(self) -> bool:
        with (self.home / ".sloth-runner/run.lock").open("r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    def check_state(self, described: dict[str, str]) -> None:
        """Compare the records with the host."""
        database = sqlite3.connect(self.home / ".sloth-runner/state/web1.db")
        try:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert database.execute("SELECT count(*) FROM handlers").fetchone() == (0,), "a handler is owed for ever"
            recorded = {}
            for key, observed in database.execute("SELECT key, observed FROM resources"):
                content = (json.loads(observed) or {}).get("content")
                if content:
                    recorded[key.partition(str(self.home) + "/")[2].partition(":")[0]] = content["sha256"]
            for name, digest in described.items():
                assert recorded.get(name) == digest, f"the record of {name} is not what is there"
        finally:
            database.close()


@pytest.fixture
async def victim(tmp_path: Path, short_silence: None) -> AsyncIterator[Victim]:
    async with LoopbackFleet(("web1",), tmp_path / "fleet") as servers, Link(servers.ports["web1"]) as link:
        yield Victim(servers, link, tmp_path)


@pytest.fixture
def short_silence(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Both ends take the other for lost sooner."""

    def impatient(source: bytes, slimmed: Callable[[bytes], bytes] = slim.slim) -> bytes:
        return re.sub(rb"(?m)^(SILENCE|BEAT) = [0-9.]+", lambda m: b"%s = %.1f" % (m[1], limits[m[1]]), slimmed(source))

    limits = {b"SILENCE": SILENCE, b"BEAT": SILENCE / 6}
    monkeypatch.setattr(slim, "slim", impatient)
    monkeypatch.setattr(session, "PING", SILENCE / 6)
    monkeypatch.setattr(session, "SILENCE", SILENCE)
    monkeypatch.setattr(stage1, "SILENCE", SILENCE)
    bundle._build.cache_clear()
    yield
    bundle._build.cache_clear()


async def test_killed_runs_lose_nothing(victim: Victim) -> None:
    chance = random.Random(SEED)
    seen: Counter[str] = Counter()
    old = victim.describe(0)
    length = len(await victim.run())
    for number in range(1, ROUNDS + 1):
        new = victim.describe(number)
        fault = chance.choice(FAULTS)
        after, delay = chance.randrange(length), chance.choice((0.0, chance.uniform(0, 0.03), chance.uniform(0, 0.3)))
        where = f"round {number}: {fault}, {delay:.3f} s after event {after}; seed {SEED}"
        await victim.killed_run(fault, after, delay)
        await victim.quiet(where)
        between = victim.found(old)
        wrong = {name for name in old if between.get(name) not in (old[name], new[name])}
        assert not wrong, f"{where}: half a file: {wrong}"
        seen[fault] += 1
        seen["half done"] += between not in (old, new)
        seen["left something"] += bool(victim.leftovers())

        events = await victim.run()
        end = finished_hosts(events)["web1"]
        assert end.status in ("changed", "unchanged"), f"{where}: {end.error}"
        lies = [r for r in results(events) if r.reason in ("drift", "new")]
        assert not [r for r in lies if r.reason == "drift"], f"{where}: nobody changed anything: {lies}"
        assert victim.found(new) == new, where
        assert (victim.home / "running").read_text() == f"word{number}\n", f"{where}: a handler was lost"
        assert (victim.home / "tree/link").readlink() == Path(f"word{number}"), where
        assert f"word{number}" in (victim.home / "done").read_text().split(), where
        assert not victim.leftovers(), f"{where}: {victim.leftovers()}"
        assert not victim.is_locked(), where
        victim.check_state(new)
        if number % 4 == 0:
            again = results(await victim.run(check=True))
            assert {r.status for r in again if r.module != "exec.run"} == {"unchanged"}, where
        old = new
    print(dict(seen))
    assert seen["half done"] or ROUNDS < 20, "the kills came too early or too late"
