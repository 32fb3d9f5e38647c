"""Hosts on which something is wrong: no space, no inodes, read-only or failing disks, other clocks, locales and limits.

Everything is real: small file systems are mounted, limits are set, clocks are shifted for the processes by a library
that is loaded before the C library. What cannot be had on a machine is skipped with the reason.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sloth.payload.kernel.resource import Failed
from sloth.payload.lib import files
from sloth.state.backends.sqlite import SQLite
from sloth.state.shared import Shared
from tests.support.calls import execute_call
from tests.support.command import sloth
from tests.support.mounts import fill, mounted
from tests.support.paths import ROOT
from tests.support.small_host import Small

pytestmark = [pytest.mark.attack, pytest.mark.timeout(300)]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount")


def statuses(document: dict[str, object]) -> list[str]:
    hosts = document["hosts"]
    assert isinstance(hosts, dict)
    return [task["status"] for task in hosts["h1"]["tasks"]]


def use_inodes(home: Path) -> None:
    """Use every inode."""
    (home / "fill").mkdir()
    with contextlib.suppress(OSError):
        for number in range(100_000):
            (home / "fill" / str(number)).touch()


@needs_root
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("options", "exhaust"), [("size=4m", fill), ("size=40m,nr_inodes=500", use_inodes)])
def test_a_command_can_free_a_full_disk(
    tmp_path: Path, options: str, exhaust: Callable[[Path], None], known: bool
) -> None:
    """Also on a host that has no payload yet."""
    with mounted(tmp_path / "home", options) as home:
        small = Small(tmp_path, home)
        if known:
            assert small.run()[0] == 0
            (home / "new").unlink()
        exhaust(home)
        status, document = small.run()
        assert (status, statuses(document)) == (0, ["failed", "changed", "changed"]), document
        text = json.dumps(document)
        assert f"no space left for the state file {home}" in text or "No space left" in text
        assert "free some space on the host" in text
        assert "this command is not recorded" in text
        assert (home / "new").read_text() == "x"
        status, document = small.run()
        assert (status, statuses(document)) == (0, ["unchanged", "changed", "unchanged"])
        assert not list(home.glob(".*.sloth-*"))
    shutil.rmtree(f"/dev/shm/sloth-{os.geteuid()}", ignore_errors=True)


@needs_root
def test_a_full_disk_can_be_looked_at(tmp_path: Path) -> None:
    with mounted(tmp_path / "h\u00f6me #1%", "size=4m") as home:
        small = Small(tmp_path, home)
        assert small.run()[0] == 0
        fill(home)
        status, document = small.run("--check")
        assert (status, statuses(document)) == (0, ["unchanged", "changed", "unchanged"]), document
        variables = {**os.environ, "HOME": str(home), "SLOTH_HOME": str(tmp_path / "controller")}
        for words in (["state", "list", "--agent", "h1"], ["drift"]):
            argv = [sys.executable, "-m", "sloth", *words]
            variables["PYTHONPATH"] = str(ROOT)
            done = subprocess.run(argv, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr


@needs_root
def test_the_old_file_stays_when_there_is_no_space_for_the_new_one(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=1m") as disk:
        (disk / "file").write_text("old\n")
        fill(disk)
        with pytest.raises(Failed, match="no space left on the device that holds"):
            files.replace(str(disk / "file"), b"new" * 10000)
        with pytest.raises(Failed, match="no space left"):
            execute_call("file.lineinfile", path=str(disk / "file"), line="y" * 9000, backup=True)
        assert (disk / "file").read_text() == "old\n"
        assert sorted(path.name for path in disk.iterdir()) == ["file", "fill"]


@needs_root
def test_on_a_read_only_home_commands_run(tmp_path: Path) -> None:
    with mounted(tmp_path / "home", "size=20m") as home:
        small = Small(tmp_path, home)
        assert small.run()[0] == 0
        (home / "new").unlink()
        subprocess.run(["mount", "-o", "remount,ro", str(home)], check=True)
        status, document = small.run()
        assert statuses(document)[:2] == ["failed", "changed"]
        assert status == 1
        assert "read-only" in json.dumps(document).lower()
        subprocess.run(["mount", "-o", "remount,rw", str(home)], check=True)
        assert small.run()[0] == 0


# Failing disks and other clocks: by a library that is loaded first

LIBRARY = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int is_bad(int fd) {
    const char *below = getenv("BAD_BELOW");
    char link[64], path[4096];
    if (!below) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return !strncmp(path, below, strlen(below));
}
int fsync(int fd) {
    if (is_bad(fd)) { errno = EIO; return -1; }
    return ((int (*)(int)) dlsym(RTLD_NEXT, "fsync"))(fd);
}
int fdatasync(int fd) {
    if (is_bad(fd)) { errno = EIO; return -1; }
    return ((int (*)(int)) dlsym(RTLD_NEXT, "fdatasync"))(fd);
}
int clock_gettime(clockid_t id, struct timespec *now) {
    int done = ((int (*)(clockid_t, struct timespec *)) dlsym(RTLD_NEXT, "clock_gettime"))(id, now);
    const char *by = getenv("CLOCK_BY");
    if (by && id == CLOCK_REALTIME) now->tv_sec += atol(by);
    return done;
}
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    directory = tmp_path_factory.mktemp("library")
    (directory / "first.c").write_text(LIBRARY)
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", str(directory / "first.so"), str(directory / "first.c"), "-ldl"],
        check=True,
    )
    return str(directory / "first.so")


def test_a_disk_that_fails_is_an_error_and_the_old_file_stays(tmp_path: Path, library: str) -> None:
    home = tmp_path / "home"
    (home / "bad").mkdir(parents=True)
    (home / "bad/file").write_text("old\n")
    small = Small(tmp_path, home)
    small.write('task({name = "t", run = function() file.copy({dest = "HOME/bad/file", content = "new\\n"}) end})')
    status, document = small.run(environment={"LD_PRELOAD": library, "BAD_BELOW": str(home / "bad")})
    assert status == 1
    assert "Input/output error (errno 5)" in json.dumps(document)
    assert (home / "bad/file").read_text() == "old\n"
    assert [path.name for path in (home / "bad").iterdir()] == ["file"]
    assert small.run()[0] == 0


def test_a_state_that_cannot_be_made_durable_is_an_error(tmp_path: Path, library: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    small = Small(tmp_path, home)
    assert small.run()[0] == 0
    small.write('task({name = "t", run = function() file.copy({dest = "HOME/new", content = "other"}) end})')
    status, document = small.run(environment={"LD_PRELOAD": library, "BAD_BELOW": str(home / ".sloth-runner/state")})
    assert status == 1
    assert "state" in json.dumps(document)
    assert "Input/output error" in json.dumps(document) or "cannot be used" in json.dumps(document)
    assert small.run()[0] == 0
    assert (home / "new").read_text() == "other"


def test_clocks_may_jump(tmp_path: Path, library: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    small = Small(tmp_path, home)
    day = 86400
    shifts = (0, 3650 * day, -40 * day)
    for number, shift in enumerate(shifts):
        small.write(f'task({{name = "t", run = function() file.copy({{dest = "HOME/f", content = "{number}"}}) end}})')
        environment = {"LD_PRELOAD": library, "CLOCK_BY": str(shift)}
        status, document = small.run(environment=environment)
        assert (status, statuses(document)) == (0, ["changed"]), shift
    variables = {**os.environ, "SLOTH_HOME": str(tmp_path / "controller"), "HOME": str(home), "PYTHONPATH": str(ROOT)}

    def command(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "sloth", *words],
            cwd=tmp_path,
            env=variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    history = json.loads(command("state", "history", f"file:copy:{home}/f", "--agent", "h1", "-o", "json"))
    rows = (
        history if isinstance(history, list) else next(value for value in history.values() if isinstance(value, list))
    )
    assert len(rows) == len(shifts)
    command("rollback", "last", "--yes")
    assert (home / "f").read_text() == str(len(shifts) - 2), "the last run is the last one, whatever its clock was"


async def test_a_lock_does_not_outlive_a_clock_that_is_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = Shared(SQLite(tmp_path / "shared.db"))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3650 * 86400)
    assert await shared.try_lock("deploy", "one", 60)
    monkeypatch.setattr(time, "time", lambda: now)
    assert not await shared.try_lock("deploy", "two", 60)
    assert [lock.expires - now for lock in await shared.locks.held()] == pytest.approx([60])
    monkeypatch.setattr(time, "time", lambda: now + 61)
    assert await shared.try_lock("deploy", "two", 60)


# Environment


@pytest.mark.parametrize(
    "environment",
    [
        {"HOME": "-"},
        {"HOME": "/nonexistent"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LANG": "-"},
        {"LC_ALL": "de_DE.ISO-8859-1"},
        {"LC_ALL": "tr_TR.UTF-8"},
        {"TMPDIR": "/nonexistent", "TZ": "Pacific/Kiritimati", "PATH": "/usr/bin:/bin"},
        {"TERM": "-", "LANG": "-", "USER": "-", "LOGNAME": "-"},
    ],
    ids=str,
)
def test_any_environment(tmp_path: Path, environment: dict[str, str]) -> None:
    home = tmp_path / "home"
    home.mkdir()
    small = Small(tmp_path, home)
    small.write(
        'task({name = "Zuse ü", run = function()\n file.copy({dest = "HOME/Größe İı", content = "ü\\n"})\n'
        ' print(exec.run({cmd = "printf \\"%s\\" ü", read_only = true}).stdout) end})'
    )
    status, document = small.run(environment=environment)
    if environment.get("HOME") == "/nonexistent":
        assert status in (0, 1)
        return
    assert (status, statuses(document)) == (0, ["changed"]), document
    assert (home / "Größe İı").read_text(encoding="utf-8") == "ü\n"


@pytest.mark.parametrize("mask", [0, 0o077, 0o777])
def test_any_umask(tmp_path: Path, mask: int) -> None:
    home = tmp_path / "home"
    home.mkdir()
    small = Small(tmp_path, home)
    small.write('task({name = "t", run = function() file.copy({dest = "HOME/d/f", content = "x"})'
                ' file.lineinfile({path = "HOME/lines", line = "x", create = true}) end})')  # fmt: skip
    (home / "d").mkdir()
    status, _ = small.run(umask=mask)
    if mask == 0o777:
        assert status != 0 or os.geteuid() == 0
        return
    assert status == 0
    assert (home / "d/f").stat().st_mode & 0o777 == 0o644
    for path in [home / ".sloth-runner", *(home / ".sloth-runner").rglob("*"), *(tmp_path / "controller").rglob("*")]:
        assert not path.stat().st_mode & 0o077 or "payload" in path.parts, path
        assert not path.stat().st_mode & 0o022, path


@needs_root
def test_a_tmp_that_runs_nothing(tmp_path: Path) -> None:
    with mounted(tmp_path / "noexec", "size=20m,noexec") as directory:
        small = Small(tmp_path, directory)
        small.write(
            'task({name = "t", run = function()\n'
            ' file.copy({dest = "HOME/f", content = "x", validate = "test -s %s"}) end})'
        )
        status, document = small.run(environment={"TMPDIR": str(directory)})
        assert (status, statuses(document)) == (0, ["changed"])


@needs_root
def test_without_proc(tmp_path: Path) -> None:
    """As in some chroots and minimal containers: owners and modes of files and directories can be set all the same."""
    home = tmp_path / "home"
    home.mkdir()
    small = Small(tmp_path, home)
    small.write('task({name = "t", run = function()\n'
                ' file.copy({dest = "HOME/f", content = "x", mode = "0600", owner = "1"})'
                ' file.directory({path = "HOME/d", mode = "0700"}) file.absent({path = "HOME/old"}) end})')  # fmt: skip
    (home / "old/deep").mkdir(parents=True)
    variables = {**os.environ, "HOME": str(home), "SLOTH_HOME": str(tmp_path / "controller"), "PYTHONPATH": str(ROOT)}
    command = f"mount -t tmpfs none /proc && exec {sys.executable} -m sloth run -f site.sloth"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", command], cwd=tmp_path, env=variables, capture_output=True, text=True, check=False
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ((home / "f").stat().st_mode & 0o777, (home / "f").stat().st_uid) == (0o600, 1)
    assert not (home / "old").exists()


# Limits and company


def test_ten_runs_at_once_wait_for_each_other(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    small = Small(tmp_path, home)
    small.write(
        'task({name = "t", run = function() exec.run("read n < HOME/count; sleep 0.01; echo $((n + 1)) > HOME/count")\n'
        'file.lineinfile({path = "HOME/lines", line = "one"}) end})'
    )
    (home / "count").write_text("0\n")
    (home / "lines").write_text("")
    assert small.run()[0] == 0
    ends: list[int] = []

    def run() -> None:
        ends.append(small.run("--lock-wait", "200")[0])

    threads = [threading.Thread(target=run) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ends == [0] * 10
    assert (home / "count").read_text() == "11\n", "two runs were at it at the same time"
    assert (home / "lines").read_text() == "one\n"


@pytest.mark.parametrize("limit", [16, 64])
def test_few_descriptors(tmp_path: Path, limit: int) -> None:
    """It works, or ends with an error, and changes nothing by half."""
    home = tmp_path / "home"
    home.mkdir()
    small = Small(tmp_path, home)
    small.write('task({name = "t", run = function() file.copy({dest = "HOME/f", content = "x"}) exec.run("true") end})')

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

    status, document = small.run(preexec_fn=few)
    assert status in (0, 1, 2, 4), document
    if limit == 64:
        assert status == 0, document
    assert small.run()[0] == 0


def test_no_more_processes(tmp_path: Path) -> None:
    """A command that cannot be started fails, with the system's reason; nothing hangs."""
    child = os.fork()
    if child == 0:  # limits of processes are not root's
        code = 1
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(54321)
                os.setuid(54321)
            resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
            try:
                execute_call("exec.run", cmd=["/bin/true"])
            except OSError as error:
                code = 0 if "unavailable" in str(error) else 2
            except Failed:
                code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) in (0, 1)


@pytest.mark.parametrize("kind", ["fifo", "directory", "link", "socket"])
@pytest.mark.parametrize("name", ["run.lock", "state/web1.db"])
def test_what_is_not_a_file_in_place_of_ours(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / "inventory.toml").write_text('[hosts.web1]\nconnection = "local"\n')
    (tmp_path / "site.sloth").write_text('task({name = "t", run = function() exec.run("true") end})')
    path = tmp_path / ".sloth-runner" / name
    path.parent.mkdir(parents=True, mode=0o700)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    else:
        subprocess.run([sys.executable, "-c", f"import socket; socket.socket(socket.AF_UNIX).bind({path.name!r})"],
                       cwd=path.parent, check=True)  # fmt: skip
    done = sloth(tmp_path, "run", "-f", "site.sloth", timeout=120)
    text = done.stdout + done.stderr
    assert done.returncode == 1, text
    assert str(path) in text
    assert "remove it on the host" in text
    assert "defect" not in text
    assert not (tmp_path / "elsewhere").exists()


def test_the_longest_names(tmp_path: Path) -> None:
    for name in ("n" * 255, "ü" * 127, "☃" * 85):
        path = str(tmp_path / name)
        execute_call("file.lineinfile", path=path, line="one", create=True)
        outcome = execute_call("file.lineinfile", path=path, line="two", backup=True)
        assert Path(str(outcome.values["backup_file"])).read_text() == "one\n"
        assert Path(path).read_text() == "one\ntwo\n"
        execute_call("file.link", path=path, src="/x", force=True)
        assert os.readlink(path) == "/x"
