"""The payload's end of a session: calls, queries, contents and failures, and what it does when the link misbehaves."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from sloth.payload.kernel.status import FailureKind, Reason, Status
from sloth.payload.session import channel, messages, wire
from tests.support.payload import Peer, asset, connected


def test_a_call_is_made_and_recorded(peer: Peer, account: Path) -> None:
    path = str(account / "x")
    reply = peer.call("file.directory", path=path)
    assert (reply.status, reply.reason, reply.key) == (Status.CHANGED, Reason.NEW, f"file:directory:{path}")
    again = peer.call("file.directory", path=path)
    assert (again.status, again.reason) == (Status.UNCHANGED, Reason.NONE)
    updated = peer.call("file.directory", path=path, mode="0700")
    assert updated.before is not None
    assert updated.after is not None
    assert (updated.before["mode"], updated.after["mode"]) == ("0755", "0700")
    assert [row["key"] for row in peer.query("list")] == [f"file:directory:{path}"]
    bye = peer.close()
    assert bye.replica is not None
    assert bye.orphans == []


def test_what_a_whole_run_no_longer_names_is_reported(account: Path) -> None:
    first, second = str(account / "first"), str(account / "second")
    with connected(account) as peer:
        for path in (first, second):
            peer.call("file.directory", path=path)
        assert peer.close().orphans == []
    with connected(account, run="r2") as peer:
        peer.call("file.directory", path=second)
        assert [orphan.key for orphan in peer.close().orphans] == [f"file:directory:{first}"]
    with connected(account, run="r3") as peer:
        assert [row["key"] for row in peer.query("orphans", spared=["t"])] == []
        assert peer.query("named", keys=[f"file:directory:{second}"]) == [{"key": f"file:directory:{second}"}]
        assert [row["key"] for row in peer.query("list", orphaned=True)] == [f"file:directory:{first}"]
        [pruned] = peer.query("prune", keys=[f"file:directory:{first}"])
        assert pruned["status"] == "done"
    assert not os.path.exists(first)
    assert os.path.exists(second)


def test_a_run_that_skipped_a_call_does_not_know_what_the_site_names(account: Path) -> None:
    with connected(account) as peer:
        peer.call("file.directory", path=str(account / "x"))
        peer.close()
    with connected(account, run="r2") as peer:
        assert peer.call("exec.run", cmd="exit 3").status is Status.FAILED
        assert peer.call("file.directory", path=str(account / "x")).status is Status.SKIPPED
        assert peer.call("file.directory", path=str(account / "y"), epoch=1).status is Status.CHANGED
        assert peer.close().orphans == []


def test_calls_that_come_together_are_answered_in_order(peer: Peer, account: Path) -> None:
    numbers = [peer.send_call("file.directory", path=str(account / name)) for name in "abc"]
    replies = [peer.expect(messages.Reply) for _ in numbers]
    assert [(reply.id, reply.status) for reply in replies] == [(number, Status.CHANGED) for number in numbers]


def test_two_sessions_of_a_run_share_the_lock_and_the_state(account: Path) -> None:
    with connected(account, shared=True) as first, connected(account, shared=True) as second:
        for peer, name in ((first, "a"), (second, "b"), (first, "c")):
            assert peer.call("file.directory", path=str(account / name)).status is Status.CHANGED
        assert len(second.query("list")) == 3
        first.close()
        assert [row["run"] for row in second.query("lock")] == ["r1"]
        second.close()


def test_calls_without_a_site_are_recorded_but_are_no_run_of_one(account: Path) -> None:
    with connected(account, site="") as peer:
        assert peer.call("file.directory", path=str(account / "x")).status is Status.CHANGED
        assert peer.query("runs") == []
        assert peer.close().orphans == []
    with connected(account, site="", readonly=True) as peer:
        assert [row["key"] for row in peer.query("list")] == [f"file:directory:{account}/x"]


def test_a_cancelled_epoch_is_skipped_in_its_lane_only(peer: Peer, account: Path) -> None:
    peer.send(messages.Cancel(epoch=3, lane="other"))
    assert peer.call("file.directory", path=str(account / "x"), epoch=3, lane_="other").status is Status.SKIPPED
    assert peer.call("file.directory", path=str(account / "x"), epoch=3).status is Status.CHANGED
    assert peer.call("file.directory", path=str(account / "x"), epoch=4, lane_="other").status is Status.UNCHANGED


def test_a_running_command_is_interrupted_by_a_cancellation(peer: Peer) -> None:
    number = peer.send_call("exec.run", cmd="echo begun; exec sleep 600", epoch=2)
    output = peer.expect(messages.Output)
    assert (output.id, output.stream, output.data) == (number, "stdout", "begun\n")
    peer.send(messages.Cancel(epoch=2))
    reply = peer.expect(messages.Reply)
    assert reply.status is Status.FAILED
    assert peer.call("exec.run", cmd="true", epoch=2).status is Status.SKIPPED


def test_a_pushed_content_is_written(peer: Peer, account: Path) -> None:
    pushed = peer.push(b"pushed\n")
    assert peer.call("file.copy", src="x", dest=str(account / "x"), assets_=[pushed]).status is Status.CHANGED
    assert (account / "x").read_bytes() == b"pushed\n"


def test_pieces_of_a_finished_call_are_dropped(peer: Peer, account: Path) -> None:
    assert peer.call("exec.run", cmd="true").status is Status.CHANGED
    peer.send(wire.Blob(1, 0, b"x" * 1000))
    pushed = peer.push(b"new\n")
    assert peer.call("file.copy", src="x", dest=str(account / "x"), assets_=[pushed]).status is Status.CHANGED
    # Its content is there already, and nobody reads what was pushed.
    pushed = peer.push(b"new\n")
    assert peer.call("file.copy", src="x", dest=str(account / "x"), assets_=[pushed]).status is Status.UNCHANGED
    assert peer.channel._held == 0


def test_a_large_content_is_asked_for_and_waits_for_its_reader(peer: Peer, account: Path) -> None:
    data = os.urandom(1 << 20) * 12
    number = peer.send_call("file.copy", src="x", dest=str(account / "x"), assets_=[asset(data)])
    need = peer.expect(messages.Need)
    assert (need.id, need.index) == (number, 0)
    for frame in wire.pack_pieces(number, 0, data):
        peer.write(frame)
    peer.send(wire.Blob(number, 0, b""))
    assert peer.expect(messages.Reply).status is Status.CHANGED
    assert (account / "x").read_bytes() == data


def test_what_nobody_takes_is_not_kept_without_bound(
    peer: Peer, account: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "INBOX", 1 << 20)
    number = peer.send_call("exec.run", cmd="echo begun; sleep 1")
    peer.expect(messages.Output)
    data = bytes(wire.CHUNK)
    writer = threading.Thread(
        target=lambda: [peer.send(wire.Blob(number, 0, data)) for _ in range(16 * (1 << 20) // wire.CHUNK)]
    )
    writer.start()
    time.sleep(0.3)
    assert peer.channel._held < 2 << 20
    assert writer.is_alive()  # it waits, as the controller would
    assert peer.expect(messages.Reply).status is Status.CHANGED
    writer.join(60)
    assert not writer.is_alive()
    assert peer.call("exec.run", cmd="true").status is Status.CHANGED
    assert peer.channel._held == 0


@pytest.mark.parametrize("how", ["cancelled", "ended"])
def test_a_content_that_stops_coming(peer: Peer, account: Path, how: str) -> None:
    number = peer.send_call("file.copy", src="x", dest=str(account / "x"), assets_=[asset(b"x" * 100_000)])
    peer.expect(messages.Need)
    peer.send(wire.Blob(number, 0, b"x" * 1000))
    if how == "ended":
        peer.hang_up()
    else:
        peer.send(messages.Cancel(epoch=0))
        reply = peer.expect(messages.Reply)
        assert (reply.status, reply.error) == (Status.FAILED, "cancelled while x was being sent")
        peer.close()
    assert not (account / "x").exists()
    assert [name for name in os.listdir(account) if name != ".sloth-runner"] == []


def test_a_fetched_file_is_done_when_the_controller_has_stored_it(peer: Peer, account: Path) -> None:
    (account / "x").write_bytes(b"x" * 100_000)
    number = peer.send_call("file.fetch", src=str(account / "x"), dest="kept")
    assert fetched(peer) == b"x" * 100_000
    peer.send(messages.Stored(id=number))
    assert peer.expect(messages.Reply).status is Status.CHANGED


def fetched(peer: Peer) -> bytes:
    data = b""
    while True:
        item = peer.receive()
        assert isinstance(item, wire.Blob), item
        if not item.data:
            return data
        data += item.data


def test_a_fetched_file_that_the_controller_cannot_store(peer: Peer, account: Path) -> None:
    (account / "x").write_bytes(b"x")
    number = peer.send_call("file.fetch", src=str(account / "x"), dest="kept")
    fetched(peer)
    peer.send(messages.Stored(id=number, error="no space", hint="free some"))
    reply = peer.expect(messages.Reply)
    assert (reply.status, reply.error, reply.hint) == (Status.FAILED, "no space", "free some")


def test_a_fetched_file_that_is_no_longer_wanted(peer: Peer, account: Path) -> None:
    (account / "x").write_bytes(b"x" * (8 << 20))
    peer.send_call("file.fetch", src=str(account / "x"), dest="kept")
    item = peer.receive()  # it has begun, and the rest waits for us to read
    peer.send(messages.Cancel(epoch=0))
    peer.send(messages.Ping())
    time.sleep(0.2)
    while isinstance(item, wire.Blob):
        item = peer.receive()
    assert isinstance(item, messages.Reply)
    assert (item.status, item.error) == (Status.FAILED, "cancelled while the file was being fetched")


def test_a_controller_that_never_confirms_what_was_fetched(
    peer: Peer, account: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "ANSWER", 0.1)
    (account / "x").write_bytes(b"x")
    peer.send_call("file.fetch", src=str(account / "x"), dest="kept")
    fetched(peer)
    reply = peer.expect(messages.Reply)
    assert (reply.status, reply.error) == (Status.FAILED, "the controller did not confirm that it stored the file")


# The link


def test_a_controller_that_says_nothing_is_lost(account: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "BEAT", 0.05)
    monkeypatch.setattr(channel, "SILENCE", 0.4)
    with connected(account) as peer:
        end = time.monotonic() + 1.0
        while time.monotonic() < end:  # it is kept by pings
            peer.send(messages.Ping())
            time.sleep(0.02)
        assert not peer.channel.cancelled()
        deadline = time.monotonic() + 30
        while not peer.channel.cancelled():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        peer.hang_up()
    assert peer.channel._ended == "no sign of life from the controller for 0 seconds"


def test_signs_of_life_come_while_a_call_runs(account: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "BEAT", 0.05)
    with connected(account) as peer:
        peer.send_call("exec.run", cmd="sleep 1")
        found = []
        while not any(isinstance(item, messages.Reply) for item in found):
            data = os.read(peer._reader, 1 << 16)
            found += list(peer._decoder.feed(data))
        assert sum(isinstance(item, messages.Alive) for item in found) > 2


def test_the_state_file_is_whole_before_the_goodbye(account: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The controller may end the process then."""
    left: list[str] = []
    with connected(account) as peer:
        peer.call("file.directory", path=str(account / "x"))
        send = peer.channel.send

        def look_and_send(message: messages.Message) -> None:
            if isinstance(message, messages.Bye):
                left.extend(sorted(path.name for path in (account / ".sloth-runner" / "state").iterdir()))
            send(message)

        monkeypatch.setattr(peer.channel, "send", look_and_send)
        peer.close()
    assert left == ["a.db"]


def test_of_what_was_adopted_drift_shows_the_text(peer: Peer, account: Path) -> None:
    (account / "x").write_text("whole\n")
    reply = peer.call("file.copy", src="x", dest=str(account / "x"), assets_=[peer.push(b"whole\n")])
    assert (reply.status, reply.reason) == (Status.UNCHANGED, Reason.ADOPTED), reply.error
    (account / "x").write_text("spoiled\n")
    assert "-whole\n+spoiled\n" in peer.query("drift")[0]["diff"]["content"]["unified"]


def test_what_is_frozen_stays_so_under_another_key(peer: Peer, account: Path) -> None:
    key, path = f"file:directory:{account}/old", account / "new"
    assert peer.call("file.directory", path=str(account / "old")).key == key
    peer.query("freeze", key=key, why="audit", seconds=600)
    assert peer.query("move", old=key, new=f"file:directory:{path}") == [
        {"key": f"file:directory:{path}", "moved": True}
    ]
    assert peer.call("file.directory", path=str(path)).status is Status.FROZEN
    assert not path.exists()


def test_an_invalid_frame_ends_the_session_with_its_reason(peer: Peer) -> None:
    peer.write(b"\x00\x00\x00\x02\x07{}")
    fail = peer.expect(messages.Fail)
    assert (fail.kind, fail.error) == (FailureKind.PROTOCOL, "unknown frame kind 7")


def test_a_message_that_may_not_come_now_ends_the_session(peer: Peer) -> None:
    peer.send(messages.Hello(v=messages.VERSION, agent="b"))
    fail = peer.expect(messages.Fail)
    assert (fail.kind, fail.error) == (FailureKind.PROTOCOL, "a message of type 'hello' was not expected")


def test_what_was_done_before_the_link_broke_is_recorded(account: Path) -> None:
    with connected(account) as peer:
        assert peer.call("file.directory", path=str(account / "x")).status is Status.CHANGED
        peer.send_call("file.directory", path=str(account / "y"))
        peer.hang_up()
    with connected(account, run="r2") as peer:
        recorded = {row["key"] for row in peer.query("list")}
        assert f"file:directory:{account}/x" in recorded
        assert (f"file:directory:{account}/y" in recorded) == (account / "y").exists()


def test_a_reader_that_stopped_does_not_keep_a_lost_session(account: Path) -> None:
    with connected(account) as peer:
        peer.send_call("exec.run", cmd="head -c 4000000 /dev/zero")  # nobody reads it, and the pipe is full
        time.sleep(0.3)
        peer.hang_up()
    with connected(account, run="r2", lock_wait=30.0) as peer:
        peer.close()


def test_a_controller_that_no_longer_reads_is_lost(account: Path) -> None:
    with connected(account) as peer:
        peer.send_call("file.directory", path=str(account / "x"))
        peer.stop_reading()
        end = time.monotonic() + 60
        while peer._thread.is_alive():  # it ends, although the other direction is open
            assert time.monotonic() < end
            time.sleep(0.02)
    with connected(account, run="r2") as peer:
        assert [row["key"] for row in peer.query("list")] == [f"file:directory:{account}/x"]


def test_a_connection_that_is_reset(account: Path) -> None:
    with connected(account, by_socket=True) as peer:
        number = peer.send_call("file.copy", src="x", dest=str(account / "x"), assets_=[asset(b"x" * (2 << 20))])
        peer.expect(messages.Need)
        for frame in wire.pack_pieces(number, 0, b"x" * (2 << 20)):
            peer.write(frame)
        peer.send(wire.Blob(number, 0, b""))
        assert peer.expect(messages.Reply).status is Status.CHANGED
        peer.send_call("exec.run", cmd="echo unread; sleep 0.5")
        time.sleep(0.3)
        peer.hang_up()  # with something that was not read: the other end is reset
    assert peer.channel._ended == "[Errno 104] Connection reset by peer"


# Secrets


def test_secrets_are_hidden_from_then_on(peer: Peer, account: Path) -> None:
    peer.send(messages.Secrets(values=["hunter2hunter2"]))
    reply = peer.call("file.directory", path=str(account / "hunter2hunter2"))
    assert reply.status is Status.CHANGED
    assert "hunter2hunter2" not in reply.key
    (account / "x").touch()
    failed = peer.call("file.directory", path=str(account / "x" / "hunter2hunter2"))
    assert failed.status is Status.FAILED
    assert "hunter2hunter2" not in failed.error + failed.hint + failed.detail
    assert b"hunter2hunter2" not in b"".join(path.read_bytes() for path in (account / ".sloth-runner/state").iterdir())


def test_masked_calls_have_their_variables_and_leave_nothing(
    peer: Peer, account: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    reply = peer.call(
        "exec.run",
        cmd='printf %s "$TOKEN" > ' + str(account / "x"),
        masked_=True,
        environment_={"TOKEN": "topsecret99", "LANG": "C"},
    )
    assert reply.status is Status.CHANGED
    assert (account / "x").read_text() == "topsecret99"
    assert "TOKEN" not in os.environ
    assert os.environ["LANG"] == "de_DE.UTF-8"
    assert "printf" not in reply.key
    [row] = peer.query("history")
    assert "printf" not in str(row)


# Queries


@pytest.mark.parametrize(
    ("op", "args", "error"),
    [
        ("lisst", {}, "unknown state command 'lisst'"),
        ("_host", {}, "unknown state command '_host'"),
        ("list", {"nope": 1}, "invalid arguments of the state command list"),
        ("show", {"key": "nothing"}, ""),
        ("history", {"run": "nope"}, "nope"),
        ("history", {"limit": "x"}, "the query history cannot be answered: ValueError"),
        ("guard", {}, "the query guard cannot be answered: KeyError"),
        ("orphans", {"spared": 3}, "Evaluation.spared must be a list, not int"),
        ("freeze", {"key": "x", "why": "", "until": 3}, "this time has passed already"),
    ],
)
def test_a_query_that_cannot_be_answered(peer: Peer, op: str, args: dict[str, object], error: str) -> None:
    found = peer.answer(op, **args)
    assert error in found.error
    assert bool(found.error) == bool(error)
    assert peer.query("list") == []  # the session goes on


def test_the_host_is_queried(peer: Peer, account: Path) -> None:
    [boot] = peer.query("boot")
    assert boot["boot"]
    [holder] = peer.query("lock")
    assert (holder["run"], holder["who"], holder["pid"]) == ("r1", "me", os.getpid())
    [stats] = peer.query("stats")
    assert (stats["resources"], stats["history"], stats["runs"]) == (0, 0, 1)
    assert peer.query("check") == []
    assert peer.query("applied_plan", plan="p") == []
    assert peer.query("begin_plan", plan="p") == []
    assert peer.query("applied_plan", plan="p") == [{"run": "r1"}]


def test_records_are_edited(peer: Peer, account: Path) -> None:
    key = f"file:directory:{account}/x"
    peer.call("file.directory", path=str(account / "x"), notify_=["reload"])
    assert [row["name"] for row in peer.query("handlers", site="s")] == ["reload"]
    assert peer.query("settle", site="s", names=["reload"]) == []
    assert peer.query("owe", site="s", names=["restart"], task="t", key=key) == []
    assert [row["name"] for row in peer.query("handlers")] == ["restart"]
    [frozen] = peer.query("freeze", key=key, why="mine", seconds=60.0)
    [shown] = peer.query("show", key=key)
    assert shown["frozen"]["until"] == frozen["until"]
    assert len(shown["history"]) == 1
    assert peer.call("file.directory", path=str(account / "x"), mode="0700").status is Status.FROZEN
    new = f"file:directory:{account}/z"
    assert peer.query("move", old=key, new=new) == [{"key": new, "moved": True}]
    assert peer.query("move", old=key, new=new) == [{"key": new, "moved": False}]
    assert peer.query("match", key=new) == [{"key": new}]
    assert peer.query("unfreeze", key=new) == [{"key": new, "thawed": True}]
    assert peer.query("delete", key=new) == [{"key": new, "deleted": True}]
    assert peer.query("vacuum", older=10**10)[0]["changes"] == 1
    assert peer.query("vacuum")[0]["changes"] == 0
    peer.call("file.directory", path=str(account / "x"))
    assert peer.query("clear") == [{"deleted": 1}]


def test_what_changed_between_two_runs(account: Path) -> None:
    def write(run: str, data: bytes, name: str = "x") -> None:
        with connected(account, run=run) as peer:
            pushed = peer.push(data)
            assert peer.call("file.copy", src="x", dest=str(account / name), assets_=[pushed]).status is Status.CHANGED
            peer.close()

    write("20260101-000000-aaaaaa", b"one\n")
    write("20260101-000001-bbbbbb", b"two\n")
    write("20260101-000002-cccccc", b"\0binary", "y")
    with connected(account, run="", site="", readonly=True) as peer:
        rows = peer.query("between", first="20260101-000000-aaaaaa", last="20260101-000002-cccccc")
        found = {row["key"]: row["diff"] for row in rows}
        assert found[f"file:copy:{account}/x"]["content"]["unified"].endswith("-one\n+two\n")
        assert "unified" not in found[f"file:copy:{account}/y"]["content"]
        assert found[f"file:copy:{account}/y"]["exists"] == {"before": False, "after": True}
        assert [row["run"] for row in peer.query("runs", limit=2)] == [
            "20260101-000002-cccccc", "20260101-000001-bbbbbb",
        ]  # fmt: skip


def test_a_run_is_rolled_back_and_drift_is_found(account: Path) -> None:
    with connected(account) as peer:
        pushed = peer.push(b"one\n")
        peer.call("file.copy", src="x", dest=str(account / "x"), assets_=[pushed])
        (account / "x").write_text("by hand\n")
        drift, clean = peer.query("drift")
        assert (drift["status"], clean) == ("drift", {"status": "clean", "count": 0})
        [refused] = peer.query("rollback", run="r1")
        assert (refused["status"], refused["msg"]) == (
            "refused", "it has changed since: content; hint: --force restores it all the same",
        )  # fmt: skip
        [done] = peer.query("rollback", run="r1", force=True)
        assert done["status"] == "done"
        assert not (account / "x").exists()
        peer.close()
