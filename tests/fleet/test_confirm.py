"""Changes that must be confirmed, on real hosts: what locks us out is taken back by the host itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sloth.engine.events import Event, Log
from sloth.engine.options import Options
from sloth.inventory import Inventory
from tests.support.machines import Fleet, base, cannot, run
from tests.support.running import finished_hosts, results, run_whole

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(400)]

HOST = "host4"
DROP_IN = "/etc/ssh/sshd_config.d/zz-test.conf"
RESTART = """
handler({ name = "restart ssh", run = function() systemd.restart("ssh") end })
"""


class Site:
    """One host of the fleet, and runs of a site on it."""

    def __init__(self, fleet: Fleet, directory: Path) -> None:
        self.fleet = fleet
        self.directory = directory
        (directory / "inventory.toml").write_text(fleet.inventory())
        self.inventory = Inventory.read(directory / "inventory.toml")

    def write(self, text: str) -> Path:
        site = self.directory / "site.sloth"
        site.write_text(text)
        return site

    def run(self, text: str, **options: Any) -> tuple[list[Event], int]:
        controller = self.directory / "controller"
        return asyncio.run(run_whole(self.write(text), self.inventory, controller, Options(**options), HOST))

    def shell(self, script: str) -> str:
        return self.fleet.shell(HOST, script)

    def note(self) -> str:
        """What the host has noted about changes that must be confirmed; "" when there are none."""
        path = self.root("/root/.sloth-runner/confirm/pending.json")
        return path.read_text() if path.exists() else ""

    def root(self, path: str) -> Path:
        return self.fleet.roots[HOST] / path.lstrip("/")

    def kill(self, *words: str) -> None:
        """Kill the host's processes that have one of these words in their command line."""
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                is_here = (directory / "root").samefile(self.root("/"))
                command = (directory / "cmdline").read_text()
            except OSError:
                continue
            if is_here and any(word in command for word in words):
                os.kill(int(directory.name), signal.SIGKILL)


@pytest.fixture
def guarded(fleet: Fleet, tmp_path: Path) -> Iterator[Site]:
    site = Site(fleet, tmp_path)
    site.shell("systemctl reset-failed ssh; true")
    before = fleet.tree(HOST)
    yield site
    deadline = time.monotonic() + 60
    while site.note():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    after = fleet.tree(HOST)
    changed = {path for path in {*before, *after} if before.get(path) != after.get(path)}
    changed = {path for path in changed if not (path in after and stat.S_ISDIR(after[path][0]))}
    changed -= {"etc/.pwd.lock"}  # a boot leaves it
    assert not {path for path in changed if path.startswith("etc/")}, changed
    site.shell("rm -rf /root/.sloth-runner/state /etc/net.sh; ip link delete dummy9 2>/dev/null; true")


def test_what_is_confirmed_stays(guarded: Site) -> None:
    text = (
        RESTART
        + f"""
task({{ name = "sshd", confirm = 60, notify = "restart ssh",
    confirm_check = function() assert(exec.run({{ cmd = "id -u", read_only = true }}).stdout == "0") end,
    run = function() file.copy({{ content = "LoginGraceTime 33\\n", dest = "{DROP_IN}", mode = "0600" }}) end }})
task({{ name = "after", run = function() exec.run("true") end }})
"""
    )
    assert guarded.run(text, check=True)[1] == 0
    assert not guarded.root(DROP_IN).exists()
    events, status = guarded.run(text)
    assert status == 0, finished_hosts(events)[HOST].error
    assert [result.module for result in results(events)] == ["file.copy", "systemd.restart", "exec.run", "exec.run"]
    assert not guarded.note()
    time.sleep(1)
    assert guarded.root(DROP_IN).read_text() == "LoginGraceTime 33\n"
    events, status = guarded.run(text)  # converged: nothing to confirm
    assert next((result.module, result.status) for result in results(events)) == ("file.copy", "unchanged")
    guarded.shell(f"rm {DROP_IN}; systemctl restart ssh")


@pytest.mark.parametrize("line", ["AllowUsers nobody", "NoSuchOption yes"])
def test_a_broken_sshd_is_mended(guarded: Site, line: str) -> None:
    """One that does not start again, and one that lets nobody in: the present session lives on meanwhile."""
    text = f"""{RESTART}
task({{ name = "sshd", confirm = 5, notify = "restart ssh",
    run = function() file.copy({{ content = "{line}\\n", dest = "{DROP_IN}" }}) end }})
"""
    events, status = guarded.run(text)
    assert status == 1
    error = str(finished_hosts(events)[HOST].error)
    assert ("was not confirmed, and its changes were taken back" in error) == (line == "AllowUsers nobody"), error
    assert not guarded.root(DROP_IN).exists()
    assert guarded.shell("systemctl is-active ssh").strip() == "active"
    rows = [(result.module, result.reason, result.status) for result in results(events)]
    assert ("file.copy", "reverted", "changed") in rows
    assert ("systemd.restart", "reverted", "changed") in rows


@pytest.mark.parametrize("victim", ["controller", "everything", "host"])
def test_a_killed_controller(guarded: Site, victim: str) -> None:
    path = guarded.write(f"""{RESTART}
task({{ name = "sshd", confirm = 5, notify = "restart ssh", confirm_check = function() sleep(100) end,
    run = function() file.copy({{ content = "AllowUsers deploy root\\n", dest = "{DROP_IN}" }}) end }})
""")
    environment = {**os.environ, "SLOTH_HOME": str(guarded.directory / "controller")}
    command = [sys.executable, "-m", "sloth", "run", "-i", "inventory.toml", "-f", str(path), "-l", HOST]
    with (guarded.directory / "log").open("wb") as log:
        run = subprocess.Popen(command, cwd=guarded.directory, env=environment, stdout=log, stderr=log)
    wait_for(lambda: '"waiting"' in guarded.note(), guarded)
    assert guarded.root(DROP_IN).exists()
    run.kill()
    if victim == "host":
        guarded.fleet.may_reboot()
        guarded.shell("systemctl reboot")
    if victim == "everything":  # the next run takes over, as on a host without systemd that was started again
        guarded.kill("confirm/watchdog.py", "binascii")
    run.wait(60)
    if victim == "controller":  # nobody may build on what is not confirmed
        events, _ = guarded.run('task({ name = "t", run = function() exec.run("true") end })', lock_wait=0)
        assert "is locked by" in str(finished_hosts(events)[HOST].error)
    if victim != "everything":
        wait_for(lambda: not guarded.root(DROP_IN).exists(), guarded)
        wait_for(lambda: not guarded.note(), guarded)
    events, status = guarded.run('task({ name = "t", run = function() exec.run("true") end })')
    assert status == 0
    assert not guarded.root(DROP_IN).exists()
    warnings = [event.text for event in events if isinstance(event, Log)]
    assert any("took back what task sshd" in text and DROP_IN in text for text in warnings), warnings
    query = "select reason, origin from history where key like 'file:%' order by id"
    code = f"import sqlite3; print(sqlite3.connect('/root/.sloth-runner/state/host4.db').execute({query!r}).fetchall())"
    history = guarded.shell(f"python3 -c {shlex.quote(code)}")
    assert "('reverted', 'the host itself: " in history, history
    events, _ = guarded.run('task({ name = "t", run = function() exec.run("true") end })')
    assert not [event for event in events if isinstance(event, Log)]  # it is reported once


def wait_for(condition: Callable[[], bool], site: Site) -> None:
    end = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < end, (site.directory / "log").read_text()
        time.sleep(0.1)


NETWORK = "slothconfirm"
INSIDE, OUTSIDE = "10.199.77.2", "10.199.77.1"


@pytest.fixture
def far_host(tmp_path: Path) -> Iterator[Path]:
    """The root of a system without systemd, whose sshd is in a network of its own: a link and a route lead there."""
    if cannot():
        pytest.skip(cannot())
    with contextlib.ExitStack() as after:
        yield _boot_far_host(tmp_path, after)


def _boot_far_host(tmp_path: Path, after: contextlib.ExitStack) -> Path:
    run("mount", "-t", "tmpfs", "-o", "size=200m,mode=0755", "tmpfs", str(tmp_path))
    after.callback(run, "umount", "-l", str(tmp_path))
    for part in ("upper", "work", "root"):
        (tmp_path / part).mkdir()
    root = tmp_path / "root"
    layers = f"lowerdir={base(Path('/var/cache/sloth-fleet'))},upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    run("mount", "-t", "overlay", "overlay", "-o", layers, str(root))
    after.callback(run, "umount", "-l", str(root))
    for path in [shutil.which("ip") or "", *re.findall(r"(/\S+) \(", run("ldd", shutil.which("ip") or ""))]:
        if not (root / path[1:]).exists():
            shutil.copy(path, root / "usr/lib/x86_64-linux-gnu" if ".so" in path else root / "usr/sbin/ip")
    for key in (tmp_path / "id", root / "etc/ssh/ssh_host_ed25519_key"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    (root / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
    shutil.copy(tmp_path / "id.pub", root / "root/.ssh/authorized_keys")
    (root / "run/sshd").mkdir(exist_ok=True)
    run("ip", "netns", "add", NETWORK)
    after.callback(run, "ip", "netns", "delete", NETWORK)
    run("ip", "link", "add", "slothc0", "type", "veth", "peer", "name", "slothc1", "netns", NETWORK)
    after.callback(run, "ip", "link", "delete", "slothc0")
    run("ip", "addr", "add", f"{OUTSIDE}/32", "dev", "slothc0")
    run("ip", "link", "set", "slothc0", "up")
    run("ip", "route", "add", f"{INSIDE}/32", "dev", "slothc0", "src", OUTSIDE)
    inside = ("ip", "netns", "exec", NETWORK, "ip")
    run(*inside, "addr", "add", f"{INSIDE}/32", "dev", "slothc1")
    run(*inside, "link", "set", "slothc1", "up")
    run(*inside, "route", "add", f"{OUTSIDE}/32", "dev", "slothc1")
    command = ["ip", "netns", "exec", NETWORK, "unshare", "--mount", "--pid", "--fork", "--kill-child"]
    command += [f"--mount-proc={root}/proc", "chroot", str(root), "/usr/sbin/sshd", "-D", "-o", "UsePAM=no"]
    sshd = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after.callback(sshd.wait)
    after.callback(sshd.kill)
    end = time.monotonic() + 60
    while time.monotonic() < end:  # until it listens
        with contextlib.suppress(OSError), socket.create_connection((INSIDE, 22), timeout=5):
            return root
        time.sleep(0.1)
    raise AssertionError("the sshd of the far host does not answer")


def test_a_dropped_route_comes_back(far_host: Path) -> None:
    """Nothing gets through any more, in the middle of the run: the host has no systemd, and is on its own."""
    directory = far_host.parent
    (directory / "inventory.toml").write_text(
        f'[hosts.far]\naddress = "{INSIDE}"\nuser = "root"\nidentity_file = "{directory}/id"\n'
        f'host_keys = "accept-new"\nknown_hosts = "{directory}/known"\nssh_config = false\n'
    )
    (far_host / "etc/net.sh").write_text(f"ip route replace {OUTSIDE}/32 dev slothc1\n")
    (directory / "site.sloth").write_text(f"""
handler({{ name = "network", run = function() exec.run("sh /etc/net.sh") end }})
task({{ name = "route", confirm = 6, notify = "network", run = function()
    file.copy({{ content = "ip route del {OUTSIDE}/32 dev slothc1\\n", dest = "/etc/net.sh" }})
end }})
""")
    inventory = Inventory.read(directory / "inventory.toml")
    begun = time.monotonic()
    events, status = asyncio.run(run_whole(directory / "site.sloth", inventory, directory / "controller"))
    assert status == 1, finished_hosts(events)
    error = str(finished_hosts(events)["far"].error)
    assert "its changes were taken back" in error
    assert [(r.module, r.reason) for r in results(events) if r.reason == "reverted"] == [
        ("file.copy", "reverted"),
        ("exec.run", "reverted"),
    ]
    assert "replace" in (far_host / "etc/net.sh").read_text()
    assert time.monotonic() - begun < 90
