"""Hosts that answer wrongly, beside one that answers rightly: each fails alone, in bounded time, and the run fails."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

import pytest

from sloth.engine import sessions
from sloth.engine.events import Event, HostFinished
from sloth.engine.options import Options
from sloth.engine.run import Run
from sloth.inventory import Inventory
from sloth.playbook import Site
from sloth.report import make
from sloth.report.junit import JUnit
from sloth.state.backends.sqlite import SQLite
from sloth.state.memory import Memory
from sloth.state.shared import Shared
from sloth.transport import outbox, session
from sloth.transport.loopback import LoopbackFleet
from tests.attack.hostile_peer import ATTACKS
from tests.support.paths import ROOT
from tests.support.peers import end_peers

pytestmark = pytest.mark.attack

SITE = """
task({ name = "t", timeout = 15, run = function()
    local r = exec.run("echo out")
    print(r.stdout, r.key, r.before, r.diff)
    state.delete("nothing")
    print(facts.os_family)
    file.copy({ content = ("x"):rep(3000000), dest = "~/large" })
end })
task({ name = "last", run = function() exec.run("true") end })
"""
KINDS = ("plain", "json", "ndjson")
SILENCE = 6.0  # seconds, in place of the real limits of a minute
SLOW = 3  # a busy machine may take so many times as long
FLOODS = ("noise-without-a-mark", "errors-without-a-mark", "mark-then-no-line", "need-endlessly", "output-endlessly",
          "errors-endlessly", "alive-endlessly", "rows-endlessly", "replica-endlessly")  # fmt: skip


@pytest.fixture
def peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory of programs that are named like attacks; what they leave running is ended."""
    programs, pids = tmp_path / "programs", tmp_path / "pids"
    programs.mkdir()
    pids.mkdir()
    script = ROOT / "tests" / "attack" / "hostile_peer.py"
    for name in ATTACKS:
        path = programs / name
        environment = f"HOSTILE_PIDS={pids} PYTHONPATH={ROOT}"
        path.write_text(f"#!/bin/sh\nexport {environment}\nexec nice -n 19 {sys.executable} -S {script} {name}\n")
        path.chmod(0o755)
    yield programs
    end_all(programs)


def end_all(peers: Path) -> None:
    """End the peers that still run."""
    end_peers(peers.parent / "pids")


def inventory_of(servers: LoopbackFleet, peers: Path, attacks: Sequence[str]) -> str:
    """Return an inventory of the good host and one for each attack, all on the same server."""
    lines = [servers.inventory_toml(), "[defaults.vars]"]
    for name in attacks:
        lines += [f'[hosts."{name}"]', 'address = "127.0.0.1"', f"port = {servers.ports['good']}"]
        lines += [f'python = "{peers / name}"']
    return "\n".join(lines)


async def run_all(
    directory: Path, peers: Path, attacks: Sequence[str], text: str = SITE
) -> tuple[int, dict[str, HostFinished]]:
    """Run SITE on the good host and on the others; return the exit status and their ends. Reports are files."""
    async with LoopbackFleet(("good",), directory / "fleet") as servers:
        path = directory / "inventory.toml"
        path.write_text(inventory_of(servers, peers, attacks))
        inventory = Inventory.read(path)
        site = directory / "site.sloth"
        site.write_text(text)
        ended: dict[str, HostFinished] = {}
        outs = [(directory / kind).open("w", encoding="utf-8") for kind in KINDS]  # strict: it takes no surrogates
        aside = (directory / "aside").open("w", encoding="utf-8")
        reporters = [
            make(kind, diff=True, verbosity=3, stdout=out, stderr=aside) for kind, out in zip(KINDS, outs, strict=True)
        ]
        reporters.append(JUnit(str(directory / "junit.xml")))

        def emit(event: Event) -> None:
            if isinstance(event, HostFinished):
                ended[event.host] = event
            for one in reporters:
                one.emit(event)

        memory = Memory(directory / "controller")
        shared = Shared(SQLite(directory / "shared.db"))
        options = Options(forks=30, lock_wait=0.5)
        job = Run(Site.read(str(site)), inventory, inventory.select("all"), options, emit, memory, shared)
        try:
            status = await job.run()
        finally:
            for one in reporters:
                one.close()
            memory.close()
            for out in (*outs, aside):
                out.close()
            end_all(peers)
            await asyncio.sleep(0.5)  # the servers see them end
        return status, ended


@contextlib.contextmanager
def impatient() -> Iterator[None]:
    """Let limits of a minute be those of seconds."""
    with contextlib.ExitStack() as stack:
        for module, name, value in (
            (session, "PING", 1.0), (session, "SILENCE", SILENCE), (session, "BYE", SILENCE), (session, "CLOSE", 2.0),
            (sessions, "BOOTSTRAP", SILENCE), (outbox, "STALLED", SILENCE),
        ):  # fmt: skip
            stack.enter_context(mock.patch.object(module, name, value))
        yield


def chosen() -> list[str]:
    """Return the attacks that are made: all of them, in an order that differs in the long form."""
    names = [name for name in ATTACKS if name not in FLOODS]
    random.Random(os.environ.get("SLOTH_ATTACK_ROUNDS", "13")).shuffle(names)
    return names


@pytest.mark.timeout(300)
async def test_each_fails_alone(tmp_path: Path, peers: Path) -> None:
    attacks = chosen()
    begun = time.monotonic()
    with impatient():
        status, ended = await run_all(tmp_path, peers, attacks)
    took = time.monotonic() - begun
    print(f"{len(attacks)} attacks in {took:.1f} s")
    assert status == 1
    assert ended["good"].status == "changed", ended["good"].error
    wrong = {
        name: (ended[name].status, ended[name].error)
        for name in attacks
        if (ended[name].status in ("changed", "unchanged")) != ATTACKS[name][1]
    }
    assert wrong == {}
    defects = {name: end.error for name, end in ended.items() if "defect of sloth-runner" in (end.error or "")}
    assert defects == {}
    without_words = [name for name in attacks if not ATTACKS[name][1] and not (ended[name].error or "").strip()]
    assert without_words == []
    check_reports(tmp_path, ended)


REBOOT = """
task({ name = "t", run = function()
    if host.name ~= "good" then host.reboot({ timeout = 3, reboot_command = "true" }) end
    file.copy({ content = "x", dest = "~/after" })
end })
"""


@pytest.mark.timeout(300)
async def test_a_host_that_does_not_say_whether_it_has_rebooted_fails(tmp_path: Path, peers: Path) -> None:
    attacks = [name for name in ATTACKS if name.startswith("query-")]
    with impatient():
        status, ended = await run_all(tmp_path, peers, attacks, REBOOT)
    assert status == 1
    assert ended["good"].status == "changed"
    errors = {name: ended[name].error or "" for name in attacks}
    assert {name for name in attacks if ended[name].status not in ("failed", "unreachable")} == set(), errors
    assert [name for name, error in errors.items() if "defect" in error or not error] == []
    for name in ("query-boot-none", "query-boot-without"):
        assert "the query boot" in errors[name], errors[name]
    for name in ("query-boot-empty", "query-boot-unknown"):
        assert "it cannot be known when" in errors[name], errors[name]
    check_reports(tmp_path, ended)


def check_reports(directory: Path, ended: dict[str, HostFinished]) -> None:
    """Every report can be read, has every host, and does nothing to a terminal."""
    plain = (directory / "plain").read_text(encoding="utf-8") + (directory / "aside").read_text(encoding="utf-8")
    assert re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", plain) is None
    assert set(json.loads((directory / "json").read_text())["hosts"]) == set(ended)
    lines = [json.loads(line) for line in (directory / "ndjson").read_text().splitlines()]
    assert {line["host"]: line["status"] for line in lines if line["event"] == "host_finished"} == {
        name: end.status for name, end in ended.items()
    }
    suites = {suite.get("name"): suite for suite in ET.parse(directory / "junit.xml").getroot()}
    assert set(suites) == set(ended)
    for name, end in ended.items():
        problems = int(suites[name].get("failures", 0)) + int(suites[name].get("errors", 0))
        assert bool(problems) == (end.status in ("failed", "unreachable")), name
    memory = Memory(directory / "controller")
    try:
        (run,) = memory.runs.newest()
        assert run.status == 1
        failed = {row.host for row in memory.runs.results(run.run) if row.status in ("failed", "unreachable")}
    finally:
        memory.close()
    assert failed == {name for name, end in ended.items() if end.status in ("failed", "unreachable")}


FLOOD_SITE = """
task({ name = "t", run = function()
    local r = exec.run("echo out")
    print(r.stdout)
    state.delete("nothing")
    file.copy({ content = ("x"):rep(3000000), dest = "~/large" })
end })
"""
FLOODED = 8.0  # seconds
LARGEST = 600  # MB of memory, with all floods at once; without bounds it was 40 MB/s for each


def test_floods_fill_no_memory_and_the_first_interrupt_ends_them(tmp_path: Path, peers: Path) -> None:
    """Hosts that send as much as they can, all at once, for FLOODED seconds; then the user presses Ctrl-C."""
    (tmp_path / "site.sloth").write_text(FLOOD_SITE)
    lines = ['[hosts.good]\nconnection = "local"']
    lines += [f'[hosts.{name}]\nconnection = "local"\npython = "{peers / name}"' for name in FLOODS]
    (tmp_path / "inventory.toml").write_text("\n".join(lines))
    home = tmp_path / "home"
    home.mkdir()
    with (tmp_path / "out").open("w") as out:
        command = [sys.executable, "-m", "sloth", "run", "-o", "ndjson", "-f", "site.sloth", "-i", "inventory.toml"]
        environment = {**os.environ, "HOME": str(home), "PYTHONPATH": str(ROOT)}
        running = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=out, stderr=out)
        try:
            end = time.monotonic() + 60
            time.sleep(FLOODED)
            while '"host": "good", "status"' not in (tmp_path / "out").read_text() and time.monotonic() < end:
                time.sleep(0.5)
            largest = int(re.findall(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{running.pid}/status").read_text())[0]) // 1024
            running.send_signal(signal.SIGINT)
            begun = time.monotonic()
            status = running.wait(60)
            took = time.monotonic() - begun
        finally:
            running.kill()
    print(f"{largest} MB; ended {took:.1f} s after the interrupt")
    assert status == 130
    assert took < 15 * SLOW
    assert largest < LARGEST
    lines = (tmp_path / "out").read_text().splitlines()
    ended = {event["host"]: event["status"] for event in map(json.loads, lines) if event["event"] == "host_finished"}
    assert set(ended) == {"good", *FLOODS}
    assert ended["good"] == "changed"
    end = time.monotonic() + 10
    while left := [name for entry in (peers.parent / "pids").iterdir() if (name := command_of(entry.name))]:
        assert time.monotonic() < end, left
        time.sleep(0.1)


def command_of(pid: str) -> str:
    """Return the command line of a process, "" if there is none."""
    try:
        return Path("/proc", pid, "cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""
