"""Rolling back, pruning and looking for drift on one account: what is done, and what is refused with its reason."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tarfile
from pathlib import Path
from typing import Any

import pytest

from sloth.payload.kernel import registry
from sloth.payload.kernel.content import Content
from sloth.payload.kernel.resource import REQUIRED, Change, DriftBy, Failed, Field, Resource
from sloth.payload.kernel.status import Reason, Status
from sloth.payload.session import messages
from sloth.payload.state import blobs
from tests.support import probe
from tests.support.payload import Peer, connected


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> type[probe.Setting]:
    return probe.install(monkeypatch)


def copy(peer: Peer, path: Path, data: bytes, **given: Any) -> messages.Reply:
    pushed = peer.push(data)
    reply = peer.call("file.copy", src="x", dest=str(path), assets_=[pushed], **given)
    assert reply.status is not Status.FAILED, reply.error
    return reply


def taken(rows: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Return (the last part of the key, status, msg without its hint) of each row."""
    return [(row["key"].rpartition("/")[2], row["status"], row["msg"].partition(";")[0]) for row in rows]


def rollback(peer: Peer, **args: Any) -> list[tuple[str, str, str]]:
    return taken(peer.query("rollback", **{"run": "r1", **args}))


# Rolling back


def test_files_are_as_they_were_the_last_change_first(peer: Peer, account: Path) -> None:
    (account / "old").write_text("before\n")
    copy(peer, account / "old", b"after\n")
    peer.call("file.directory", path=str(account / "d"))
    copy(peer, account / "d" / "new", b"new\n")
    planned = rollback(peer, check=True)
    assert planned == [("new", "planned", ""), ("d", "planned", ""), ("old", "planned", "")]
    assert (account / "d" / "new").exists()
    assert rollback(peer) == [("new", "done", ""), ("d", "done", ""), ("old", "done", "")]
    assert (account / "old").read_text() == "before\n"
    assert not (account / "d").exists()
    assert [row["reason"] for row in peer.query("history", limit=3)] == ["rollback"] * 3


def test_only_a_task_and_only_the_changes_of_a_site(peer: Peer, account: Path) -> None:
    copy(peer, account / "a", b"a", task="one")
    copy(peer, account / "b", b"b", task="two")
    assert rollback(peer, site="another") == []
    assert rollback(peer, task="one") == [("a", "done", "")]
    assert (account / "b").exists()


@pytest.mark.parametrize(
    ("since", "why"),
    [
        ("content", "it has changed since: content"),
        ("removed", "it no longer exists"),
        ("mode", "it has changed since: mode"),
    ],
)
def test_what_has_changed_since_is_left(peer: Peer, account: Path, since: str, why: str) -> None:
    (account / "x").write_text("before")
    copy(peer, account / "x", b"ours", mode="0600")
    if since == "content":
        (account / "x").write_text("by hand")
    elif since == "mode":
        (account / "x").chmod(0o644)
    else:
        (account / "x").unlink()
    [(_, status, msg)] = rollback(peer)
    assert status == "refused"
    assert why in msg
    [(_, status, _)] = rollback(peer, force=True)
    assert status == "done"
    assert (account / "x").read_text() == "before"


def test_what_was_removed_comes_back_unless_something_is_in_its_place(peer: Peer, account: Path) -> None:
    (account / "x").write_text("kept\n")
    os.symlink("x", account / "link")
    peer.call("file.absent", path=str(account / "x"))
    peer.call("file.absent", path=str(account / "link"))
    (account / "x").write_text("another\n")
    found = rollback(peer)
    assert [(name, status) for name, status, _ in found] == [("link", "done"), ("x", "refused")]
    assert "it exists again" in found[1][2]
    assert os.readlink(account / "link") == "x"
    (account / "x").unlink()
    assert rollback(peer, task="t")[-1] == ("x", "done", "")
    assert (account / "x").read_text() == "kept\n"


def test_what_was_not_kept_is_named(peer: Peer, account: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs, "LARGEST", 1000)
    (account / "large").write_bytes(b"x" * 2000)
    (account / "full").mkdir()
    (account / "full" / "x").write_text("x")
    os.mkfifo(account / "fifo")
    copy(peer, account / "large", b"small")
    peer.call("file.absent", path=str(account / "full"))
    peer.call("file.absent", path=str(account / "fifo"))
    found = {name: (status, msg) for name, status, msg in rollback(peer)}
    assert found["large"][0] == found["full"][0] == found["fifo"][0] == "refused"
    assert found["large"][1].endswith("large was not kept: it is too large, or too long ago")
    assert found["full"][1] == f"what was in the directory {account}/full was not kept"
    assert found["fifo"][1] == f"{account}/fifo was a fifo"
    assert (account / "large").read_bytes() == b"small"


def test_contents_with_secrets_were_not_kept(peer: Peer, account: Path) -> None:
    (account / "x").write_text("password=before-1\n")
    peer.send(messages.Secrets(values=["hunter2hunter2"]))
    copy(peer, account / "x", b"password=hunter2hunter2\n", sensitive_=True)
    [(_, status, msg)] = rollback(peer)
    assert status == "refused"
    assert msg.endswith("x was not kept: it had secrets in it")
    found = b"".join(path.read_bytes() for path in (account / ".sloth-runner" / "state").iterdir())
    assert b"hunter2hunter2" not in found


def test_a_directory_with_somebody_else_s_file_stays(peer: Peer, account: Path) -> None:
    peer.call("file.directory", path=str(account / "d"))
    (account / "d" / "theirs").write_text("")
    assert rollback(peer) == [("d", "refused", f"{account}/d is not empty: it contains theirs")]


def test_actions_are_not_undone_but_handlers_run_again(peer: Peer, account: Path, setting: type[probe.Setting]) -> None:
    bell = str(account / "bell")
    copy(peer, account / "x", b"x", notify_=["ring"])
    assert peer.call("exec.run", cmd="true").status is Status.CHANGED
    assert peer.call("probe.bell", path=bell, task="ring").status is Status.CHANGED
    peer.query("settle", site="s", names=["ring"])
    assert rollback(peer, check=True)[-1] == ("bell", "planned", "")
    found = rollback(peer)
    assert found == [
        ("exec:run:true", "refused", "an action was done, and cannot be undone"),
        ("x", "done", ""),
        ("bell", "done", ""),
    ]
    assert (account / "bell").read_text() == "ring\nring\n"
    assert [(row["reason"], row["task"]) for row in peer.query("history", limit=1)] == [("run", "ring")]
    assert peer.query("handlers") == []


def test_a_handler_that_cannot_run_again_is_owed_to_the_next_run(
    peer: Peer, account: Path, setting: type[probe.Setting]
) -> None:
    bell = str(account / "bell")
    copy(peer, account / "x", b"x", notify_=["ring", "silent"])
    peer.call("probe.bell", path=bell, task="ring")
    peer.query("settle", site="s", names=["ring", "silent"])
    Path(bell + ".broken").touch()
    found = rollback(peer)
    assert found == [
        ("x", "done", ""),
        ("bell", "failed", "it is broken"),
        ("handler:silent", "refused", "it made no calls here that could be made again"),
    ]
    assert sorted(str(row["name"]) for row in peer.query("handlers")) == ["ring", "silent"]


@pytest.mark.parametrize("where", ["argument", "environment"])
def test_a_handler_with_secrets_is_not_made_again(
    peer: Peer, account: Path, setting: type[probe.Setting], where: str
) -> None:
    bell = str(account / "bell")
    peer.send(messages.Secrets(values=["hunter2hunter2"]))
    copy(peer, account / "x", b"x", notify_=["ring"])
    if where == "argument":
        peer.call("probe.bell", path=bell, token="hunter2hunter2", task="ring")
    else:
        peer.call("probe.bell", path=bell, task="ring", environment_={"TOKEN": "hunter2hunter2"})
    *_, (name, status, msg) = rollback(peer)
    assert (name, status) == ("bell", "refused")
    assert "secrets" in msg
    assert [row["name"] for row in peer.query("handlers")] == ["ring"]


def test_handlers_of_what_could_not_be_taken_back_are_not_owed(peer: Peer, account: Path) -> None:
    copy(peer, account / "x", b"x", notify_=["ring"])
    peer.query("settle", site="s", names=["ring"])
    (account / "x").write_text("by hand")
    [(_, status, _)] = rollback(peer)
    assert status == "refused"
    assert peer.query("handlers") == []


def test_a_setting_is_taken_back_by_its_attributes(peer: Peer, account: Path, setting: type[probe.Setting]) -> None:
    path = account / "setting"
    path.write_text('{"value": "before", "more": "x"}')
    peer.call("probe.setting", path=str(path), value="after")
    created = account / "created"
    peer.call("probe.setting", path=str(created), value="new")
    assert [row["status"] for row in peer.query("drift")] == ["clean"]
    assert rollback(peer, check=True) == [
        ("created", "planned", "by probe.setting"), ("setting", "planned", ""),
    ]  # fmt: skip
    assert rollback(peer) == [("created", "done", ""), ("setting", "done", "")]
    assert path.read_text() == '{"value": "before", "more": "x"}'
    assert not created.exists()


def test_handlers_are_owed_before_a_change_is_taken_back(
    peer: Peer, account: Path, setting: type[probe.Setting], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a rollback that is killed does not lose them."""
    owed: list[list[str]] = []
    path = account / "setting"
    path.write_text('{"value": "before"}')
    peer.call("probe.setting", path=str(path), value="after")
    apply = setting.apply

    def look_and_apply(self: probe.Setting, change: Change) -> None:
        with contextlib.closing(sqlite3.connect(account / ".sloth-runner" / "state" / "a.db")) as database:
            owed.append([name for (name,) in database.execute("SELECT name FROM handlers")])
        apply(self, change)

    peer.call("probe.setting", path=str(path), value="later", notify_=["restart"])
    peer.query("settle", site="s", names=["restart"])
    assert peer.query("delete", key=f"probe:setting:{path}")[0]["deleted"]  # else the mark of its record comes before
    monkeypatch.setattr(setting, "apply", look_and_apply)
    assert [status for _, status, _ in rollback(peer)][:2] == ["done", "done"]
    assert owed[0] == ["restart"]


def test_a_secret_setting_cannot_be_restored(peer: Peer, account: Path, setting: type[probe.Setting]) -> None:
    path = account / "setting"
    path.write_text('{"value": "a", "token": "old-token-1"}')
    peer.call("probe.setting", path=str(path), value="b", token="new-token-2")
    [(_, status, msg)] = rollback(peer)
    assert (status, msg) == ("refused", "its former token is a secret, and was not kept")
    assert "new-token-2" in path.read_text()


def test_a_setting_that_does_not_hold_is_a_failure(peer: Peer, account: Path, setting: type[probe.Setting]) -> None:
    path = account / "setting"
    setting.ignores = True
    created = peer.call("probe.setting", path=str(path), value="x")
    assert (created.status, created.error) == (Status.FAILED, "it does not exist after it was created")
    path.write_text('{"value": "a"}')
    changed = peer.call("probe.setting", path=str(path), value="b", epoch=1)
    assert changed.error == "the change did not hold: value is a, not b"
    removed = peer.call("probe.setting", path=str(path), state="absent", epoch=2)
    assert removed.error == "it still exists after it was removed"
    setting.ignores = False
    peer.call("probe.setting", path=str(path), value="b", epoch=3)
    setting.ignores = True
    assert rollback(peer) == [("setting", "failed", "the change did not hold: value is b, not a")]


@pytest.mark.parametrize(
    ("error", "status", "msg"),
    [
        (Failed("locked"), "refused", "locked"),
        (PermissionError(13, "Permission denied", "/x"), "failed", "Permission denied: /x"),
        (OSError("the link is broken"), "failed", "the link is broken"),
        (ZeroDivisionError("oops"), "failed", "ZeroDivisionError: oops"),
    ],
)
def test_an_error_of_one_does_not_keep_the_others(
    peer: Peer, account: Path, setting: type[probe.Setting], error: Exception, status: str, msg: str
) -> None:
    copy(peer, account / "x", b"x")
    peer.call("probe.setting", path=str(account / "setting"), value="b")
    setting.observing = staticmethod(probe.raiser(error))
    assert rollback(peer) == [("setting", status, msg), ("x", "done", "")]


def test_what_another_call_has_taken_over_comes_back(account: Path) -> None:
    with connected(account) as peer:
        copy(peer, account / "x", b"x")
        peer.close()
    with connected(account, run="r2") as peer:
        peer.call("file.absent", path=str(account / "x"))
        peer.close()
    with connected(account, run="r3") as peer:
        assert [row["key"] for row in peer.query("list")] == [f"file:absent:{account}/x"]
        assert rollback(peer, run="r2", check=True) == [("x", "planned", "")]
        assert rollback(peer, run="r2") == [("x", "done", "")]
        assert (account / "x").read_text() == "x"
        assert f"file:copy:{account}/x" in [row["key"] for row in peer.query("list")]


def test_a_module_that_is_no_longer_known(peer: Peer, account: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        probe.install(patched)
        peer.call("probe.setting", path=str(account / "setting"), value="b")
    registry._found.pop((registry.MODULES, "probe.setting"), None)
    [refused] = peer.query("rollback", run="r1")
    assert (refused["status"], refused["msg"]) == (
        "refused", "probe.setting is not among the modules; hint: give --modules DIR",
    )  # fmt: skip
    [drift, _] = peer.query("drift")
    assert (drift["status"], drift["msg"]) == ("unknown", "probe.setting is not among the modules")


def test_what_cannot_be_made_again_is_no_sign_that_all_is_back(
    peer: Peer, account: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change of a module that is gone may have been of anything, and is not taken for one of the same file."""
    (account / "x").write_text("before")
    with monkeypatch.context() as patched:
        probe.install(patched)
        peer.call("probe.setting", path=str(account / "setting"), value="b")
    registry._found.pop((registry.MODULES, "probe.setting"), None)
    copy(peer, account / "x", b"after")
    (account / "x").unlink()
    [(_, status, msg), _] = rollback(peer)
    assert (status, msg) == ("refused", "it has changed since: it no longer exists")


class Text(Resource):
    """A module of a site: a text that is no file to it."""

    name = "probe.text"
    fields = (Field("path", "path", REQUIRED), Field("text", "str"))

    def identity(self) -> str:
        return str(self.args.path)

    def observe(self) -> Any:
        return {"content": self.host.content(self.args.path)}

    def desired(self, now: Any) -> Any:
        return {"content": Content.of_bytes(self.args.text.encode())}

    def apply(self, change: Change) -> None:
        assert change.after is not None
        Path(self.args.path).write_bytes(change.after["content"].data())


@pytest.mark.parametrize("kept", [True, False])
def test_a_text_that_was_not_kept_is_refused_before_anything_is_touched(
    peer: Peer, account: Path, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    monkeypatch.setattr(blobs, "LARGEST", 100 if kept else 10)
    monkeypatch.setitem(registry._found, (registry.MODULES, Text.name), Text)
    (account / "x").write_text("what was before")
    assert peer.call("probe.text", path=str(account / "x"), text="small").status is Status.CHANGED
    for check in (True, False):
        [(_, status, msg)] = rollback(peer, check=check)
        if kept:
            assert status == ("planned" if check else "done")
        else:
            assert (status, msg) == ("refused", "its content is not kept on the host")
    assert (account / "x").read_text() == ("what was before" if kept else "small")


# Drift


def test_drift_of_each_kind(peer: Peer, account: Path, setting: type[probe.Setting]) -> None:
    for name in ("frozen", "changed", "same"):
        peer.call("file.directory", path=str(account / name), mode="0700")
    peer.query("freeze", key=f"file:directory:{account}/frozen", why="mine", seconds=60.0)
    (account / "changed").chmod(0o755)
    (account / "f").write_text("x")
    peer.send_call("file.fetch", src=str(account / "f"), dest="kept", epoch=1)
    while not isinstance(item := peer.receive(), messages.Reply):
        if not getattr(item, "data", b"x"):
            peer.send(messages.Stored(id=4))
    assert item.status is Status.CHANGED, item.error
    rows = {str(row.get("key", "")).rpartition("/")[2]: row for row in peer.query("drift")}
    assert rows["frozen"]["status"] == "frozen"
    assert rows["changed"]["diff"] == {"mode": {"applied": "0700", "found": "0755"}}
    assert rows[""] == {"status": "clean", "count": 2}  # what was fetched is on the controller
    one, rest = peer.query("drift", keys=[f"file:directory:{account}/changed"])
    assert (one["status"], rest["count"]) == ("drift", 0)


@pytest.mark.parametrize(
    ("error", "status", "msg"),
    [
        (None, "drift", "the tool of this setting is not installed"),
        (Failed("locked"), "unknown", "locked"),
        (PermissionError(13, "Permission denied", "/x"), "unknown", "Permission denied"),
        (ZeroDivisionError("oops"), "unknown", "ZeroDivisionError: oops"),
    ],
)
def test_what_cannot_be_compared_says_why(
    peer: Peer, account: Path, setting: type[probe.Setting], error: Exception | None, status: str, msg: str
) -> None:
    peer.call("probe.setting", path=str(account / "setting"), value="b")
    setting.observing = staticmethod(probe.missing if error is None else probe.raiser(error))
    found, _ = peer.query("drift")
    assert found["status"] == status
    assert msg in str(found["msg"])


def test_drift_against_the_record(peer: Peer, account: Path, setting: type[probe.Setting]) -> None:
    """As of modules that would have to query the network to know what is desired."""
    setting.drift_by = DriftBy.RECORD
    path = account / "setting"
    peer.call("probe.setting", path=str(path), value="b", token="topsecret-1")
    assert [row["status"] for row in peer.query("drift")] == ["clean"]
    path.write_text('{"value": "c", "token": "topsecret-2"}')
    found, _ = peer.query("drift")
    diff = found["diff"]
    assert isinstance(diff, dict)
    assert diff["value"] == {"applied": "b", "found": "c"}
    assert set(diff["token"]["applied"]) == set(diff["token"]["found"]) == {"secret"}
    assert diff["token"]["applied"] != diff["token"]["found"]
    path.unlink()
    found, _ = peer.query("drift")
    assert found["diff"]["exists"] == {"applied": True, "found": False}
    setting.drift_by = DriftBy.NOTHING
    assert [row["status"] for row in peer.query("drift")] == ["clean"]


def test_a_secret_in_what_is_compared_is_not_known(peer: Peer, account: Path, setting: type[probe.Setting]) -> None:
    peer.send(messages.Secrets(values=["hunter2hunter2"]))
    peer.call("probe.setting", path=str(account / "setting"), value="it is hunter2hunter2")
    [found, _] = peer.query("drift")
    assert (found["status"], found["msg"]) == (
        "unknown", "it was made with a secret; a check of its site can tell",
    )  # fmt: skip
    (account / "setting").unlink()
    [found, _] = peer.query("drift")
    assert found["status"] == "drift"


def test_a_text_with_secrets_that_was_changed_by_hand_is_drift(peer: Peer, account: Path) -> None:
    """Though what it was is not kept: its hash is."""
    copy(peer, account / "x", b"password=hunter2hunter2\n", sensitive_=True)
    assert [row["status"] for row in peer.query("drift")] == ["clean"]
    (account / "x").write_text("password=another\n")
    found, _ = peer.query("drift")
    assert (found["status"], sorted(found["diff"])) == ("drift", ["content"])
    assert "another" not in str(found)


def test_a_resource_whose_name_was_a_secret_is_not_touched(peer: Peer, account: Path) -> None:
    peer.send(messages.Secrets(values=["hunter2hunter2"]))
    copy(peer, account / "hunter2hunter2", b"x")
    [found, _] = peer.query("drift")
    assert found["status"] == "unknown"
    assert [status for _, status, _ in rollback(peer)] == ["refused"]
    assert (account / "hunter2hunter2").exists()


# Pruning


def orphaned(peer: Peer, *spared: str) -> list[str]:
    """Let the run end as if the site named nothing but what this session has named; return what is orphaned."""
    return [str(row["key"]).rpartition("/")[2] for row in peer.query("orphans", spared=list(spared))]


def test_a_tree_goes_from_the_inside(account: Path) -> None:
    with connected(account) as peer:
        peer.call("file.directory", path=str(account / "d"))
        peer.call("file.directory", path=str(account / "d" / "e"))
        copy(peer, account / "d" / "e" / "x", b"x")
        peer.call("file.link", path=str(account / "link"), src=str(account / "d"))
    with connected(account, run="r2", site="s", check=True) as peer:
        assert sorted(orphaned(peer)) == ["d", "e", "link", "x"]
    with connected(account, run="r2") as peer:
        keys = [str(row["key"]) for row in peer.query("orphans")]
        planned = taken(peer.query("prune", keys=keys, check=True))
        assert [status for _, status, _ in planned] == ["planned"] * 4
        done = taken(peer.query("prune", keys=keys))
        assert [status for _, status, _ in done] == ["done"] * 4
        assert taken(peer.query("prune", keys=keys[:1])) == [(planned[0][0], "refused", "it is managed again")]
        reasons = {row["reason"] for row in peer.query("history", limit=4)}
        assert reasons == {Reason.PRUNED.value}
    assert not (account / "d").exists()
    assert not (account / "link").is_symlink()


def test_what_was_there_before_and_what_is_needed_stays(account: Path) -> None:
    (account / "old").mkdir()
    with connected(account) as peer:
        peer.call("file.directory", path=str(account / "old"), mode="0700")
        peer.call("file.directory", path=str(account / "full"))
        peer.call("file.directory", path=str(account / "parent"))
        peer.call("file.link", path=str(account / "way"), src=str(account / "parent"))
        (account / "full" / "theirs").touch()
    with connected(account, run="r2") as peer:
        copy(peer, account / "way" / "x", b"x")  # it leads through the link
        keys = [str(row["key"]) for row in peer.query("orphans")]
        found = {name: (status, msg) for name, status, msg in taken(peer.query("prune", keys=keys))}
        assert found["old"] == ("refused", "the file existed before sloth-runner managed it")
        assert found["full"][1].endswith("full is not empty: it contains theirs")
        assert found["way"] == ("refused", f"file:copy:{account}/way/x needs it")
        assert "parent" not in found  # what is in it is managed
    assert (account / "way" / "x").exists()


def test_lines_of_a_file_that_others_manage_too(account: Path) -> None:
    path = str(account / "conf")
    (account / "conf").write_text("theirs\n")
    with connected(account) as peer:
        peer.call("file.lineinfile", path=path, line="one")
        peer.call("file.lineinfile", path=path, line="two")
        peer.call("file.blockinfile", path=path, block="three\n")
    with connected(account, run="r2") as peer:
        peer.call("file.lineinfile", path=path, line="two")
        peer.call("file.lineinfile", path=path, line="three")  # it is there already, in the block
        keys = [str(row["key"]) for row in peer.query("orphans")]
        assert len(keys) == 2
        found = taken(peer.query("prune", keys=keys))
        assert sorted(status for _, status, _ in found) == ["done", "refused"]
        [refused] = [msg for _, status, msg in found if status == "refused"]
        assert "both describe the same text" in refused
    assert (account / "conf").read_text().splitlines()[:2] == ["theirs", "two"]
    assert "three" in (account / "conf").read_text().splitlines()


def test_what_has_no_way_to_be_removed_is_named(account: Path, setting: type[probe.Setting]) -> None:
    path = account / "x.tar"

    with tarfile.open(path, "w") as tar:
        tar.add(__file__, "x")
    with connected(account) as peer:
        peer.call("file.directory", path=str(account / "into"))
        reply = peer.call("archive.unpack", src=str(path), dest=str(account / "into"), remote_src=True)
        assert reply.status is Status.CHANGED, reply.error
        peer.call("probe.setting", path=str(account / "setting"), value="x")
    with connected(account, run="r2") as peer:
        peer.call("file.directory", path=str(account / "into"))
        keys = [str(row["key"]) for row in peer.query("orphans")]
        found = {name: (status, msg) for name, status, msg in taken(peer.query("prune", keys=keys))}
        assert found.pop("setting") == ("done", "")
        [(status, msg)] = found.values()
        assert (status, msg) == ("refused", "what it did cannot be removed")
    assert not (account / "setting").exists()


def test_what_was_only_adopted_is_not_removed(account: Path) -> None:
    (account / "d").mkdir(mode=0o755)
    with connected(account) as peer:
        assert peer.call("file.directory", path=str(account / "d")).reason is Reason.ADOPTED
        peer.close()
    with connected(account, run="r2") as peer:
        [row] = peer.query("orphans")
        assert taken(peer.query("prune", keys=[row["key"]])) == [
            ("d", "refused", "it existed before sloth-runner managed it"),
        ]  # fmt: skip
    assert (account / "d").is_dir()


def test_whether_a_text_with_a_secret_has_changed_is_not_known(account: Path, setting: type[probe.Setting]) -> None:
    path = account / "setting"
    path.write_text('{"value": "before"}')
    (account / "lines").write_text("before\n")
    with connected(account) as peer:
        peer.send(messages.Secrets(values=["hunter2hunter2"]))
        peer.call("probe.setting", path=str(path), value="it is hunter2hunter2")
        peer.call("file.lineinfile", path=str(account / "lines"), line="password=hunter2hunter2")
        peer.close()
    with connected(account, run="r2") as peer:  # which does not know the secret
        found = {str(row.get("key", "")).rpartition("/")[2]: row for row in peer.query("drift")}
        assert found["setting"]["status"] == "unknown"
        refused = {name: msg for name, status, msg in rollback(peer) if status == "refused"}
        assert refused["setting"] == "whether it has changed since is not known: a secret was in its value"
        forced = {name: status for name, status, _ in rollback(peer, force=True)}
        assert forced["setting"] == "done"
    assert path.read_text() == '{"value": "before"}'
