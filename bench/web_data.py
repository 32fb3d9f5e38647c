"""Writes a large controller's directory for the web UI, by the real Memory and Store, and measures its pages.

python -m bench.web_data DIR [--hosts 5000] [--changes 100000]     # writes it, unless it exists, and measures
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import random
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sloth.payload.kernel.record import ReplicaChange
from sloth.state.memory import Memory, Seen
from sloth.state.run_records import RunCounts, RunHost, RunKind, RunResult
from tests.support.web import TOKEN, serve

if TYPE_CHECKING:
    from sloth.web.app import Site
    from sloth.web.data.database import Work

DAY = 86400
KEYS = (
    "file:copy:/etc/motd", "file:copy:/etc/ssh/sshd_config", "file:copy:/etc/nginx/nginx.conf", "pkg:install:nginx",
    "systemd:service:nginx", "user:create:deploy", "file:lineinfile:/etc/hosts:app", "ssh:authorized_key:deploy:ops",
    "file:template:/etc/app.toml", "file:directory:/var/lib/app", "pkg:install:curl", "systemd:service:sshd",
    "file:copy:/etc/sudoers.d/deploy", "cron:entry:backup", "sysctl:set:vm.swappiness", "file:link:/usr/local/bin/app",
    "group:create:ops", "file:copy:/etc/chrony.conf", "pkg:install:chrony", "systemd:service:chrony",
)  # fmt: skip
UNIFIED = (
    "--- before\n+++ after\n@@ -1,3 +1,3 @@\n # managed\n-PermitRootLogin {a}\n+PermitRootLogin {b}\n UsePAM yes\n"
)


def records(host: str, seed: int, now: int) -> list[dict[str, object]]:
    """Return the records of one host as a host sends them."""
    found = []
    for number, key in enumerate(KEYS):
        module, kind, identity = key.split(":", 2)
        version = (seed + number) % 3
        sha = hashlib.sha256(f"{key} {version}".encode()).hexdigest()
        attributes = json.dumps({"sha256": sha, "size": 100 + version, "mode": "0644"})
        found.append({
            "key": key, "module": module, "type": kind, "id": identity, "checksum": sha, "desired": attributes,
            "observed": attributes, "site": "site.sloth", "task": f"task {number % 5}", "place": f"site.sloth:{number}",
            "created_at": now - 90 * DAY, "changed_at": now - number * DAY, "checked_at": now, "run": "r1",
            "seq": number + 1, "calls": None, "before_first_change": None,
            "orphaned": now - DAY if (seed + number) % 97 == 0 else None, "superseded_by": None, "other_sites": None,
        })  # fmt: skip
    return found


def results(names: list[str], count: int, at: float, random_: random.Random, kind: RunKind) -> list[RunResult]:
    """Return what a run changed: `count` changes, some failures among them."""
    found = []
    for number in range(count):
        host, key = names[number % len(names)], random_.choice(KEYS)
        text = UNIFIED.format(a=random_.choice("yn"), b=random_.choice("yn"))
        diff = json.dumps(
            {"content": {"before": None, "after": None, "unified": text}, "mode": {"before": "0600", "after": "0644"}}
        )
        status = "drift" if kind is RunKind.DRIFT else "failed" if number % 50 == 7 else "changed"
        error = "site.sloth:3: file.copy on it: no space left on device (errno 28)" if status == "failed" else ""
        reason = "drift" if status == "drift" or number % 5 == 0 else "updated"
        task = f"task {number % 5}"
        found.append(RunResult(host, task, key, status, reason, "site.sloth:3", error, diff, random_.random(), at))
    return found


def write(directory: Path, hosts: int, changes: int) -> None:
    """Write a controller's directory."""
    random_ = random.Random(17)
    names = [f"web{number:04}.example.org" for number in range(hosts)]
    now = int(time.time())
    memory = Memory(directory)
    for number, name in enumerate(names):
        rows = records(name, number, now)
        replica = ReplicaChange(id=f"s{number}", seq=len(rows), removed=[], whole=True)
        memory.remember(Seen(name, "p", frozenset(), replica, tuple(rows)))
    runs = 200
    each = changes // runs
    for number in range(runs):
        kind = RunKind.DRIFT if number % 10 == 3 else RunKind.CHECK if number % 10 == 6 else RunKind.RUN
        started = now - (runs - number) * 3600.0
        chosen = names if number % 20 == 19 or number < 2 else random_.sample(names, max(1, hosts // 20))
        run = time.strftime("%Y%m%d-%H%M%S-", time.gmtime(started)) + f"{number:06x}"
        about = json.dumps(
            {"command": ["run", "-f", "site.sloth"], "limit": "" if len(chosen) == hosts else "@some", "origin": "ctl1"}
        )
        memory.runs.begin(
            run, f"site{number % 4}.sloth", random_.choice(("ann", "bob")), len(chosen), kind=kind, about=about,
            given=json.dumps({"hosts": chosen, "site": "site.sloth"}),
        )  # fmt: skip
        found = results(chosen, each, started + 5, random_, kind)
        by_host = {row.host: row.status for row in found}
        spans = json.dumps(
            [["connect", "", 0.0, 0.05, ""], ["start", "", 0.05, 0.1, ""], ["task", "task 1", 0.15, 0.4, "changed"]]
        )
        clean = "clean" if kind is RunKind.DRIFT else "unchanged"
        ends = [RunHost(name, by_host.get(name, clean), started, 0.6, "", spans) for name in chosen]
        failed = sum(row.status == "failed" for row in found)
        counts = RunCounts(changed=len(found) - failed, failed=failed, unchanged=len(chosen) * 20)
        memory.runs.end(run, counts=counts, seconds=12.5, status=int(failed > 0), results=found, hosts=ends)
        memory._database.execute("UPDATE runs SET started=? WHERE run=?", (started, run))
    memory.close()


def measure(directory: Path, rounds: int = 20) -> None:
    """Print what each page, its JSON, a static export and following a run cost: time, processor time, and queries."""
    memory = Memory(directory)
    run = memory.runs.newest(1)[0].run
    memory.close()
    host, key = "web0003.example.org", "file:copy:/etc/ssh/sshd_config"
    pages = (
        "/", "/runs", "/runs?q=site1&end=failed", "/runs?kind=check", f"/runs/{run}", f"/runs/{run}?q=sshd",
        f"/runs/{run}/hosts", f"/runs/{run}/changes/99990", f"/runs/{run}/rollback", f"/runs/{run}/progress", "/hosts",
        "/hosts?status=failed", "/hosts?sort=-seen", f"/hosts/{host}", f"/hosts/{host}/history", f"/hosts/{host}/facts",
        f"/hosts/{host}/variables", "/drift", "/drift?state=open", "/drift?by=host", "/drift?by=resource&days=1",
        "/resources", "/resources?host=" + host, "/resources?site=site.sloth", f"/resource?key={key}",
        f"/resource?key={key}&host={host}", "/shared", "/plans", "/actions", "/search?q=sshd_config", "/search?q=web00",
    )  # fmt: skip
    begun = time.monotonic()
    with serve(directory) as server:
        server.site.refresh_now()
        print(f"start, with the index: {time.monotonic() - begun:.2f} s")
        row = "{:>7} {:>7} {:>7} {:>8} {:>6} {:>7}  {}"
        print(row.format("p50", "p95", "CPU", "queries", "rows", "KB", "page (ms; the JSON of each below it)"))
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        for path in (*pages, "/metrics"):
            for address in (
                (path,) if path == "/metrics" else (path, "/api/v1" + ("/overview" if path == "/" else path))
            ):
                times, processor, work, size = _request(connection, server.site.source.database.work, address, rounds)
                figures = (_percentile(times, 50), _percentile(times, 95), _percentile(processor, 50))
                print(
                    row.format(
                        *(f"{one * 1000:.1f}" for one in figures), work[0], work[1], f"{size / 1024:.0f}", address
                    )
                )
        print(f"export of 200 pages: {_export(server.site):.1f} s of CPU")
        for followers in (1, 20):
            took = _follow(directory, server.site, followers)
            print(f"one look at a run over 500 hosts, {followers} following it: {took * 1000:.1f} ms of CPU")


def _percentile(values: list[float], percent: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


def _request(
    connection: http.client.HTTPConnection, work: Work, path: str, rounds: int
) -> tuple[list[float], list[float], tuple[int, int], int]:
    """Return wall and CPU seconds of each request, the queries and rows of the last one, and the size of the answer."""
    times, processor, size, counted = [], [], 0, (0, 0)
    for _ in range(rounds):
        before = (work.queries, work.rows)
        begun, used = time.perf_counter(), time.process_time()
        connection.request("GET", path, headers={"Authorization": f"Bearer {TOKEN}"})
        response = connection.getresponse()
        size = len(response.read())
        times.append(time.perf_counter() - begun)
        processor.append(time.process_time() - used)
        counted = (work.queries - before[0], work.rows - before[1])
        if response.status != 200:
            raise SystemExit(f"{path}: {response.status}")
    return times, processor, counted, size


def _export(site: Site) -> float:
    from sloth.web.export import Exporter

    with tempfile.TemporaryDirectory() as target:
        used = time.process_time()
        Exporter(site, Path(target), 200).write(())
        return time.process_time() - used


def _follow(directory: Path, site: Site, followers: int) -> float:
    """Return the CPU seconds that one look at a live run takes, for all who follow it."""
    memory = Memory(directory)
    run = f"29990101-000000-{followers:06x}"
    names = [f"web{number:04}.example.org" for number in range(500)]
    memory.runs.begin(run, "site.sloth", "ann", 500, json.dumps({"hosts": names}))
    memory.runs.add(run, progress=[(name, f"task {step}", "changed") for name in names for step in range(10)])
    rounds = 5
    used = time.process_time()
    for number in range(rounds):
        memory.runs.add(run, progress=[(names[number], "task 11", "changed")])
        for _ in range(followers):
            site.streams.look(run)
    took = (time.process_time() - used) / rounds
    memory._database.execute("DELETE FROM runs WHERE run=?", (run,))
    memory._database.execute("DELETE FROM run_progress WHERE run=?", (run,))
    memory.close()
    return took


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--hosts", type=int, default=5000)
    parser.add_argument("--changes", type=int, default=100_000)
    given = parser.parse_args()
    if not (given.directory / "controller.db").exists():
        started = time.monotonic()
        write(given.directory, given.hosts, given.changes)
        print(f"written in {time.monotonic() - started:.0f} s")
    measure(given.directory)
