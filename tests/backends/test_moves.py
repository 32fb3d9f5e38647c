"""A copy to another backend is complete or can be continued, and overwrites nothing; damage is mended by a push."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sloth.errors import StateError
from sloth.payload.state.store import Store
from sloth.state.backends.backend import BackendError
from sloth.state.backends.sqlite import SQLite
from sloth.state.run_values import RunCounts
from sloth.state.sync import entries, runs
from sloth.state.sync.deliver import Delivery
from sloth.state.sync.entries import head_key, run_key
from sloth.state.sync.fetch import Fetching
from sloth.state.sync.migrate import migrate
from sloth.state.sync.push import make_due
from tests.support.faulty import Failing
from tests.support.replicas import Controller, record_on, rows_of


async def filled(backend: SQLite, count: int) -> None:
    for number in range(count):
        await backend.write(f"runs/{number:03}", b"%d" % number, None)
    await backend.write("locks/x", b"held", None)


async def test_a_copy_that_failed_is_continued(tmp_path: Path) -> None:
    source, target = SQLite(tmp_path / "a.db"), Failing(tmp_path / "b.db")
    await filled(source, 50)
    target.left = 20
    with pytest.raises(BackendError, match="no space left"):
        await migrate(source, target, force=False)
    assert 0 < len(await target.names("runs/")) < 50
    target.left = 10**9
    entry = await source.read("runs/003")  # which was copied already
    assert entry is not None
    await source.write("runs/003", b"changed", entry.version)
    assert await migrate(source, target, force=False) == {"runs": 50}
    copied = await target.read("runs/003")
    assert copied is not None
    assert copied.value == b"changed"
    assert await target.names("") == await source.names("runs/"), "no lock, and no mark of the copy"


async def test_what_is_of_somebody_else_is_not_overwritten(tmp_path: Path) -> None:
    source, target = SQLite(tmp_path / "a.db"), SQLite(tmp_path / "b.db")
    with pytest.raises(StateError, match="has no entry; hint: check its prefix"):
        await migrate(source, target, force=False)
    await filled(source, 3)
    await target.write("runs/001", b"other", None)
    with pytest.raises(StateError, match=r"has other data: 1 entries, runs/001 for one.*--force"):
        await migrate(source, target, force=False)
    assert await target.names("") == ["runs/001"]
    assert await migrate(source, target, force=True) == {"runs": 3}


async def two_visit(host: Store, one: Controller, two: Controller) -> None:
    """Let two controllers visit a host and deliver what they see; the second one sees more."""
    record_on(host, "a", 1)
    one.visit(host)
    await one.deliver()
    await two.fetch()
    record_on(host, "b", 2)
    two.visit(host)
    await two.deliver()


async def test_a_push_mends_what_is_damaged_and_leaves_what_is_newer(tmp_path: Path) -> None:
    backend = SQLite(tmp_path / "b.db")
    one, two, host = Controller(tmp_path / "one", backend), Controller(tmp_path / "two", backend), Store(None)
    one.memory.runs.begin("20260101-000000-aaaaaa", "site", "ann", 1)
    await two_visit(host, one, two)
    assert await make_due(one.memory, backend) == []
    await one.deliver()
    third = Controller(tmp_path / "three", backend)
    await third.fetch()
    assert third.rows() == rows_of(host), "the push of an older state changes nothing"
    for key in (head_key("web1"), run_key("20260101-000000-aaaaaa")):
        entry = await backend.read(key)
        assert entry is not None
        await backend.write(key, b"\0damaged", entry.version)
    fetching = Fetching(third.memory, backend)
    await fetching.runs()
    await fetching.replicas(["web1"])
    assert len(fetching.problems) == 2 or len(fetching.problems) == 1
    assert await make_due(one.memory, backend) == []
    await one.deliver()
    assert await make_due(two.memory, backend) == []
    await two.deliver()
    fourth = Controller(tmp_path / "four", backend)
    assert await fourth.fetch() == []
    assert fourth.rows() == rows_of(host)
    fetching = Fetching(fourth.memory, backend)
    assert await fetching.runs() == 1
    assert fetching.problems == []


@pytest.mark.parametrize(
    "change",
    [
        {"who": {"a": 1}}, {"status": "0"}, {"started": None}, {"run": 5}, {"run": "other"}, {"about": "no json"},
        {"about": "[1]"}, {"hosts": True}, {"seconds": []},
    ],
)  # fmt: skip
async def test_a_record_that_a_server_has_made_up_is_damaged(tmp_path: Path, change: dict[str, object]) -> None:
    backend = SQLite(tmp_path / "b.db")
    one, two = Controller(tmp_path / "one", backend), Controller(tmp_path / "two", backend)
    one.memory.runs.begin("r", "site", "ann", 1)
    await one.deliver()
    entry = await backend.read("runs/r")
    assert entry is not None
    document = json.loads(entry.value)
    document["content"]["versions"][0]["record"].update(change)
    await backend.write("runs/r", json.dumps(document).encode(), entry.version)
    fetching = Fetching(two.memory, backend)
    await fetching.runs()
    assert ["runs/r is damaged" in str(problem) for problem in fetching.problems] == [True]
    assert two.memory.runs.newest() == []


async def test_a_server_chooses_no_paths_of_our_files(tmp_path: Path) -> None:
    backend = SQLite(tmp_path / "b.db")
    one, host = Controller(tmp_path / "one", backend), Store(None)
    record_on(host, "a", 1)
    one.visit(host)
    await one.deliver()
    entry = await backend.read(head_key("web1"))
    assert entry is not None
    for name in ("web1@../../out", "../out", "a\0b"):
        await backend.write(head_key(name), entry.value, None)
    two = Controller(tmp_path / "two", backend)
    fetching = Fetching(two.memory, backend)
    assert await fetching.new_agents() == ["web1"]
    await fetching.replicas(["web1@../../out", "web1"])
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["one", "two"]
    assert not list(tmp_path.glob("out*"))


async def test_a_push_leaves_a_damaged_replica_that_is_further_to_who_has_more(tmp_path: Path) -> None:
    backend = SQLite(tmp_path / "b.db")
    one, two, host = Controller(tmp_path / "one", backend), Controller(tmp_path / "two", backend), Store(None)
    await two_visit(host, one, two)
    for key in await backend.names("replicas/web1/"):
        if key != head_key("web1"):
            await backend.forget(key)
    assert await make_due(one.memory, backend) == [head_key("web1")]
    assert one.memory.outbox is not None
    assert one.memory.outbox.waiting() == []
    assert await backend.read(head_key("web1")) is not None, "it stays"
    assert await make_due(two.memory, backend) == []
    await two.deliver()
    third = Controller(tmp_path / "three", backend)
    assert await third.fetch() == []
    assert third.rows() == rows_of(host)


async def test_the_record_of_a_run_only_gets_further(tmp_path: Path) -> None:
    backend, memory = SQLite(tmp_path / "b.db"), Controller(tmp_path / "one", SQLite(tmp_path / "b.db")).memory
    states = []
    memory.runs.begin("r", "site", "ann", 1)
    states.append(memory.runs.stored("r"))
    for task in ("one", "two"):
        memory.runs.add("r", progress=[("web1", task, "changed")])
        states.append(memory.runs.stored("r"))
    memory.runs.end("r", counts=RunCounts(changed=2), seconds=1.0, status=0)
    states.append(memory.runs.stored("r"))
    for state in (*states, *states):  # what a slow delivery brings comes last
        assert state is not None
        await runs.deliver(backend, state, {"by": "ann"})
    fetching = Fetching(Controller(tmp_path / "two", backend).memory, backend)
    assert await fetching.runs() == 1
    two = Controller(tmp_path / "two", backend).memory
    assert (two.runs.find("r").status, two.runs.progress("r")) == (0, memory.runs.progress("r"))
    kept = await entries.load_versions(backend, run_key("r"))
    assert [(one["version"], one["has_ended"]) for one in kept] == [(4, True), (1, False)], "none of what was between"


async def test_what_a_delivery_cannot_bring_stays_due_and_the_rest_is_brought(tmp_path: Path) -> None:
    backend = SQLite(tmp_path / "b.db")
    one = Controller(tmp_path / "one", backend)
    host = Store(None)
    record_on(host, "a", 1)
    one.visit(host)
    one.memory.runs.begin("r", "site", "ann", 1)
    await backend.write(head_key("web1"), b'{"ids": [], "content": {"format": 2}}', None)
    delivery = Delivery(one.memory, backend)
    left = await delivery.finish()
    assert left is not None
    assert left.startswith("1 entry is not delivered to the backend yet")
    assert "has format 2" in left
    assert await backend.names("runs/") == ["runs/r"]


async def test_a_push_leaves_a_damaged_replica_to_who_has_one(tmp_path: Path) -> None:
    backend = SQLite(tmp_path / "b.db")
    one, two, host = Controller(tmp_path / "one", backend), Controller(tmp_path / "two", backend), Store(None)
    await two_visit(host, one, two)
    entry = await backend.read(head_key("web1"))
    assert entry is not None
    await backend.write(head_key("web1"), b"damaged", entry.version)
    two.memory.replica_path("web1").unlink()
    await make_due(two.memory, backend)
    await two.deliver()
    entry = await backend.read(head_key("web1"))
    assert entry is not None
    assert entry.value == b"damaged"
