"""Files are written whole or not at all, whoever is killed when."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sloth.payload.kernel.registry import registry
from sloth.payload.kernel.resource import ArgumentError, Failed
from sloth.payload.lib import files
from sloth.payload.state.store import Store
from tests.support.calls import execute_call
from tests.support.paths import ROOT
from tests.support.stores import record


def test_a_kill_in_mid_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    script = """
import sys
from sloth.payload.lib import files
def chunks():
    yield b"new" * 100000
    print("half", flush=True)
    sys.stdin.read()
    yield b"rest"
files.replace(sys.argv[1], chunks())
"""
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(target)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert child.stdout is not None
    assert child.stdin is not None
    assert child.stdout.readline() == b"half\n"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert target.read_text() == "old"
    files.replace(str(target), iter([b"new"]))
    assert target.read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_old_file_s_mode_is_kept_and_links_survive_an_edit(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.write_text("a\n")
    real.chmod(0o640)
    (tmp_path / "link").symlink_to("real")
    assert execute_call("file.lineinfile", path=str(tmp_path / "link"), line="b").status == "changed"
    assert (tmp_path / "link").is_symlink()
    assert real.read_text() == "a\nb\n"
    assert real.stat().st_mode & 0o7777 == 0o640


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("file.directory", {"path": "FILE"}, "is not a directory"),
        ("file.link", {"path": "FILE", "src": "x"}, "is not a link"),
        ("file.absent", {"path": "/etc"}, "does not remove /etc"),
        ("file.copy", {"dest": "/x"}, "src or content"),
        ("file.copy", {"dest": "x", "content": ""}, "absolute path"),
        ("file.copy", {"dest": "/x", "content": "", "mode": 644}, "decimal"),
        ("file.copy", {"dest": "/x", "content": "", "mode": "rw"}, "is not a mode"),
        ("file.replace", {"path": "FILE", "regexp": "("}, "regexp"),
        ("file.lineinfile", {"path": "MISSING", "line": "x"}, "does not exist"),
        ("exec.run", {"cmd": ""}, "cmd is empty"),
        ("exec.run", {"cmd": ["/no/such/command"]}, "no command"),
        ("exec.run", {"cmd": "sleep 5", "timeout": 0.2}, "0.2 seconds"),
    ],
)
def test_refusals_are_clear(tmp_path: Path, name: str, given: dict[str, object], said: str) -> None:
    (tmp_path / "file").write_text("x")
    places = {"FILE": str(tmp_path / "file"), "MISSING": str(tmp_path / "missing")}
    words = {key: places.get(str(value), value) for key, value in given.items()}

    with pytest.raises(Failed, match=said) as caught:
        execute_call(name, **words)
    assert isinstance(caught.value, ArgumentError) or (tmp_path / "file").read_text() == "x"


def test_tree_of_links_directories_and_absence(tmp_path: Path) -> None:
    store = Store(None)
    assert execute_call("file.directory", store=store, path=str(tmp_path / "a/b"), mode="0700").status == "changed"
    assert execute_call("file.directory", store=store, path=str(tmp_path / "a/b"), mode="0700").status == "unchanged"
    assert execute_call("file.link", store=store, path=str(tmp_path / "l"), src="a").status == "changed"
    assert execute_call("file.link", store=store, path=str(tmp_path / "l"), src="a").status == "unchanged"
    assert execute_call("file.absent", store=store, path=str(tmp_path / "l")).status == "changed"
    assert execute_call("file.absent", store=store, path=str(tmp_path / "l")).status == "unchanged"
    assert (tmp_path / "a/b").is_dir()
    assert execute_call("file.absent", store=store, check=True, path=str(tmp_path / "a")).status == "changed"
    assert (tmp_path / "a/b").is_dir()
    assert execute_call("file.stat", path=str(tmp_path / "a")).values["isdir"] is True
    assert execute_call("file.stat", path=str(tmp_path / "none")).values == {"exists": False}


@pytest.mark.parametrize("cls", registry(), ids=lambda cls: cls.name)
def test_every_module_is_documented(cls: type) -> None:
    assert cls.__doc__
    assert all(field.help for field in cls.fields + cls.returns)  # type: ignore[attr-defined]
    assert cls.example, "an example in Lua"  # type: ignore[attr-defined]


def test_a_directory_is_synced_once_for_all_the_files_of_a_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.sync_directories()
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    for number in range(10):
        files.replace(str(tmp_path / str(number)), [b"x"])
    assert synced == ["file"] * 10
    files.sync_directories()
    assert synced[10:] == ["directory"]
    files.sync_directories()
    assert len(synced) == 11


def test_files_are_settled_before_their_records_are_committed(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "s.db"))
    seen: list[int] = []

    def settle() -> None:
        with contextlib.closing(sqlite3.connect(tmp_path / "s.db")) as other:
            seen.append(other.execute("SELECT count(*) FROM resources").fetchone()[0])

    store.before_commit = settle
    store.commit()
    assert seen == [], "nothing was written"
    record(store, "file:copy:/x")
    store.commit()
    record(store, "file:copy:/y")
    store.close()
    assert seen == [0, 1]


def test_a_large_directory_is_searched_for_leftovers_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".old.sloth-999999999-0123456789ab").write_bytes(b"half")
    (tmp_path / ".mine.sloth-note").write_bytes(b"kept")
    listed: list[object] = []
    real = os.listdir

    def listdir(path: str) -> list[str]:
        listed.append(path)
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    for number in range(5):
        files.replace(str(tmp_path / f"new{number}"), [b"x"])
    assert listed == [str(tmp_path)]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mine.sloth-note", *(f"new{n}" for n in range(5))]
