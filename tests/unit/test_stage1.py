"""Where an account's files go: stage 1 chooses, and the payload finds the same directory."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sloth.inventory import BecomeMethod
from sloth.payload.lib import host
from sloth.transport import stage1
from sloth.transport.become import Become
from sloth.transport.bundle import build
from tests.support.paths import PYTHONS


class Ended(Exception):
    """Stage 1 has ended with an exit status."""


class Machine:
    """This machine with other places; stage 1 as it would run on it."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = directory / "home"
        self.lib = directory / "lib"
        self.temporary = directory / "tmp-"
        self.said: list[bytes] = []
        self._monkeypatch = monkeypatch
        name = pwd.getpwuid(os.geteuid()).pw_name
        self.in_lib, self.in_temporary = self.lib / name, Path(f"{self.temporary}{name}")
        entry = pwd.struct_passwd((name, "x", os.geteuid(), os.getegid(), "", str(self.home), "/bin/sh"))
        monkeypatch.setattr(pwd, "getpwuid", lambda uid: entry)
        monkeypatch.setattr(host, "ACCOUNTS", f"{self.lib}/")
        monkeypatch.setattr(host, "TEMPORARY", str(self.temporary))
        monkeypatch.setattr(os, "_exit", self._exit)
        monkeypatch.setenv("HOME", str(self.home))
        source = stage1.SOURCE.replace("/var/lib/sloth-runner/", f"{self.lib}/")
        source = source.replace("/var/tmp/sloth-runner-", str(self.temporary)).rpartition("\nmain()")[0]
        namespace: dict[str, Callable[..., Any]] = {}
        exec(source, namespace)  # noqa: S102  it is what runs on hosts
        namespace["say"] = self.said.append
        self._directory, self.install = namespace["directory"], namespace["install"]

    def _exit(self, status: int) -> None:
        raise Ended(status)

    def choose(self, anywhere: bool = False) -> Path:
        """Return the directory that stage 1 chooses; anywhere: the controller permits /var/tmp."""
        self._monkeypatch.setattr(sys, "argv", ["-c", "packed", *(["-"] if anywhere else [])])
        chosen = self._directory(os.geteuid())
        assert host.find_directory() == chosen, "the payload looks elsewhere"
        return Path(chosen)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_it_is_in_the_home(here: Machine) -> None:
    here.home.mkdir()
    assert here.choose() == here.home / ".sloth-runner"
    assert here.choose().stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("home", ["missing", "a file"])
def test_without_a_home_root_is_asked_first(here: Machine, home: str) -> None:
    if home == "a file":
        here.home.write_text("")
    with pytest.raises(Ended) as ended:
        here.choose()
    assert (ended.value.args, here.said) == ((78,), [stage1.HOME])
    assert here.choose(anywhere=True) == here.in_temporary
    assert here.choose() == here.in_temporary, "it is found from now on"


def test_what_root_has_made_is_found_though_a_home_comes_later(here: Machine) -> None:
    here.in_lib.mkdir(parents=True)
    assert here.choose() == here.in_lib
    here.home.mkdir()
    assert here.choose() == here.in_lib
    (here.home / ".sloth-runner").mkdir()
    assert here.choose() == here.home / ".sloth-runner"


def test_another_home_that_somebody_chose_comes_first(
    here: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.in_lib.mkdir(parents=True)
    (tmp_path / "other").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "other"))
    assert here.choose() == tmp_path / "other/.sloth-runner"


def test_a_full_disk_is_an_error_and_no_reason_to_go_elsewhere(here: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    here.home.mkdir()

    def full(path: str, mode: int = 0o777) -> None:
        raise OSError(28, "No space left on device", path)

    monkeypatch.setattr(os, "mkdir", full)
    with pytest.raises(OSError, match="No space left"):
        here.choose(anywhere=True)


def test_what_another_session_finishes_meanwhile_is_no_error(
    here: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The unfinished directory of another session is listed, and gone before it can be looked at."""
    (tmp_path / "old").mkdir()
    os.utime(tmp_path / "old", (0, 0))
    monkeypatch.setattr(os, "listdir", lambda path, names=os.listdir: [".new-1-gone", *names(path)])
    bundle = build()
    here.install(str(tmp_path), str(tmp_path / bundle.sha256), bundle.sha256, bundle.data)
    assert (tmp_path / bundle.sha256 / "sloth/payload/__main__.py").is_file()
    assert not (tmp_path / "old").exists(), "what nothing used for a month goes"


WITHOUT = """
from _frozen_importlib_external import PathFinder
real = PathFinder.find_spec
PathFinder.find_spec = classmethod(lambda cls, name, *more: None if name == %r else real(name, *more))
MARK, SILENCE = b"", 1
"""


@pytest.mark.parametrize("python", PYTHONS, ids=str)
@pytest.mark.parametrize(("missing", "status"), [("json", 75), ("_sqlite3", 75), ("nothing", 74)])
def test_a_python_that_lacks_a_part_gives_way_to_the_next(python: Path, missing: str, status: int) -> None:
    """Such as Debian's python3-minimal, which has no json. 74: it read on, and there was nothing."""
    done = subprocess.run(
        [python, "-I", "-S", "-c", WITHOUT % missing + stage1.SOURCE], stdin=subprocess.DEVNULL, capture_output=True
    )
    assert (done.returncode, done.stderr) == (status, b"")


def test_the_line_is_short() -> None:
    assert len(stage1.command(None, Become("www-data", "x"), "sloth-0123456789abcdef:")) < 2650
    doas = Become("www-data", "x", BecomeMethod.DOAS)
    assert len(stage1.command(None, doas, doas.prompt())) < 4000


@pytest.mark.parametrize("method", BecomeMethod)
@pytest.mark.parametrize("password", [None, "x"])
def test_the_line_is_one_of_every_shell(method: BecomeMethod, password: str | None) -> None:
    become = Become("www-data", password, method)
    for line in (stage1.command(None, become, become.prompt()), stage1.make_directory(None, become, become.prompt())):
        _, switch, _, inner, end = line.split("'")
        assert (line.count("'"), end) == (4, "")
        assert not re.search(r"[`\\!]", switch + inner)
        assert subprocess.run(["sh", "-n", "-c", switch]).returncode == 0


@pytest.mark.parametrize("sent", [b"", b"a part of the header"])
def test_a_controller_that_falls_silent_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    """Its link may be gone without a word, and sshd would notice after hours."""
    monkeypatch.setattr(stage1, "SILENCE", 0.3)
    command = stage1.command(sys.executable)
    child = subprocess.Popen(["sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    with child.stdin, child.stdout:
        child.stdin.write(sent)
        child.stdin.flush()
        assert child.wait(timeout=60) == 74
