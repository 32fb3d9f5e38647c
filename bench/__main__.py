"""W1, a converged run of 20 resources on 10 hosts, beside bare asyncssh; and round trips through a slow link."""

from __future__ import annotations

import asyncio
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.proxy import DelayProxy
from sloth.engine.options import Options
from sloth.engine.run import Run
from sloth.inventory import Inventory
from sloth.playbook import Site
from sloth.state.memory import Memory
from sloth.state.shared import Shared
from sloth.transport.loopback import LoopbackFleet

ROUNDS = 7
HOSTS = tuple(f"host{number:02d}" for number in range(1, 11))
FLOOR = """
import asyncio, asyncssh, sys
key, known, *ports = sys.argv[1:]
async def one(port):
    options = dict(known_hosts=known, client_keys=[key], config=None)
    async with asyncssh.connect("127.0.0.1", int(port), **options) as link:
        await link.run("python3 -S -E -I -c pass")
async def main():
    await asyncio.gather(*(one(port) for port in ports))
asyncio.run(main())
"""


def site(copies: int, lines: int) -> str:
    """A site of `copies` files and `lines` lines."""
    return f"""
task({{ name = "bench", run = function()
    local text = string.rep("0123456789abcde\\n", 256)
    for i = 1, {copies} do file.copy({{ dest = "~/file" .. i, content = text .. i }}) end
    for i = 1, {lines} do file.lineinfile({{ path = "~/lines", line = "line " .. i, create = true }}) end
end }})
"""


def clock(command: list[str], environment: dict[str, str]) -> float:
    """Seconds that a command takes."""
    begun = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


async def converged(directory: Path) -> list[str]:
    """W1: sloth-runner and the floor in turn, each a process of its own, against servers of this process."""
    async with LoopbackFleet(HOSTS, directory / "w1") as fleet:
        (directory / "inventory.toml").write_text(fleet.inventory_toml())
        (directory / "site.sloth").write_text(site(8, 12))
        ports = [str(port) for port in fleet.ports.values()]
        environment = {**os.environ, "SLOTH_HOME": str(directory / "controller")}
        run = [sys.executable, "-m", "sloth", "run", "-i", str(directory / "inventory.toml")]
        run += ["-f", str(directory / "site.sloth"), "--output", "plain"]
        floor = [sys.executable, "-c", FLOOR, str(fleet.key_file), str(fleet.known_hosts), *ports]
        first = await asyncio.to_thread(clock, run, environment)
        await asyncio.to_thread(clock, run, environment)
        times: dict[str, list[float]] = {"run": [], "floor": []}
        for _ in range(ROUNDS):
            times["run"].append(await asyncio.to_thread(clock, run, environment))
            times["floor"].append(await asyncio.to_thread(clock, floor, environment))
    ours, bare = statistics.median(times["run"]), statistics.median(times["floor"])
    return [
        "## A converged run of 20 resources on 10 hosts",
        "",
        "8 copies of 4 KB and 12 lines, on 10 loopback SSH servers (asyncssh, in one process on the same two cores, so",
        "that the servers' work is in every number). The floor connects to the same hosts and starts Python on each.",
        "",
        "| | median of " + str(ROUNDS) + " |",
        "|---|---|",
        f"| bare asyncssh (the floor) | {bare:.2f} s |",
        f"| `sloth-runner run`, converged | {ours:.2f} s ({ours / bare:.2f} times the floor) |",
        f"| `sloth-runner run`, the first run | {first:.2f} s |",
        "",
    ]


async def turns(directory: Path, resources: int, delay: float) -> tuple[int, float]:
    """Round trips and seconds of a converged run of `resources` lines on one host behind a slow link."""
    async with LoopbackFleet(("slow",), directory) as fleet, DelayProxy(fleet.ports["slow"], delay) as proxy:
        text = fleet.inventory_toml().replace(f"port = {fleet.ports['slow']}", f"port = {proxy.port}")
        fleet.known_hosts.write_text(fleet.known_hosts.read_text().replace(str(fleet.ports["slow"]), str(proxy.port)))
        (directory / "inventory.toml").write_text(text)
        (directory / "site.sloth").write_text(site(resources // 2, resources - resources // 2))
        inventory = Inventory.read(directory / "inventory.toml")
        for _ in range(3):
            memory = Memory(directory / "controller")
            proxy.turns = 0
            begun = time.perf_counter()
            loaded = Site.read(str(directory / "site.sloth"))
            shared = Shared(directory / "shared.db")
            job = Run(loaded, inventory, inventory.select("all"), Options(), lambda event: None, memory, shared)
            status = await job.run()
            seconds = time.perf_counter() - begun
            memory.close()
            assert status == 0
        return proxy.turns, seconds


async def latency(directory: Path) -> list[str]:
    """Round trips must not grow with the number of resources."""
    rows = []
    for resources in (10, 100, 300):
        count, seconds = await turns(directory / str(resources), resources, 0.05)
        rows.append(f"| {resources} | {count} | {seconds:.2f} s |")
    return [
        "## Round trips",
        "",
        "A converged run on one host behind a proxy that holds every byte back for 50 ms each way (100 ms round trip).",
        "",
        "| resources | round trips | wall |",
        "|---|---|---|",
        *rows,
        "",
    ]


def main() -> None:
    """Run everything; print the report and write it to docs/benchmarks.md."""
    with tempfile.TemporaryDirectory(prefix="sloth-bench-") as name:
        directory = Path(name)
        parts = asyncio.run(converged(directory)) + asyncio.run(latency(directory))
    machine = f"Python {platform.python_version()}, {os.cpu_count()} cores, Linux {platform.release()}"
    text = "\n".join(["# Benchmarks", "", f"Written by `python -m bench` ({machine}).", "", *parts])
    print(text)
    Path(__file__).parent.parent.joinpath("docs", "benchmarks.md").write_text(text)


main()
