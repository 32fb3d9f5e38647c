"""What pages read: as much over many hosts as over few, counted in queries, rows and steps of SQLite, not in time."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.web_data import KEYS, write
from sloth.state.memory import Memory
from tests.support.web import Server, serve

FEW, MANY = 20, 400
HOST, KEY = "web0003.example.org", KEYS[1]
PAGES = (
    "/", "/runs", "/runs?kind=check", "/runs/last", "/runs/last/hosts", "/runs/last/rollback", "/hosts",
    "/hosts?sort=-seen", f"/hosts/{HOST}", f"/hosts/{HOST}/history", "/drift", "/drift?state=open", "/drift?by=host",
    "/drift?by=resource&days=1", "/resources", "/resources?site=site.sloth", "/resources?differing=1&orphaned=1",
    f"/resource?key={KEY}", f"/resource?key={KEY}&host={HOST}", "/shared", "/search?q=sshd_config", "/search?q=web0",
)  # fmt: skip


@pytest.fixture(scope="module")
def sizes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """The same story over few hosts, and over twenty times as many."""
    few, many = tmp_path_factory.mktemp("few"), tmp_path_factory.mktemp("many")
    write(few, FEW, 4000)
    shutil.copytree(few, many, dirs_exist_ok=True)
    _multiply(many)
    with serve(few) as first, serve(many) as second:
        first.site.refresh_now()
        second.site.refresh_now()
        yield first, second


def _multiply(directory: Path) -> None:
    """Give a controller twenty times as many hosts, with the records and the runs of those that it has."""
    database = sqlite3.connect(directory / "controller.db")
    for number in range(FEW, MANY):
        old, new = f"web{number % FEW:04}.example.org", f"web{number:04}.example.org"
        for suffix in ("", "-wal"):
            path = directory / "replicas" / f"{old}.db{suffix}"
            if path.exists():
                shutil.copy(path, directory / "replicas" / f"{new}.db{suffix}")
        database.execute(
            "INSERT INTO agents (name, payload, store, seq, seen_at) SELECT ?, payload, store, seq, seen_at FROM agents"
            " WHERE name=?",
            (new, old),
        )
        for table in ("run_hosts", "run_results"):
            columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})") if row[1] != "host"]
            names = ", ".join(columns)
            database.execute(
                f"INSERT INTO {table} (host, {names}) SELECT ?, {names} FROM {table} WHERE host=?", (new, old)
            )
    database.commit()
    database.close()


@pytest.mark.parametrize("path", PAGES)
def test_a_page_reads_no_more_when_there_are_more_hosts(sizes: tuple[Server, Server], path: str) -> None:
    costs = []
    for server in sizes:
        assert server.request(path).status == 200  # what is kept between pages is kept now
        work = server.site.source.database.work
        before = (work.queries, work.rows)
        assert server.request(path).status == 200
        costs.append((work.queries - before[0], work.rows - before[1]))
    (few_queries, few_rows), (queries, rows) = costs
    more = 3 * 50 if "/drift" in path else 12  # two for each finding of a page, which few hosts may not fill
    assert queries <= few_queries + more, costs
    # A page has up to 50 rows, and a resource up to 500 names of hosts.
    assert rows <= few_rows + (2 * MANY + 50 if path.startswith("/resource?") else 160), costs


@pytest.mark.parametrize("path", ["/", "/resources", "/resources?site=site.sloth", "/hosts"])
def test_lists_do_not_scan_what_they_count(sizes: tuple[Server, Server], path: str) -> None:
    steps = []
    for server in sizes:
        server.request(path)
        before = server.site.source.database.work.steps
        server.request(path)
        steps.append(server.site.source.database.work.steps - before)
    assert steps[1] <= steps[0] + 20, steps


def test_the_index_counts_as_a_scan_of_all_records_does(sizes: tuple[Server, Server]) -> None:
    """After records have come, changed and gone, on several accounts of a host."""
    site = sizes[0].site
    memory = Memory(site.settings.directory)
    database = sqlite3.connect(site.settings.directory / "controller.db")
    replicas = site.settings.directory / "replicas"
    for number, statement in enumerate((
        "DELETE FROM resources WHERE key='file:copy:/etc/motd'",
        "UPDATE resources SET checksum='another', site='other.sloth' WHERE key LIKE 'pkg:%'",
        "UPDATE resources SET orphaned=1 WHERE key LIKE 'file:%'",
        "DELETE FROM resources",
    )):  # fmt: skip
        name = f"web{number:04}.example.org"
        account = f"{name}@deploy"
        shutil.copy(replicas / f"{name}.db", replicas / f"{account}.db")
        replica = sqlite3.connect(replicas / f"{name}.db")
        replica.execute(statement)
        replica.commit()
        replica.close()
        database.execute("UPDATE agents SET seq=seq+1 WHERE name=?", (name,))
        database.execute(
            "INSERT INTO agents SELECT ?, payload, store, seq, seen_at FROM agents WHERE name=?", (account, name)
        )
        database.commit()
        site.refresh_now()
        rows = site.source.database.rows
        columns = "count(DISTINCT host), count(DISTINCT checksum), count(orphaned)"
        counted = rows("SELECT key, hosts, versions, orphaned FROM cache.keys WHERE scope='' ORDER BY key")
        scanned = rows(f"SELECT key, {columns} FROM cache.resources GROUP BY key ORDER BY key")
        assert list(map(tuple, counted)) == list(map(tuple, scanned)), statement
        counted = rows("SELECT scope, key, hosts, versions, orphaned FROM cache.keys WHERE scope<>'' ORDER BY 1, 2")
        scanned = rows(f"SELECT site, key, {columns} FROM cache.resources GROUP BY 1, 2 ORDER BY 1, 2")
        assert list(map(tuple, counted)) == list(map(tuple, scanned)), statement
        counted = rows("SELECT key, checksum, hosts FROM cache.versions WHERE scope='' ORDER BY 1, 2")
        scanned = rows("SELECT key, checksum, count(DISTINCT host) FROM cache.resources GROUP BY 1, 2 ORDER BY 1, 2")
        assert list(map(tuple, counted)) == list(map(tuple, scanned)), statement
    database.close()
    memory.close()
