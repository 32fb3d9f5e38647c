"""Changes that must be confirmed: the note, who decides about it, the watchdog as a real process, and damage."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sloth.payload.kernel.content import Content
from sloth.payload.kernel.errors import Failed, StoreError
from sloth.payload.kernel.record import Asset
from sloth.payload.kernel.resource import Change
from sloth.payload.kernel.status import FailureKind, Status
from sloth.payload.lib.boot import boot_identity, process_start
from sloth.payload.lib.host import Host
from sloth.payload.session import confirmation as confirmation_module
from sloth.payload.session import launch as launching
from sloth.payload.session import messages
from sloth.payload.session.confirmation import Confirmation, Pending, Phase, end_process, is_running
from sloth.payload.session.guarding import take_over
from sloth.payload.session.reverting import NoLink, revert_alone
from sloth.payload.session.run_lock import RunLock
from tests.support import probe
from tests.support.payload import Peer, connected

GUARD: dict[str, object] = {"task": "t", "tasks": ["t", "h"], "seconds": 600.0, "handlers": [], "keep": []}


@pytest.fixture
def confirmation(account: Path) -> Iterator[Confirmation]:
    (account / ".sloth-runner").mkdir(mode=0o700)
    found = Confirmation(str(account / ".sloth-runner"))
    yield found
    wait_for(lambda: not found.is_watched())  # no watchdog is left behind


def wait_for(condition: object, seconds: float = 60.0) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.02)


def pending(**fields: object) -> Pending:
    return Pending(**{"run": "r1", "agent": "a", "task": "t", "seconds": 5.0, "site": "s", "tasks": ["t"], **fields})


def run_out(confirmation: Confirmation) -> None:
    """Let the time run out, once the session has ended: it is this process, which the watchdog must not end."""
    note = confirmation.read()
    assert note is not None
    confirmation.write(note.replace(pid=0, seconds=1.0, deadline=time.monotonic()))


def guarded(peer: Peer, account: Path, **changes: object) -> Path:
    """Make one change that must be confirmed; return the directory that it has made."""
    assert peer.query("guard", **{**GUARD, **changes}) == []
    path = account / "made"
    reply = peer.call("file.directory", path=str(path), notify_=["h"])
    assert reply.status is Status.CHANGED, reply.error
    return path


def test_a_confirmed_change_stays_and_its_watchdog_ends(account: Path, confirmation: Confirmation) -> None:
    with connected(account) as peer:
        path = guarded(peer, account)
        assert confirmation.is_watched()
        [held] = peer.query("hold")
        assert held == {"seconds": 600.0}
        assert peer.query("confirm") == []
        wait_for(lambda: not confirmation.is_watched())
        assert "already" in peer.answer("confirm").error
        peer.close()
    assert path.exists()
    assert confirmation.read() is None


def test_what_was_being_changed_when_the_controller_fell_silent_is_taken_back(
    account: Path, confirmation: Confirmation
) -> None:
    with connected(account) as peer:
        path = guarded(peer, account)
    run_out(confirmation)
    wait_for(confirmation.reports)
    [report] = confirmation.reports()
    assert report["why"] == "the controller was not heard for 1 seconds"
    assert not path.exists()


def test_what_is_not_confirmed_in_time_is_taken_back(account: Path, confirmation: Confirmation) -> None:
    handlers = [{"handler": "h", "name": "exec.run", "args": {"cmd": f"touch {account}/ran"}}]
    with connected(account) as peer:
        path = guarded(peer, account, handlers=handlers)
        assert peer.query("hold") == [{"seconds": 600.0}]
        peer.close()
    run_out(confirmation)
    wait_for(lambda: confirmation.read() is None)
    assert not path.exists()
    assert (account / "ran").exists()
    wait_for(confirmation.reports)
    wait_for(lambda: not confirmation.is_watched())  # it holds the lock of the host until it ends
    with connected(account, ready=False, run="r2") as peer:
        ready = peer.expect(messages.Ready)
        [report] = ready.reverted
        assert (report["run"], report["task"], report["error"]) == ("r1", "t", "")
        assert report["why"] == "not confirmed by a new connection within 1 seconds"
        rows = report["rows"]
        assert isinstance(rows, list)
        assert [(row["key"], row["status"]) for row in rows] == [
            (f"file:directory:{path}", "done"), (f"exec:run:touch {account}/ran", "done"),
        ]  # fmt: skip
        assert len(peer.query("reverted")) == 1
        peer.close()
    with connected(account, ready=False, run="r3") as peer:  # it was reported
        assert peer.expect(messages.Ready).reverted == []


def test_a_handler_that_cannot_be_made_does_not_keep_the_changes(account: Path, confirmation: Confirmation) -> None:
    # What it starts may need a moment: systemd refuses a unit that has failed several times.
    at_second = f"test -e {account}/once && touch {account}/ran || {{ touch {account}/once; exit 3; }}"
    handlers = [
        {"handler": "h", "name": "probe.nothing", "args": {}},
        {"handler": "h", "name": "exec.run", "args": {"comand": "true"}},
        {"handler": "h", "name": "exec.run", "args": {"cmd": at_second}},
        {"handler": "h", "name": "exec.run", "args": {"cmd": "true", "creates": f"{account}/ran"}},
        {"handler": "another", "name": "exec.run", "args": {"cmd": f"touch {account}/another"}},
    ]
    with connected(account) as peer:
        path = guarded(peer, account, handlers=handlers)
        rows = peer.query("revert", why="the check failed")
        peer.close()
    assert [(row["key"], row["status"], row.get("handler", "")) for row in rows] == [
        (f"file:directory:{path}", "done", ""),
        ("handler:h", "refused", "h"),
        ("handler:h", "refused", "h"),
        (rows[3]["key"], "done", "h"),
        ("exec:run:true", "done", "h"),
    ]
    assert "there is no module probe.nothing" in str(rows[1]["msg"])
    assert "exec.run has no argument 'comand'" in str(rows[2]["msg"])
    assert (account / "ran").exists()
    assert not path.exists()
    assert not (account / "another").exists()
    assert confirmation.read() is None


def test_the_session_takes_it_back_when_the_controller_asks_for_it(account: Path, confirmation: Confirmation) -> None:
    with connected(account) as peer:
        assert peer.query("revert", why="nothing was changed yet") == []
        path = guarded(peer, account)
        [row] = peer.query("revert", why="the check failed")
        assert (row["key"], row["status"]) == (f"file:directory:{path}", "done")
        assert not path.exists()
        assert peer.query("hold") == []
        # It is as any other change from now on.
        assert peer.call("file.directory", path=str(path)).status is Status.CHANGED
        peer.close()
    assert confirmation.read() is None


def test_only_one_takes_it_back(account: Path, confirmation: Confirmation) -> None:
    with connected(account) as peer:
        path = guarded(peer, account)
        note = confirmation.claim("somebody else was first")
        assert note is not None
        assert (note.phase, note.claimant) == (Phase.REVERTING, os.getpid())
        assert confirmation.claim("too late") is None
        assert peer.answer("revert", why="x").error == "the host takes the changes back by itself"
        assert peer.answer("confirm").error == "the host takes the changes back: somebody else was first"
        assert path.exists()
        peer.close()
    # The one who has claimed it is killed: another one does it, and the reason stays.
    confirmation.write(note.replace(claimant=2**22 - 1, pid=0))
    wait_for(confirmation.reports)
    assert not path.exists()
    [report] = confirmation.reports()
    assert report["why"] == "somebody else was first"


def test_the_next_run_waits_for_what_is_taken_back(account: Path, confirmation: Confirmation) -> None:
    with connected(account) as peer:
        path = guarded(peer, account)
        peer.query("hold")
        peer.close()
    with connected(account, ready=False, run="r2", who="you", lock_wait=60.0) as peer:
        waiting = peer.expect(messages.Waiting)
        assert (waiting.holder.run, waiting.holder.who) == ("r1", "me")
        run_out(confirmation)
        item = peer.receive()
        while isinstance(item, messages.Waiting):  # for the watchdog's lock, too
            item = peer.receive()
        assert isinstance(item, messages.Ready)
        assert len(item.reverted) == 1
        assert not path.exists()


def test_it_is_taken_back_when_nobody_else_works_on_the_host(account: Path, confirmation: Confirmation) -> None:
    with connected(account) as peer:
        path = guarded(peer, account)
    lock = RunLock(confirmation.account)
    lock.acquire(messages.LockHolder(run="r2", who="you"), 5.0, lambda other: None, lambda: False)
    run_out(confirmation)
    wait_for(lambda: (note := confirmation.read()) is not None and note.phase is Phase.REVERTING)
    time.sleep(1.0)
    assert path.exists()
    lock.release()
    wait_for(confirmation.reports)
    assert not path.exists()


def test_the_next_run_does_not_wait_for_ever(account: Path, confirmation: Confirmation) -> None:
    with connected(account) as peer:
        guarded(peer, account)
        peer.query("hold")
        peer.close()
    with connected(account, ready=False, run="r2") as peer:
        peer.expect(messages.Waiting)
        fail = peer.expect(messages.Fail)
        assert (fail.kind, fail.holder and fail.holder.run) == (FailureKind.LOCKED, "r1")
    with connected(account, link=1) as peer:  # the same run, over a new connection
        peer.query("confirm")
        assert (os.getpid(), process_start(os.getpid())) not in confirmation.sessions()  # forgotten with the note


def test_the_next_run_takes_back_what_no_watchdog_does(account: Path, confirmation: Confirmation) -> None:
    with connected(account) as peer:
        path = guarded(peer, account)
        peer.query("hold")
        peer.close()
    found = [int(name) for name in os.listdir("/proc") if name.isdigit() and is_watchdog(int(name), confirmation)]
    assert found
    for pid in found:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not confirmation.is_watched())
    with connected(account, ready=False, run="r2") as peer:
        [report] = peer.expect(messages.Ready).reverted
        assert report["why"] == "the host was started again, or its watchdog was killed"
        assert not path.exists()


def is_watchdog(pid: int, confirmation: Confirmation) -> bool:
    try:
        return os.fsencode(confirmation.directory + "/watchdog.py") in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_without_a_watchdog_nothing_is_changed(
    account: Path, confirmation: Confirmation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "START", 0.5)
    monkeypatch.setattr(launching.sys, "executable", "/bin/false")
    monkeypatch.setattr(launching, "_start_unit", lambda command: False)  # as without systemd
    with connected(account) as peer:
        peer.query("guard", **GUARD)
        reply = peer.call("file.directory", path=str(account / "made"))
        assert reply.status is Status.FAILED
        assert reply.error.startswith("the host cannot take changes back by itself: the process that would")
    assert not (account / "made").exists()
    assert confirmation.read() is None


def test_a_second_change_has_the_same_watchdog(account: Path, confirmation: Confirmation) -> None:
    with connected(account) as peer:
        path = guarded(peer, account)
        copied = account / "old"
        copied.write_text("before\n")
        pushed = peer.push(b"after\n")
        assert peer.call("file.copy", src="x", dest=str(copied), assets_=[pushed]).status is Status.CHANGED
        (account / "gone").write_text("kept\n")
        assert peer.call("file.absent", path=str(account / "gone")).status is Status.CHANGED
        rows = peer.query("revert", why="x")
        assert [(row["key"].rpartition("/")[2], row["status"]) for row in rows] == [
            ("gone", "done"), ("old", "done"), ("made", "done"),
        ]  # fmt: skip
        peer.close()
    assert (copied.read_text(), (account / "gone").read_text(), path.exists()) == ("before\n", "kept\n", False)


def test_what_cannot_be_taken_back_is_refused_before_it_is_done(account: Path, confirmation: Confirmation) -> None:
    (account / "full").mkdir()
    (account / "full" / "x").touch()
    (account / "empty").mkdir()
    os.mkfifo(account / "fifo")
    with connected(account) as peer:
        peer.query("guard", **GUARD)
        for epoch, (name, why) in enumerate(
            [("full", "what is in the directory is not kept"), ("fifo", f"{account}/fifo was a fifo")]
        ):
            reply = peer.call("file.absent", path=str(account / name), epoch=epoch)
            assert reply.status is Status.FAILED
            assert reply.error == f"this could not be taken back: {why}"
            assert reply.hint == "do it in a task without `confirm`"
        action = peer.call("exec.run", cmd=f"touch {account}/ran", epoch=3)
        assert action.error == "a task with `confirm` must not do what cannot be taken back"
        looked = peer.call("exec.run", cmd="true", read_only=True, epoch=4)
        assert looked.status is not Status.FAILED, looked.error
        # A handler of it may: it runs again.
        assert peer.call("exec.run", cmd=f"touch {account}/ran", task="h", epoch=5).status is Status.CHANGED
        assert peer.call("file.absent", path=str(account / "empty"), epoch=6).status is Status.CHANGED
        assert [row["status"] for row in peer.query("revert", why="x")] == ["done"]
        peer.close()
    assert (account / "full" / "x").exists()
    assert (account / "empty").is_dir()


@pytest.mark.parametrize("how", ["before", "after", "more"])
def test_a_change_that_fails_is_taken_back_if_it_has_begun(
    account: Path, confirmation: Confirmation, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """It fails before anything is changed, after all of it is, or with something that was not asked for (and stays)."""
    setting = probe.install(monkeypatch)
    path = account / "setting"
    path.write_text('{"value": "before"}')
    apply = setting.apply

    def fail(self: probe.Setting, change: Change) -> None:
        if how == "after":
            apply(self, change)
        elif how == "more":
            path.write_text('{"value": "before", "token": "half"}')
        raise Failed("it broke")

    with connected(account) as peer:
        peer.query("guard", **GUARD)
        with monkeypatch.context() as patch:
            patch.setattr(setting, "apply", fail)
            assert peer.call("probe.setting", path=str(path), value="after").error == "it broke"
        assert len(peer.query("history")) == (0 if how == "before" else 1)
        rows = peer.query("revert", why="x")
        assert [row["status"] for row in rows] == (["done"] if how == "after" else [])
        peer.close()
    assert json.loads(path.read_text())["value"] == "before"
    assert confirmation.read() is None


def test_what_cannot_be_taken_back_after_all_is_reported(
    account: Path, confirmation: Confirmation, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = probe.install(monkeypatch)
    (account / "setting").write_text('{"value": "before"}')
    with connected(account) as peer:
        peer.query("guard", **GUARD)
        assert peer.call("probe.setting", path=str(account / "setting"), value="after").status is Status.CHANGED
        setting.ignores = True
        [row] = peer.query("revert", why="x")
        assert (row["status"], row["msg"]) == ("failed", "the change did not hold: value is after, not before")
        peer.close()


def test_nothing_is_claimed_when_nothing_waits(confirmation: Confirmation) -> None:
    assert confirmation.claim("x") is None
    with pytest.raises(StoreError, match="there are none to confirm"):
        confirmation.hold("r1")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has systemd start it")
@pytest.mark.parametrize("version", ["new", "old", "broken", "none"])
def test_systemd_starts_the_watchdog_of_root(
    account: Path, confirmation: Confirmation, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    """systemd-run has --collect since 236; where it does not work, the watchdog is a process like any other."""
    units = account / "units"
    units.mkdir()
    tools = account / "tools"
    tools.mkdir()
    log = account / "log"
    start = 'while [ "$1" != -- ]; do shift; done; shift; setsid "$@" </dev/null >/dev/null 2>&1 &'
    refuse = 'case "$*" in *--collect*) exit 1;; esac\n' if version == "old" else ""
    script = f'#!/bin/sh\necho "$@" >> {log}\n{refuse}' + ("exit 1\n" if version == "broken" else start + "\n")
    if version != "none":
        (tools / "systemd-run").write_text(script)
        (tools / "systemd-run").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin" if version != "none" else str(tools))
    monkeypatch.setattr(launching, "SYSTEMD", str(account))
    monkeypatch.setattr(launching, "UNITS", str(units))
    monkeypatch.setattr(launching, "WANTS", str(units / "wants"))
    with connected(account) as peer:
        path = guarded(peer, account)
        unit = units / launching.UNIT
        assert f"ExecStart={sys.executable} -I -S -E {confirmation.directory}/watchdog.py" in unit.read_text()
        assert (units / "wants" / launching.UNIT).resolve() == unit
        assert peer.query("confirm") == []
        assert not unit.exists()  # the next boot starts nothing
        assert not (units / "wants" / launching.UNIT).is_symlink()
        peer.close()
    assert path.exists()
    if version != "none":
        assert len(log.read_text().splitlines()) == (1 if version == "new" else 2)
    for _ in range(2):  # as after a boot that left it
        launching._write_boot_unit("x")
    assert (units / "wants" / launching.UNIT).resolve() == unit
    launching.forget_boot_unit()
    # A boot may not be arranged where /etc cannot be written: the next run takes the changes back.
    monkeypatch.setattr(launching, "UNITS", str(account / "nowhere"))
    launching._write_boot_unit("x")
    assert os.listdir(units / "wants") == []


@pytest.mark.parametrize("damage", [b"{", b"[]", b"\xff", b'{"run": 3}'])
def test_a_damaged_note_is_named(account: Path, confirmation: Confirmation, damage: bytes) -> None:
    os.makedirs(confirmation.directory, 0o700)
    note = Path(confirmation.directory, "pending.json")
    note.write_bytes(damage)
    with connected(account, ready=False) as peer:
        fail = peer.expect(messages.Fail)
    assert fail.kind is FailureKind.STATE
    assert f"the note {note} about changes that must be confirmed cannot be read" in fail.error
    assert fail.hint == "look at what the run has changed, and remove the file"


def test_time_is_counted_from_when_the_controller_was_heard(
    confirmation: Confirmation, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    note = pending(boot=boot_identity())
    assert confirmation.last_heard() == 0.0
    confirmation.heard()  # there is no directory: it is as if nothing was heard
    assert confirmation.last_heard() == 0.0
    confirmation.write(note)
    monkeypatch.setattr(confirmation_module, "BEAT", 0.0)
    confirmation.heard()
    assert confirmation.last_heard() >= now
    assert 0 < confirmation.seconds_left(note, 0.0) <= 5.0
    assert confirmation.seconds_left(note.replace(phase=Phase.WAITING, deadline=now + 60), 0.0) > 50
    # After a boot its clock says nothing: all of the time is left from when the watchdog has begun.
    assert 99 < confirmation.seconds_left(note.replace(boot="another", seconds=100.0), time.monotonic()) <= 100
    Path(confirmation.directory, "beat").write_text("nonsense")
    assert confirmation.last_heard() == 0.0
    confirmation.remove()


def test_reports_and_sessions_bear_damage(confirmation: Confirmation) -> None:
    assert (confirmation.reports(), confirmation.sessions()) == ([], [])
    confirmation.join()  # nothing must be confirmed: there is no directory
    confirmation.forget_reports()
    confirmation.write(pending())
    confirmation.join()
    with open(os.path.join(confirmation.directory, "pids"), "a") as file:
        file.write("garbage\nx y\n3\n")
    assert confirmation.sessions() == [(os.getpid(), process_start(os.getpid()))]
    confirmation.report(pending(why="first"), [])
    confirmation.report(pending(why="second"), [], "no space")
    assert [report["why"] for report in confirmation.reports()] == ["first", "second"]
    Path(confirmation.directory, "reverted.json").write_text('{"reports": ')
    assert confirmation.reports() == []
    Path(confirmation.directory, "reverted.json").write_text("[]")
    assert confirmation.reports() == []


def test_a_lock_that_is_a_link_is_refused(confirmation: Confirmation) -> None:
    os.makedirs(confirmation.directory, 0o700)
    os.symlink("/etc/hostname", os.path.join(confirmation.directory, "lock"))
    with pytest.raises(StoreError, match=r"the lock file .* cannot be opened"), confirmation.lock():
        pass
    os.symlink("/etc/hostname", os.path.join(confirmation.directory, "pending.json.new"))
    with pytest.raises(StoreError, match=r"pending\.json cannot be written"):
        confirmation.write(pending())


def test_another_watchdog_is_not_started_beside_one_that_lives(confirmation: Confirmation) -> None:
    first = confirmation.watch()
    assert first is not None
    assert confirmation.watch() is None
    assert confirmation.is_watched()
    fcntl.flock(first, fcntl.LOCK_UN)
    os.close(first)
    assert not confirmation.is_watched()
    os.unlink(os.path.join(confirmation.directory, "alive"))
    os.mkdir(os.path.join(confirmation.directory, "alive"))
    assert not confirmation.is_watched()


def test_a_session_that_does_not_end_is_killed() -> None:
    program = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    started = process_start(child.pid)
    end_process(child.pid, "another beginning", 0.1)  # the number is another process's by now
    assert is_running(child.pid, started)
    end_process(child.pid, started, 0.2)
    assert not is_running(child.pid, started)
    assert child.wait(30) == -signal.SIGKILL
    end_process(child.pid, started, 0.2)
    child.stdout.close()


def test_a_watchdog_whose_state_cannot_be_read_says_so(account: Path, confirmation: Confirmation) -> None:
    """It tries several times, reports what it cannot do, and ends."""
    state = account / ".sloth-runner" / "state"
    state.mkdir(mode=0o700)
    (state / "a.db").mkdir()
    confirmation.write(pending(seconds=0.1, boot=boot_identity(), phase=Phase.WAITING, deadline=0.0))
    launching.launch(confirmation)
    wait_for(confirmation.reports, 120)
    [report] = confirmation.reports()
    assert "a.db" in str(report["error"])
    note = json.loads(Path(confirmation.directory, "pending.json").read_text())
    assert note["phase"] == "reverting"  # the next run tries again


def test_a_run_that_had_changed_nothing_yet_leaves_no_report(account: Path, confirmation: Confirmation) -> None:
    take_over(Host(NoLink()))  # nothing waits
    with connected(account) as peer:
        peer.close()
    confirmation.write(pending(site="", tasks=["another"]))
    claimed = confirmation.claim("x")
    assert claimed is not None
    assert revert_alone(confirmation, claimed) == []
    assert (confirmation.read(), confirmation.reports()) == (None, [])


def test_what_only_a_controller_has_is_an_error_without_one() -> None:
    link = NoLink()
    assert link.cancelled() is False
    link.output("stdout", b"x")
    with pytest.raises(OSError, match="no controller is connected"):
        link.give(Content.of_bytes(b"x"))
    with pytest.raises(OSError, match="no controller is connected"):
        link.pull(0, Asset())
