"""state.* in a site: the seed's snippets, and what two processes do to one counter and one lock."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sloth.errors import StateError
from sloth.state.shared import Shared
from tests.integration.test_contracts import ROOT, sloth

SEED = """
task({
    name = "critical-update",
    run = function()
        state.lock("deployment", "task-123", 300) -- 5 minute timeout
        state.set("deployment:version", "v1.2.3")
        state.unlock("deployment", "task-123")
        local version = state.get("deployment:version")
        print("version " .. version .. " " .. state.incr("runs"))
        print(state.with_lock("deployment", function() return "inside" end, { ttl = 5, wait = 1 }))
        file.copy({ dest = "~/a", content = "a" })
        print(tostring(state.delete("file:copy:" .. os.getenv("HOME") .. "/a")))
        state.lock("left", "somebody", 60)
    end
})
"""


def test_the_seed_s_locks_and_values(tmp_path: Path) -> None:
    (tmp_path / "site.sloth").write_text(SEED)
    done = sloth(tmp_path, "run", "-f", "site.sloth")
    assert done.returncode == 0, done.stdout + done.stderr
    for line in ("version v1.2.3 1", "inside", "true"):
        assert f"local: {line}\n" in done.stdout
    assert "left" in sloth(tmp_path, "state", "list", "lock").stdout
    (tmp_path / "other.sloth").write_text('task({ name = "t", run = function() state.lock("left", "me", 60) end })')
    blocked = sloth(tmp_path, "run", "-f", "other.sloth")
    assert blocked.returncode == 1
    assert "other.sloth:1: the lock left is held by somebody for another" in blocked.stdout
    assert sloth(tmp_path, "state", "unlock", "left", "--yes").returncode == 0
    assert sloth(tmp_path, "run", "-f", "other.sloth").returncode == 0


def test_processes_lose_no_count(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from sloth.state.shared import Shared
shared = Shared(Path(sys.argv[1]))
for _ in range(50):
    shared.incr("n")
"""
    command = [sys.executable, "-c", script, str(tmp_path / "shared.db")]
    children = [subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}) for _ in range(3)]
    assert [child.wait() for child in children] == [0, 0, 0]
    assert Shared(tmp_path / "shared.db").get("n") == 150


def test_locks_fall_by_themselves_and_belong_to_their_holder(tmp_path: Path) -> None:
    shared = Shared(tmp_path / "shared.db")
    assert shared.lock("a", "me", 60)
    assert shared.lock("a", "me", 60)
    assert not shared.try_lock("a", "you", 60)
    with pytest.raises(StateError, match="held by me for another"):
        shared.lock("a", "you", 60)
    with pytest.raises(StateError, match="not by you"):
        shared.unlock("a", "you")
    assert shared.unlock("a", "me")
    assert not shared.unlock("a", "me")
    assert shared.lock("a", "me", 0)
    assert shared.try_lock("a", "you", 60)
