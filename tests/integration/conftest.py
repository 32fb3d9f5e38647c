"""What integration tests start from: SSH servers on loopback, or a controller whose hosts are this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sloth.inventory import Inventory
from sloth.transport import bundle
from sloth.transport.loopback import LoopbackFleet
from tests.support.cluster import Cluster, running_cluster
from tests.support.home import Home, QuickHome
from tests.support.jobs import Job
from tests.support.running import ENGINE, WORKERS


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[LoopbackFleet]:
    """Three throw-away hosts: web1, web2, db1."""
    async with LoopbackFleet(("web1", "web2", "db1"), tmp_path / "fleet") as running:
        (tmp_path / "inventory.toml").write_text(running.inventory_toml() + '\n[groups.web]\nhosts = ["web*"]\n')
        yield running


@pytest.fixture
def inventory(servers: LoopbackFleet, tmp_path: Path) -> Inventory:
    """The inventory of `servers`."""
    return Inventory.read(tmp_path / "inventory.toml")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A controller in `tmp_path` with the local hosts web1 and web2."""
    return Home(tmp_path)


@pytest.fixture
def quick_home(tmp_path: Path) -> QuickHome:
    """As `home`, with commands that run in the test's own process."""
    return QuickHome(tmp_path)


@pytest.fixture(scope="session")
def kept_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the bundle of the payload, which takes seconds to make."""
    directory = tmp_path_factory.mktemp("bundle")
    bundle.build(cache=directory)
    return directory


@pytest.fixture
async def idle(tmp_path: Path, kept_bundle: Path) -> AsyncIterator[Job]:
    """A run that would write a file, and has not begun."""
    shutil.copytree(kept_bundle, tmp_path / "controller")
    source = f'task({{ name = "t", run = function() file.copy({{ content = "x", dest = "{tmp_path}/x" }}) end }})'
    job = Job(tmp_path, Inventory.local(), source)
    yield job
    job.memory.close()
    await job.shared.close()


@pytest.fixture
def four(home: Home) -> Home:
    """A controller with four hosts, each this machine; with two workers, a and c are of the first."""
    names = ("a", "b", "c", "d")
    (home.path / "inventory.toml").write_text("".join(f'[hosts.{name}]\nconnection = "local"\n' for name in names))
    return home


# Tests of runs that must go the same way when the hosts are divided among processes.
BY_WORKERS = {
    "test_run": ("test_changed_then_unchanged_then_drift_then_updated", "test_order_between_hosts"),
    "test_task_options": ("test_a_host_that_is_lost_in_a_batch_has_failed_there",),
    "test_delegation": (
        "test_hosts_delegate_to_each_other_and_the_same_thing",
        "test_a_timeout_of_one_host_leaves_the_delegated_calls_of_others",
    ),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Let these tests run in three forms: in one process, with two workers, and on Dask.

    SLOTH_ALL_WORKERS=1: all of their modules.
    """
    chosen = BY_WORKERS.get(metafunc.module.__name__.rpartition(".")[2])
    if chosen is None:
        return
    if os.environ.get("SLOTH_ALL_WORKERS") or metafunc.function.__name__ in chosen:
        metafunc.fixturenames.append("workers")
        ids = ["in process", "2 workers", "engine"]
        metafunc.parametrize("workers", ["0", "2", "engine"], ids=ids, indirect=True)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Dask cluster with two workers; tests that kill some of it start their own."""
    pytest.importorskip("distributed", reason="needs the extra dask")
    with running_cluster(tmp_path_factory.mktemp("dask")) as running:
        yield running


@pytest.fixture
def workers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How many workers the runs of a test have, or which engine."""
    kind: str = request.param
    if kind == "engine":
        cluster: Cluster = request.getfixturevalue("cluster")
        monkeypatch.setenv(ENGINE, cluster.url)
    else:
        monkeypatch.setenv(WORKERS, kind)
    return kind
