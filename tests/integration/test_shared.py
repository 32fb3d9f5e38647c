"""state.* in a site: the seed's snippets, and what two processes do to one counter and one lock."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pytest

from sloth.engine.events import HostFinished
from sloth.errors import StateError
from sloth.state.backends.sqlite import SQLite
from sloth.state.shared import Shared
from sloth.state.shared_locks import Lock
from tests.support.command import sloth
from tests.support.paths import ROOT
from tests.support.running import run_local

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
import asyncio
import sys
from pathlib import Path
from sloth.state.backends.sqlite import SQLite
from sloth.state.shared import Shared
shared = Shared(SQLite(Path(sys.argv[1])))
async def main():
    for _ in range(50):
        await shared.incr("n")
asyncio.run(main())
"""
    command = [sys.executable, "-c", script, str(tmp_path / "shared.db")]
    children = [subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}) for _ in range(3)]
    assert [child.wait() for child in children] == [0, 0, 0]
    assert asyncio.run(Shared(SQLite(tmp_path / "shared.db")).get("n")) == 150


async def test_locks_fall_by_themselves_and_belong_to_their_holder(tmp_path: Path) -> None:
    shared = Shared(SQLite(tmp_path / "shared.db"))
    number = await shared.lock("a", "me", 60)
    assert await shared.lock("a", "me", 60) == number, "renewed"
    assert await shared.try_lock("a", "you", 60) is False
    with pytest.raises(StateError, match="held by me for another"):
        await shared.lock("a", "you", 60)
    with pytest.raises(StateError, match="not by you"):
        await shared.unlock("a", "you")
    assert await shared.unlock("a", "me")
    assert not await shared.unlock("a", "me")
    second = await shared.lock("a", "me", 0)
    assert second > number
    assert int(await shared.try_lock("a", "you", 60)) > second


def test_values_are_any_plain_data_and_end_at_their_ttl(tmp_path: Path) -> None:
    (tmp_path / "site.sloth").write_text("""
task({ name = "t", run = function()
    state.set("release", { version = "1.2", hosts = { "a", "b" }, ready = true, load = 0.5 })
    local back = state.get("release")
    print(back.version, #back.hosts, tostring(back.ready), back.load)
    print(tostring(state.get("nothing")), state.get("nothing", "default"))
    state.set("short", 1, { ttl = 0.05 })
    exec.run("sleep 0.1")
    print(tostring(state.get("short")), table.concat(state.list("re"), ","))
    local first, second = state.cas("turn", nil, "a"), state.cas("turn", "b", "c")
    print(tostring(first), tostring(second), tostring(state.cas("turn", "a", "b")))
    print(tostring(state.cas("release", { version = "0" }, "x")), state.get("turn"))
    state.set("bare", json.decode('{"a": {}}'))
    local kept = json.encode(state.get("bare"))
    print(kept, tostring(state.cas("bare", { a = {} }, true)), tostring(state.cas("bare", 1, 2)))
    state.delete("bare")
    state.set("release", nil)
    print(#state.list())
end })
""")
    done = sloth(tmp_path, "run", "-f", "site.sloth")
    assert done.returncode == 0, done.stdout + done.stderr
    said = [line.partition("local: ")[2].split("\t") for line in done.stdout.splitlines() if "local: " in line]
    assert said == [["1.2", "2", "true", "0.5"], ["nil", "default"], ["nil", "release"], ["true", "false", "true"],
                    ["false", "b"], ['{"a":{}}', "true", "false"], ["1"]]  # fmt: skip
    assert "turn" in sloth(tmp_path, "state", "list", "shared").stdout


HAMMER = """
import asyncio
import sys
from pathlib import Path
from sloth.state.backends.sqlite import SQLite
from sloth.state.shared import Shared
shared, holder = Shared(SQLite(Path(sys.argv[1]))), sys.argv[2]
async def main():
    for _ in range(60):
        await shared.incr("incr")
        while not await shared.cas("cas", (before := await shared.get("cas")), (before or 0) + 1):
            pass
        while not await shared.try_lock("lock", holder, 30):
            await asyncio.sleep(0.01)
        await shared.set("locked", await shared.get("locked", 0) + 1)
        await shared.unlock("lock", holder)
asyncio.run(main())
"""


def test_processes_that_hammer_counters_and_a_lock_lose_nothing(tmp_path: Path) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", HAMMER, str(tmp_path / "shared.db"), name],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for name in "abc"
    ]
    assert [child.wait() for child in children] == [0, 0, 0]
    shared = Shared(SQLite(tmp_path / "shared.db"))
    assert [asyncio.run(shared.get(name)) for name in ("incr", "cas", "locked")] == [180, 180, 180]


WITH_LOCK = """
task({ name = "t", run = function()
    state.with_lock("deploy", function()
        local before = state.get("count", 0)
        exec.run("sleep 2")
        state.set("count", before + 1)
    end, { ttl = 1, wait = 60 })
end })
"""


def test_with_lock_is_renewed_while_it_runs_and_keeps_other_controllers_out(tmp_path: Path) -> None:
    (tmp_path / "site.sloth").write_text(WITH_LOCK)
    (tmp_path / "inventory.toml").write_text("".join(f'[hosts.h{n}]\nconnection = "local"\n' for n in range(3)))
    command = [sys.executable, "-m", "sloth", "run", "-f", "site.sloth", "--lock-wait", "60"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SLOTH_HOME": str(tmp_path / "controller")}
    for name in "ab":
        (tmp_path / name).mkdir()  # else it is no home, and the account's own is used
    runs = [
        subprocess.Popen(
            command, cwd=tmp_path, env={**environment, "HOME": str(tmp_path / name)}, stdout=subprocess.PIPE, text=True
        )
        for name in "ab"
    ]
    said = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    shared = Shared(SQLite(tmp_path / "controller" / "shared.db"))
    assert asyncio.run(shared.get("count")) == 6
    assert asyncio.run(shared.locks.held()) == []


def test_the_lock_of_a_killed_holder_falls_and_that_of_a_failed_one_is_given_back(tmp_path: Path) -> None:
    site = (
        'task({ name = "t", %s run = function() '
        'state.with_lock("l", function() exec.run("%s") end, { ttl = %s, wait = 20 }) end })'
    )
    (tmp_path / "site.sloth").write_text(site % ("timeout = 0.5,", "sleep 20", 60))
    assert "did not end within" in sloth(tmp_path, "run", "-f", "site.sloth").stdout
    shared = Shared(SQLite(tmp_path / ".sloth-runner" / "shared.db"))

    def held() -> list[Lock]:
        return asyncio.run(shared.locks.held())

    assert held() == []
    (tmp_path / "site.sloth").write_text(site % ("", "sleep 60", 2))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    holder = subprocess.Popen([sys.executable, "-m", "sloth", "run", "-f", "site.sloth"], cwd=tmp_path, env=environment)
    while not held():
        time.sleep(0.05)
    holder.kill()
    holder.wait()
    (lock,) = held()
    (tmp_path / "site.sloth").write_text(site % ("", "true", 5))
    assert sloth(tmp_path, "run", "-f", "site.sloth").returncode == 0
    assert time.time() >= lock.expires
    assert held() == []


def test_a_function_is_stopped_at_its_next_call_when_its_lock_is_lost(tmp_path: Path) -> None:
    (tmp_path / "site.sloth").write_text(
        """
task({ name = "t", run = function()
    state.with_lock("l", function(number)
        print("number " .. number)
        exec.run("PYTHON -m sloth state unlock l --yes")
        exec.run("sleep 2")
        exec.run("touch mark")
    end, { ttl = 2 })
end })
""".replace("PYTHON", sys.executable)
    )
    done = sloth(tmp_path, "run", "-f", "site.sloth")
    assert done.returncode == 1
    assert "local: number 1" in done.stdout
    # Line 6 where unlocking took so long that the loss was noticed by then.
    assert re.search(r"site.sloth:[67]: the lock l was lost: somebody has released it", done.stdout)
    assert "site.sloth:3 has taken it" in done.stdout
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ('state.with_lock("x")', "takes a name, a function"),
        ('state.cas("a")', "hint: state.cas(name, expected, value"),
        ("state.set(1, 2)", "name must be a string"),
        ('state.set("a", 1, {ttl = "x"})', "must be a number of seconds"),
        ('state.set("a", function() end)', "only plain data"),
        ('state.lock("l", "h", "soon")', "ttl must be a number of seconds"),
        ('state.incr("a", "x")', "by must be a number"),
        ('state.with_lock("x", function() end, {wait = {}})', "wait must be a number"),
        ("secret({})", "takes the name of a secret"),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, call: str, said: str) -> None:
    (tmp_path / "site.sloth").write_text(f'\ntask({{ name = "t", run = function() {call} end }})')
    done = sloth(tmp_path, "run", "-f", "site.sloth")
    assert done.returncode == 1
    assert "site.sloth:2: " in done.stdout
    assert said in done.stdout


async def test_a_defect_of_ours_fails_the_host_and_says_so(tmp_path: Path) -> None:
    with mock.patch.object(Shared, "call", side_effect=ZeroDivisionError("by zero")):
        events = await run_local('task({ name = "t", run = function() state.get("x") end })', tmp_path)
    (ended,) = (event for event in events if isinstance(event, HostFinished))
    assert ended.status == "failed"
    assert "ZeroDivisionError: by zero" in (ended.error or "")
    assert "defect" in (ended.error or "")
