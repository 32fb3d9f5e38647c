"""Rolling back a run of any calls about the same few files: what a check says of it, and what is there afterwards."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from sloth.payload.kernel.rollback import UNSURE
from sloth.payload.kernel.status import Status
from tests.support.payload import Peer, connected

ROUNDS = int(os.environ.get("SLOTH_ATTACK_ROUNDS", "25"))
# (module, arguments): "D" stands for the account's home. Or ("", (words of what somebody does by hand)).
CALLS: list[tuple[str, dict[str, Any]]] = [
    *(("file.copy", {"dest": f"D/{name}", "content": text, "mode": mode})
      for name, text, mode in (("a", "one\n", "0600"), ("a", "two\n", "0644"), ("b", "one\n", "0600"))),
    *(("file.lineinfile", {"path": f"D/{name}", "line": line, "create": True})
      for name, line in (("a", "one"), ("a", "x"), ("b", "x"))),
    ("file.blockinfile", {"path": "D/a", "block": "x", "create": True}),
    *(("file.link", {"path": f"D/{name}", "src": "x", "force": True}) for name in "ab"),
    *(("file.absent", {"path": f"D/{name}"}) for name in ("a", "b", "d/e")),
    *(("file.directory", {"path": f"D/{name}", "mode": mode})
      for name, mode in (("d", "0755"), ("d", "0700"), ("d/e", "0755"))),
    ("sysctl.set", {"name": "kernel.panic", "value": 1, "sysctl_set": False, "sysctl_file": "D/a"}),
]  # fmt: skip
BY_HAND = ["write a", "remove a", "close a", "remove b", "link b"]
Step = tuple[str, dict[str, Any]] | str


def go(peer: Peer, home: Path, step: Step) -> bool:
    """Take a step; return whether it went well."""
    if isinstance(step, str):
        verb, name = step.split()
        path = home / name
        if verb == "close" and path.is_file() and not path.is_symlink():
            path.chmod(0o400)
        elif verb != "close":
            path.unlink(missing_ok=True)
        if verb == "write":
            path.write_text("by hand\n")
        elif verb == "link":
            path.symlink_to("elsewhere")
        return True
    name, template = step
    full = {
        key: value.replace("D/", f"{home}/") if isinstance(value, str) else value for key, value in template.items()
    }
    assets = []
    if "content" in full:
        assets = [peer.push(full["content"].encode(), "")]
        full["content"] = ""
    return peer.call(name, assets_=assets, epoch=peer._call, **full).status is not Status.FAILED


def there(home: Path) -> dict[str, str]:
    """Return what is there, but for empty files: of what was created for a line only the line goes."""
    found = {}
    for path in home.rglob("*"):
        if ".sloth-runner" not in path.parts:
            mode = oct(path.lstat().st_mode)
            text = os.readlink(path) if path.is_symlink() else path.read_text() if path.is_file() else ""
            if text or path.is_dir():
                found[str(path.relative_to(home))] = f"{mode} {text}"
    return found


@pytest.mark.parametrize("last", [("file.copy", {**CALLS[0][1], "follow": False}), ("file.absent", {"path": "D/a"})])
def test_a_file_that_may_be_another_one_is_not_said_to_be_back(last: Step, account: Path) -> None:
    (account / "a").write_text("theirs\n")
    with connected(account, run="r2") as peer:
        assert go(peer, account, CALLS[7])
        assert go(peer, account, last)
        peer.close()
    with connected(account, run="r3") as peer:
        go(peer, account, "write a")
        for check in (True, False):
            rows = peer.query("rollback", run="r2", check=check)
            assert [row["status"] for row in rows] == ["refused", "refused"], rows
            assert all("changed since" in row["msg"] for row in rows)
        peer.close()
    assert (account / "a").read_text() == "by hand\n"


@pytest.mark.parametrize("is_hard", [True, False])
def test_a_file_that_is_known_again_is_back(is_hard: bool, account: Path) -> None:
    (account / "a").write_text("theirs\n")
    (account / "x").write_text("x\n")
    os.link(account / "a", account / "kept")
    with connected(account, run="r2") as peer:
        if is_hard:
            peer.call("file.link", path=f"{account}/a", src=f"{account}/x", hard=True, force=True)
        else:
            peer.call("file.copy", dest=f"{account}/a", assets_=[peer.push(b"ours\n", "")], content="")
        peer.close()
    (account / "a").unlink()
    os.link(account / "kept", account / "a")
    with connected(account, run="r3") as peer:
        (row,) = peer.query("rollback", run="r2")
        peer.close()
    assert (row["status"], row["msg"]) == ("done", "it is as it was before already")


@pytest.mark.timeout(120 + 4 * ROUNDS)
@settings(max_examples=ROUNDS, deadline=None, suppress_health_check=list(HealthCheck))
@example([], [CALLS[2], "remove b", CALLS[2]], False)
@example([], [CALLS[-1], CALLS[0], CALLS[-1]], False)
@example([], [CALLS[7], "write a", CALLS[1]], False)  # whether it is the file that the link replaced is not known
@given(
    st.lists(st.sampled_from(CALLS), max_size=3),
    st.lists(st.sampled_from([*CALLS, *BY_HAND]), min_size=1, max_size=5),
    st.booleans(),
)
def test_a_rollback_does_what_its_check_says_and_leaves_what_was_before(
    before: list[Step], steps: list[Step], force: bool
) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        home = Path(os.path.realpath(name))
        patch.setenv("HOME", str(home))
        (home / "a").write_text("theirs\n")
        (home / "x").write_text("x\n")
        (home / "d").mkdir()  # parents that a call makes are no change of it
        with connected(home) as peer:
            for step in before:
                go(peer, home, step)
            peer.close()
        was = there(home)
        with connected(home, run="r2") as peer:
            went_well = [go(peer, home, step) for step in steps]
            peer.close()
        with connected(home, run="r3") as peer:
            checked = peer.query("rollback", run="r2", check=True, force=force)
            rows = peer.query("rollback", run="r2", force=force)
            peer.close()
        for said, row in zip(checked, rows, strict=True):
            is_same = said["status"].replace("planned", "done") == row["status"]
            assert is_same or (said["status"], said["msg"]) == ("planned", UNSURE), (before, steps, force, said, row)
            assert said["key"] == row["key"]
        statuses = {row["status"] for row in rows}
        assert statuses <= {"done", "refused"}, rows
        if all(went_well) and statuses == {"done"} and not set(BY_HAND).intersection(map(str, steps)):
            event("all of it")
            assert there(home) == was, (before, steps, force, rows)
        elif not set(BY_HAND).intersection(map(str, steps)):
            event("some of it")
