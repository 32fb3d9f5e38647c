"""The table [engine] of an inventory: the cluster, its workers, and which of them are near a host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sloth.cli.engine_option import engine_and_workers, near
from sloth.errors import UsageError
from sloth.inventory import Inventory
from tests.support.cluster import Cluster, running_cluster
from tests.support.command import sloth
from tests.support.home import Home

pytestmark = pytest.mark.timeout(300)
HOST = '[hosts.a]\nconnection = "local"\n[engine]\n'
SITE = "task({ name = 't', run = function() exec.run('touch mark') end })"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('ulr = "dask://localhost"', "inventory.toml:4: unknown key 'ulr' in [engine]; hint: did you mean \"url\"?"),
        ("hosts = []", "inventory.toml:4: unknown key 'hosts' in [engine]; hint: a group is [groups.engine]"),
        ("url = 5", "inventory.toml:4: url must be a URL such as dasks://scheduler:8786, not 5"),
        ('workers = "2"', "inventory.toml:4: workers must be a number from 1, not '2'"),
        ("workers = 0", "inventory.toml:4: workers must be a number from 1, not 0"),
        ("workers = true", "inventory.toml:4: workers must be a number from 1, not True"),
        ('near = ""', "inventory.toml:4: near must be the name of a variable, or tags"),
        ("only_near = true", 'inventory.toml:4: only_near needs near; hint: for example near = "region"'),
        ('url = "dsk://localhost"', 'inventory.toml:4: unknown engine "dsk"; hint: did you mean "dask"?'),
        ('url = "dask://10.0.0.1"', "inventory.toml:4: without TLS a scheduler must be on this machine"),
        ('url = "dasks://me:secret@h"', "inventory.toml:4: credentials do not belong into a URL"),
        ('url = "dask://127.0.0.1:1"\nnear = "region"\n[defaults.vars]\nregion = 5', "a: region must be the name of"),
    ],
)
def test_a_mistake_is_found_before_anything_is_touched(tmp_path: Path, lines: str, said: str) -> None:
    path = tmp_path / "inventory.toml"
    path.write_text(HOST + lines + "\n")
    with pytest.raises(UsageError) as raised:
        _read(path)
    text = str(raised.value)
    assert said in text
    assert "secret" not in text


def _read(path: Path) -> None:
    """Do what a run does with the table."""
    inventory = Inventory.read(path)
    engine_and_workers(None, None, inventory.engine)
    near(inventory.engine, inventory.select("all"), {})


def above(word: str) -> str:
    """Return the text of a task that writes which process above it has this word in its command line, else 1 or 0."""
    return f"""exec.run("p=$PPID; "
        .. "while [ $p -gt 1 ] && ! grep -qsa {word} /proc/$p/cmdline; do p=$(cut -d ' ' -f 4 /proc/$p/stat); done; "
        .. "echo $p > FILES/" .. host.name)"""


def test_the_command_line_wins_over_the_environment_and_that_over_the_inventory(tmp_path: Path) -> None:
    (tmp_path / "inventory.toml").write_text(HOST + 'url = "wrong-1://"\nworkers = 9\n')
    (tmp_path / "site.sloth").write_text(SITE)
    run = ("run", "-f", "site.sloth")
    assert 'inventory.toml:4: unknown engine "wrong-1"' in sloth(tmp_path, *run).stderr
    environment = {"SLOTH_ENGINE": "wrong-2://"}
    assert '$SLOTH_ENGINE: unknown engine "wrong-2"' in sloth(tmp_path, *run, extra=environment).stderr
    said = sloth(tmp_path, *run, "--engine", "wrong-3://", extra=environment).stderr
    assert '--engine: unknown engine "wrong-3"' in said
    without = f"{Path.home()}/no.pem"
    url = f"dasks://127.0.0.1:1?ca={tmp_path}/inventory.toml&cert={without}&key={without}"
    assert "$SLOTH_ENGINE: cert=" in sloth(tmp_path, *run, extra={"SLOTH_ENGINE": url}).stderr
    ca = tmp_path / "ca.pem"
    ca.write_text("no certificate")
    (tmp_path / "inventory.toml").write_text(HOST + f'url = "dasks://127.0.0.1:1?ca={ca}&cert={ca}&key={ca}"\n')
    assert f"inventory.toml:4: ca={ca} is no certificate" in sloth(tmp_path, *run).stderr
    assert sloth(tmp_path, *run, "--engine", "none", extra=environment).returncode == 0
    assert sloth(tmp_path, *run, extra={"SLOTH_ENGINE": "none"}).returncode == 0
    assert sloth(tmp_path, "plan", "-f", "site.sloth", "-o", "saved.plan").returncode == 0, "a plan has no engine"


def test_workers_of_the_inventory_are_processes_of_this_machine(home: Home) -> None:
    with (home.path / "inventory.toml").open("a") as file:
        file.write("[engine]\nworkers = 2\n")
    home.site(above("workers.worker"))
    home("run", "-f", "site.sloth")
    first, second = ((home.text(name) or "").strip() for name in ("web1", "web2"))
    assert first != second, "each host has a worker of its own"
    home("run", "-f", "site.sloth", "--workers", "0")
    first, second = ((home.text(name) or "").strip() for name in ("web1", "web2"))
    assert first == second in ("0", "1")


def test_a_group_called_engine_of_ansible_is_a_group(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("[engine]\na connection=local\n")
    assert "@engine" in sloth(tmp_path, "inventory", "list", "-i", "hosts").stdout


@pytest.fixture(scope="module")
def regions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with a worker that is called eu, and one that has the resource us."""
    pytest.importorskip("distributed", reason="needs the extra dask")
    with running_cluster(tmp_path_factory.mktemp("dask"), workers=0) as cluster:
        cluster.add_worker("--name", "eu")
        cluster.add_worker("--resources", "us=1")
        yield cluster


def test_hosts_get_the_workers_near_them(home: Home, regions: Cluster) -> None:
    places = {"a": "eu", "b": "us", "c": "eu", "d": "us", "e": "us"}
    hosts = "".join(f'[hosts.{n}]\nconnection = "local"\nvars.region = "{r}"\n' for n, r in places.items())
    engine = f'[engine]\nurl = "{regions.url}"\nnear = "region"\nonly_near = true\n'
    (home.path / "inventory.toml").write_text(hosts + engine)
    home.site(above("dask_worker"))
    home("run", "-f", "site.sloth")
    eu, us = (str(process.pid) for process in regions.workers)
    worked = {name: (home.text(name) or "").strip() for name in places}
    assert worked == {name: eu if region == "eu" else us for name, region in places.items()}
    # The same by tags; one host has none.
    tagged = "".join(f'[hosts.{n}]\nconnection = "local"\ntags = ["web", "{r}"]\n' for n, r in places.items())
    far = '[hosts.f]\nconnection = "local"\n'
    (home.path / "inventory.toml").write_text(tagged + far + engine.replace('"region"', '"tags"'))
    for name in places:
        (home.files / name).unlink()
    said = home("run", "-f", "site.sloth", status=2)
    assert "no worker of the engine is near f; hint: workers are known as eu, tcp://127.0.0.1:" in said
    assert not list(home.files.iterdir())
    text = (home.path / "inventory.toml").read_text().replace("only_near = true", "only_near = false")
    (home.path / "inventory.toml").write_text(text)
    home("run", "-f", "site.sloth", "--workers", "1")
    worked = {name: (home.text(name) or "").strip() for name in (*places, "f")}
    assert worked.pop("f") in (eu, us)
    assert worked == {name: eu if region == "eu" else us for name, region in places.items()}
