"""sloth-runner bootstrap: on real hosts that have Python, and in a system from which it was removed."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machines import Fleet, base, cannot, run
from tests.support.packages import deb

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(300)]


def bootstrap(directory: Path, *words: str) -> tuple[int, dict[str, dict[str, str]]]:
    command = [
        sys.executable,
        "-m",
        "sloth",
        "bootstrap",
        *words,
        "-i",
        str(directory / "inventory.toml"),
        "-o",
        "json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "SLOTH_HOME": str(directory)})
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_hosts_that_have_it(fleet: Fleet, tmp_path: Path) -> None:
    text = fleet.inventory(user="ops", become="false") + '[hosts.gone]\naddress = "127.0.1.99"\n'
    (tmp_path / "inventory.toml").write_text(text)
    status, found = bootstrap(tmp_path, "host1,gone")
    assert (found["host1"], found["gone"]["status"], status) == (
        {"status": "present", "detail": "/usr/bin/python3"}, "unreachable", 4,
    )  # fmt: skip


@pytest.fixture
def bare_system(tmp_path: Path) -> Iterator[Path]:
    """The root of a Debian system without a Python that works, and a repository that has one."""
    if cannot():
        pytest.skip(cannot())
    with contextlib.ExitStack() as after:
        run("mount", "-t", "tmpfs", "-o", "size=200m,mode=0755", "tmpfs", str(tmp_path))
        after.callback(run, "umount", "-l", str(tmp_path))
        for part in ("upper", "work", "root"):
            (tmp_path / part).mkdir()
        root = tmp_path / "root"
        layers = f"lowerdir={base(Path('/var/cache/sloth-fleet'))},upperdir={tmp_path}/upper,workdir={tmp_path}/work"
        run("mount", "-t", "overlay", "overlay", "-o", layers, str(root))
        after.callback(run, "umount", "-l", str(root))
        (root / "usr/lib/kept").mkdir()
        for program in sorted((root / "usr/bin").glob("python3*")):
            program.rename(root / "usr/lib/kept" / program.name)
        status = root / "var/lib/dpkg/status"
        paragraphs = status.read_text().split("\n\n")
        status.write_text("\n\n".join(one for one in paragraphs if not one.startswith("Package: python3\n")))
        for file in (root / "var/lib/dpkg/info").glob("python3.*"):
            if not file.name.startswith("python3.11"):
                file.unlink()
        repository = root / "srv/repository"
        repository.mkdir(parents=True)
        scripts = {"postinst": "echo installing >&2\ncp -a /usr/lib/kept/* /usr/bin/\n"}
        deb.build(repository, "python3", "99", scripts=scripts)
        deb.index(repository)
        for source in (root / "etc/apt").glob("sources.list*"):
            subprocess.run(["rm", "-rf", str(source)], check=True)
        (root / "etc/apt/sources.list").write_text("deb [trusted=yes] file:/srv/repository ./\n")
        yield root


def test_a_system_that_has_none(bare_system: Path, tmp_path: Path) -> None:
    where = f'connection = "chroot"\naddress = "{bare_system}"\n'
    (tmp_path / "inventory.toml").write_text(f'[hosts.bare]\n{where}[hosts.ops]\n{where}user = "ops"\n')
    status, found = bootstrap(tmp_path, "bare", "--check")
    assert (found, status) == ({"bare": {"status": "planned", "detail": "by apt-get"}}, 0)
    status, found = bootstrap(tmp_path, "ops")
    assert (found["ops"]["status"], status) == ("failed", 1)
    assert "only root can install it" in found["ops"]["detail"]
    with (bare_system / "var/lib/apt/lists/lock").open("w") as lock:  # as unattended upgrades have it on a first boot
        fcntl.lockf(lock, fcntl.LOCK_EX)
        threading.Timer(3, fcntl.lockf, (lock, fcntl.LOCK_UN)).start()
        status, found = bootstrap(tmp_path, "bare")
    assert (found, status) == ({"bare": {"status": "installed", "detail": "/usr/bin/python3 by apt-get"}}, 0)
    status, found = bootstrap(tmp_path, "all")
    assert {one["status"] for one in found.values()} == {"present"}
    (bare_system / "usr/bin/apt-get").unlink()
    for program in (bare_system / "usr/bin").glob("python3*"):
        program.unlink()
    status, found = bootstrap(tmp_path, "bare")
    assert (found["bare"], status) == (
        {"status": "failed", "detail": "none of apt, dnf, zypper, apk and pacman is there"}, 1,
    )  # fmt: skip
