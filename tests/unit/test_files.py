"""Files are written whole or not at all, whoever is killed when."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sloth.payload.kernel.content import Content
from sloth.payload.kernel.converge import Outcome
from sloth.payload.kernel.hashing import sha256
from sloth.payload.kernel.record import Asset
from sloth.payload.kernel.registry import registry
from sloth.payload.kernel.resource import ArgumentError, Call, Failed
from sloth.payload.lib import files
from sloth.payload.lib.host import Host
from sloth.payload.state.store import Store
from tests.support.calls import NoController, execute_call
from tests.support.mounts import mounted_with_whole_seconds
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


def test_a_file_in_place_of_a_link_has_no_permissions_of_the_link(tmp_path: Path) -> None:
    """A link's own mode is 0777: "u+x" of it let everybody write."""
    (tmp_path / "real").write_text("x")
    (tmp_path / "link").symlink_to("real")
    os.umask(0o022)
    given = {"src": str(tmp_path / "real"), "dest": str(tmp_path / "link"), "remote_src": True, "mode": "u+x,g-r"}
    for status in ("changed", "unchanged"):
        assert execute_call("file.copy", **given).status == status
    assert stat.S_IMODE((tmp_path / "link").lstat().st_mode) == 0o704


def test_a_directory_behind_a_link_that_leads_nowhere_is_created(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("there")
    for status in ("changed", "unchanged"):
        assert execute_call("file.directory", path=str(tmp_path / "link"), mode="0700").status == status
    assert (tmp_path / "link").is_symlink()
    assert stat.S_IMODE((tmp_path / "there").stat().st_mode) == 0o700


def test_a_link_that_is_led_to_nothing_causes_a_warning(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    path = str(tmp_path / "link")
    for src, expected in (("a", 0), ("missing", 1), ("missing", 0), ("other", 1)):
        host = Host(NoController(), home=str(tmp_path))
        execute_call("file.link", on=host, path=path, src=src)
        assert len(host.warnings) == expected, src
    host = Host(NoController(), home=str(tmp_path))
    execute_call("file.link", on=host, path=path, src="third", force=True)
    assert host.warnings == []


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


class Shipped(Host):
    """This machine, with contents from a controller that are given at once."""

    def __init__(self, contents: list[bytes | None]) -> None:
        super().__init__(NoController())
        self.shipped = contents

    def asset(self, call: Call, index: int) -> Content:
        data = self.shipped[index]
        assert data is not None
        return Content.of_bytes(data)


def copy(members: dict[str, bytes | None], store: Store | None = None, **arguments: object) -> Outcome:
    """Copy a tree; a member without content is a directory."""
    assets = [
        Asset(
            name=name, dir=data is None, mode="0644", sha256="" if data is None else sha256(data).hexdigest(),
            size=len(data or b""),
        )
        for name, data in members.items()
    ]  # fmt: skip
    return execute_call("file.copy", on=Shipped(list(members.values())), store=store, assets=assets, **arguments)


def test_names_that_are_not_utf_8_are_copied_recorded_and_found_unchanged(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "s.db"))
    tree = {"\udcff\udcfe": b"1", "a b": b"2", "d\udcff": None, "d\udcff/x\\x2d": b"3"}
    for status in ("changed", "unchanged"):
        assert copy(tree, store, src="t/", dest=f"{tmp_path}/to").status == status
        for name, arguments in (
            ("file.copy", {"src": f"{tmp_path}/to/\udcff\udcfe", "dest": f"{tmp_path}/\udcffc", "remote_src": True}),
            ("file.lineinfile", {"path": f"{tmp_path}/\udcffl", "line": "\udcff", "create": True}),
            ("file.directory", {"path": f"{tmp_path}/\udcffd"}),
            ("file.link", {"path": f"{tmp_path}/\udcffk", "src": "\udcff", "force": True}),
        ):
            assert execute_call(name, store=store, **arguments).status == status, name
    store.close()
    assert (tmp_path / "to/d\udcff/x\\x2d").read_bytes() == b"3"
    keys = [record.key for record in Store(str(tmp_path / "s.db")).records.select()]
    assert f"file:directory:{tmp_path}/\\udcffd" in keys


def test_hashes_of_files_whose_names_are_not_utf_8_are_remembered(tmp_path: Path) -> None:
    path = f"{tmp_path}/\udcff"
    Path(path).write_text("x")
    os.utime(path, (1, 1))
    store = Store(None)
    info = os.stat(path)
    store.signatures.put(path, info, "hash", ours=True)
    Host(NoController(), store.signatures).content(path)


@pytest.mark.parametrize("size", [1, 2 << 20])
def test_a_change_within_the_same_second_is_seen_where_times_are_seconds(tmp_path: Path, size: int) -> None:
    data = b"0" * size
    store, host = Store(None), Shipped([data])
    host.signatures = store.signatures
    asset = Asset(name="f", sha256=sha256(data).hexdigest(), size=size, mode="0644")

    def copied() -> str:
        return execute_call("file.copy", on=host, store=store, assets=[asset], src="f", dest=str(at)).status

    with mounted_with_whole_seconds(tmp_path / "boot") as boot:
        at = boot / "flag"
        for _ in range(2):  # of two seconds, one may end between our write and the other one
            copied()
            time.sleep(0.1)  # longer than file systems of today need to tell two changes apart
            assert copied() == "unchanged"
            at.write_bytes(b"1" * size)  # the same inode, and size
            assert copied() == "changed"
            assert at.read_bytes() == data
            at.unlink()
    store.close()


def test_an_empty_tree_is_a_directory(tmp_path: Path) -> None:
    assert copy({}, src="empty/", dest=f"{tmp_path}/to").status == "changed"
    assert copy({}, src="empty/", dest=f"{tmp_path}/to").status == "unchanged"
    assert (tmp_path / "to").is_dir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(Failed, match="is not a directory but a file"):
        copy({}, src="empty/", dest=f"{tmp_path}/file")


def test_directory_mode_is_for_dest_too_unless_it_existed(tmp_path: Path) -> None:
    def mode(name: str) -> int:
        return (tmp_path / name).stat().st_mode & 0o7777

    tree = {"sub": None, "sub/x": b"1"}
    copy(tree, src="t/", dest=f"{tmp_path}/new/to", directory_mode="0700")
    assert [mode(name) for name in ("new", "new/to", "new/to/sub")] == [0o700] * 3
    (tmp_path / "old").mkdir(mode=0o755)
    for status in ("changed", "unchanged"):
        assert copy(tree, src="t/", dest=f"{tmp_path}/old", directory_mode="0700").status == status
    assert (mode("old"), mode("old/sub")) == (0o755, 0o700)
    copy({"x": b"1"}, src="x", dest=f"{tmp_path}/one/", directory_mode="0711")
    assert mode("one") == 0o711


def test_a_tree_is_copied_through_links_to_directories(tmp_path: Path) -> None:
    (tmp_path / "real/sub2").mkdir(parents=True)
    (tmp_path / "to").symlink_to("real")
    (tmp_path / "real/sub").symlink_to("sub2")
    for status in ("changed", "unchanged"):
        assert copy({"sub": None, "sub/x": b"1"}, src="t/", dest=f"{tmp_path}/to").status == status
    assert (tmp_path / "real/sub2/x").read_bytes() == b"1"
    assert (tmp_path / "to").is_symlink()


def test_a_mode_is_preserved_on_the_host_too(tmp_path: Path) -> None:  # ansible#39279
    (tmp_path / "from").write_text("x")
    (tmp_path / "from").chmod(0o640)
    arguments = {"src": f"{tmp_path}/from", "dest": f"{tmp_path}/to", "remote_src": True, "mode": "preserve"}
    for status in ("changed", "unchanged"):
        assert execute_call("file.copy", **arguments).status == status
    assert (tmp_path / "to").stat().st_mode & 0o7777 == 0o640
    with pytest.raises(ArgumentError, match="content has no mode"):
        execute_call("file.copy", content="x", dest="/x", mode="preserve")
    with pytest.raises(Failed, match="is in the directory that is to be copied"):  # ansible#84367
        execute_call("file.copy", src=str(tmp_path), dest=f"{tmp_path}/d", remote_src=True)


@pytest.mark.parametrize("cls", registry(), ids=lambda cls: cls.name)
def test_no_path_may_be_empty(cls: type[Call]) -> None:
    for field in cls.fields:
        if field.type in ("path", "file"):
            for value in ("", " "):
                with pytest.raises(ArgumentError, match=field.name):
                    field.coerce(value)
        else:
            assert field.name not in ("src", "dest", "path") or cls.name.startswith("mount."), (
                "its type is path or file"
            )


def test_a_check_knows_what_earlier_calls_would_make(tmp_path: Path) -> None:
    host, store = Host(NoController()), Store(None)

    def plan(name: str, **arguments: object) -> Outcome:
        return execute_call(name, on=host, store=store, check=True, **arguments)

    plan("file.directory", path=f"{tmp_path}/d", mode="0750")
    (tmp_path / "f").write_text("x")
    plan("file.absent", path=f"{tmp_path}/f")
    found = plan("file.stat", path=f"{tmp_path}/d").values
    assert (found["exists"], found["isdir"], found["mode"]) == (True, True, "0750")
    assert plan("file.stat", path=f"{tmp_path}/f").values == {"exists": False}
    plan("file.link", path=f"{tmp_path}/l", src="d")
    assert host.warnings == []
    assert plan("file.fetch", src=f"{tmp_path}/made-by-a-command", dest="x").unknown


@pytest.mark.skipif(os.geteuid() != 0, reason="the target's mode is dangerous only to root")
def test_a_link_that_is_replaced_gives_its_target_s_mode_to_nobody(tmp_path: Path) -> None:
    """A link to /bin/su must not make a set-uid file of the site's content; nor must a set-uid file that is edited."""
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o4755)
    for name in ("copied", "kept"):
        (tmp_path / name).symlink_to("program")
    (tmp_path / "edited").write_text("a\n")
    (tmp_path / "edited").chmod(0o6755)
    old = os.umask(0o022)
    try:
        copy({"x": b"x"}, src="x", dest=str(tmp_path / "copied"))
        copy({"x": b"x"}, src="x", dest=str(tmp_path / "kept"), mode="4750")
        execute_call("file.lineinfile", path=str(tmp_path / "edited"), line="b")
    finally:
        os.umask(old)
    modes = {path.name: f"{stat.S_IMODE(path.lstat().st_mode):o}" for path in tmp_path.iterdir() if path.is_file()}
    assert modes == {"program": "4755", "copied": "644", "kept": "4750", "edited": "755"}
    # A mode that is asked for stays, whatever else changes.
    copy({"x": b"y"}, src="x", dest=str(tmp_path / "kept"), mode="4750")
    assert stat.S_IMODE((tmp_path / "kept").stat().st_mode) == 0o4750


def test_a_backup_of_a_link_is_as_private_as_its_target(tmp_path: Path) -> None:
    (tmp_path / "private").write_text("secret")
    (tmp_path / "private").chmod(0o600)
    (tmp_path / "link").symlink_to("private")
    assert stat.S_IMODE(Path(files.back_up(str(tmp_path / "link"))).lstat().st_mode) == 0o600


def test_a_directory_on_the_host_is_copied(tmp_path: Path) -> None:
    """As with Ansible: without a final slash the directory itself, with one its contents; a second run does nothing."""
    source, to = tmp_path / "s", tmp_path / "to"
    (source / "sub").mkdir(parents=True)
    (source / "a").write_text("a")
    (source / "a").chmod(0o750)
    (source / "sub" / "b").write_text("b")
    (source / "loop").symlink_to(".")
    (source / "link").symlink_to("a")
    to.mkdir()
    given: dict[str, object] = {"dest": str(to), "remote_src": True, "mode": "preserve", "directory_mode": "0711"}
    execute_call("file.copy", src=str(source), dest=str(tmp_path / "plain"), remote_src=True)
    assert (tmp_path / "plain" / "s" / "a").stat().st_mode & 0o777 == 0o750, "as its source"
    for src, root in ((str(source), to / "s"), (f"{source}/", to)):
        store = Store(None)
        done = execute_call("file.copy", store=store, src=src, **given)
        assert done.status == "changed"
        assert execute_call("file.copy", store=store, src=src, **given).status == "unchanged"
        assert (root / "a").stat().st_mode & 0o777 == 0o750
        assert (root / "sub" / "b").read_text() == "b"
        assert (root / "link").read_text() == "a"
        assert (root / "sub").stat().st_mode & 0o777 == 0o711
        (root / "sub" / "b").write_text("by hand")
        done = execute_call("file.copy", store=store, src=src, **given)
        assert (done.status, done.reason) == ("changed", "drift")


def test_a_checksum_may_be_a_sha1(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("hello")
    given: dict[str, object] = {"src": str(tmp_path / "s"), "dest": str(tmp_path / "d"), "remote_src": True}
    sha1 = "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d"
    with pytest.raises(Failed, match=f"the SHA-1 of the content is {sha1}, not 000"):
        execute_call("file.copy", checksum="0" * 40, **given)
    assert not (tmp_path / "d").exists()
    assert execute_call("file.copy", checksum=sha1.upper(), **given).status == "changed"
    assert execute_call("file.copy", checksum=sha1, **given).status == "unchanged"
