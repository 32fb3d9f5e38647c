"""What goes when a site no longer names it, in this process: nothing that anybody asks for, and nothing of others."""

from __future__ import annotations

import itertools
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sloth.payload.kernel import registry
from sloth.payload.kernel.resource import REQUIRED, Change, Field, Resource
from sloth.payload.kernel.status import Status
from tests.support import probe
from tests.support.payload import Peer, connected

Calls = list[tuple[str, dict[str, Any]]]
ROUNDS = int(os.environ.get("SLOTH_ATTACK_ROUNDS", "12"))
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB8Ht8Z3j6yDWPBHQtOp/R9rjWvfMYo3MSA/K6q8D86r"
FOUND = {"old": "theirs\n", "lines": "theirs\n"}  # what is there before anything is managed
# "D" stands for the account's home. A name of what each call makes, if that is a whole file or directory.
CALLS: list[tuple[str, str, dict[str, Any]]] = [
    ("d", "file.directory", {"path": "D/d", "mode": "0755"}),
    ("d/e", "file.directory", {"path": "D/d/e", "mode": "0755"}),
    ("d/e/l", "file.link", {"path": "D/d/e/l", "src": "x"}),
    ("way", "file.link", {"path": "D/way", "src": "d"}),
    ("d/m", "file.directory", {"path": "D/way/m", "mode": "0755"}),
    ("", "ssh.known_hosts", {"path": "D/lines", "name": "h", "key": "h " + KEY}),
    ("", "file.lineinfile", {"path": "D/lines", "line": "one"}),
    ("", "file.lineinfile", {"path": "D/lines", "line": "two"}),
    ("", "file.blockinfile", {"path": "D/lines", "block": "b"}),
]  # fmt: skip
NEEDS = {2: [0, 1], 1: [0], 4: [0, 3]}  # what a call is made after
numbers = itertools.count(1)


def ask(peer: Peer, name: str, given: dict[str, Any], home: Path) -> Status:
    full = {
        key: value.replace("D/", f"{home}/", 1) if isinstance(value, str) else value for key, value in given.items()
    }
    return peer.call(name, **full).status


def whole(chosen: list[int]) -> list[int]:
    """Return calls, each after what it needs."""
    return list(dict.fromkeys(one for number in chosen for one in (*NEEDS.get(number, ()), number)))


def run(home: Path, site: str, chosen: list[int], prune: bool = False, check: bool = False) -> list[Status]:
    """Run a site that makes these calls; return what became of them."""
    with connected(home, run=f"r{next(numbers)}", site=site, check=check) as peer:
        found = [ask(peer, *CALLS[number][1:], home) for number in chosen]
        if prune:
            keys = [row["key"] for row in peer.query("orphans")]
            planned = peer.query("prune", keys=keys, check=True)
            rows = peer.query("prune", keys=keys)
            assert {row["status"] for row in rows} <= {"done", "refused"}, rows
            said = {row["key"]: row["status"].replace("planned", "done") for row in planned}
            assert said == {row["key"]: row["status"] for row in rows}, planned
        peer.close()
    return found


@pytest.mark.timeout(120 + 4 * ROUNDS)
@settings(max_examples=ROUNDS, deadline=None, suppress_health_check=list(HealthCheck))
@given(*[st.lists(st.sampled_from(range(len(CALLS))), max_size=size) for size in (5, 5, 3)])
def test_whatever_a_site_becomes_what_is_asked_for_stays_and_what_it_made_goes(
    first: list[int], second: list[int], other: list[int]
) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        home = Path(os.path.realpath(name))
        patch.setenv("HOME", str(home))
        for path, text in FOUND.items():
            (home / path).write_text(text)
        versions = [whole(first), whole(second)]
        run(home, "other", whole(other))
        for version in versions:
            run(home, "site", version, prune=True)
            for site, calls in (("site", version), ("other", whole(other))):
                assert set(run(home, site, calls, check=True)) <= {Status.UNCHANGED}, (site, calls)
        wanted = {CALLS[number][0] for number in (*versions[1], *whole(other))}
        for made in {CALLS[number][0] for number in versions[0]} - {*wanted, ""}:
            assert not os.path.lexists(home / made), made
        assert (home / "lines").read_text().startswith(FOUND["lines"])
        run(home, "site", [], prune=True)
        run(home, "other", [], prune=True)
        left = {path.name: path.read_text() for path in home.iterdir() if path.name != ".sloth-runner"}
        assert left == FOUND


def test_a_directory_that_is_used_again_before_it_was_removed_stays(account: Path) -> None:
    """It was reported as orphaned; since then something in it is managed."""
    run(account, "site", [0])
    run(account, "site", [])
    with connected(account, run="again", site="another") as peer:
        assert ask(peer, *CALLS[1][1:], account) is Status.CHANGED
        [row] = peer.query("prune", keys=[f"file:directory:{account}/d"])
        assert (row["status"], row["msg"]) == ("refused", f"file:directory:{account}/d/e needs it")
    assert (account / "d" / "e").is_dir()


class Pair(Resource):
    """A module of a site: a directory and a file in it, as one resource."""

    name = "probe.pair"
    fields = (Field("path", "path", REQUIRED),)

    def identity(self) -> str:
        return str(self.args.path)

    def files(self, attributes: Any) -> dict[str, Any]:
        path = self.identity()
        return {path: attributes, f"{path}/inside": attributes}

    def observe(self) -> Any:
        return {"type": "directory"} if os.path.isfile(self.identity() + "/inside") else None

    def desired(self, now: Any) -> Any:
        return {"type": "directory"}

    def apply(self, change: Change) -> None:
        os.mkdir(self.identity())
        Path(self.identity(), "inside").touch()


def test_what_is_inside_goes_before_its_directory(account: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._found, (registry.MODULES, Pair.name), Pair)
    with connected(account) as peer:
        assert peer.call("probe.pair", path=str(account / "d")).status is Status.CHANGED
        peer.close()
    with connected(account, run="r2") as peer:
        rows = peer.query("prune", keys=[row["key"] for row in peer.query("orphans")])
        assert [row["status"] for row in rows] == ["done"]
    assert not (account / "d").exists()


@pytest.mark.parametrize("claimed", [True, False])
def test_what_would_take_something_managed_along_stays(
    account: Path, monkeypatch: pytest.MonkeyPatch, claimed: bool
) -> None:
    """claimed: it is managed; else what is managed leads through it."""
    along = "d" if claimed else "way"
    with monkeypatch.context() as patch:
        setting = probe.install(patch)
        patch.setattr(setting, "takes_along", lambda self: [f"path:{account}/{along}"], raising=False)
        for name, chosen in (("site", [*whole([4])]), ("probes", [])):
            with connected(account, run=name, site=name) as peer:
                for number in chosen:
                    ask(peer, *CALLS[number][1:], account)
                if not chosen:
                    peer.call("probe.setting", path=str(account / "setting"), value="x")
                peer.close()
        with connected(account, run="r3", site="probes") as peer:
            [row] = peer.query("prune", keys=[row["key"] for row in peer.query("orphans")])
            assert row["status"] == "refused"
            assert str(row["msg"]).startswith(f"{account}/{along} would be removed, too: file:")
    assert (account / "setting").exists()


def test_what_replaced_something_of_ours_is_ours_to_remove(account: Path) -> None:
    link: dict[str, Any] = {"path": str(account / "x"), "src": "y", "force": True}
    with connected(account) as peer:
        pushed = peer.push(b"x")
        assert peer.call("file.copy", src="x", dest=str(account / "x"), assets_=[pushed]).status is Status.CHANGED
        peer.close()
    with connected(account, run="r2") as peer:
        assert peer.call("file.link", **link).status is Status.CHANGED
        assert peer.query("orphans") == []  # the link is what is managed now
        assert [row["key"] for row in peer.query("list")] == [f"file:link:{account}/x"]
        peer.close()
    run(account, "s", [], prune=True)
    assert not os.path.lexists(account / "x")


def test_a_part_of_a_file_is_not_asked_for_any_more_by_whoever_has_the_whole(account: Path) -> None:
    """And the other way round; which of two calls was the last does not matter."""
    line = {"path": str(account / "x"), "line": "x", "create": True}
    whole = {"path": str(account / "x"), "src": "y", "force": True}
    with connected(account) as peer:
        assert peer.call("file.lineinfile", **line).status is Status.CHANGED
        peer.close()
    with connected(account, run="r2") as peer:
        assert peer.call("file.link", **whole).status is Status.CHANGED
        assert peer.query("orphans") == []
        peer.close()
    os.unlink(account / "x")
    with connected(account, run="r3") as peer:
        assert peer.call("file.lineinfile", **line).status is Status.CHANGED
        assert peer.query("orphans") == []
        assert [row["key"] for row in peer.query("list")] == [f"file:lineinfile:{account}/x:x"]
        peer.close()


@pytest.mark.parametrize("spared", [[], ["another"]])
def test_whether_a_run_that_did_not_name_a_thing_gives_up_its_part_in_it(account: Path, spared: list[str]) -> None:
    """spared: a task that had no reason to run, which may be what names it."""
    for site in ("one", "two"):
        with connected(account, site=site, run=site) as peer:
            peer.call("file.directory", path=str(account / "d"))
            peer.close()
    with connected(account, site="one", run="r3") as peer:
        peer.close(spared)
    with connected(account, site="two", run="r4") as peer:
        assert [orphan.key for orphan in peer.close().orphans] == ([] if spared else [f"file:directory:{account}/d"])
