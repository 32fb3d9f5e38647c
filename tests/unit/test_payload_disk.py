"""A session whose state file cannot be written, or is damaged: what still works, and what becomes of the rest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sloth.payload.kernel.errors import Failed, StoreError
from sloth.payload.kernel.status import FailureKind, Status
from sloth.payload.lib.host import Host
from sloth.payload.session import messages, run_lock
from sloth.payload.session.failures import explain
from sloth.payload.session.messages import LockHolder
from sloth.payload.session.queries import query
from sloth.payload.session.run_lock import RunLock, find_holder
from sloth.payload.state.store import Store
from tests.support import probe
from tests.support.calls import NoController
from tests.support.mounts import fill, mounted
from tests.support.payload import Peer, connected

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


@pytest.fixture
def small_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An account's home on a file system of its own, of 4 MB."""
    with mounted(tmp_path / "home", "size=4m") as home:
        monkeypatch.setenv("HOME", str(home))
        yield home


def command(peer: Peer, cmd: str, epoch: int, **options: object) -> messages.Reply:
    number = peer.send_call("exec.run", cmd=cmd, epoch=epoch, **options)
    item = peer.receive()
    while isinstance(item, messages.Output):
        item = peer.receive()
    assert isinstance(item, messages.Reply)
    assert item.id == number
    return item


@needs_root
def test_a_disk_that_fills_while_a_session_works(small_home: Path) -> None:
    with connected(small_home) as peer:
        assert peer.call("file.directory", path=str(small_home / "a")).status is Status.CHANGED
        fill(small_home)
        for number in range(40):  # until SQLite needs more space than its log has
            reply = peer.call("file.directory", path=str(small_home / "a" / f"{number}"), epoch=number + 1)
            if reply.status is Status.FAILED:
                break
        assert reply.status is Status.FAILED
        assert reply.error.startswith("it was changed, and that is not recorded: ")
        assert "no space left" in reply.error.lower()
        assert reply.hint.startswith("free some space on the host")
        assert command(peer, f"rm {small_home}/fill", 102).status is Status.CHANGED
        assert peer.call("file.directory", path=str(small_home / "b"), epoch=103).status is Status.CHANGED
        assert peer.close().orphans == []  # it is not known what the calls in between would have named
    with connected(small_home, run="r2") as peer:
        assert f"file:directory:{small_home}/b" in [row["key"] for row in peer.query("list")]


@needs_root
def test_commands_go_on_though_the_disk_fills_while_a_session_works(small_home: Path) -> None:
    """One of them may be what frees it."""
    with connected(small_home) as peer:
        assert peer.call("file.directory", path=str(small_home / "a")).status is Status.CHANGED
        fill(small_home)
        for number in range(200):  # until SQLite needs more space than its log has
            reply = command(peer, "echo done", number + 1, notify_=[f"handler {number} {'x' * 90_000}"])
            assert reply.status is Status.CHANGED, reply.error
            if reply.warnings:
                break
        assert "this command is not recorded" in reply.warnings[0]
        assert command(peer, f"rm {small_home}/fill", 300).status is Status.CHANGED
        assert peer.call("file.directory", path=str(small_home / "b"), epoch=301).status is Status.CHANGED


@needs_root
@pytest.mark.parametrize("known", [True, False])
def test_a_disk_that_is_full_before(small_home: Path, known: bool) -> None:
    if known:
        with connected(small_home) as peer:
            assert peer.call("file.directory", path=str(small_home / "a")).status is Status.CHANGED
            peer.close()
    fill(small_home)
    with connected(small_home, run="r2") as peer:
        if not known:  # else its log may have space for a few records
            failed = peer.call("file.directory", path=str(small_home / "b"))
            assert failed.status is Status.FAILED
            assert "no space left" in failed.error.lower()
            assert "exec.run works" in failed.hint
            assert "no space left" in peer.answer("list").error.lower()
            done = command(peer, "echo done", 1)
            assert done.status is Status.CHANGED
            assert any("this command is not recorded" in text for text in done.warnings)
        assert command(peer, f"rm {small_home}/fill", 1).status is Status.CHANGED
        assert peer.call("file.directory", path=str(small_home / "b"), epoch=2).status is Status.CHANGED
        peer.close()
    with connected(small_home, run="r3") as peer:
        assert f"file:directory:{small_home}/b" in [row["key"] for row in peer.query("list")]


@pytest.mark.parametrize("damage", [b"this is no database, but a text" * 100, b"SQLite format 3\0" + b"\7" * 9000])
def test_a_damaged_state_is_set_aside_and_what_is_there_adopted(account: Path, damage: bytes) -> None:
    with connected(account) as peer:
        peer.call("file.directory", path=str(account / "a"))
        peer.close()
    (account / ".sloth-runner" / "state" / "a.db").write_bytes(damage)
    with connected(account, ready=False, run="r2") as peer:
        item = peer.receive()
        if isinstance(item, messages.Ready):
            assert item.set_aside is not None
            assert Path(item.set_aside).read_bytes() == damage
        else:
            assert isinstance(item, messages.Fail)
            assert item.kind is FailureKind.STATE
    with connected(account, run="r3") as peer:
        reply = peer.call("file.directory", path=str(account / "a"))
        assert (reply.status, reply.reason.value) == (Status.UNCHANGED, "adopted")


def test_a_state_that_is_damaged_while_a_session_works(account: Path) -> None:
    path = account / ".sloth-runner" / "state" / "a.db"
    with connected(account) as peer:
        peer.call("file.directory", path=str(account / "a"))
        peer.close()
    with connected(account, run="r2") as peer:
        peer.query("list")
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (path.stat().st_size - 4096))
        fail: object = None
        for number in range(5):
            peer.send_call("file.directory", path=str(account / f"b{number}"), epoch=number)
            fail = peer.receive()
            if isinstance(fail, messages.Fail):
                break
        if isinstance(fail, messages.Fail):
            assert fail.kind is FailureKind.STATE
            assert "a.db" in fail.error
    with connected(account, run="r3") as peer:
        assert peer.call("file.directory", path=str(account / "a")).status is Status.UNCHANGED


def test_a_result_that_is_too_long_for_a_message(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    probe.install(monkeypatch)
    reply = peer.call("probe.loud", size=17 << 20)
    assert reply.status is Status.FAILED
    assert reply.error.startswith("it was done, but its result cannot be sent: a message of 178")
    assert peer.call("probe.loud", size=10).values == {"text": "x" * 10}


def test_another_run_is_named(account: Path) -> None:
    with connected(account) as peer:
        with connected(account, ready=False, run="r2", who="you") as other:
            fail = other.expect(messages.Fail)
            assert (fail.kind, fail.holder and (fail.holder.run, fail.holder.who)) == (FailureKind.LOCKED, ("r1", "me"))
        with connected(account, ready=False, run="r3", lock_wait=60.0) as other:
            waiting = other.expect(messages.Waiting)
            assert waiting.holder.run == "r1"
            peer.close()
            peer.hang_up()
            other.expect(messages.Ready)


@pytest.mark.parametrize("kind", ["link", "directory", "fifo"])
def test_what_is_not_a_file_in_place_of_the_lock(account: Path, kind: str) -> None:
    directory = account / ".sloth-runner"
    directory.mkdir(mode=0o700)
    path = directory / "run.lock"
    {"link": lambda: path.symlink_to("/etc/passwd"), "directory": path.mkdir, "fifo": lambda: os.mkfifo(path)}[kind]()
    with connected(account, ready=False) as peer:
        fail = peer.expect(messages.Fail)
    assert (fail.kind, fail.error) == (FailureKind.STATE, f"the lock file {path} is not a regular file")
    assert find_holder(str(directory)) is None


def test_who_holds_a_host(account: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = str(account / ".sloth-runner")
    assert find_holder(directory) is None
    lock = RunLock(directory)
    lock.acquire(LockHolder(run="r9", who="me"), 0, lambda other: None, lambda: False)
    found = find_holder(directory)
    assert found is not None
    assert found.run == "r9"
    note = Path(lock.path).read_bytes()
    lock.release()
    assert find_holder(directory) is None
    Path(lock.path).write_bytes(note)  # left by a run that was killed
    assert find_holder(directory) is None
    # Where the kernel does not say who has a lock, the process counts.
    monkeypatch.setattr(run_lock, "_is_locked", lambda inode: None)
    assert find_holder(directory) is not None
    Path(lock.path).write_bytes(note.replace(b'"pid":%d' % os.getpid(), b'"pid":%d' % (2**22 - 1)).replace(
        b'"pid": %d' % os.getpid(), b'"pid": %d' % (2**22 - 1)))  # fmt: skip
    assert find_holder(directory) is None
    Path(lock.path).write_bytes(b"[" * 5000)
    assert find_holder(directory) is None


def test_errors_are_explained(tmp_path: Path) -> None:
    host = Host(NoController())
    host.uid = 1000
    denied = PermissionError(13, "Permission denied", os.fsencode("/etc/x"))
    assert explain(denied, host) == (
        "Permission denied (errno 13) '/etc/x'", "set become = true on the task or the host", "",
    )  # fmt: skip
    host.uid = 0
    assert explain(denied, host)[1] == "", "root has become already"
    assert explain(OSError(28, "No space left on device"), host)[:2] == (
        "No space left on device (errno 28)", "free some space on the host",
    )  # fmt: skip
    assert explain(OSError(2, "gone", "/y"), host) == ("No such file or directory (errno 2) '/y'", "", "")
    assert explain(Failed("no", "hint", "detail"), host) == ("no", "hint", "detail")
    try:
        from sloth.payload.modules.file.text import encode

        encode(3)  # type: ignore[arg-type]
    except Exception as error:
        text, hint, detail = explain(error, host)
        assert text.startswith("modules/file/text.py:")
        assert hint == "this is a defect of sloth-runner or of a custom module"
        assert "Traceback" in detail


def test_a_state_file_alone_answers_what_needs_no_host(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "a.db"))
    assert query(store, "list", {}) == []
    with pytest.raises(StoreError, match="this needs the host itself"):
        query(store, "drift", {})
    store.close()


def test_a_state_is_copied_to_another_account(account: Path) -> None:
    with connected(account) as peer:
        peer.call("file.directory", path=str(account / "a"))
        rows = {table: peer.query("dump", table=table) for table in ("resources", "history")}
        peer.close()
    with connected(account, agent="b", run="", site="") as peer:
        assert peer.query("empty") == []
        [loaded] = peer.query("load", table="resources", rows=rows["resources"])
        assert loaded == {"added": 1, "altered": 0}
        assert peer.query("abandon") == []
        assert peer.query("list") == []
        for table, found in rows.items():
            assert peer.query("load", table=table, rows=found)[0]["added"] == 1
        assert peer.query("commit") == []
        assert [row["key"] for row in peer.query("list")] == [f"file:directory:{account}/a"]


def test_a_state_file_that_cannot_be_used(account: Path) -> None:
    path = account / ".sloth-runner" / "state" / "a.db"
    path.mkdir(parents=True)
    (account / ".sloth-runner").chmod(0o700)
    with connected(account, ready=False) as peer:
        fail = peer.expect(messages.Fail)
    assert fail.kind is FailureKind.STATE
    assert str(path) in fail.error


def test_a_defect_ends_the_session_with_its_place(account: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*words: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("sloth.payload.state.runs.Runs.begin", broken)
    with connected(account, ready=False) as peer:
        fail = peer.expect(messages.Fail)
    assert (fail.kind, fail.error) == (FailureKind.CRASH, "ZeroDivisionError: oops")
    assert "in broken" in fail.detail
