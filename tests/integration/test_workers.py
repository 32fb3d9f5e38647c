"""run --workers and --engine: the hosts of a run in several processes, which may be lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.support.cluster import Cluster
from tests.support.home import Home
from tests.support.paths import ROOT
from tests.support.worker_processes import wait_for, worker_above, workers_of

pytestmark = pytest.mark.timeout(300)

HOSTS = ("a", "b", "c", "d")  # a and c are of the first worker, b and d of the second
SITE = """
local key = secret("token")
task({ name = "one", run = function()
    file.copy({ content = key, dest = "FILES/" .. host.name })
    exec.run("echo one-" .. host.name .. " >> FILES/log")
end })
task({ name = "once", run_once = true, run = function() exec.run("echo once >> FILES/log") end })
task({ name = "wait", throttle = 1, run = function()
    if host.name == "b" then
        exec.run("echo $$ > FILES/shell; touch FILES/waiting; while ! test -e FILES/go; do sleep 0.1; done")
    end
    print("waited", key)
end })
task({ name = "after", depends_on = "wait", run = function()
    state.incr("WORKERS", 1)
    exec.run("echo after-" .. host.name .. " >> FILES/log")
end })
"""


@pytest.fixture(params=["workers", "engine"])
def form(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The options with which a run has two workers."""
    if request.param == "workers":
        return ("--workers", "2")
    cluster: Cluster = request.getfixturevalue("cluster")
    return ("--engine", cluster.url)


def start(home: Home, form: tuple[str, ...], site: str, *words: str) -> subprocess.Popen[str]:
    (home.path / "site.sloth").write_text(site.replace("FILES", str(home.files)))
    environment = {
        **os.environ,
        "HOME": str(home.path),
        "SLOTH_HOME": str(home.path / ".sloth-runner"),
        "PYTHONPATH": str(ROOT),
        "SLOTH_SECRET_TOKEN": "unguessable-1",
    }
    command = [sys.executable, "-m", "sloth", "run", "-f", "site.sloth", *form, *words]
    return subprocess.Popen(
        command, cwd=home.path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def all_end(pids: list[int], seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while any(map(is_running, pids)):
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def tasks_of(document: dict[str, Any], host: str) -> dict[str, str]:
    return {task["name"]: task["status"] for task in document["hosts"][host]["tasks"]}


def test_hosts_of_all_workers_share_what_hosts_of_one_process_share(four: Home, form: tuple[str, ...]) -> None:
    (four.files / "go").touch()
    process = start(four, form, SITE, "--output", "json")
    out, error = process.communicate(timeout=200)
    assert process.returncode == 0, error
    lines = (four.files / "log").read_text().split()
    assert sorted(lines) == ["after-a", "after-b", "after-c", "after-d", "once", *(f"one-{name}" for name in HOSTS)]
    document = json.loads(out)
    assert list(document["hosts"]) == list(HOSTS)
    assert document["summary"]["hosts"] == 4
    assert [tasks_of(document, host)["once"] for host in HOSTS].count("changed") == 1
    assert "unguessable" not in out + error
    assert [run["hosts"] for run in four.json("runs", "list")] == [4]


def test_a_worker_gets_a_secret_while_large_values_are_on_their_way_to_it(four: Home, form: tuple[str, ...]) -> None:
    """It waits for the secret, and reads nothing else meanwhile: what is before that must not hold it up."""
    site = """
    task({ name = "set", run_once = true, run = function() state.set("large", string.rep("x", 8000000)) end })
    task({ name = "get", depends_on = "set", run = function()
        for number = 1, 6 do
            if host.name < "c" then assert(#state.get("large") == 8000000)
            else assert(secret("s" .. number)) exec.run("true") end
        end
    end })
    """
    environment = {f"SLOTH_SECRET_S{number}": f"unguessable-{number}" for number in range(1, 7)}
    with mock.patch.dict(os.environ, environment):
        out, error = start(four, form, site, "-o", "json").communicate(timeout=250)
    hosts = json.loads(out)["hosts"]
    assert {name: host["error"] for name, host in hosts.items()} == dict.fromkeys(HOSTS), error


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
def test_secrets_get_to_workers_over_their_sockets_only(four: Home, form: tuple[str, ...]) -> None:
    process = start(four, form, SITE)
    try:
        wait_for(four.files / "waiting")
        workers = workers_of(four)
        assert len(workers) == 2
        for pid in workers:
            for name in ("environ", "cmdline"):
                assert b"unguessable" not in Path(f"/proc/{pid}/{name}").read_bytes()
        written = [path for path in four.path.rglob("*") if path.is_file() and path.parent != four.files]
        assert [path for path in written if b"unguessable" in path.read_bytes()] == []
    finally:
        (four.files / "go").touch()
        process.communicate(timeout=120)
    assert all_end(workers)


def test_the_hosts_of_a_lost_worker_fail_and_a_resumed_run_goes_on(four: Home, form: tuple[str, ...]) -> None:
    process = start(four, form, SITE, "--output", "json")
    wait_for(four.files / "waiting")
    # Workers of a cluster begin at the same time, so which of them has host b is seen by what it does.
    os.kill(worker_above(four, int((four.files / "shell").read_text())), signal.SIGKILL)
    out, error = process.communicate(timeout=120)
    assert process.returncode == 1, error
    assert out, error
    document = json.loads(out)
    for host in ("b", "d"):
        assert document["hosts"][host]["status"] == "failed"
        assert "worker lost" in document["hosts"][host]["error"]
        assert "SIGKILL" in document["hosts"][host]["error"]
        assert "--resume" in document["hosts"][host]["error"]
    assert "did not come to its end" not in out + error, "its hosts say so"
    for host in ("a", "c"):  # the others go on; what depends on the lost host's task is not run
        assert tasks_of(document, host)["after"] == "skipped"
    lines = (four.files / "log").read_text().split()
    assert sorted(line for line in lines if line.startswith("one-")) == [f"one-{name}" for name in HOSTS]
    (four.files / "go").touch()
    (four.files / "log").unlink()
    process = start(four, form, SITE, "--resume", "--output", "json")
    out, error = process.communicate(timeout=200)
    assert process.returncode == 0, error
    assert sorted((four.files / "log").read_text().split()) == [f"after-{name}" for name in HOSTS]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_reaches_all_workers(four: Home, form: tuple[str, ...], number: signal.Signals) -> None:
    process = start(four, form, SITE, "--output", "json")
    wait_for(four.files / "waiting")
    workers = workers_of(four)
    process.send_signal(number)
    out, error = process.communicate(timeout=120)
    assert process.returncode == 130, error
    assert set(json.loads(out)["hosts"]) == set(HOSTS)
    assert error.count("interrupted: hosts have up to") == 1
    assert all_end(workers)


def test_workers_end_when_the_run_is_killed(four: Home, form: tuple[str, ...]) -> None:
    process = start(four, form, SITE)
    wait_for(four.files / "waiting")
    workers = workers_of(four)
    process.kill()
    process.communicate(timeout=60)
    assert all_end(workers, 90)


@pytest.fixture(autouse=True)
def released(home: Home) -> Iterator[None]:
    yield
    (home.files / "go").touch()
