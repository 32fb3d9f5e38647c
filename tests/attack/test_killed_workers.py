"""Runs with workers, and saved plans that are applied, killed at any moment: the run's process, a worker, or both.

A round changes what the site describes, starts a command over three hosts, and kills something after a random time. No
host is left with half a file, nothing is done twice unseen, a status of 0 is true, and the next run converges and
finds that nobody changed anything by hand. 12 rounds with a fixed seed; SLOTH_ATTACK_ROUNDS=150 for the long form,
SLOTH_ATTACK_SEED=1 for other moments.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.world import World, open_world

ROUNDS = int(os.environ.get("SLOTH_ATTACK_ROUNDS", "12"))
SEED = int(os.environ.get("SLOTH_ATTACK_SEED", "20261126"))
HOSTS = ("web1", "web2", "web3")
FAULTS = ("worker", "worker", "all workers", "run", "run and workers", "ended")
PATIENCE = 120.0  # seconds until what was killed must be dead: the machine may be slow
pytestmark = [pytest.mark.attack, pytest.mark.timeout(240 + 15 * ROUNDS)]
SITE = """
task({{ name = "files", notify = "reload", run = function()
    file.directory({{ path = "~/tree", mode = "0755" }})
    file.copy({{ dest = "~/tree/conf", content = "{word}\\n" }})
    file.copy({{ src = "big", dest = "~/tree/big" }})
    file.lineinfile({{ path = "~/tree/lines", line = "version={word}", regexp = "^version=", create = true }})
end }})
task({{ name = "action", depends_on = {{ "files" }}, run = function()
    exec.run("echo {word} >> ~/done; sleep 0.05")
    file.copy({{ dest = "~/tree/last", content = "{word} " .. host.name .. "\\n" }})
end }})
handler({{ name = "reload", run = function()
    exec.run("cat ~/tree/conf > ~/running.new && mv ~/running.new ~/running")
end }})
"""


@pytest.fixture
def fleet_of_three(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path / "controller", HOSTS, isolated=False) as opened:
        yield opened


def describe(world: World, number: int) -> dict[str, dict[str, str]]:
    """Write the site of a round; return the content of each file, by host and path below its home."""
    word = f"word{number}"
    world.write("site.sloth", SITE.format(word=word))
    world.write("big", word * 40_000)
    same = {"tree/conf": f"{word}\n", "tree/big": word * 40_000, "tree/lines": f"version={word}\n"}
    return {host: {**same, "tree/last": f"{word} {host}\n"} for host in HOSTS}


def found(world: World, names: dict[str, str], host: str) -> dict[str, str]:
    home = world.fleet.homes[host]
    return {name: (home / name).read_text() for name in names if (home / name).exists()}


def done(world: World, host: str, word: str) -> int:
    path = world.fleet.homes[host] / "done"
    return path.read_text().split().count(word) if path.exists() else 0


def start(world: World, *words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "HOME": str(world.path), "PYTHONPATH": str(ROOT)}
    environment.pop("SLOTH_INVENTORY", None)
    return subprocess.Popen(
        [sys.executable, "-m", "sloth", words[0], "-i", "inventory.toml", *words[1:]],
        cwd=world.path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def processes(is_one: Callable[[Path], bool]) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and int(entry.name) != os.getpid() and is_one(entry):
                found.append(int(entry.name))
    return found


def workers(world: World) -> list[int]:
    return processes(
        lambda entry: (
            b"workers.worker" in (entry / "cmdline").read_bytes() and Path(os.readlink(entry / "cwd")) == world.path
        )
    )


def on_hosts(world: World) -> list[int]:
    marks = [b"HOME=" + os.fsencode(home) + b"\0" for home in world.fleet.homes.values()]
    return processes(lambda entry: any(mark in (entry / "environ").read_bytes() for mark in marks))


def kill(pids: list[int], number: int = signal.SIGKILL) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def strike(world: World, fault: str, process: subprocess.Popen[str], chance: random.Random) -> None:
    hit = sorted(workers(world))
    if fault in ("run", "run and workers"):
        kill([process.pid])
    if fault in ("all workers", "run and workers"):
        kill(hit)
    elif fault == "worker" and hit:
        kill([chance.choice(hit)])
    elif fault == "ended":
        kill([process.pid], signal.SIGTERM)


def wait_until_quiet(world: World, where: str) -> None:
    end = time.monotonic() + PATIENCE
    while left := workers(world) + on_hosts(world):
        assert time.monotonic() < end, f"{where}: still running: {left}"
        time.sleep(0.02)


def leftovers(world: World, host: str) -> list[str]:
    home = world.fleet.homes[host]
    own = home / ".sloth-runner"
    temporary = [str(path) for path in home.rglob("*") if ".sloth-" in path.name and path != own]
    return [*temporary, *map(str, own.glob("unfinished/*"))]


def test_killed_workers_and_runs_lose_nothing_and_do_nothing_twice(fleet_of_three: World) -> None:
    world = fleet_of_three
    chance = random.Random(SEED)
    seen: Counter[str] = Counter()
    length = 0.0
    for number in (-1, 0):  # the first run takes longer than those that follow
        old = describe(world, number)
        begun = time.monotonic()
        world("run", "-i", "inventory.toml", "-f", "site.sloth", "--workers", "2")
        length = time.monotonic() - begun
    for number in range(1, ROUNDS + 1):
        new = describe(world, number)
        word = f"word{number}"
        is_plan = chance.random() < 0.3
        fault = chance.choice(FAULTS[3:] if is_plan else FAULTS)  # one process applies a plan
        delay = chance.uniform(0.3, 0.95) * length
        where = f"round {number}: {'apply, ' if is_plan else ''}{fault}, after {delay:.3f} s; seed {SEED}"
        if is_plan:
            world("plan", "-i", "inventory.toml", "-f", "site.sloth", "-o", "a.plan")
            process = start(world, "apply", "a.plan", "--allow-unknown")
        else:
            process = start(world, "run", "-f", "site.sloth", "--workers", "2")
        with process:
            time.sleep(delay)
            strike(world, fault, process, chance)
            output, _ = process.communicate(timeout=PATIENCE)
        wait_until_quiet(world, where)
        assert "Traceback" not in output, f"{where}: {output}"
        times = {host: done(world, host, word) for host in HOSTS}
        for host in HOSTS:
            between = found(world, old[host], host)
            wrong = {name for name in between if between[name] not in (old[host][name], new[host][name])}
            assert not wrong, f"{where}: half a file on {host}: {wrong}"
            assert times[host] <= 1, f"{where}: {host} has done it {times[host]} times"
            if process.returncode == 0:
                assert between == new[host], f"{where}: status 0, and {host} is not as described: {output}"
            seen["half done"] += between not in (old[host], new[host])
        seen[f"{fault} -> {process.returncode}"] += 1

        document = json.loads(world("run", "-i", "inventory.toml", "-f", "site.sloth", "-o", "json"))
        results = [one for host in document["hosts"].values() for task in host["tasks"] for one in task["results"]]
        assert len(results) >= 3 * 6
        assert not [one for one in results if one["reason"] == "drift"], f"{where}: nobody changed anything"
        for host in HOSTS:
            assert found(world, new[host], host) == new[host], f"{where}: {host}"
            assert (world.fleet.homes[host] / "running").read_text() == f"{word}\n", f"{where}: {host} lost a handler"
            assert done(world, host, word) == times[host] + 1, f"{where}: {host}"
            assert not leftovers(world, host), f"{where}: {leftovers(world, host)}"
        old = new
    print(dict(seen))
    assert len(json.loads(world("runs", "list", "-o", "json"))) >= min(ROUNDS, 20)
