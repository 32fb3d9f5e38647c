"""Laws of runs with workers, over hosts that are stubs: what hosts share is the same, however they are divided."""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

import pytest

from bench.stubs import WORKER, stubbed
from sloth.engine.events import Event, HostFinished, SkipKind, TaskFinished, TaskStarted
from sloth.engine.options import Options
from sloth.engine.run import Run
from sloth.engine.workers import child
from sloth.inventory import Inventory
from sloth.playbook import Site
from sloth.state.storage import Storage

pytestmark = pytest.mark.timeout(600)

HOSTS = [f"h{number}" for number in range(7)]
# Each round starts several processes; by hand: SLOTH_WORKER_ROUNDS=100.
ROUNDS = int(os.environ.get("SLOTH_WORKER_ROUNDS", "2"))
LIMITS = ("throttle", "serial")


class Randomly:
    """A site of random tasks, whose outcome does not depend on which host is faster."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        self.limits: dict[str, int] = {}
        self.tasks: list[str] = []
        self.once: list[str] = []
        self.seed = seed
        for number in range(rng.randint(3, 6)):
            name = f"t{number}"
            options = [f'name = "{name}"']
            if number and rng.random() < 0.5:
                options.append(f'depends_on = "t{rng.randrange(number)}"')
            kind = rng.choice(("once", "throttle", "serial", "plain", "plain"))
            fails = ""
            if kind == "once":
                options.append("run_once = true")
                self.once.append(name)
            elif kind in LIMITS:
                self.limits[name] = rng.randint(1, 3)
                options.append(f"{kind} = {self.limits[name]}")
            if kind == "plain" and rng.random() < 0.4:
                fails = f'if host.name == "{rng.choice(HOSTS)}" then fail("on purpose") end'
                if rng.random() < 0.5:
                    options.append("ignore_errors = true")
            if kind == "plain" and rng.random() < 0.3:
                chosen = ", ".join(f'"{name}"' for name in rng.sample(HOSTS, 4))
                options.append(f"hosts = {{{chosen}}}")
            delegate = f', delegate_to = "{rng.choice(HOSTS)}"' if rng.random() < 0.3 else ""
            body = f'file.copy({{ dest = "/x{number}", content = "x"{delegate} }}) state.incr("{name}", 1) {fails}'
            self.tasks.append(f"task({{ {', '.join(options)}, run = function() {body} end }})")

    def write(self, directory: Path) -> Path:
        path = directory / "site.sloth"
        path.write_text("\n".join(self.tasks))
        return path


async def run(
    directory: Path, site: Path, count: int, linear: bool, forks: int
) -> tuple[list[Event], dict[str, object]]:
    """Run a site over all hosts; return the events, and the shared values that are left."""
    (directory / "inventory.toml").write_text("[hosts]\n" + "".join(f'{name} = "127.9.9.9"\n' for name in HOSTS))
    inventory = Inventory.read(directory / "inventory.toml")
    storage = Storage(directory / f"home-{count}")
    memory, shared = storage.memory(), storage.shared()
    events: list[Event] = []
    try:
        await Run(
            Site.read(str(site)), inventory, inventory.select("all"),
            Options(workers=count, linear=linear, forks=forks), events.append, memory, shared, storage=storage,
        ).run()  # fmt: skip
        values = {f"t{number}": await shared.call("get", [f"t{number}"]) for number in range(6)}
    finally:
        await storage.close()
        memory.close()
    return events, values


def outcome(events: list[Event], once: list[str]) -> dict[str, list[tuple[str, str, str]]]:
    """Return how each task ended on each host. Which host has a task that runs once is for the run to choose."""
    found: dict[str, list[tuple[str, str, str]]] = {name: [] for name in HOSTS}
    for event in events:
        if isinstance(event, TaskFinished):
            kind = event.skip.kind.value if event.skip else ""
            is_once = event.task in once and (event.skip is None or event.skip.kind is SkipKind.ONCE)
            found[event.host].append((event.task, "" if is_once else event.status.value, "" if is_once else kind))
        elif isinstance(event, HostFinished):
            found[event.host].append(("", event.status.value if not once else "", ""))
    return found


def check_limits(events: list[Event], limits: dict[str, int]) -> None:
    """Fail when more hosts were in a task than may be."""
    inside: Counter[str] = Counter()
    for event in events:
        if isinstance(event, TaskStarted):
            inside[event.task] += 1
            assert inside[event.task] <= limits.get(event.task, len(HOSTS)), event
        elif isinstance(event, TaskFinished) and event.skip is None:
            inside[event.task] -= 1


@pytest.mark.parametrize("seed", range(ROUNDS))
async def test_the_same_becomes_of_hosts_however_they_are_divided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(
        child, "CODE", WORKER.format(latency=0.001, work=0.002, directory=str(tmp_path), code=child.CODE)
    )
    site = Randomly(seed)
    path = site.write(tmp_path)
    linear, forks = seed % 4 == 3, (3, 50)[seed % 2]
    with stubbed(0.001, 0.002):
        expected = None
        for count in (0, 1, 2, 3):
            events, values = await run(tmp_path, path, count, linear, forks)
            check_limits(events, site.limits)
            ran = Counter(event.task for event in events if isinstance(event, TaskStarted))
            assert all(ran[name] <= 1 for name in site.once)
            assert {name: values[name] or 0 for name in values} == {name: ran[name] for name in values}
            found = outcome(events, site.once), values
            expected = expected or found
            assert found == expected, f"seed {seed}, {count} workers:\n{path.read_text()}"
