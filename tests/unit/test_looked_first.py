"""A saved plan is applied by a session that has looked first: then it does what a session does that has not."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.payload import Peer, connected

ROUNDS = int(os.environ.get("SLOTH_ATTACK_ROUNDS", "20"))
FSTAB = {"path": "/srv/none", "src": "tmpfs", "fstype": "tmpfs", "state": "configured", "fstab": "D/fstab"}
SYSCTL = {"name": "kernel.panic", "sysctl_set": False, "sysctl_file": "D/a"}
# "D" stands for the account's home. A call with check_ looks only, also when a plan is applied.
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("exec.run", {"cmd": "touch D/a", "creates": "D/a"}),
    ("exec.run", {"cmd": "mkdir D/d 2>/dev/null", "creates": "D/d"}),
    ("exec.run", {"cmd": "rm -r D/d 2>/dev/null", "removes": "D/d"}),
    ("exec.run", {"cmd": "test -e D/d/x"}),
    ("exec.run", {"cmd": "test -e D/d/x", "check_": True, "read_only": True}),
    ("file.directory", {"path": "D/d", "mode": "0755"}),
    ("file.directory", {"path": "D/d/x", "mode": "0700"}),
    ("file.absent", {"path": "D/d"}),
    ("file.absent", {"path": "D/d", "check_": True}),
    ("file.link", {"path": "D/a", "src": "x", "force": True}),
    ("file.stat", {"path": "D/a"}),
    ("sysctl.set", {**SYSCTL, "value": "1"}),
    ("sysctl.set", {**SYSCTL, "value": "2"}),
    ("sysctl.set", {**SYSCTL, "value": "2", "check_": True}),
    ("mount.present", FSTAB),
    ("mount.present", {**FSTAB, "opts": "size=1m"}),
    ("mount.absent", {"path": "/srv/none", "fstab": "D/fstab"}),
]


def ask(peer: Peer, call: tuple[str, dict[str, Any]], home: Path, **more: object) -> dict[str, Any]:
    name, template = call
    full = {
        key: value.replace("D/", f"{home}/") if isinstance(value, str) else value for key, value in template.items()
    }
    reply = peer.call(name, **{**full, **more}).plain()
    if name == "file.stat":
        found = reply.pop("values", {})
        reply["values"] = [found.get(key) for key in ("exists", "type", "mode")]
    return {key: value for key, value in reply.items() if key not in ("id", "seconds")}


def done(calls: list[tuple[str, dict[str, Any]]], looks: bool) -> list[Any]:
    """Make these calls in a new account; return what is said of them, recorded of them and there at the end."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        home = Path(os.path.realpath(name))
        patch.setenv("HOME", str(home))
        with connected(home) as peer:
            if looks:
                for call in calls:
                    ask(peer, call, home, check_=True)
                peer.query("begin_plan", plan="p")
            said = [ask(peer, call, home, epoch=1) for call in calls]
            records = peer.query("list")
            for row in records:
                for field in ("created_at", "changed_at", "checked_at", "seq", "checksum"):  # it has the path in it
                    del row[field]
            orphans = [(orphan.key, orphan.status) for orphan in peer.close().orphans]
        there = sorted(path.name for path in home.rglob("*") if ".sloth-runner" not in path.parts)
        return [str(found).replace(str(home), "D") for found in (said, records, orphans, there)]


@pytest.mark.timeout(120 + 4 * ROUNDS)
@settings(max_examples=ROUNDS, deadline=None, suppress_health_check=list(HealthCheck))
@example([CALLS[0]])
@example([CALLS[1], CALLS[5]])
@example([CALLS[11], CALLS[13]])
@example([CALLS[14], CALLS[3], CALLS[15]])
@given(st.lists(st.sampled_from(CALLS), min_size=1, max_size=6))
def test_what_was_only_looked_at_is_not_there(calls: list[tuple[str, dict[str, Any]]]) -> None:
    assert done(calls, looks=True) == done(calls, looks=False)
