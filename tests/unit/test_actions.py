"""Actions through the kernel: what they owe, what a check says of them, and what frozen resources do."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from sloth.payload.kernel.content import Content
from sloth.payload.kernel.converge import execute
from sloth.payload.kernel.errors import Failed, Missing
from sloth.payload.kernel.record import Context, Outcome
from sloth.payload.kernel.redact import View
from sloth.payload.kernel.resource import Action, Args, Field
from sloth.payload.kernel.step import keep_contents, notify
from sloth.payload.lib.host import Host
from sloth.payload.state.store import Store
from tests.support.calls import NoController, execute_call

CONTEXT = Context(run="r", site="s", task="t", notify=["handler"])


class Act(Action):
    """Does what its arguments say."""

    name = "test.act"
    fields = (
        Field("changed", "bool", True),
        Field("error", "str"),
        Field("missing", "str"),
        Field("guarded", "str"),
        Field("safe", "bool", False),
        Field("waits", "bool", False),
    )
    done = 0

    @property
    def only_waits(self) -> bool:  # type: ignore[override]  # of the class, elsewhere
        return bool(self.args.waits)

    def identity(self) -> str:
        return "x"

    def guard(self) -> str:
        return self.args.guarded or ""

    def safe_in_check(self) -> bool:
        return bool(self.args.safe)

    def run(self) -> dict[str, Any]:
        Act.done += 1
        if self.args.missing:
            raise Missing(self.args.missing)
        if self.args.error:
            raise Failed(self.args.error)
        return {"changed": self.args.changed, "exit_code": 0}


@pytest.fixture(autouse=True)
def fresh() -> None:
    Act.done = 0


def act(store: Store, check: bool = False, pending: bool = False, **given: object) -> Outcome:
    host = Host(NoController())
    host.pending = pending
    return execute(Act(Args(Act.check(given)), host), store, check, CONTEXT)


def owed(store: Store) -> list[str]:
    return store.handlers.names("s")


def test_an_action_that_was_done_owes_its_handlers_and_is_in_the_history() -> None:
    store = Store(None)
    outcome = act(store)
    assert (outcome.status, outcome.reason, outcome.values) == ("changed", "run", {"exit_code": 0})
    assert owed(store) == ["handler"]
    assert [change.reason for change in store.history.select("test:act:x")] == ["run"]


@pytest.mark.parametrize("earlier", [[], ["handler"]])
def test_an_action_that_did_nothing_owes_only_what_was_owed_before(earlier: list[str]) -> None:
    store = Store(None)
    notify(store, CONTEXT.replace(notify=earlier), "k")
    outcome = act(store, changed=False)
    assert (outcome.status, outcome.reason) == ("unchanged", "")
    with pytest.raises(Failed, match=r"^broken$"):
        act(store, error="broken")
    assert act(store, guarded="not needed").msg == "not needed"
    assert owed(store) == earlier
    assert store.history.select("test:act:x") == []
    assert Act.done == 2


@pytest.mark.parametrize("pending", [False, True])
def test_a_check_does_no_action_and_owes_nothing(pending: bool) -> None:
    store = Store(None)
    outcome = act(store, check=True, pending=pending)
    assert (outcome.status, outcome.reason, outcome.unknown, outcome.msg) == ("changed", "run", True, "would run")
    outcome = act(store, check=True, pending=pending, waits=True)
    assert (outcome.status, outcome.unknown) == ("unknown", True)
    assert Act.done == 0
    assert owed(store) == []


def test_what_is_safe_in_a_check_runs_in_one_and_leaves_nothing() -> None:
    store = Store(None)
    for changed, status, reason in ((True, "changed", "run"), (False, "unchanged", "")):
        outcome = act(store, check=True, safe=True, changed=changed)
        assert (outcome.status, outcome.reason, outcome.values) == (status, reason, {"exit_code": 0})
    assert (Act.done, owed(store), store.history.select("test:act:x")) == (2, [], [])


@pytest.mark.parametrize("arguments", [{"error": "broken"}, {"missing": "broken"}])
def test_what_fails_in_a_check_is_unknown_only_if_something_is_pending(arguments: dict[str, str]) -> None:
    store = Store(None)
    with pytest.raises(Failed, match=r"^broken$"):
        act(store, check=True, safe=True, **arguments)
    outcome = act(store, check=True, safe=True, pending=True, **arguments)
    assert (outcome.status, outcome.unknown, outcome.msg) == ("unknown", True, "not known before the run: broken")


def test_what_is_owed_is_durable_before_the_action(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path / "state" / "x.db"))
    seen: list[Any] = []

    def run(action: Act) -> dict[str, Any]:
        seen.extend(sqlite3.connect(tmp_path / "state" / "x.db").execute("SELECT name FROM handlers").fetchall())
        return {}

    monkeypatch.setattr(Act, "run", run)
    act(store)
    store.close()
    assert seen == [("handler",)]


def test_a_frozen_resource_is_left_alone(tmp_path: Path) -> None:
    store, path = Store(None), tmp_path / "d"
    key = f"file:directory:{path}"
    store.freezes.put(key, int(time.time()) + 3600, "a reason", "me", "here")
    outcome = execute_call("file.directory", store=store, path=str(path))
    assert outcome.status == "frozen"
    assert "a reason" in outcome.msg
    assert not path.exists()
    assert store.freezes.remove(key)
    assert execute_call("file.directory", store=store, path=str(path)).status == "changed"


@pytest.mark.parametrize(
    ("names", "sensitive", "kept"), [(None, False, 1), (["a"], False, 1), (["b"], False, 0), (None, True, 0)]
)
def test_contents_are_kept_of_attributes_that_change_and_hold_no_secrets(
    tmp_path: Path, names: list[str] | None, sensitive: bool, kept: int
) -> None:
    store = Store(str(tmp_path / "state" / "x.db"))
    resource = Act(Args(Act.check({})), Host(NoController()))
    resource.partial = False  # type: ignore[attr-defined]  # a View is of a resource
    keep_contents(store, View(resource, store.redactor, sensitive), {"a": Content.of_bytes(b"x" * 100), "n": 1}, names)  # type: ignore[arg-type]
    store.commit()
    assert sqlite3.connect(tmp_path / "state" / "x.db").execute("SELECT count(*) FROM blobs").fetchone() == (kept,)
    store.close()
