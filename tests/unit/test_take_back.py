"""Rollback and pruning, killed at any line of them: what is on the host, in the records, and what comes next."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from sloth.payload.kernel.converge import Outcome, execute
from sloth.payload.kernel.findings import Restored, RestoreStatus
from sloth.payload.kernel.ownership import find_orphans
from sloth.payload.kernel.prune import Prune
from sloth.payload.kernel.record import Asset, Context
from sloth.payload.kernel.registry import find
from sloth.payload.kernel.resource import Args
from sloth.payload.kernel.rollback import Rollback
from sloth.payload.lib.host import Host
from sloth.payload.state.store import Store

ROUNDS = int(os.environ.get("SLOTH_ATTACK_ROUNDS", "24"))
Program = list[tuple[str, dict[str, Any]]]


class Shipped:
    """The link of a host to a controller that sends contents."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}

    def pull(self, index: int, asset: Asset) -> Iterator[bytes]:
        yield self.contents[asset.sha256]

    def output(self, stream: str, data: bytes) -> None:
        pass

    def cancelled(self) -> bool:
        return False


class Machine:
    """A directory that programs describe, and the state that remembers them."""

    def __init__(self, path: Path) -> None:
        self.files = path / "files"
        self.files.mkdir()
        self.state = str(path / "state" / "web1.db")
        self.number = 0
        self.notify: list[str] = []

    def open(self) -> tuple[Store, Host]:
        store = Store(self.state)
        return store, Host(Shipped(), store.signatures)

    def run(self, program: Program, site: str = "site") -> tuple[str, list[Outcome]]:
        """Make the calls of a program as one run; return its id and what became of them."""
        self.number += 1
        run = f"20260101-00000{self.number % 10}-{self.number:06x}"
        store, host = self.open()
        context = Context(run=run, site=site, who="me", origin="here", task="t", notify=self.notify)
        store.runs.begin(run, site, "me", "here")
        outcomes = [self.call(name, dict(arguments), host, store, context) for name, arguments in program]
        store.commit()
        store.close()
        return run, outcomes

    def call(self, name: str, arguments: dict[str, Any], host: Host, store: Store, context: Context) -> Outcome:
        cls = find(name)
        arguments = {key: _absolute(value, self.files) for key, value in arguments.items()}
        assets = []
        if "content" in arguments:
            data = arguments["content"].encode()
            arguments["content"] = ""
            assets = [Asset(name="", sha256=hashlib.sha256(data).hexdigest(), size=len(data))]
            host.link.contents[assets[0].sha256] = data  # type: ignore[attr-defined]
        return execute(cls(Args(cls.check(arguments)), host, assets), store, False, context)

    def rollback(self, run: str, force: bool = False, check: bool = False) -> list[Restored]:
        store, host = self.open()
        context = Context(run="20270101-000000-ffffff", site=f"rollback of {run}", who="me", origin="here")
        found = list(Rollback(store, host, context, check, force).rollback(run))
        store.commit()
        store.close()
        return found

    def prune(self, program: Program, site: str = "site") -> list[Restored]:
        """Remove what a site has no longer named since `program`, which it has just run."""
        store, host = self.open()
        context = Context(run=f"prune{self.number}", site=site, who="me", origin="here")
        touched = {self.key(name, arguments, host) for name, arguments in program}
        orphans = find_orphans(store, host, context, touched, (), False)
        found = list(Prune(store, host, context).prune([orphan.key for orphan in orphans]))
        store.commit()
        store.close()
        return found

    def key(self, name: str, arguments: dict[str, Any], host: Host) -> str:
        cls = find(name)
        given = {key: _absolute(value, self.files) for key, value in arguments.items()}
        return str(cls(Args(cls.check(given)), host, [Asset()]).key())

    def found(self) -> dict[str, object]:
        """Return all that is below the directory: kinds, modes and contents."""
        found: dict[str, object] = {}
        for path in sorted(self.files.rglob("*")):
            name = str(path.relative_to(self.files))
            if path.is_symlink():
                found[name] = os.readlink(path)
            elif path.is_dir():
                found[name] = oct(path.stat().st_mode)
            else:
                found[name] = (oct(path.stat().st_mode), path.read_text())
        return found

    def recorded(self) -> dict[str, tuple[object, ...]]:
        """Return what the records say, without times and runs."""
        store, _ = self.open()
        names = ("checksum", "desired_json", "observed_json", "site", "task", "calls_json", "superseded_by")
        found = {r.key: tuple(getattr(r, name) for name in names) for r in store.records.select()}
        store.close()
        return found


def killed(work: Callable[[], object], line: int = 0) -> int:
    """Do some work in a process that is killed at its line number `line` of the payload, if it is not 0.

    Returns how many lines it had got to.
    """
    here, there = os.pipe()
    child = os.fork()
    if not child:
        count = 0

        def trace(frame: FrameType, event: str, _: object) -> Any:
            nonlocal count
            if "/sloth/payload/" not in frame.f_code.co_filename:
                return None
            if event == "line":
                count += 1
                if count == line:
                    os.write(there, b"%d" % count)
                    os._exit(0)
            return trace

        sys.settrace(trace)
        try:
            work()
            sys.settrace(None)
            os.write(there, b"%d" % count)
        except BaseException as error:
            os.write(there, repr(error).encode())
        os._exit(0)
    os.close(there)
    os.waitpid(child, 0)
    with open(here) as pipe:
        return int(pipe.read())


class Snapshot:
    """What a machine was at one time."""

    def __init__(self, machine: Machine, directory: Path) -> None:
        self._root, self._copy = machine.files.parent, directory
        shutil.copytree(self._root, self._copy, symlinks=True)

    def restore(self) -> None:
        shutil.rmtree(self._root)
        shutil.copytree(self._copy, self._root, symlinks=True)


@pytest.fixture
def described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    root = tmp_path / "root"
    (root / "home").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(root / "home"))
    return Machine(root)


def some_program(chance: random.Random, word: str) -> Program:
    """Return calls that describe some files: with the same names, contents that differ by `word`."""
    mode = chance.choice(("0640", "0600"))
    calls: Program = [
        ("file.directory", {"path": "~/d", "mode": chance.choice(("0755", "0711"))}),
        ("file.copy", {"dest": "~/d/copy", "content": f"{word}\n", "mode": mode}),
        ("file.copy", {"dest": "~/old", "content": f"{word} {word}\n"}),
        ("file.lineinfile", {"path": "~/lines", "line": f"v={word}", "regexp": "^v=", "create": True}),
        ("file.lineinfile", {"path": "~/lines", "line": f"w={word}", "regexp": "^w=", "create": True}),
        ("file.blockinfile", {"path": "~/lines", "block": f"{word}\n{word}"}),
        ("file.link", {"path": "~/link", "src": word}),
        ("file.absent", {"path": "~/unwanted"}),
    ]
    first, *others = calls
    chosen = [call for call in others if chance.random() < 0.8]
    return [first, *chosen]


def without_temporary(found: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in found.items() if ".sloth-" not in name}


@pytest.mark.timeout(120 + 3 * ROUNDS)
@pytest.mark.parametrize("seed", range(3))
def test_a_rollback_that_is_killed_can_be_done_again_and_is_no_drift(
    described: Machine, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    for name in ("old", "lines", "unwanted"):
        (described.files / name).write_text(f"{name}\n")
    first, second = some_program(chance, "one"), some_program(chance, "two")
    described.run(first)
    before = described.found()
    run, _ = described.run(second)
    after = described.found()
    snapshot = Snapshot(described, tmp_path / "copy")
    length = killed(lambda: described.rollback(run))
    whole, records = described.found(), described.recorded()
    snapshot.restore()
    wanted = {one.key: (one.status, one.msg) for one in described.rollback(run)}
    assert described.found() == whole
    assert {status for status, _ in wanted.values()} == {RestoreStatus.DONE}, wanted
    assert whole == before
    for number in range(ROUNDS // 3):
        snapshot.restore()
        line = chance.randrange(1, length)
        killed(lambda: described.rollback(run), line)
        where = f"killed at line {line} of {length}, seed {seed}"
        found = without_temporary(described.found())
        names = {*found, *whole, *after} - {"lines"}  # three changes of a file come one after the other
        wrong = [name for name in names if found.get(name) not in (whole.get(name), after.get(name))]
        assert not wrong, f"{where}: {[(name, found.get(name)) for name in wrong]}"
        if number % 3 == 0:
            _, outcomes = described.run(second)
            assert "drift" not in [outcome.reason.value for outcome in outcomes], where
            assert without_temporary(described.found()) == after, where
        elif number % 3 == 1:
            _, outcomes = described.run(first)
            assert "drift" not in [outcome.reason.value for outcome in outcomes], where
        else:
            again = described.rollback(run)
            assert {one.status for one in again} == {RestoreStatus.DONE}, f"{where}: {[(r.key, r.msg) for r in again]}"
            assert without_temporary(described.found()) == whole, where
            assert described.recorded() == records, where


@pytest.mark.timeout(120 + 3 * ROUNDS)
def test_a_run_that_is_killed_leaves_each_file_old_or_new_with_its_attributes(
    described: Machine, tmp_path: Path
) -> None:
    """A content is never there with the mode of the one before: that may have been readable by all."""
    chance = random.Random(7)
    (described.files / "d").mkdir()
    calls: list[Program] = [
        [
            ("file.copy", {"dest": "~/copy", "content": f"{word}\n", "mode": mode}),
            ("file.lineinfile", {"path": "~/lines", "line": word, "regexp": ".", "create": True, "mode": mode}),
            ("file.blockinfile", {"path": "~/block", "block": word, "create": True, "mode": mode}),
            ("file.copy", {"dest": "~/copy", "content": f"{word}\n", "mode": mode, "owner": str(os.getuid())}),
        ]
        for word, mode in (("public", "0644"), ("private", "0600"))
    ]
    described.run(calls[0])
    old = described.found()
    snapshot = Snapshot(described, tmp_path / "copy")
    length = killed(lambda: described.run(calls[1]))
    new = described.found()
    snapshot.restore()
    moments = renames(described, calls[1])
    assert moments == [("0o100600", word) for word in ("private", "private", "# BEGIN")], "before anybody sees it"
    for _ in range(ROUNDS // 2):
        snapshot.restore()
        line = chance.randrange(1, length)
        killed(lambda: described.run(calls[1]), line)
        for name, value in without_temporary(described.found()).items():
            assert value in (old.get(name), new.get(name)), f"killed at line {line} of {length}"


def renames(machine: Machine, program: Program) -> list[tuple[str, str]]:
    """Run a program; return the modes and first words of the files that were renamed to their places."""
    found = []

    def rename(old: str, new: str, src_dir_fd: int, dst_dir_fd: int) -> None:
        with open(os.open(old, os.O_RDONLY, dir_fd=src_dir_fd)) as file:
            found.append((oct(os.fstat(file.fileno()).st_mode), " ".join(file.read().split()[:2])))
        real(old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    real = os.rename
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "rename", rename)
        machine.run(program)
    return found


@pytest.mark.timeout(120 + 3 * ROUNDS)
def test_pruning_that_is_killed_can_be_done_again_and_is_no_drift(described: Machine, tmp_path: Path) -> None:
    chance = random.Random(11)
    (described.files / "lines").write_text("other\n")
    keep: Program = [("file.copy", {"dest": "~/kept", "content": "x"})]
    drop: Program = [
        ("file.directory", {"path": "~/d", "mode": "0711"}),
        ("file.copy", {"dest": "~/d/copy", "content": "y", "mode": "0640"}),
        ("file.lineinfile", {"path": "~/lines", "line": "v=1"}),
        ("file.link", {"path": "~/link", "src": "x"}),
        ("file.blockinfile", {"path": "~/lines", "block": "b"}),
    ]
    described.run(keep)
    before = described.found()
    described.run([*keep, *drop])
    after = described.found()
    described.run(keep)
    snapshot = Snapshot(described, tmp_path / "copy")
    length = killed(lambda: described.prune(keep))
    assert described.found() == before
    for number in range(ROUNDS // 2):
        snapshot.restore()
        line = chance.randrange(1, length)
        killed(lambda: described.prune(keep), line)
        where = f"killed at line {line} of {length}"
        if number % 2:
            _, outcomes = described.run([*keep, *drop])
            assert "drift" not in [outcome.reason.value for outcome in outcomes], where
            assert without_temporary(described.found()) == after, where
        else:
            again = described.prune(keep)
            assert {one.status for one in again} <= {RestoreStatus.DONE}, where
            assert without_temporary(described.found()) == before, where


def test_what_was_changed_since_is_left_alone_and_what_is_back_already_is_no_obstacle(described: Machine) -> None:
    program: Program = [("file.copy", {"dest": "~/a", "content": "one", "mode": "0600"})]
    described.run(program)
    first = described.recorded()
    run, _ = described.run([("file.copy", {"dest": "~/a", "content": "two", "mode": "0600"})])
    (described.files / "a").write_text("three")
    (refused,) = described.rollback(run)
    assert refused.status is RestoreStatus.REFUSED
    assert "changed since: content" in refused.msg
    (described.files / "a").write_text("one")  # by hand
    (planned,) = described.rollback(run, check=True)
    assert (planned.status, planned.msg) == (RestoreStatus.PLANNED, "it is as it was before already")
    (done,) = described.rollback(run)
    assert (done.status, done.msg) == (RestoreStatus.DONE, "it is as it was before already")
    assert described.recorded() == first
    _, outcomes = described.run(program)
    assert [outcome.status.value for outcome in outcomes] == ["unchanged"]


def test_a_rollback_that_fails_leaves_records_that_tell_drift(described: Machine) -> None:
    """What could not be taken back is recorded as before: what somebody changes then is drift, as ever."""
    described.run([("file.directory", {"path": "~/d", "mode": "0755"})])
    run, _ = described.run([("file.directory", {"path": "~/d", "mode": "0711"})])
    records = described.recorded()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Host, "restore", _fails)
        patch.setattr("sloth.payload.lib.files.set_attributes", _fails)
        (failed,) = described.rollback(run)
    assert failed.status is RestoreStatus.FAILED, failed.msg
    assert described.recorded() == records
    (described.files / "d").chmod(0o700)
    _, outcomes = described.run([("file.directory", {"path": "~/d", "mode": "0711"})])
    assert [outcome.reason.value for outcome in outcomes] == ["drift"]


def _fails(*_: object, **__: object) -> None:
    raise OSError(5, "Input/output error", "there")


def _absolute(value: object, files: Path) -> object:
    return value.replace("~", str(files)) if isinstance(value, str) else value


def test_what_another_call_manages_is_retired_with_its_task_and_owner(described: Machine) -> None:
    described.run([("file.copy", {"dest": "~/a", "content": "x"})])
    link: Program = [("file.link", {"path": "~/a", "src": "b", "force": True})]
    described.run(link)
    assert described.prune(link) == []
    store, _ = described.open()
    key = f"file:copy:{described.files}/a"
    newest = store.history.select(key)[0]
    assert (newest.reason.value, newest.task, newest.site) == ("superseded", "t", "site")
    assert newest.after == {"superseded_by": f"file:link:{described.files}/a"}
    assert store.records.get(key) is None
    store.close()


def test_a_handler_that_a_rollback_owes_is_noted_with_its_task(described: Machine) -> None:
    program: Program = [("file.copy", {"dest": "~/a", "content": "x"})]
    described.notify = ["reload"]
    run, _ = described.run(program)
    store, _ = described.open()
    store.handlers.settle("site", ["reload"])  # it has run
    store.commit()
    store.close()
    (restored, left) = described.rollback(run)
    assert restored.status is RestoreStatus.DONE
    assert (left.key, left.handler, left.status) == ("handler:reload", "reload", RestoreStatus.REFUSED)
    store, _ = described.open()
    assert [(one.name, one.site, one.task) for one in store.handlers.pending()] == [("reload", "site", "t")]
    store.close()
