"""Who may have the run lock at the same time: the sessions of one run over one link, and nobody else."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sloth.payload.session import run_lock
from sloth.payload.session.messages import LockHolder
from sloth.payload.session.run_lock import HeldByOther, RunLock

OURS = LockHolder(run="ours", who="me")
OTHER = LockHolder(run="other", who="you")


def acquire(directory: Path, holder: LockHolder, wait: float = 0) -> RunLock:
    lock = RunLock(str(directory))
    lock.acquire(holder, wait, lambda other: None, lambda: False)
    return lock


def test_the_last_session_of_a_run_gives_the_lock_back(tmp_path: Path) -> None:
    first = acquire(tmp_path, OURS)
    sibling = acquire(tmp_path, OURS)
    assert (first.is_held, sibling.is_held) == (True, False)
    for lock in (first, sibling):
        with pytest.raises(HeldByOther) as error:
            acquire(tmp_path, OTHER)
        assert (error.value.holder.run, error.value.holder.who) == ("ours", "me")
        lock.release()
    other = acquire(tmp_path, OTHER)
    assert other.is_held
    other.release()
    assert Path(other.path).read_bytes() == b""


def test_a_sibling_that_has_just_begun_is_not_asked_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sessions of one run begin at once: the other has the lock alone at first, and its note comes late."""
    asked: list[object] = []
    monkeypatch.setattr(run_lock, "_ask_to_end", asked.append)
    monkeypatch.setattr(run_lock, "PREDECESSOR", 0.3)
    for link in (0, 1):  # a later one is no predecessor either
        other = RunLock(str(tmp_path))
        file = other._open()
        fcntl.flock(file, fcntl.LOCK_EX)
        other._write_note(file, OURS.replace(link=link))
        with pytest.raises(HeldByOther):
            acquire(tmp_path, OURS, 0.2)
        fcntl.flock(file, fcntl.LOCK_UN)
    assert asked == []


def test_a_session_that_does_not_wait_sees_a_sibling_whose_note_comes_a_moment_later(tmp_path: Path) -> None:
    other = RunLock(str(tmp_path))
    file = other._open()
    assert other._try(file, fcntl.LOCK_EX)
    other._write_note(file, OTHER)  # that of the holder before: its process was killed

    def begin() -> None:
        other._write_note(file, OURS)
        assert other._try(file, fcntl.LOCK_SH)

    late = threading.Timer(run_lock.POLL / 2, begin)
    late.start()
    sibling = acquire(tmp_path, OURS)
    late.join()
    assert not sibling.is_held


def test_a_session_over_a_lost_link_is_asked_to_end_and_waited_for(tmp_path: Path) -> None:
    program = (
        "import signal, sys, time\n"
        "from sloth.payload.session.messages import LockHolder\n"
        "from sloth.payload.session.run_lock import RunLock\n"
        "lock = RunLock(sys.argv[1])\n"
        "lock.acquire(LockHolder(run='ours'), 0, print, lambda: False)\n"
        "print('held', flush=True)\n"
        "signal.sigwait([signal.SIGTERM])\n"
        "time.sleep(0.5)\n"
        "open(sys.argv[1] + '/ended', 'w').close()\n"
    )
    blocked = f"import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n{program}"
    former = subprocess.Popen([sys.executable, "-c", blocked, str(tmp_path)], stdout=subprocess.PIPE)
    assert former.stdout is not None
    assert former.stdout.readline() == b"held\n"
    lock = acquire(tmp_path, OURS.replace(link=1))
    assert (tmp_path / "ended").exists()
    assert lock.is_held
    former.communicate(timeout=30)


def test_a_predecessor_that_cannot_be_asked_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds the lock, and has not written its process yet, or could not."""
    monkeypatch.setattr(run_lock, "PREDECESSOR", 0.3)
    with open(tmp_path / "run.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write('{"run": "ours"}')
        file.flush()
        waited_for: list[str] = []
        lock = RunLock(str(tmp_path))
        with pytest.raises(HeldByOther):
            lock.acquire(OURS, 0, lambda other: waited_for.append(other.run), lambda: False)
        assert waited_for == ["ours"]
        lock.release()  # it has none
        with pytest.raises(HeldByOther):
            lock.acquire(OTHER, 60, lambda other: waited_for.append(other.run), lambda: True)
    assert acquire(tmp_path, OTHER).is_held
