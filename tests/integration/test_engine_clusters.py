"""run --engine: clusters that lack workers or whose workers have another program, and what a run leaves in one."""

from __future__ import annotations

import logging
import re
import shutil
import time
import tomllib
from pathlib import Path

import pytest

from sloth.engine.workers.address import parse
from sloth.engine.workers.relay import NEEDED
from sloth.errors import UsageError
from tests.support.cluster import Cluster, running_cluster
from tests.support.home import Home
from tests.support.paths import ROOT

pytestmark = pytest.mark.timeout(300)
pytest.importorskip("distributed", reason="needs the extra dask")


async def refusal(cluster: Cluster) -> str:
    """Return why the workers of a cluster cannot be used."""
    from sloth.engine.workers.cluster import connect, look_at

    address = parse(cluster.url)
    client = await connect(address)
    try:
        with pytest.raises(UsageError) as raised:
            await look_at(client, address)
    finally:
        await client.close()
    return str(raised.value)


async def test_a_cluster_without_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_cluster(tmp_path, workers=0) as cluster:
        monkeypatch.setattr("sloth.engine.workers.cluster.CONNECT", 3.0)
        assert "has no workers; hint: start some: dask worker tcp://" in await refusal(cluster)


async def test_workers_with_another_program(tmp_path: Path) -> None:
    for name, text, said in (
        ("sources", None, "has other sources of sloth-runner"),
        ("version", '__version__ = "9.9.9"\n', "has sloth-runner 9.9.9, and this machine"),
        ("none", 'raise ImportError("not installed")\n', "cannot load sloth-runner"),
    ):
        other = tmp_path / name
        shutil.copytree(ROOT / "sloth", other / "sloth", ignore=shutil.ignore_patterns("__pycache__"))
        with (other / "sloth" / "__init__.py").open("a") as file:
            file.write(text or "# another one\n")
        with running_cluster(tmp_path / f"dask-{name}", workers=0) as cluster:
            cluster.add_worker(path=other)
            assert said in await refusal(cluster)


async def test_a_worker_without_a_package_that_is_needed(tmp_path: Path) -> None:
    """Dask's own process needs it not, so that a run would find out when hosts are worked on."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['lupa'] = None\n")
    with running_cluster(tmp_path / "dask", workers=0) as cluster:
        cluster.add_worker(path=f"{tmp_path}:{ROOT}")
        said = await refusal(cluster)
    assert "cannot load sloth-runner: No module named 'lupa'; hint: install sloth-runner" in said


def test_workers_are_asked_for_all_that_the_package_needs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split("[^a-z0-9]", one)[0] for one in project["dependencies"]}
    assert {name.replace("pyyaml", "yaml") for name in names} == set(NEEDED)


async def test_nothing_is_left_in_the_cluster(home: Home, cluster: Cluster) -> None:
    from sloth.engine.workers.cluster import connect

    home.site("exec.run('true')")
    home("run", "-f", "site.sloth", "--engine", cluster.url)
    client = await connect(parse(cluster.url))
    try:
        tasks = await client.run_on_scheduler(lambda dask_scheduler: sorted(map(str, dask_scheduler.tasks)))
        held = await client.run(lambda dask_worker: [*map(str, dask_worker.state.actors), *map(str, dask_worker.data)])
    finally:
        await client.close()
    assert tasks == []
    assert list(held.values()) == [[], []]


def test_a_worker_that_a_nanny_starts_again_gets_no_host_again(home: Home, tmp_path: Path) -> None:
    home.site("""
        exec.run("p=$PPID; while [ $p -gt 1 ] && ! grep -qsa spawn_main /proc/$p/cmdline; "
            .. "do p=$(cut -d ' ' -f 4 /proc/$p/stat); done; echo $p >> FILES/" .. host.name)
        exec.run("test -e FILES/first || { touch FILES/first; kill -9 $(cat FILES/" .. host.name .. "); sleep 2; }")
    """)
    with running_cluster(tmp_path / "dask", workers=0) as cluster:
        cluster.add_worker(nanny=True)
        said = home.run("--engine", cluster.url, status=1)
        assert "worker lost" in said
        assert "go on with --resume" in said
        end = time.monotonic() + 120
        while cluster.log().count("Registered to") < 2:
            assert time.monotonic() < end, "the nanny has started no other worker"
            time.sleep(0.1)
        assert len((home.text("web1") or "").split()) == 1, "it is not run again"
        home.run("--engine", cluster.url, "--resume")


async def test_dask_prints_nothing_into_a_run(cluster: Cluster) -> None:
    """Its configuration gives some of its loggers a level of their own, below that of `distributed`."""
    from sloth.engine.workers.cluster import connect

    logging.getLogger("distributed.client").setLevel(logging.WARNING)
    await (await connect(parse(cluster.url))).close()
    loud = [name for name in logging.root.manager.loggerDict if name.startswith(("distributed", "tornado"))]
    assert "distributed.client" in loud
    assert not [name for name in loud if logging.getLogger(name).isEnabledFor(logging.CRITICAL)]
