"""Calls with a secret in an argument, looked at and taken back by a session that does not know it.

Only a keyed hash of the argument was kept. What such a call has made is taken back exactly or left alone, and nothing
that is as it was made is drift.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sloth.payload.kernel.status import Status
from sloth.payload.session import messages
from tests.support.payload import Peer, connected

SECRET = "hunter2hunter2"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB8Ht8Z3j6yDWPBHQtOp/R9rjWvfMYo3MSA/K6q8D86r"
FILE = {"path": "D/f", "create": True}
# "D" stands for the account's home, in which the file f is.
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("file.lineinfile", {**FILE, "line": f"x={SECRET}"}),
    ("file.lineinfile", {**FILE, "line": "x", "regexp": SECRET}),
    ("file.lineinfile", {**FILE, "line": "x", "insertafter": SECRET}),
    ("file.lineinfile", {"path": f"D/{SECRET}", "line": "x", "create": True}),
    ("file.blockinfile", {**FILE, "block": SECRET}),
    ("file.blockinfile", {**FILE, "block": "x", "marker": "# {mark} " + SECRET}),
    ("file.replace", {"path": "D/f", "regexp": "one", "replace": SECRET}),
    ("file.replace", {"path": "D/f", "regexp": f"one|{SECRET}", "replace": "three"}),
    ("file.directory", {"path": f"D/{SECRET}"}),
    ("file.link", {"path": "D/link", "src": SECRET}),
    ("file.absent", {"path": "D/f"}),
    ("ssh.authorized_key", {"user": "U", "path": "D/keys", "manage_dir": False, "key": [f"{KEY} {SECRET}"]}),
    ("ssh.known_hosts", {"path": "D/f", "name": SECRET, "key": f"{SECRET} {KEY}"}),
    ("ssh.known_hosts", {"path": "D/hosts", "name": "h", "key": f"h {KEY} {SECRET}"}),
    ("ssh.config", {"ssh_config_file": "D/f", "host": SECRET, "options": {"Port": "22"}}),
    ("ssh.config", {"ssh_config_file": "D/f", "host": "h", "options": {"User": SECRET}}),
    ("sysctl.set", {"name": "kernel.panic", "value": SECRET, "sysctl_set": False, "sysctl_file": "D/f"}),
    ("sysctl.set", {"name": SECRET, "value": "1", "sysctl_set": False, "sysctl_file": "D/f"}),
    ("mount.present", {"path": "/srv/none", "src": f"//h/{SECRET}", "fstype": "cifs", "state": "configured",
                       "fstab": "D/f"}),
    ("mount.present", {"path": "/srv/none", "src": "//h/x", "fstype": "cifs", "opts": f"password={SECRET}",
                       "state": "configured", "fstab": "D/f"}),
    ("mount.present", {"path": f"/srv/{SECRET}", "src": "//h/x", "fstype": "cifs", "state": "configured",
                       "fstab": "D/f"}),
]  # fmt: skip


def found(account: Path) -> dict[str, str]:
    """Return what is in the account's home, but for what sloth-runner keeps itself."""
    paths = [path for path in account.rglob("*") if ".sloth-runner" not in path.parts]
    return {
        str(path): os.readlink(path) if path.is_symlink() else path.read_text() if path.is_file() else "directory"
        for path in paths
    }


def kept(account: Path) -> str:
    """Return all that is in the state of an account."""
    return "".join(path.read_text("latin-1") for path in (account / ".sloth-runner" / "state").iterdir())


def made(peer: Peer, account: Path, name: str, template: dict[str, Any]) -> messages.Reply:
    def full(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return pwd.getpwuid(os.geteuid()).pw_name if value == "U" else value.replace("D/", f"{account}/", 1)

    peer.send(messages.Secrets(values=[SECRET]))
    return peer.call(name, sensitive_=True, **{field: full(value) for field, value in template.items()})


@pytest.mark.parametrize("how", ["rollback", "force", "prune"])
@pytest.mark.parametrize(("name", "template"), CALLS)
def test_what_was_made_with_a_secret_is_taken_back_exactly_or_left_alone(
    account: Path, name: str, template: dict[str, Any], how: str
) -> None:
    (account / "f").write_text("one\ntwo\n")
    before = found(account)
    with connected(account) as peer:
        reply = made(peer, account, name, template)
        assert reply.status is Status.CHANGED, reply.error
        peer.close()
    after = found(account)
    assert after != before
    with connected(account, run="r2") as peer:
        rows = peer.query("drift")
        assert {row["status"] for row in rows} <= {"clean", "unknown"}, rows
        if how == "prune":
            rows = peer.query("prune", keys=[row["key"] for row in peer.query("orphans")])
        else:
            rows = peer.query("rollback", run="r1", force=how == "force")
        statuses = {row["status"] for row in rows}
        assert statuses in ({"done"}, {"refused"}), rows
        assert found(account) == (before if statuses == {"done"} else after), rows
        assert SECRET not in str(rows)
        peer.close()
    assert SECRET not in kept(account)


def test_of_a_sensitive_call_only_what_names_its_subject_is_recorded(account: Path) -> None:
    with connected(account) as peer:
        given = {"path": str(account / "f"), "line": "password=mine", "create": True, "mode": "0600"}
        assert peer.call("file.lineinfile", sensitive_=True, masked_=True, **given).status is Status.CHANGED
        [row] = peer.query("list")
        [call] = row["calls"]  # type: ignore[misc]
        peer.close()
    arguments = call["args"]
    assert (arguments["path"], arguments["mode"], list(arguments["line"])) == (given["path"], "0600", ["secret"])
    assert "mine" not in kept(account)


@pytest.mark.parametrize("op", ["drift", "rollback", "prune"])
def test_what_stands_beside_a_secret_shows_nothing_of_it(account: Path, op: str) -> None:
    (account / "f").write_text("theirs\n")
    with connected(account) as peer:
        plain = peer.call("file.lineinfile", path=str(account / "f"), line="plain", task="one")
        secret = made(peer, account, "file.lineinfile", {**FILE, "line": f"password={SECRET}"})
        peer.close()
    with connected(account, run="r2") as peer:  # which does not know the secret
        if op == "drift":
            (account / "f").write_text(f"theirs\npassword={SECRET}\n")
            rows = peer.query("drift")
            statuses = {row.get("key", ""): row["status"] for row in rows}
            assert statuses == {plain.key: "drift", secret.key: "unknown", "": "clean"}
        else:
            peer.query("named", keys=[secret.key])
            asked = {"run": "r1", "task": "one", "force": True} if op == "rollback" else {"keys": [plain.key]}
            assert [row["key"] for row in peer.query("orphans")] == [plain.key]
            rows = peer.query(op, **asked)
            assert [row["status"] for row in rows] == ["done"]
            left = "theirs\n" if op == "rollback" else f"theirs\npassword={SECRET}\n"
            assert (account / "f").read_text() == left
        assert SECRET not in str(rows)
        peer.close()
    assert SECRET not in kept(account)


def test_a_working_copy_keeps_its_secret_address_when_it_is_not_taken_back(account: Path) -> None:
    def git(*words: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=b"]
        return subprocess.run(["git", *who, *words], check=True, capture_output=True, text=True).stdout.strip()

    origin, copy = str(account / SECRET), str(account / "copy")
    git("init", "-q", "-b", "main", origin)
    commits = []
    for word in ("one", "two"):
        git("-C", origin, "commit", "-q", "--allow-empty", "-m", word)
        commits.append(git("-C", origin, "rev-parse", "HEAD"))
    for run, commit in zip(("r1", "r2"), commits, strict=True):
        with connected(account, run=run) as peer:
            peer.send(messages.Secrets(values=[SECRET]))
            given = {"repo": origin, "dest": copy, "version": commit}
            reply = peer.call("git.clone", sensitive_=True, **given)
            assert reply.status is Status.CHANGED, reply.error
            peer.close()
    with connected(account, run="r3") as peer:
        [row] = peer.query("rollback", run="r2", force=True)
        assert row["status"] == "refused", row
        assert SECRET not in str(row)
        peer.close()
    assert git("-C", copy, "remote", "get-url", "origin") == origin
    assert git("-C", copy, "rev-parse", "HEAD") == commits[1]
