"""`python -m bench [WORK...]` measures the same work done by sloth-runner, its peers and a floor.

It writes docs/benchmarks.md; `--help` names the works.
`python -m bench stubs HOSTS...` measures the controller alone, over hosts that are stubs (see bench/stubs.py).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench import peers
from bench.measure import Sample, measure, median
from bench.plot import bars
from bench.proxy import proxied
from bench.servers import Servers

ROUNDS = 3  # of everything, in turn
OWN_ROUNDS = 11  # of the floor and of ourselves, which take a second each: their ratio varies by a fifth
OURS = 7  # of what the peers have no part in
HEAD = f"""# Benchmarks

`python -m bench` writes every section, `python -m bench WORK` one of them. The peers are
{", ".join(peers.PINNED)}, in a virtual environment of their own. Each host is a process of OpenSSH's
sshd on loopback with a home directory of its own, so the hosts' work is in every number. Medians of {ROUNDS} rounds
in turn; in W1 and W2 of {OWN_ROUNDS} rounds of the floor and of sloth-runner, and of one first run of each
peer. The floor is a bare asyncssh script that connects to the same hosts and starts Python on each."""
DOCS = Path(__file__).parent.parent / "docs"
MB = 1024 * 1024
DELAY = 0.025  # seconds each way: a round trip of 50 ms

Commands = dict[str, tuple[list[str], dict[str, str]]]  # of each contender, with its environment


class Bench:
    """The measurements of one run of the benchmarks, in one directory."""

    def __init__(self, directory: Path, with_peers: bool) -> None:
        self.directory = directory
        self.with_peers = with_peers
        self.environment = peers.environment(directory)
        self.lines: list[str] = []
        self._number = 0

    def fresh(self) -> Path:
        """Create a directory and return its path."""
        self._number += 1
        path = self.directory / str(self._number)
        path.mkdir()
        return path

    def say(self, *lines: str) -> None:
        self.lines += lines
        print("\n".join(lines), flush=True)

    # Comparisons

    def compare(self, title: str, work: peers.Work, hosts: int, name: str, first: bool = False) -> None:
        """Measure one work with all contenders in turn. first: each time on hosts on which nothing was done yet."""
        directory = self.fresh()
        with Servers([f"host{n:02d}" for n in range(1, hosts + 1)], directory / "servers") as servers:
            commands: Commands = {who: (ours, {}) for who, ours in peers.write(directory, servers, work).items()}
            if self.with_peers:
                commands.update(peers.peers(directory, servers, hosts))
            samples: dict[str, list[Sample]] = {who: [] for who in commands}
            theirs = 1 if first else ROUNDS
            for turn in range(1 if first else 0, OWN_ROUNDS + 1):  # turn 0 brings the hosts there
                for who, (command, more) in commands.items():
                    if turn > (OWN_ROUNDS if who in ("floor", "sloth-runner") else theirs):
                        continue
                    if first:
                        self._wipe(servers)
                    sample = measure(command, {**self.environment, **more}, directory=directory, hosts_cpu=servers.cpu)
                    if turn:
                        samples[who].append(sample)
            on_the_wire = asyncio.run(self._count(directory, servers, work, first))
        self._table(title, {who: median(found) for who, found in samples.items()}, on_the_wire, name)

    async def _count(
        self, directory: Path, servers: Servers, work: peers.Work, first: bool
    ) -> dict[str, tuple[int, int]]:
        """Run each contender once through a counting proxy.

        Returns for each one the bytes of all hosts, and the round trips of the host with the most.
        """
        counted = {}
        async with proxied(servers, DELAY) as proxies:
            ports = {name: proxy.port for name, proxy in proxies.items()}
            commands: Commands = {who: (ours, {}) for who, ours in peers.write(directory, servers, work, ports).items()}
            if self.with_peers:
                commands.update(peers.peers(directory, servers, len(ports)))
            for who, (command, more) in commands.items():
                if first:
                    self._wipe(servers)
                before = [(proxy.bytes, proxy.turns) for proxy in proxies.values()]
                await asyncio.to_thread(measure, command, {**self.environment, **more}, directory=directory)
                after = [(proxy.bytes, proxy.turns) for proxy in proxies.values()]
                size = sum(new[0] - old[0] for old, new in zip(before, after, strict=True))
                counted[who] = (size, max(new[1] - old[1] for old, new in zip(before, after, strict=True)))
        return counted

    def _wipe(self, servers: Servers) -> None:
        for name in servers.names:
            shutil.rmtree(servers.home(name))
            servers.home(name).mkdir()

    def _table(
        self, title: str, results: dict[str, Sample], on_the_wire: dict[str, tuple[int, int]], name: str
    ) -> None:
        ours, floor = results["sloth-runner"].wall, results["floor"].wall
        self.say(f"## {title}", "")
        heads = ["wall", "times the floor", "sloth-runner is faster by", "controller CPU", "hosts' CPU", "memory"]
        self.say(f"| | {' | '.join(heads)} | on the wire | round trips |", "|---" * 9 + "|")
        for who, sample in results.items():
            faster = "" if who in ("floor", "sloth-runner") else f"{sample.wall / ours:.0f} times"
            self.say(
                f"| {who} | {sample.wall:.2f} s | {sample.wall / floor:.2f} | {faster} | {sample.cpu:.2f} s |"
                f" {sample.hosts_cpu:.2f} s | {sample.memory / MB:.0f} MB | {on_the_wire[who][0] / 1024:.0f} KB |"
                f" {on_the_wire[who][1]} |"
            )
        self.say("")
        if len(results) > 2:
            bars(DOCS / f"benchmarks-{name}.svg", title, {who: sample.wall for who, sample in results.items()})
            self.say(f"![{title}](benchmarks-{name}.svg)", "")

    # Ours alone

    def start(self) -> None:
        """Measure commands that do nothing, or next to nothing."""
        directory = self.fresh()
        (directory / "one.sloth").write_text(
            'task({name = "t", run = function() file.copy({content = "x", dest = "~/x"}) end})'
        )
        environment = {**self.environment, "HOME": str(directory)}
        python = [sys.executable]
        commands = {
            "`python -c pass`": [*python, "-c", "pass"],
            '`python -c "import click"`': [*python, "-c", "import click"],
            "`sloth-runner --version`": [*python, "-m", "sloth", "--version"],
            "`sloth-runner --help`": [*python, "-m", "sloth", "--help"],
            "`sloth-runner run` on this machine, one resource, converged": [
                *python, "-m", "sloth", "run", "-f", str(directory / "one.sloth"),
            ],
        }  # fmt: skip
        samples: dict[str, list[Sample]] = {what: [] for what in commands}
        for turn in range(OURS + 2):
            for what, command in commands.items():
                sample = measure(command, environment, directory=directory)
                if turn > 1:
                    samples[what].append(sample)
        click = median(samples['`python -c "import click"`']).wall
        self.say("## Start-up", "", "| | wall | times `import click` |", "|---|---|---|")
        for what, found in samples.items():
            wall = median(found).wall
            self.say(f"| {what} | {wall * 1000:.0f} ms | {wall / click:.2f} |")
        self.say("")

    def slow_link(self) -> None:
        """Measure W6: a link with a round trip of 50 ms."""

        async def through(resources: peers.Work, hosts: int) -> tuple[dict[str, Sample], dict[str, int]]:
            directory = self.fresh()
            with Servers([f"host{n:02d}" for n in range(1, hosts + 1)], directory / "servers") as servers:
                async with proxied(servers, DELAY) as proxies:
                    ports = {name: proxy.port for name, proxy in proxies.items()}
                    commands = peers.write(directory, servers, resources, ports)
                    samples: dict[str, list[Sample]] = {who: [] for who in commands}
                    turns = {}
                    for turn in range(OURS + 1):
                        for who, command in commands.items():
                            for proxy in proxies.values():
                                proxy.turns = 0
                            sample = await asyncio.to_thread(measure, command, self.environment, directory=directory)
                            if turn:
                                samples[who].append(sample)
                            turns[who] = max(proxy.turns for proxy in proxies.values())
            return {who: median(found) for who, found in samples.items()}, turns

        self.say("## W6: W1 through a link with a round trip of 50 ms", "")
        self.say("| | floor | sloth-runner | ratio | round trips of the floor | round trips |", "|---" * 6 + "|")
        for title, work, hosts in (
            ("20 resources, 10 hosts", peers.W1, 10),
            ("nothing, 1 host", peers.W5, 1),
            ("100 resources, 1 host", peers.W4, 1),
            ("300 resources, 1 host", peers.Work(lines=300), 1),
        ):
            results, turns = asyncio.run(through(work, hosts))
            floor, ours = results["floor"].wall, results["sloth-runner"].wall
            trips = f"{turns['floor']} | {turns['sloth-runner']}"
            self.say(f"| {title} | {floor:.2f} s | {ours:.2f} s | {ours / floor:.2f} | {trips} |")
        self.say("")

    def large_files(self) -> None:
        """Measure W3: one large file to one host."""
        self.say(
            "## W3: one large file",
            "",
            "| | `sftp` | sloth-runner | ratio | memory | unchanged |",
            "|---|---|---|---|---|---|",
        )
        for megabytes in (256, 1024):
            directory = self.fresh()
            with Servers(["host01"], directory / "servers") as servers:
                source = directory / "large"
                with source.open("wb") as file:
                    for _ in range(megabytes):
                        file.write(os.urandom(MB))
                peers.write(directory, servers, peers.W5)
                (directory / "site.sloth").write_text(
                    'task({name = "t", run = function() file.copy({src = "large", dest = "~/large"}) end})'
                )
                run = peers.write_only(directory)
                port = str(servers.ports["host01"])
                options = ["-F", "none", "-i", str(servers.key), "-o", f"UserKnownHostsFile={servers.known_hosts}"]
                batch = directory / "batch"
                batch.write_text(f"put {source} {servers.home('host01')}/by-sftp\n")
                sftp = ["sftp", "-q", *options, "-P", port, "-b", str(batch), "root@127.0.0.1"]
                samples: dict[str, list[Sample]] = {"sftp": [], "first": []}
                for _ in range(ROUNDS):
                    samples["sftp"].append(measure(sftp, self.environment, directory=directory))
                    (servers.home("host01") / "large").unlink(missing_ok=True)
                    samples["first"].append(measure(run, self.environment, directory=directory))
                same = median([measure(run, self.environment, directory=directory) for _ in range(ROUNDS)])
            theirs, ours = median(samples["sftp"]), median(samples["first"])
            self.say(
                f"| {megabytes} MB | {theirs.wall:.2f} s | {ours.wall:.2f} s | {ours.wall / theirs.wall:.2f} |"
                f" {ours.memory / MB:.0f} MB | {same.wall:.2f} s |"
            )
            shutil.rmtree(directory)
        self.say("")

    def many_hosts(self) -> None:
        """Measure W7: 10, 100 and 1,000 converged hosts (or those of $BENCH_HOSTS), also with two workers."""
        sizes = [int(word) for word in os.environ.get("BENCH_HOSTS", "10 100 1000").split()]
        self.say("## W7: many hosts", "", "Each has a port, a home and a state of its own, before 63 sshds.", "")
        self.say(
            "The floor, too, has no more than 50 of them at work at once. With 300 and more, one round is measured.", ""
        )
        heads = [
            "hosts",
            "floor",
            "sloth-runner",
            "ratio",
            "a host",
            "controller CPU",
            "memory",
            "a host beyond the first row",
        ]
        heads += ["--workers 2", "ratio", "CPU of all three processes"]
        self.say(f"| {' | '.join(heads)} |", "|---" * len(heads) + "|")
        least = 0
        with Servers([f"host{n:04d}" for n in range(1, max(sizes) + 1)], self.fresh() / "servers", 16) as servers:
            for count in sizes:
                directory = self.fresh()
                ports = {name: servers.ports[name] for name in servers.names[:count]}
                commands = peers.write(directory, servers, peers.W1, ports)
                commands["workers"] = [*commands["sloth-runner"], "--workers", "2"]
                samples: dict[str, list[Sample]] = {who: [] for who in commands}
                for turn in range(2 if count >= 300 else ROUNDS + 1):
                    for who, command in commands.items():
                        sample = measure(command, self.environment, directory=directory)
                        if turn:  # the first turn brings the hosts there
                            samples[who].append(sample)
                ours, floor = median(samples["sloth-runner"]), median(samples["floor"])
                divided = median(samples["workers"])
                least = least or ours.memory
                beyond = f"{(ours.memory - least) / max(1, count - sizes[0]) / 1024:.0f} KB" if count > sizes[0] else ""
                self.say(
                    f"| {count} | {floor.wall:.2f} s | {ours.wall:.2f} s | {ours.wall / floor.wall:.2f} |"
                    f" {ours.wall / count * 1000:.0f} ms | {ours.cpu:.2f} s | {ours.memory / MB:.0f} MB | {beyond} |"
                    f" {divided.wall:.2f} s | {divided.wall / floor.wall:.2f} | {divided.cpu:.2f} s |"
                )
        self.say("")

    def large_state(self) -> None:
        """Measure W8: a history of 100,000 rows."""
        directory = self.fresh()
        fill = (
            "import sys; from sloth.payload.kernel.record import Context\n"
            "from sloth.payload.kernel.status import Reason\n"
            "from sloth.payload.state.store import Store; store = Store(sys.argv[1]); redact = store.redactor.redact\n"
            "d = {'content': {'sha256': 'a' * 64, 'size': 1}, 'mode': '0644'}\n"
            "for n in range(100000):\n"
            "    run = '20260101-%06d-abcdef' % (n // 100)\n"
            "    if n % 100 == 0: store.runs.begin(run, 's', 'w', 'o')\n"
            "    key = 'file:copy:/etc/x%d' % (n % 2000)\n"
            "    diff = {'content': {'unified': '-a\\n+b\\n' * 20}}\n"
            "    about = Context(run=run, site='s', task='t', who='w', origin='o')\n"
            "    store.history.add(key, Reason.UPDATED, redact(d), redact(d), redact(diff), about, None, None)\n"
            "    if n < 2000: store.records.remember(key, 'c', redact(d), redact(d), True, about, None, None, None)\n"
            "store.close()\n"
        )
        home = {**self.environment, "HOME": str(directory)}
        home.pop("SLOTH_HOME")
        state = directory / ".sloth-runner" / "state" / "local.db"
        measure([sys.executable, "-c", fill, str(state)], home, directory=directory)
        self.say(f"## W8: a state of 100,000 changes and 2,000 records ({state.stat().st_size / MB:.0f} MB)", "")
        self.say("| | wall |", "|---|---|")
        for words in (
            "state list",
            "state show file:copy:/etc/x5",
            "state history",
            "state stats",
            "runs list --agent local",
        ):
            command = [sys.executable, "-m", "sloth", *words.split()]
            wall = median([measure(command, home, directory=directory) for _ in range(ROUNDS)]).wall
            self.say(f"| `sloth-runner {words}` | {wall:.2f} s |")
        self.say("")

    def large_site(self) -> None:
        """Measure W9: 5,000 resources on one host."""
        directory = self.fresh()
        with Servers(["host01"], directory / "servers") as servers:
            peers.write(directory, servers, peers.W5)
            (directory / "site.sloth").write_text(
                'task({name = "t", run = function() for i = 1, 5000 do\n'
                'file.copy({content = "file " .. i, dest = "~/f" .. i}) end end})'
            )
            run = peers.write_only(directory)
            first = measure(run, self.environment, directory=directory)
            same = median([measure(run, self.environment, directory=directory) for _ in range(ROUNDS)])
        self.say("## W9: 5,000 resources on one host", "", "| | wall | memory |", "|---|---|---|")
        self.say(f"| first | {first.wall:.2f} s | {first.memory / MB:.0f} MB |")
        self.say(f"| converged | {same.wall:.2f} s | {same.memory / MB:.0f} MB |", "")

    def large_inventory(self) -> None:
        """Measure W10: 50,000 hosts in an inventory, of which a command needs one."""
        directory = self.fresh()
        names = [(f"web{n:05}", f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}") for n in range(50_000)]
        texts = {
            "flat.toml": "[hosts]\n" + "".join(f'{name} = "{address}"\n' for name, address in names),
            "tables.toml": "".join(f'[hosts.{name}]\naddress = "{address}"\nport = 22\n' for name, address in names),
            "hosts.ini": "[web]\n" + "".join(f"{name} ansible_host={address} rack=7\n" for name, address in names),
            "hosts.yml": "web:\n  hosts:\n"
            + "".join(f"    {name}: {{ansible_host: {address}, rack: 7}}\n" for name, address in names),
        }
        self.say("## W10: an inventory of 50,000 hosts", "", "| `inventory explain HOST address` | wall | memory |")
        self.say("|---|---|---|")
        for file, text in texts.items():
            (directory / file).write_text(text)
            command = [sys.executable, "-m", "sloth", "inventory", "explain", "web04711", "address", "-i", file]
            found = median([measure(command, self.environment, directory=directory) for _ in range(ROUNDS)])
            self.say(f"| {file} | {found.wall:.2f} s | {found.memory / MB:.0f} MB |")
        self.say("")

    def backends(self) -> None:
        """Measure shared values on each kind of backend."""
        from bench import backends

        self.say(*backends.table(self.fresh()))
        self.say(*backends.runs_table(self.fresh()))


WORKS: dict[str, Callable[[Bench], None]] = {
    "start": Bench.start,
    "w1": lambda bench: bench.compare("W1: 20 resources on 10 hosts, converged", peers.W1, 10, "w1"),
    "w2": lambda bench: bench.compare("W2: the first run of the same", peers.W1, 10, "w2", first=True),
    "w3": Bench.large_files,
    "w4": lambda bench: bench.compare("W4: 100 lines on one host, converged", peers.W4, 1, "w4"),
    "w5": lambda bench: bench.compare("W5: nothing to do on 10 hosts", peers.W5, 10, "w5"),
    "w6": Bench.slow_link,
    "w7": Bench.many_hosts,
    "w8": Bench.large_state,
    "w9": Bench.large_site,
    "w10": Bench.large_inventory,
    "backends": Bench.backends,
}


def main() -> None:
    """Run the works that are named, and replace their sections of the report; the others stay as they were measured."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # the servers end with us
    if sys.argv[1:2] == ["stubs"]:
        from bench import stubs

        stubs.main(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure the same work done by sloth-runner, its peers and a floor, and write docs/benchmarks.md.",
        epilog="`python -m bench stubs --help` is about the controller alone, over hosts that are stubs.",
    )
    # No choices: argparse takes an empty list for one that is not among them.
    parser.add_argument("works", nargs="*", metavar="WORK", help=f"of {' '.join(WORKS)}; all when none is named")
    parser.add_argument("--no-peers", action="store_true", help="leave out Ansible, Mitogen and pyinfra")
    arguments = parser.parse_args()
    for work in arguments.works:
        if work not in WORKS:
            parser.error(f"there is no work {work!r}; there are {' '.join(WORKS)}")
    with tempfile.TemporaryDirectory(prefix="sloth-bench-") as name:
        bench = Bench(Path(name), not arguments.no_peers)
        for work in arguments.works or WORKS:
            bench.lines = []
            WORKS[work](bench)
            _put(work, "\n".join(bench.lines).strip())


def _put(work: str, text: str) -> None:
    """Replace the section of a work in the report; each is between marks of its own."""
    report = DOCS / "benchmarks.md"
    old = report.read_text() if report.exists() else ""
    sections = dict(re.findall(r"<!-- (\w+) -->\n(.*?)\n<!-- end -->", old, re.S))
    machine = f"Python {platform.python_version()}, {os.cpu_count()} cores, Linux {platform.release()}"
    sections[work] = f"{text}\n\n{time.strftime('%Y-%m-%d')}, {machine}."
    parts = [HEAD, *(f"<!-- {name} -->\n{sections[name]}\n<!-- end -->" for name in WORKS if name in sections)]
    report.write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
