"""What went wrong in other web UIs, tried on this one; the numbers are those of the reports."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from sloth.inventory import Inventory
from sloth.payload.kernel.record import ReplicaChange
from sloth.state.memory import Memory, Seen
from sloth.state.run_records import RunCounts, RunHost, RunKind, RunResult
from tests.support.web import Server, record_run, serve

RUN = "20260101-000000-aaaaaa"
KEY = "file:copy:/etc/motd"


def document(server: Server, path: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(server.request(f"/api/v1{path}").body)
    return found


def result(host: str, status: str = "changed", key: str = KEY, error: str = "", at: float | None = None) -> RunResult:
    return RunResult(host, "t", key, status, "updated", "site.sloth:1", error, None, 0.1, at)


def remember(directory: Path, host: str, orphaned: bool = False) -> None:
    """Keep a replica with two records."""
    memory = Memory(directory)
    rows: list[dict[str, Any]] = []
    for number, key in enumerate((KEY, f"exec:run:{host}")):
        row: dict[str, Any] = dict.fromkeys(("site", "task", "place", "run"), "x")
        row |= {"key": key, "module": "file", "type": "copy", "id": key, "checksum": host, "desired": "{}"}
        row |= {"observed": "{}", "superseded_by": None, "created_at": 1, "changed_at": 1, "checked_at": 1}
        row |= {"seq": number + 1, "calls": None, "orphaned": 1 if orphaned else None, "before_first_change": None}
        rows.append({**row, "other_sites": None})
    replica = ReplicaChange(id=host, seq=2, removed=[], whole=True)
    memory.remember(Seen(host, "p", frozenset(), replica, tuple(rows)))
    memory.close()


def test_each_number_of_the_overview_is_that_of_the_list_behind_it(tmp_path: Path) -> None:
    """AWX #8439, foreman #6082, fleet #17166: a card that says five, and a list of none."""
    now, old = time.time(), time.time() - 30 * 86400
    record_run(
        tmp_path, "20250101-1", hosts=[RunHost("old", "changed", old, 1.0), RunHost("gone", "unchanged", old, 1.0)]
    )
    record_run(
        tmp_path, RUN, status=1, counts=RunCounts(failed=1),
        hosts=[RunHost("a", "failed", now, 1.0, "no"), RunHost("b", "unreachable", now, 1.0, "no route"),
               RunHost("c", "changed", now, 1.0), RunHost("d", "unchanged", now, 1.0), RunHost("e", "skipped", now)],
        results=[result("a", "failed"), result("c"), result("d", "frozen")],
    )  # fmt: skip
    # One that only a look for drift has reached, and one that is not in the inventory any more.
    record_run(
        tmp_path, "20260101-2", kind=RunKind.DRIFT, hosts=[RunHost("f", "drift", now, 1.0)],
        results=[RunResult("f", "t", KEY, "drift", "", "s:1", "", None, None, now)],
    )  # fmt: skip
    remember(tmp_path, "c", orphaned=True)
    remember(tmp_path, "d")
    inventory = tmp_path / "inventory.toml"
    inventory.write_text(
        "".join(f'[hosts.{name}]\naddress = "127.0.0.1"\n' for name in ("a", "b", "c", "d", "e", "new"))
    )
    with serve(tmp_path, lambda: Inventory.read(inventory)) as server:
        server.site.refresh_now()
        cards = re.findall(r'class="card[^"]*" href="([^"]+)"><b>(\d+)</b> <span>([^<]+)', server.request("/").text)
        assert len(cards) == 11
        for address, number, label in cards:
            found = document(server, address.replace("&amp;", "&"))
            lists = [one for one in (found, *found.values()) if isinstance(one, dict) and "total" in one]
            assert lists[0]["total"] == int(number), (label, address, lists)
        numbers = {label: int(number) for _, number, label in cards}
        assert (numbers["failed"], numbers["unreachable"], numbers["drifted"], numbers["hosts in all"]) == (1, 1, 1, 9)
        assert (numbers["never run"], numbers["not seen for 7 days"]) == (
            2,  # new, f
            4,  # old, gone; b and e: never reached
        )


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York", "Pacific/Apia"])
def test_times_do_not_depend_on_the_zone_of_the_server(
    tmp_path: Path, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Semaphore #197, #1226, #1469; dagster #28313: "in 2 hours" of a run that has just begun."""
    record_run(tmp_path, RUN, hosts=[RunHost("a", "changed", time.time(), 1.0)])
    night = 1792890000.0  # 2026-10-25 01:00 UTC, when Berlin's clocks go back from 3 to 2
    record_run(tmp_path, "20261025-1", results=[result("a", at=night), result("b", at=night + 3600)])
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        with serve(tmp_path) as server:
            page = server.request("/runs").text
            assert re.search(r">\d+ s ago</time>", page)
            assert ">in " not in page
            assert "ahead" not in page
            history = server.request(f"/resource?key={KEY}").text
            assert 'datetime="2026-10-25T01:00:00Z"' in history
            assert 'datetime="2026-10-25T02:00:00Z"' in history, "the hour that comes twice is two"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_clock_that_is_ahead_is_said_and_no_duration_is_negative(tmp_path: Path) -> None:
    """tork-web #11, turbinia #703, semaphore #197 ("-5")."""
    ahead = time.time() + 7200
    record_run(
        tmp_path, RUN, results=[result("a", at=ahead)], hosts=[RunHost("a", "changed", ahead, -5.0)], seconds=-3.0
    )
    with serve(tmp_path) as server:
        for path in (f"/runs/{RUN}", f"/runs/{RUN}/hosts", "/runs", "/hosts", "/hosts/a", f"/resource?key={KEY}"):
            text = server.request(path).text
            assert not re.search(r">\s*-\d", text), path
            assert ">in " not in text, path
        assert "ahead (the clocks differ)" in server.request("/hosts/a").text


def test_a_run_with_many_results_is_paged_and_searched_on_the_server(tmp_path: Path) -> None:
    """ARA #158, #168, puppetboard #144, #476: browsers that hang."""
    record_run(
        tmp_path, RUN, status=1, counts=RunCounts(changed=20_000, failed=1),
        results=[*(result(f"h{number}") for number in range(20_000)), result("needle", "failed", error="x" * 100)],
        hosts=[RunHost(f"h{number}", "changed", 1.0, 1.0) for number in range(5_000)],
    )  # fmt: skip
    memory = Memory(tmp_path)
    memory.keep_facts({"h1": {f"fact{number}": number for number in range(20_000)}})
    memory.close()
    with serve(tmp_path) as server:
        for path in (f"/runs/{RUN}", f"/runs/{RUN}/hosts", "/hosts", "/hosts?by=fact:fact7", "/hosts/h1/facts"):
            assert len(server.request(path).body) < 400_000, path
        page = document(server, f"/runs/{RUN}")["results"]
        assert page["rows"][0]["host"] == "needle", "what failed is at the top"  # type: ignore[index]
        assert document(server, f"/runs/{RUN}?q=needle")["results"]["total"] == 1  # type: ignore[index]


def test_what_failed_so_far_is_told_while_the_run_goes_on(tmp_path: Path) -> None:
    """AWX #3237: "running" is no "all is well so far"."""
    record_run(tmp_path, RUN, status=None)
    memory = Memory(tmp_path)
    memory.runs.add(RUN, results=[result("a", "failed", error="disk full")], progress=[("a", "t", "failed")])
    memory.close()
    with serve(tmp_path) as server:
        assert document(server, f"/runs/{RUN}/progress")["failed"] == 1
        page = server.request(f"/runs/{RUN}").text
        assert "1 failed" in page
        assert "disk full" in page


def test_every_link_below_a_prefix_stays_below_it(tmp_path: Path) -> None:
    """Rundeck #7079, #5175: right while a run is over, wrong while it goes on."""
    record_run(
        tmp_path, RUN, results=[result("a")], hosts=[RunHost("a", "changed", 1.0, 1.0)], counts=RunCounts(changed=1)
    )
    record_run(tmp_path, "20260102-2", status=None)
    remember(tmp_path, "a")
    with serve(tmp_path, prefix="/sloth") as server:
        server.site.refresh_now()
        left, seen = ["/sloth/", "/sloth/runs/20260102-2"], set()
        while left and len(seen) < 120:
            path = left.pop()
            seen.add(path)
            answer = server.request(path)
            assert answer.status == 200, path
            for address in re.findall(r'(?:href|src|action|data-from|data-live)="([^"]*)"', answer.text):
                assert address.startswith(("/sloth/", "#", "?")), (path, address)
            for address in re.findall(r'<a[^>]* href="([^"#]+)"', answer.text):
                found = address.replace("&amp;", "&")
                if found.startswith("/sloth/") and found not in seen and found not in left and "sort=" not in found:
                    left.append(found)
        assert len(seen) > 40


def test_a_host_that_nobody_knows_any_more_has_pages(tmp_path: Path) -> None:
    """Cortex #88: an error 500 behind the button of a host that was removed."""
    record_run(tmp_path, RUN, hosts=[RunHost("gone", "changed", 1.0, 1.0)])
    inventory = tmp_path / "inventory.toml"
    inventory.write_text('[hosts.web1]\naddress = "127.0.0.1"\n')
    with serve(tmp_path, lambda: Inventory.read(inventory)) as server:
        for host in ("gone", "web1"):
            for tab in ("", "/history", "/facts", "/variables", "/ask"):
                assert server.request(f"/hosts/{host}{tab}").status == 200, (host, tab)
        assert "not in the inventory" in server.request("/hosts/gone").text


def test_files_are_closed(tmp_path: Path) -> None:
    """ARA #109: "too many open files" after some hundred pages."""
    record_run(tmp_path, RUN, results=[result("a")], hosts=[RunHost("a", "changed", 1.0, 1.0)])
    remember(tmp_path, "a")
    with serve(tmp_path) as server:
        server.site.refresh_now()

        def count() -> int:
            for _ in range(60):
                for path in (f"/resource?key={KEY}", "/shared", "/plans", "/api/v1/runs"):
                    assert server.request(path).status == 200
            return len(os.listdir("/proc/self/fd"))

        first = count()
        assert count() <= first + 12  # threads of the pool have a connection each


def test_what_keeps_pages_fresh_outlives_a_backend_that_refuses(tmp_path: Path) -> None:
    """An S3 without credentials ended it once, for good; and no page said so."""
    from sloth.errors import UsageError

    record_run(tmp_path, RUN)
    with serve(tmp_path) as server:

        def fetch() -> str:
            raise UsageError("no credentials", hint="set $AWS_ACCESS_KEY_ID")

        site = server.site
        object.__setattr__(site.settings, "fetch", fetch)
        site._next_fetch = 0.0
        end = time.monotonic() + 60
        while "no credentials" not in server.request("/").text:
            assert time.monotonic() < end
            time.sleep(0.2)
        record_run(tmp_path, "20260102-2", hosts=[RunHost("late", "changed", time.time(), 1.0)])
        while "late" not in server.request("/hosts").text:
            assert time.monotonic() < end
            time.sleep(0.2)


def test_a_defect_is_a_page_too_and_has_the_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(tmp_path) as server:
        monkeypatch.setattr(type(server.site), "find", lambda *rest: 1 / 0)
        for path in ("/runs", "/api/v1/runs"):
            answer = server.request(path)
            assert (answer.status, "a defect of sloth-runner" in answer.text) == (500, True)
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert answer.headers["cache-control"] == "no-store"
            assert "Traceback" not in answer.text
