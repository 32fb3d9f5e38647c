"""Runs that go on, or whose controller was killed, and who holds which host: what pages say of what is not over yet."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sloth.engine.recording import own_process
from sloth.payload.session.messages import LockHolder
from sloth.payload.session.run_lock import RunLock, find_holder
from sloth.state.memory import Memory
from sloth.state.run_records import RunHost, RunKind, RunResult
from tests.support.home import Home
from tests.support.paths import ROOT
from tests.support.web import Server, record_run, serve

RUN = "20260101-000000-aaaaaa"


def begin(directory: Path, run: str, hosts: list[str], process: list[str | int], kind: RunKind = RunKind.RUN) -> None:
    """Record that a run has begun, and that it has ended on the first host and is at work on the second."""
    memory = Memory(directory)
    about = json.dumps({"origin": socket.gethostname(), "process": process})
    memory.runs.begin(run, "site.sloth", "ann", len(hosts), json.dumps({"hosts": hosts}), kind, about)
    progress = [(hosts[0], "t", "changed"), (hosts[0], "", "changed"), (hosts[1], "t", "changed")]
    memory.runs.add(run, progress=progress)
    memory.close()


def document(server: Server, path: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(server.request(f"/api/v1{path}").body)
    return found


@pytest.fixture
def controller() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has the name of a controller."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "sloth"]) as process:
        yield process
        process.kill()


def test_who_holds_a_host_is_shown_while_a_run_goes_on(tmp_path: Path, controller: subprocess.Popen[bytes]) -> None:
    process = [*own_process()[:1], controller.pid]
    begin(tmp_path, RUN, ["web1", "web2", "web3"], process)
    begin(tmp_path, "20260101-000001-bbbbbb", ["web2", "web3"], process, RunKind.CHECK)  # it takes no lock
    with serve(tmp_path) as server:
        rows = document(server, "/hosts?q=web")["hosts"]["rows"]  # type: ignore[index]
        assert rows == []  # nothing has ended, and there is no inventory
        record_run(tmp_path, "20250101-000000-cccccc", hosts=[RunHost(f"web{one}", "clean", 1.0) for one in (1, 2, 3)])
        server.site.refresh_now()
        locks = {one: document(server, f"/hosts/{one}")["host"]["lock"] for one in ("web1", "web2", "web3")}  # type: ignore[index]
        assert locks["web1"] is None
        assert (locks["web2"]["run"], locks["web2"]["who"], locks["web2"]["is_at_work"]) == (RUN, "ann", True)
        assert locks["web3"]["is_at_work"] is False
        page = server.request("/hosts/web2").text
        assert "held by ann from" in page
        assert RUN in page
        assert "locked by ann" in server.request("/hosts").text
        assert [one["host"] for one in document(server, "/shared")["hosts"]] == ["web2"]  # type: ignore[attr-defined]
        assert "Hosts at work" in server.request("/shared").text


def test_a_run_whose_controller_was_killed_is_not_shown_as_running_for_ever(
    tmp_path: Path, controller: subprocess.Popen[bytes]
) -> None:
    """ARA #26, #556; TheHive #171; spark-jobserver #1023: runs that "run" until somebody edits the database."""
    begin(tmp_path, RUN, ["web1", "web2"], [*own_process()[:1], controller.pid])
    with serve(tmp_path) as server:
        assert document(server, f"/runs/{RUN}")["run"]["end"] == "running"  # type: ignore[index]
        assert "data-live" in server.request(f"/runs/{RUN}").text
        controller.kill()
        controller.wait()
        assert document(server, f"/runs/{RUN}")["run"]["end"] == "lost"  # type: ignore[index]
        page = server.request(f"/runs/{RUN}").text
        assert "Nobody has recorded how this run ended" in page
        assert "data-live" not in page
        assert document(server, "/runs?end=lost")["total"] == 1
        assert document(server, "/runs?end=running")["total"] == 0
        assert document(server, "/shared")["hosts"] == [], "its sessions end with it"
        assert 'sloth_runs{kind="run",end="lost"} 1' in server.request("/metrics").text


def test_a_run_of_another_machine_is_lost_after_a_day(tmp_path: Path) -> None:
    for run, age in (("20260101-1", 3600), ("20260101-2", 90_000)):
        record_run(tmp_path, run, status=None, about='{"origin": "elsewhere", "process": ["pid:[1]", 1]}')
        memory = Memory(tmp_path)
        memory._database.execute("UPDATE runs SET started=? WHERE run=?", (time.time() - age, run))
        memory.close()
    with serve(tmp_path) as server:
        ends = {row["run"]: row["end"] for row in document(server, "/runs")["rows"]}  # type: ignore[attr-defined]
        assert ends == {"20260101-1": "running", "20260101-2": "lost"}


def test_a_killed_command_is_seen_as_lost(home: Home) -> None:
    home.site('exec.run("sleep 300")')
    command = [sys.executable, "-m", "sloth", "run", "-f", "site.sloth", "-l", "web1", "-i", "inventory.toml"]
    environment = {**os.environ, "HOME": str(home.path), "PYTHONPATH": str(ROOT)}
    directory = home.path / ".sloth-runner"
    with subprocess.Popen(command, cwd=home.path, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            end = time.monotonic() + 120
            while not (directory / "controller.db").exists() or not _runs(directory):
                assert time.monotonic() < end
                time.sleep(0.2)
            with serve(directory) as server:
                assert document(server, "/runs/last")["run"]["end"] == "running"  # type: ignore[index]
                process.send_signal(signal.SIGKILL)
                process.wait()
                assert document(server, "/runs/last")["run"]["end"] == "lost"  # type: ignore[index]
        finally:
            process.kill()


def _runs(directory: Path) -> list[str]:
    memory = Memory(directory)
    try:
        return [one.run for one in memory.runs.newest(5)]
    finally:
        memory.close()


def test_the_lock_of_a_host_is_read_without_taking_it(tmp_path: Path) -> None:
    directory = str(tmp_path)
    assert find_holder(directory) is None
    lock = RunLock(directory)
    lock.acquire(LockHolder(run=RUN, who="ann", origin="ctl1"), 0, lambda other: None, lambda: False)
    holder = find_holder(directory)
    assert holder is not None
    assert (holder.run, holder.who, holder.origin, holder.pid) == (RUN, "ann", "ctl1", os.getpid())
    lock.release()
    assert find_holder(directory) is None
    # One that was killed has left its note, and holds nothing.
    (tmp_path / "run.lock").write_text(json.dumps({**holder.plain(), "pid": 2**22 + 1}))
    assert find_holder(directory) is None
    # Of two sessions of a run that end together, neither removes the note; the process may live a little longer.
    (tmp_path / "run.lock").write_text(json.dumps(holder.plain()))
    assert find_holder(directory) is None
    (tmp_path / "run.lock").write_text("no JSON")
    assert find_holder(directory) is None


def test_a_change_by_us_and_one_by_hand_both_name_who_when_and_from_where(tmp_path: Path) -> None:
    key = "file:copy:/etc/ssh/sshd_config"
    now = time.time()
    ours = RunResult(
        "web3", "sshd", key, "changed", "updated", "site.sloth:4", "", '{"mode": {"before": "1"}}', 0.1, now
    )
    record_run(
        tmp_path,
        RUN,
        who="bob",
        about='{"origin": "laptop"}',
        results=[ours],
        hosts=[RunHost("web3", "changed", now, 1.0)],
    )
    by_hand = RunResult("web3", "sshd", key, "drift", "", "site.sloth:4", "", "{}", None, now + 100)
    record_run(
        tmp_path, "20260102-000000-bbbbbb", who="ann", about='{"origin": "ctl1"}', kind=RunKind.DRIFT,
        results=[by_hand], hosts=[RunHost("web3", "drift", now + 90, 1.0)],
    )  # fmt: skip
    with serve(tmp_path) as server:
        rows = document(server, f"/resource?key={key}&host=web3")["history"]["rows"]  # type: ignore[index]
        assert [(row["who"], row["origin"], row["is_by_hand"]) for row in rows] == [
            ("ann", "ctl1", True), ("bob", "laptop", False),
        ]  # fmt: skip
        assert (rows[0]["since"], rows[0]["since_run"], rows[0]["at"]) == (now + 1.0, RUN, now + 100)
        page = server.request(f"/resource?key={key}&host=web3").text
        assert "bob from laptop" in page
        assert f'between the end of run <a href="/runs/{RUN}">' in page
        # By clicking only: the search leads there, and so does the host.
        assert (
            f"/resource?key={key.replace(':', '%3A').replace('/', '%2F')}&amp;host=web3"
            in server.request("/drift").text
        )
        assert "bob from laptop" in server.request("/hosts/web3/history").text
