"""run --engine: a Dask cluster that is on another machine, that is lost, that is not what it should be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sloth.engine.events import CallFinished, HostFinished, Log, TaskFinished
from sloth.engine.options import Options
from sloth.engine.workers import address, files
from sloth.engine.workers.engine import PART
from sloth.errors import UsageError
from sloth.inventory import Inventory
from sloth.playbook import Site
from sloth.state.storage import Storage
from sloth.transport.loopback import LoopbackFleet
from tests.support.cluster import Cluster, running_cluster
from tests.support.home import Home
from tests.support.paths import ROOT
from tests.support.running import ENGINE, run_site

pytestmark = pytest.mark.timeout(300)
pytest.importorskip("distributed", reason="needs the extra dask")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="a mount namespace of its own needs root")


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("dask://10.0.0.1:8786", "without TLS a scheduler must be on this machine"),
        ("dask://scheduler.example.com", "without TLS a scheduler must be on this machine"),
        ("dsk://localhost", 'unknown engine "dsk"'),
        ("tcp://localhost:8786", "write dask://, or dasks:// for TLS"),
        ("localhost:8786", "is no URL"),
        ("dask://localhost:0", '"0" is no port'),
        ("dask://localhost:x", '"x" is no port'),
        ("dask://", "a host is missing"),
        ("dask://::1:8786", "write an IPv6 address in brackets"),
        ("dask://me@localhost", "credentials do not belong into a URL"),
        ("dask://localhost/x", "the URL has a path"),
        ("dask://localhost?ca=x", "use dasks://"),
        ("dasks://localhost?cert=/dev/null&key=/dev/null", 'the option "ca" is missing'),
        ("dasks://localhost?ce=x", "cert"),
        ("dasks://localhost?ca=/nowhere/ca.pem&cert=/dev/null&key=/dev/null", "cannot be read"),
    ],
)
def test_a_wrong_url_is_refused_before_anything_is_touched(url: str, text: str) -> None:
    with pytest.raises(UsageError) as raised:
        address.parse(url)
    assert text in str(raised.value)


def test_addresses_of_this_machine_need_no_tls() -> None:
    assert address.parse("dask://localhost").url == "tcp://localhost:8786"
    assert address.parse("dask://[::1]:1").url == "tcp://[::1]:1"
    assert address.parse("dasks://far.example.com").url == "tls://far.example.com:8786"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster whose worker has a mount namespace of its own: it is another machine as far as a run can know."""
    with running_cluster(tmp_path / "dask", workers=0) as cluster:
        cluster.add_worker(prefix=("unshare", "--mount"))
        monkeypatch.setenv(ENGINE, cluster.url)
        yield cluster


def left_in_memory() -> list[str]:
    return [name for name in os.listdir("/dev/shm") if name.startswith("sloth-runner-")]


@needs_root
async def test_a_worker_on_another_machine_gets_what_it_needs_and_keeps_nothing(
    elsewhere: Cluster, servers: LoopbackFleet, inventory: Inventory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLOTH_SECRET_TOKEN", "unguessable-1")
    monkeypatch.setenv("NAMED", "by the site")
    monkeypatch.setenv("PRIVATE", "unguessable-2")
    directory = tmp_path / "site"
    (directory / "files").mkdir(parents=True)
    (directory / "files" / "motd").write_text("from a file\n")
    (directory / "files" / "large").write_bytes(os.urandom(3 * PART))
    (directory / "page.j2").write_text("{{ secret('token') }} {% for h in groups.web %}{{ h }} {% endfor %}\n")
    (directory / "more.lua").write_text("task({ name = 'more', run = function() exec.run('true') end })\n")
    (directory / "secrets.vault").write_text("unguessable-3")
    (directory / "site.sloth").write_text("""
        include("more.lua")
        task({ name = "t", run = function()
            file.copy({ src = "motd", dest = "~/motd" })
            file.copy({ src = "large", dest = "~/large" })
            file.template({ src = "page.j2", dest = "~/page" })
            print("count", state.incr("COUNT", 1), os.getenv("NAMED"), os.getenv("PRI" .. "VATE"))
            file.fetch({ src = "~/motd", dest = "fetched/" })
        end })
    """)
    before = left_in_memory()
    events = await run_site(directory / "site.sloth", inventory, tmp_path / "controller", Options())
    ends = {event.host: (str(event.status), event.error) for event in events if isinstance(event, HostFinished)}
    assert ends == dict.fromkeys(("web1", "web2", "db1"), ("changed", None))
    printed = sorted(event.text for event in events if isinstance(event, Log) and event.text.startswith("count"))
    assert [line.split()[1] for line in printed] == ["1", "2", "3"]
    assert all("by the site" in line and "nil" in line for line in printed)
    assert {event.result.where.rpartition(":")[0] for event in events if isinstance(event, CallFinished)} >= {
        str(directory / "site.sloth")
    }
    assert len(list((directory / "fetched").rglob("motd"))) == 3
    large = (directory / "files" / "large").read_bytes()
    assert [(home / "large").read_bytes() == large for home in servers.homes.values()] == [True] * 3
    assert "/dev/shm" not in repr(events)
    assert "unguessable" not in repr(events)
    assert left_in_memory() == before


async def test_a_worker_of_a_cluster_gets_no_key_from_the_environment(
    servers: LoopbackFleet, inventory: Inventory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one on this machine: what it gets goes through the scheduler."""
    for name in ("SLOTH_KEY", "SLOTH_PASSPHRASE", "SLOTH_SECRET_UNUSED", "SLOTH_SECRET_USED", "OTHER"):
        monkeypatch.setenv(name, "unguessable")
    names = "'SLOTH_KEY', 'SLOTH_PASSPHRASE', 'SLOTH_SECRET_UNUSED', 'SLOTH_SECRET_USED', 'OTHER'"
    (tmp_path / "site.sloth").write_text(f"""task({{ name = "t", run = function()
        local seen = {{}}
        for _, name in ipairs({{ {names} }}) do if os.getenv(name) then seen[#seen + 1] = name end end
        print(table.concat(seen, " "), #secret("used"))
    end }})""")
    with running_cluster(tmp_path / "dask") as cluster:
        monkeypatch.setenv(ENGINE, cluster.url)
        events = await run_site(tmp_path / "site.sloth", inventory, tmp_path / "controller", Options(), hosts="web1")
    assert [event.text for event in events if isinstance(event, Log)] == ["OTHER\t11"]


@needs_root
async def test_paths_of_a_site_are_those_of_the_run(
    elsewhere: Cluster, servers: LoopbackFleet, inventory: Inventory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They begin at its home and its working directory, under whatever names of links."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for role, place in (("beside", tmp_path / "site" / "roles"), ("shared", tmp_path / "team" / "roles")):
        (place / role / "files" / "tree").mkdir(parents=True)
        (place / role / "files" / "tree" / "page").write_text(role)
        (place / role / "init.lua").write_text(f"""task({{ name = "t", run = function()
            file.copy({{ src = "tree/", dest = "~/{role}" }})
            file.fetch({{ src = "~/{role}/page", dest = "~/fetched/" }})
        end }})""")
    (tmp_path / "site" / "site.sloth").write_text('role("beside") role("shared") print(os.getenv("HOME"))')
    (tmp_path / "link").symlink_to("site")
    site = Site.read(str(tmp_path / "link" / "site.sloth"), roles_path=[Path("../team/roles")])
    events = await run_site(site, inventory, tmp_path / "controller", hosts="web1")
    ends = {event.host: (str(event.status), event.error) for event in events if isinstance(event, HostFinished)}
    assert ends == {"web1": ("changed", None)}
    fetched = tmp_path / "home" / "fetched" / "web1"
    assert {path.parent.name: path.read_text() for path in fetched.rglob("page")} == {
        "beside": "beside",
        "shared": "shared",
    }
    assert [event.text for event in events if isinstance(event, Log)] == [str(tmp_path / "home")]


@needs_root
async def test_a_tree_is_whole_or_an_error(
    elsewhere: Cluster, servers: LoopbackFleet, inventory: Inventory, tmp_path: Path
) -> None:
    (tmp_path / "site" / "files" / "tree").mkdir(parents=True)
    (tmp_path / "site" / "files" / "tree" / ".htaccess").write_text("x")
    (tmp_path / "site" / "files" / ".page.j2").write_text("x")
    (tmp_path / "site" / "site.sloth").write_text("""
        task({ name = "t", ignore_errors = true, run = function() file.copy({ src = "tree/", dest = "~/tree" }) end })
        task({ name = "u", run = function() file.template({ src = "files/.page.j2", dest = "~/page" }) end })
    """)
    events = await run_site(tmp_path / "site" / "site.sloth", inventory, tmp_path / "controller", hosts="web1")
    errors = [event.error or "" for event in events if isinstance(event, TaskFinished)]
    for error, name in zip(errors, ("tree/.htaccess", ".page.j2"), strict=True):
        assert name in error
        assert "it does not go to workers on other machines" in error
    assert not (servers.homes["web1"] / "tree").exists()


@needs_root
async def test_a_site_that_is_too_large_is_refused_before_the_run_begins(
    elsewhere: Cluster, servers: LoopbackFleet, inventory: Inventory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "site.sloth").write_text("task({ name = 't', run = function() exec.run('true') end })")
    monkeypatch.setattr(files, "LARGEST", 3)
    with pytest.raises(UsageError, match="would go to workers on other machines"):
        await run_site(tmp_path / "site" / "site.sloth", inventory, tmp_path / "controller", hosts="web1")
    memory = Storage(tmp_path / "controller").memory()
    assert list(memory.runs.newest(-1)) == [], "it would be an unfinished run for ever"
    memory.close()


@needs_root
def test_a_worker_without_room_for_the_site_says_so(home: Home, tmp_path: Path) -> None:
    """Containers have 64 MB of /dev/shm, for all runs together."""
    (home.path / "large").write_bytes(os.urandom(1_000_000))
    home.site("exec.run('true')")
    small = 'mount -t tmpfs -o size=256k tmpfs /dev/shm && exec "$0" "$@"'
    with running_cluster(tmp_path / "dask", workers=0) as cluster:
        cluster.add_worker(prefix=("unshare", "--mount", "sh", "-c", small))
        said = home.run("--engine", cluster.url, status=1)
    assert "nothing was done: the files of the site cannot be put into /dev/shm: No space left on device" in said
    assert "Traceback" not in said


@needs_root
async def test_this_machine_is_not_that_of_the_worker(elsewhere: Cluster, tmp_path: Path) -> None:
    (tmp_path / "site.sloth").write_text("task({ name = 't', run = function() exec.run('true') end })")
    (tmp_path / "inventory.toml").write_text('[hosts.here]\nconnection = "local"\n')
    inventory = Inventory.read(tmp_path / "inventory.toml")
    events = await run_site(tmp_path / "site.sloth", inventory, tmp_path / "controller", Options())
    (end,) = (event for event in events if isinstance(event, HostFinished))
    assert str(end.status) == "failed"
    assert "means the machine of the run" in (end.error or "")


@needs_root
async def test_a_worker_without_access_says_who_it_is(
    elsewhere: Cluster, servers: LoopbackFleet, tmp_path: Path
) -> None:
    text = (tmp_path / "inventory.toml").read_text()
    lines = [
        'identity_file = "/nowhere/id"' if line.startswith("identity_file") else line for line in text.splitlines()
    ]
    (tmp_path / "inventory.toml").write_text("\n".join(lines))
    (tmp_path / "site.sloth").write_text("task({ name = 't', run = function() exec.run('true') end })")
    inventory = Inventory.read(tmp_path / "inventory.toml")
    events = await run_site(tmp_path / "site.sloth", inventory, tmp_path / "controller", Options())
    ends = [event for event in events if isinstance(event, HostFinished)]
    assert len(ends) == 3
    for end in ends:
        assert str(end.status) == "unreachable"
        assert "with the keys and the agent of its user" in (end.error or "")
        assert "/nowhere/id" in (end.error or "")


def test_a_scheduler_that_is_not_there(home: Home) -> None:
    home.site("exec.run('true')")
    text = home.run("--engine", "dask://127.0.0.1:1", status=2)
    assert "the scheduler 127.0.0.1:1 cannot be reached: " in text
    assert "hint: start one" in text
    assert home.json("runs", "list") == []


def test_without_dask_the_error_names_the_extra(home: Home) -> None:
    home.site("exec.run('true')")
    (home.path / "distributed.py").write_text("raise ImportError('not installed')\n")
    environment = {**os.environ, "HOME": str(home.path), "PYTHONPATH": f"{home.path}:{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-m", "sloth", "run", "-f", "site.sloth", "--engine", "dask://127.0.0.1:1"],
        cwd=home.path, env=environment, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 2
    assert "pip install 'sloth-runner[dask]'" in done.stderr


def test_commands_do_not_load_dask() -> None:
    code = "import sys, sloth.cli.run, sloth.engine.run; sys.exit('distributed' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=100).returncode == 0


def _begin(home: Home, cluster: Cluster) -> subprocess.Popen[str]:
    """Start a run whose two hosts wait, each on its worker."""
    home.site(
        'exec.run("touch FILES/" .. host.name .. "; while ! test -e FILES/go-" .. host.name .. "; do sleep 0.1; done")'
    )
    environment = {**os.environ, "HOME": str(home.path), "PYTHONPATH": str(ROOT)}
    environment["SLOTH_HOME"] = str(home.path / ".sloth-runner")
    process = subprocess.Popen(
        [sys.executable, "-m", "sloth", "run", "-f", "site.sloth", "--engine", cluster.url],
        cwd=home.path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    end = time.monotonic() + 120
    while not all((home.files / name).exists() for name in ("web1", "web2")):
        assert time.monotonic() < end
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    return process


@pytest.mark.parametrize("what", ["worker", "scheduler"])
def test_hosts_of_what_is_lost_fail_and_the_run_ends(home: Home, tmp_path: Path, what: str) -> None:
    with running_cluster(tmp_path / "dask") as cluster:
        process = _begin(home, cluster)
        victim = cluster.workers[0] if what == "worker" else cluster.scheduler
        victim.send_signal(signal.SIGKILL)
        (home.files / "go-web1").touch()
        (home.files / "go-web2").touch()
        out, error = process.communicate(timeout=150)
    assert process.returncode == 1, out + error
    assert ("1 failed" if what == "worker" else "2 failed") in out + error
    assert "worker lost" in out + error
    assert "--resume" in out + error


def test_the_second_interrupt_cuts_off(home: Home, tmp_path: Path, cluster: Cluster) -> None:
    process = _begin(home, cluster)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    begun = time.monotonic()
    process.communicate(timeout=100)
    assert process.returncode == 130
    assert time.monotonic() - begun < 40
