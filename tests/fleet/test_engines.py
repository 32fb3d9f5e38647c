"""Containers and root directories as hosts: chroot, nspawn and podman run the same payload over pipes."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sloth.engine.options import Options
from sloth.inventory import Inventory
from tests.support.machines import base, cannot, run
from tests.support.running import finished_hosts, reasons, results, run_whole

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(300)]

SITE = """
task({ name = "t", run = function()
    file.copy({ content = "hello\\n", dest = "~/hello", mode = "0600" })
    pkg.install("cron")
    print(exec.run({ cmd = "id -un; echo ~; pwd; cat ~/hello", read_only = true }).stdout)
end })
"""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The root of a Debian system that does not run."""
    if cannot():
        pytest.skip(cannot())
    directory = tmp_path_factory.mktemp("engines")
    run("mount", "-t", "tmpfs", "-o", "size=200m,mode=0755", "tmpfs", str(directory))
    for part in ("upper", "work", "root"):
        (directory / part).mkdir()
    layers = f"lowerdir={base(Path('/var/cache/sloth-fleet'))},upperdir={directory}/upper,workdir={directory}/work"
    run("mount", "-t", "overlay", "overlay", "-o", layers, str(directory / "root"))
    yield directory / "root"
    run("umount", "-l", str(directory / "root"), str(directory))


@pytest.fixture(scope="module")
def container(system: Path) -> Iterator[str]:
    """The name of a container that podman runs."""
    if shutil.which("podman") is None:
        pytest.skip("podman is not installed")
    name = "sloth-engines"
    # What a container may use is limited on purpose, since this machine may be a container, too, and have little.
    limits = ["--ulimit=nofile=1000:1000", "--ulimit=nproc=1000:1000", "--security-opt=seccomp=unconfined"]
    command = ["podman", "--runtime=runc", "run", "--detach", f"--name={name}", "--network=host", *limits]
    started = subprocess.run([*command, "--rootfs", str(system), "sleep", "1000"], capture_output=True, text=True)
    if started.returncode:
        pytest.skip(f"podman cannot run a container here: {started.stderr.strip()}")
    yield name
    run("podman", "rm", "--force", "--time=0", name)


async def converges(tmp_path: Path, host: str, account: str, home: str) -> None:
    """Check that a host of the inventory `host` is brought to its state, and is quiet the second time."""
    (tmp_path / "inventory.toml").write_text(f"[hosts.one]\n{host}")
    (tmp_path / "site.sloth").write_text(SITE)
    inventory = Inventory.read(tmp_path / "inventory.toml")
    for expected in ({("changed", "new"): 1}, {}):
        events, status = await run_whole(tmp_path / "site.sloth", inventory, tmp_path / "controller")
        assert status == 0, finished_hosts(events)
        found = reasons(events)
        found.pop(("unchanged", ""), None)
        found.pop(("unchanged", "adopted"), None)
        assert found == expected
    assert results(events)[-1].values["stdout"].splitlines()[:2] == [account, home]


@pytest.mark.parametrize("connection", ["chroot", "nspawn"])
@pytest.mark.parametrize(
    ("settings", "account", "home"),
    [('user = "ops"', "ops", "/home/ops"), ("", "root", "/root"), ('user = "deploy"\nbecome = true', "root", "/root")],
)
async def test_a_directory_with_a_system_in_it(
    system: Path, tmp_path: Path, connection: str, settings: str, account: str, home: str
) -> None:
    shutil.rmtree(system / "root/.sloth-runner", ignore_errors=True)
    shutil.rmtree(system / "home/ops/.sloth-runner", ignore_errors=True)
    for file in ("root/hello", "home/ops/hello"):
        (system / file).unlink(missing_ok=True)
    await converges(tmp_path, f'connection = "{connection}"\naddress = "{system}"\n{settings}\n', account, home)
    assert (system / home[1:] / "hello").read_text() == "hello\n"


@pytest.mark.parametrize(("settings", "account", "home"), [("", "root", "/root"), ('user = "ops"', "ops", "/home/ops")])
async def test_a_container_of_podman(container: str, tmp_path: Path, settings: str, account: str, home: str) -> None:
    run("podman", "exec", container, "rm", "-rf", f"{home}/.sloth-runner", f"{home}/hello")
    await converges(tmp_path, f'connection = "podman"\naddress = "{container}"\n{settings}\n', account, home)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ('connection = "chroot"\naddress = "/nonexistent"', "is not the absolute path of a system's root directory"),
        ('connection = "chroot"', "one is not the absolute path"),
        ('connection = "nspawn"\naddress = "/etc"', "is not the absolute path of a system's root directory"),
        ('connection = "nspawn"\naddress = "-M"', "'-M' is not the name of a machine"),
        ('connection = "podman"\naddress = "--help"', "'--help' is not the name of a container"),
        ('connection = "podman"\naddress = "of-nobody"', "podman"),
        ('connection = "docker"', "docker"),
        ('connection = "chroot"\naddress = "/"\nuser = "-x"', "is not the name of an account"),
    ],
)
async def test_what_is_not_there_is_unreachable(tmp_path: Path, settings: str, message: str) -> None:
    (tmp_path / "inventory.toml").write_text(f'[hosts.one]\n{settings}\n[hosts.two]\nconnection = "local"\n')
    (tmp_path / "site.sloth").write_text('task({ name = "t", run = function() exec.run("true") end })')
    inventory = Inventory.read(tmp_path / "inventory.toml")
    events, status = await run_whole(tmp_path / "site.sloth", inventory, tmp_path / "controller", Options())
    ended = finished_hosts(events)
    assert (ended["one"].status, ended["two"].status, status) == ("unreachable", "changed", 4)
    assert message in (ended["one"].error or "")
