"""run --engine: several runs on one cluster, and clusters whose parts are stopped, killed, started again or join."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sloth.engine.workers.address import parse
from tests.support.cluster import Cluster, running_cluster
from tests.support.home import Home
from tests.support.paths import ROOT
from tests.support.worker_processes import wait_for, workers_of

pytestmark = pytest.mark.timeout(600)
pytest.importorskip("distributed", reason="needs the extra dask")

SITE = """
task({ name = "one", run = function()
    exec.run("echo one >> FILES/" .. host.name .. ".log; touch FILES/" .. host.name
        .. "; until test -e FILES/go; do sleep 0.1; done")
end })
task({ name = "two", run = function() exec.run("echo two >> FILES/" .. host.name .. ".log") end })
"""


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster that a test may break."""
    with running_cluster(tmp_path / "dask") as cluster:
        yield cluster


@pytest.fixture
def second_home(tmp_path: Path) -> Iterator[Home]:
    """Another controller, on whatever is another machine for its cluster."""
    (tmp_path / "second").mkdir()
    home = Home(tmp_path / "second")
    yield home
    (home.files / "go").touch()


@pytest.fixture(autouse=True)
def let_go(home: Home) -> Iterator[None]:
    yield
    (home.files / "go").touch()


def start(home: Home, cluster: Cluster) -> subprocess.Popen[str]:
    """Start a run of two hosts, which wait in their first task."""
    (home.path / "site.sloth").write_text(SITE.replace("FILES", str(home.files)))
    environment = {**os.environ, "HOME": str(home.path), "PYTHONPATH": str(ROOT)}
    environment["SLOTH_HOME"] = str(home.path / ".sloth-runner")
    command = [sys.executable, "-m", "sloth", "run", "-f", "site.sloth", "--engine", cluster.url, "-o", "json"]
    return subprocess.Popen(
        command, cwd=home.path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def begin(home: Home, cluster: Cluster) -> subprocess.Popen[str]:
    """Start a run, and wait until both of its hosts are in their first task."""
    process = start(home, cluster)
    for name in ("web1", "web2"):
        wait_for(home.files / name)
    return process


def ended(process: subprocess.Popen[str], status: int) -> dict[str, tuple[str, str]]:
    """Wait for the end of a run, with this exit status; return status and error of its hosts."""
    out, error = process.communicate(timeout=300)
    assert process.returncode == status, out + error
    assert "Traceback" not in error, error
    hosts = json.loads(out)["hosts"]
    return {name: (host["status"], host["error"] or "") for name, host in hosts.items()}


def log(home: Home, host: str) -> list[str]:
    return (home.text(f"{host}.log") or "").split()


def until(condition: object, what: str, seconds: float = 200) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def parents(pid: int) -> list[int]:
    found = []
    while pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        found.append(pid)
    return found


async def left_in(cluster: Cluster) -> list[str]:
    """Return what the scheduler still knows of anybody's work."""
    from sloth.engine.workers.cluster import connect

    client = await connect(parse(cluster.url))
    try:
        tasks: list[str] = await client.run_on_scheduler(lambda dask_scheduler: sorted(map(str, dask_scheduler.tasks)))
    finally:
        await client.close()
    return tasks


async def test_two_runs_share_a_cluster_and_an_interrupt_of_one_is_not_the_others(
    home: Home, second_home: Home, cluster: Cluster
) -> None:
    first, second = begin(home, cluster), begin(second_home, cluster)
    first.send_signal(signal.SIGINT)
    assert {status for status, _ in ended(first, 130).values()} == {"skipped"}
    assert workers_of(home) == []
    assert len(workers_of(second_home)) == 2
    (second_home.files / "go").touch()
    assert ended(second, 0) == dict.fromkeys(("web1", "web2"), ("changed", ""))
    for host in ("web1", "web2"):
        assert log(home, host) == ["one"]
        assert log(second_home, host) == ["one", "two"]
    assert [[run["status"] for run in one.json("runs", "list")] for one in (home, second_home)] == [
        [130], [0],
    ]  # fmt: skip
    assert await left_in(cluster) == []


def test_a_stopped_dask_process_loses_its_hosts_and_what_works_on_them_ends(home: Home, own_cluster: Cluster) -> None:
    """Dask's process cannot tell the process that it has started; its next task would be run unseen."""
    run = begin(home, own_cluster)
    victim = own_cluster.workers[0].pid
    (stopped,) = (pid for pid in workers_of(home) if victim in parents(pid))
    os.kill(victim, signal.SIGSTOP)
    until(lambda: not Path(f"/proc/{stopped}").exists() or is_zombie(stopped), "the process goes on")
    (home.files / "go").touch()
    hosts = ended(run, 1)
    lost = [name for name, (_, error) in hosts.items() if "worker lost" in error]
    assert len(lost) == 1
    assert "it has not answered for 30 seconds" in hosts[lost[0]][1]
    (other,) = set(hosts) - {*lost}
    assert (log(home, other), log(home, lost[0])) == (["one", "two"], ["one"])
    os.kill(victim, signal.SIGCONT)
    home("run", "-f", "site.sloth", "--engine", own_cluster.url, "--resume")
    assert (log(home, other), log(home, lost[0])) == (["one", "two"], ["one", "one", "two"])


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_second_interrupt_does_not_wait_for_a_stopped_dask_process(home: Home, own_cluster: Cluster) -> None:
    run = begin(home, own_cluster)
    os.kill(own_cluster.workers[0].pid, signal.SIGSTOP)
    run.send_signal(signal.SIGINT)
    assert run.stderr is not None
    until(lambda: "interrupted: hosts have up to" in run.stderr.readline(), "no word of the interrupt")
    run.send_signal(signal.SIGINT)
    errors = [error for _, error in ended(run, 130).values()]
    assert any("it did not end after the second interrupt" in error for error in errors), errors


def test_an_interrupt_does_not_wait_for_a_stopped_scheduler(home: Home, own_cluster: Cluster) -> None:
    """Nothing has been touched by then, and nothing is recorded."""
    own_cluster.scheduler.send_signal(signal.SIGSTOP)
    run = start(home, own_cluster)
    until(lambda: "msgpack" in Path(f"/proc/{run.pid}/maps").read_text(), "Dask is not loaded")
    run.send_signal(signal.SIGINT)
    out, error = run.communicate(timeout=300)
    assert run.returncode == 130, error
    assert "cannot be reached" not in out + error
    assert "Traceback" not in error
    own_cluster.scheduler.send_signal(signal.SIGCONT)
    assert home.json("runs", "list") == []
    assert [log(home, host) for host in ("web1", "web2")] == [[], []]


def test_a_scheduler_that_starts_again_and_a_worker_that_joins(home: Home, own_cluster: Cluster) -> None:
    run = begin(home, own_cluster)
    own_cluster.add_worker()
    processes = workers_of(home)
    assert len(processes) == 2, "a worker that joins gets no host of a run that has begun"
    own_cluster.restart_scheduler()
    hosts = ended(run, 1)
    assert all(status == "failed" and "worker lost" in error for status, error in hosts.values())
    until(lambda: not workers_of(home), "processes go on")
    (home.files / "go").touch()
    assert [log(home, host) for host in ("web1", "web2")] == [["one"], ["one"]]
    own_cluster.add_worker()
    home("run", "-f", "site.sloth", "--engine", own_cluster.url, "--resume")
    assert [log(home, host) for host in ("web1", "web2")] == [["one", "one", "two"]] * 2


async def test_a_scheduler_sees_that_its_cluster_is_in_use(home: Home, cluster: Cluster) -> None:
    """With --idle-timeout it ends when it sees no task for a while; what a run does are no tasks (distributed#5675)."""
    from sloth.engine.workers.cluster import connect

    run = begin(home, cluster)
    client = await connect(parse(cluster.url))
    try:
        seen: set[int] = set()
        end = time.monotonic() + 200
        while len(seen) < 3:
            assert time.monotonic() < end, "nothing happens that the scheduler minds"
            seen.add(await client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.transition_counter))
            time.sleep(0.5)  # noqa: ASYNC251  nothing else is to happen here
    finally:
        await client.close()
    (home.files / "go").touch()
    ended(run, 0)


def test_a_worker_that_has_no_time_for_a_run_says_so(home: Home, own_cluster: Cluster) -> None:
    """Its only thread is another user's; nothing has been done on its hosts."""
    from distributed import Client

    (home.files / "go").touch()
    with Client(own_cluster.address, set_as_default=False) as client:
        busy = client.submit(
            time.sleep, 100, workers=[client.scheduler_info(n_workers=-1)["workers"].copy().popitem()[0]]
        )
        (home.path / "site.sloth").write_text(SITE.replace("FILES", str(home.files)))
        said = home("run", "-f", "site.sloth", "--engine", own_cluster.url, status=1)
        busy.cancel()
    assert "it did not start within 15 seconds: it may be busy" in said
    assert "nothing was done" in said
    assert sorted([log(home, host) for host in ("web1", "web2")]) == [[], ["one", "two"]]
