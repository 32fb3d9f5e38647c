"""Decisions of the kernel that whole runs seldom meet: arguments, options, checks, adoption, old records, contents."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from sloth.payload.kernel import options, value
from sloth.payload.kernel.content import TEXT_LIMIT, Content
from sloth.payload.kernel.diff import unified
from sloth.payload.kernel.errors import ArgumentError
from sloth.payload.kernel.field import REQUIRED, Field
from sloth.payload.kernel.hashing import canonical, fingerprint
from sloth.payload.kernel.masking import hidden_values
from sloth.payload.kernel.ownership import Ownership
from sloth.payload.kernel.record import Asset, RecordedCall
from sloth.payload.kernel.registry import call_names, find
from sloth.payload.kernel.resource import Args, Call, Change, Resource
from sloth.payload.kernel.status import Reason, Status
from sloth.payload.lib.host import Host
from sloth.payload.state.store import Store
from tests.support import probe
from tests.support.calls import NoController, execute_call
from tests.support.payload import Peer, connected

BAD = ArgumentError


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("str", 8080.0, "8080"), ("str", 1.5, "1.5"), ("str", "x", "x"), ("str", True, BAD), ("str", [], BAD),
        ("path", "/x", "/x"), ("path", "~/x", "~/x"), ("path", "x", BAD), ("path", 3, BAD), ("path", "/\0", BAD),
        ("file", "x", "x"), ("file", " ", BAD), ("file", None, BAD), ("file", "a\0b", BAD),
        ("mode", "0644", "0644"), ("mode", 644, BAD), ("mode", "", BAD), ("mode", True, BAD), ("mode", "0\0", BAD),
        ("bool", "Yes", True), ("bool", "off", False), ("bool", True, True), ("bool", 1, BAD), ("bool", "maybe", BAD),
        ("int", 3, 3), ("int", 3.0, 3), ("int", "-3", -3), ("int", 3.5, BAD), ("int", True, BAD), ("int", "--1", BAD),
        ("int", "²", BAD), ("int", "x", BAD), ("int", float("inf"), BAD), ("int", float("nan"), BAD),
        ("float", "1.5", 1.5), ("float", 2, 2), ("float", "x", BAD), ("float", [], BAD), ("float", False, BAD),
        ("list", "x", ["x"]), ("list", 3, ["3"]), ("list", ["a", 1.0], ["a", "1"]), ("list", [[]], BAD),
        ("list", True, BAD), ("list", {}, []),
        ("argv", "a b", "a b"), ("argv", ["a", 1], ["a", "1"]), ("argv", [], BAD), ("argv", 3, BAD),
        ("dict", {"a": 1}, {"a": 1}), ("dict", [], {}), ("dict", "x", BAD), ("dict", [1], BAD),
        ("any", None, None),
    ],
)  # fmt: skip
def test_a_value_of_a_type(kind: str, given: Any, expected: Any) -> None:
    field = Field("f", kind)
    if expected is BAD:
        with pytest.raises(ArgumentError) as raised:
            field.coerce(given)
        assert raised.value.message.startswith("f ")
    else:
        found = field.coerce(given)
        assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "not nil"), (True, "not true"), (False, "not false"), (3.0, "not the number 3"),
        ([1], "not a table"), ("short", "not the string 'short'"), ("s3cret" * 20, "not a string of 120 characters"),
    ],
)  # fmt: skip
def test_what_was_given_is_named_but_never_a_piece_of_it(given: Any, words: str) -> None:
    with pytest.raises(ArgumentError, match=f"f must be a table with names, {words}"):
        Field("f", "dict").coerce(given)


def test_a_choice_and_a_type_that_there_is_not() -> None:
    with pytest.raises(ArgumentError) as raised:
        Field("f", choices=("present", "absent")).coerce("presnt")
    assert (raised.value.message, raised.value.hint) == (
        "f must be one of present, absent, not 'presnt'", 'did you mean "present"?',
    )  # fmt: skip
    with pytest.raises(ValueError, match="unknown type 'strr'"):
        Field("f", "strr").coerce("x")


def test_a_checksum_is_the_same_for_ever() -> None:
    """It is in state files: another one would be a change of the site."""
    text = canonical({"b": "\u00e4", "a": [1, None, True]})
    assert text == '{"a":[1,null,true],"b":"\\u00e4"}'
    assert fingerprint(text) == hashlib.sha256(text.encode()).hexdigest()


class Two(Call):
    name = "probe.two"
    fields = (Field("a", "str", REQUIRED), Field("b", "str", REQUIRED, aliases=("c",)), Field("delay", "int"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"": 3}, "probe.two takes a table with names, such as probe.two({name = value})"),
        ({"a": "x", "b": "y", "c": "z"}, "probe.two was given b twice (as 'c')"),
        ({"a": "x"}, "probe.two needs b"),
        ({"a": "x", "b": True}, "probe.two: b must be a string, not true"),
        ({"a": "x", "B": "y"}, "probe.two has no argument 'B'"),
    ],
)
def test_arguments_of_a_call(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError) as raised:
        Two.check(given)
    assert raised.value.message == message


def test_what_a_call_is_about() -> None:
    assert Two.check({"a": "x", "b": "y", "delay": None}) == {"a": "x", "b": "y", "delay": None}
    run = find("exec.run")
    assert run.subject_of({"cmd": ["a", 1]}) == "a 1"
    assert run.subject_of({"cmd": "x"}) == "x"
    assert run.subject_of({}) == ""
    with pytest.raises(TypeError, match=r"probe\.two has no identity"):
        Two(Args({}), Host(NoController())).key()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"until": True}, "until must be a function of the result"),
        ({"changed_when": "x"}, "changed_when must be a function of the result, true or false"),
        ({"delegate_to": ""}, "delegate_to must be the name of a host"),
        ({"delegate_to": {}}, "delegate_to must be the name of a host"),
        ({"become": "yes"}, "become must be true, false, or an account's name"),
        ({"become": 3}, "become must be true, false, or an account's name"),
        ({"retries": -1}, "retries must not be negative"),
        ({"notify": [""]}, "notify must be a handler's name or a list of them"),
        ({"notify": []}, "notify must be a handler's name or a list of them"),
        ({"environment": {"A=B": "x"}}, "environment has an invalid name of a variable: 'A=B'"),
        ({"environment": {"A": []}}, "environment.A must be a text or a number"),
        ({"environment": {"A": "\0"}}, "environment.A must be a text or a number"),
        ({"delay": 3}, "delay is the time between two tries"),
        ({"sensitive": "x"}, "sensitive must be true or false"),
    ],
)
def test_an_option_that_is_wrong(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError) as raised:
        options.split(find("exec.run"), {"cmd": "true", **given})
    assert raised.value.message.startswith(f"exec.run: {message}")


def test_options_are_taken_from_the_arguments() -> None:
    given = {
        "cmd": "true", "environment": {"A": True, "B": 3.0, "C": "x"}, "become": "deploy", "notify": "h",
        "delegate_to": "local", "retries": 2, "delay": 0, "until": options.FUNCTION, "failed_when": False,
    }  # fmt: skip
    arguments, found = options.split(find("exec.run"), given)
    assert arguments == {"cmd": "true"}
    assert found["environment"] == {"A": "true", "B": "3", "C": "x"}
    assert (found["notify"], found["become"], found["until"]) == (["h"], "deploy", options.FUNCTION)
    for one in ({"retries": 2}, {"until": options.FUNCTION}):
        assert options.split(find("exec.run"), {"delay": 3, **one}) == ({}, {"delay": 3, **one})
    # A call's own argument of that name is not an option.
    arguments, found = options.split(Two, {"a": "x", "delay": 3, "retries": None})
    assert (arguments, found) == ({"a": "x", "delay": 3}, {})


def test_names_of_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "file.copy" in call_names()
    with pytest.raises(ArgumentError) as raised:
        find("files.copy")
    assert raised.value.hint == 'did you mean "file.copy"?'
    with pytest.raises(ArgumentError) as raised:
        find("zzzzzz.qqqqqq")
    assert raised.value.hint.startswith("modules are archive, ")
    with pytest.raises(ArgumentError):
        find("file.../etc")
    # A custom module that needs what is not there: that is its error, and no unknown name.
    package = tmp_path / "own_modules_of_a_test"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "broken.py").write_text("import not_installed_anywhere\n")
    (package / "notes.txt").write_text("    name = 'a.b'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ImportError, match="not_installed_anywhere"):
        find("broken.thing", "own_modules_of_a_test")
    assert call_names("own_modules_of_a_test") == []


def test_contents_are_what_their_bytes_are() -> None:
    first, again, other = Content.of_bytes(b"x"), Content.of_bytes(b"x"), Content.of_bytes(b"y")
    assert first == again
    assert first != other
    assert first != "x"
    assert len({first, again, other}) == 2
    large = Content.of_bytes(b"x\n" * TEXT_LIMIT)
    assert len(large.data()) == large.size
    assert unified(large, first) is None
    assert unified(first, Content.of_bytes(b"\0")) is None
    assert unified(Content.of_bytes(b"\n" * 15_000), Content.of_bytes(b"x\n" * 15_000)) is None


def test_only_what_hides_nothing_stays_visible() -> None:
    named = hidden_values(find("exec.run"), {"cmd": ["mysql", "-psecret"], "cwd": "/srv", "umask": None})
    assert named == {"mysql", "-psecret", "mysql -psecret"}
    assert hidden_values(find("file.copy"), {"content": "topsecret", "dest": "/x", "backup": True}) == {"topsecret"}
    nested = hidden_values(find("http.request"), {"headers": {"A": ["one", 2, None, True], "B": {"c": "deep"}}})
    assert nested == {"one", "2", "deep"}
    key = hidden_values(find("ssh.authorized_key"), {"user": "deploy", "key": "ssh-ed25519 AAAA"})
    assert key == {"ssh-ed25519 AAAA"}, "whose it is stays visible"
    assert hidden_values(find("user.create"), {"name": "deploy", "comment": "x y"}) == {"x y"}


def test_values_are_what_they_declare() -> None:
    asset = Asset(name="x")
    with pytest.raises(TypeError, match="Asset has no field nome"):
        Asset(nome="x")
    with pytest.raises(TypeError, match="RecordedCall needs args"):
        RecordedCall(name="x")
    assert asset != "x"
    assert repr(asset).startswith("Asset(name='x', ")
    assert f"{Status.FAILED:>3}" == "failed"
    assert f"{Reason.NEW:>5}" == "  new"
    assert value.InvalidValue("x").message == "x"


# Calls


def test_the_parts_of_a_file_are_those_of_this_file(tmp_path: Path) -> None:
    store = Store(None)
    for name in ("one", "two"):
        (tmp_path / name).write_text("a\n")
        execute_call("file.lineinfile", store=store, path=str(tmp_path / name), line="b")
    (key,) = Ownership(store, Host(NoController()), ()).parts_in(str(tmp_path / "one"))
    assert key.startswith(f"file:lineinfile:{tmp_path}/one")


def test_an_adopting_run_names_each_difference(account: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = probe.install(monkeypatch)
    path = account / "setting"
    path.write_text('{"value": "a", "token": "topsecret-1"}')
    (account / "x").write_text("here\n")
    with connected(account, adopt=True) as peer:
        different = peer.call("probe.setting", path=str(path), value="b", token="topsecret-2")
        assert different.error == "the host is not as described: token is (secret), not (secret), value is a, not b"
        assert different.hint == "sloth-runner call would change it"
        missing = peer.call("file.directory", path=str(account / "no"), epoch=1)
        assert missing.error == "the host is not as described: it does not exist"
        there = peer.call("file.absent", path=str(path), epoch=2)
        assert there.error == "the host is not as described: it exists"
        pushed = peer.push(b"there\n")
        content = peer.call("file.copy", src="x", dest=str(account / "x"), assets_=[pushed], epoch=3)
        assert content.error.startswith("the host is not as described: content is 5 bytes (")
        same = peer.call("probe.setting", path=str(path), value="a", epoch=4)
        assert (same.status, same.reason) == (Status.UNCHANGED, Reason.ADOPTED)
        path.write_text("{}")
        lost = peer.call("probe.setting", path=str(path), value="a", epoch=5)
        assert lost.error == "the host is not as described: value is nothing, not a"
    assert setting.ignores is False


def test_a_check_sees_what_earlier_calls_would_do(account: Path) -> None:
    with connected(account, check=True) as peer:
        d, x = str(account / "d"), str(account / "d" / "x")
        assert peer.call("file.directory", path=d).reason is Reason.NEW
        assert peer.call("file.directory", path=d).status is Status.UNCHANGED
        pushed = peer.push(b"one\n")
        assert peer.call("file.copy", src="x", dest=x, assets_=[pushed]).status is Status.CHANGED
        line = peer.call("file.lineinfile", path=x, line="two")
        assert line.diff is not None
        assert line.diff["content"]["unified"].endswith(" one\n+two\n")
        assert peer.call("file.absent", path=x).status is Status.CHANGED
        assert peer.call("file.absent", path=x).status is Status.UNCHANGED
        unknown = peer.call("exec.run", cmd="true", creates="/", epoch=1)
        assert unknown.status is Status.UNCHANGED
        planned = peer.call("exec.run", cmd="true", epoch=1)
        assert (planned.status, planned.reason, planned.unknown) == (Status.CHANGED, Reason.RUN, True)
        waits = peer.call("host.wait_for", path=str(account / "never"), timeout=60, epoch=1)
        assert waits.status is Status.UNKNOWN
        fails = peer.call("exec.run", cmd="exit 3", read_only=True, epoch=2)
        assert fails.status is Status.UNKNOWN  # what it needs may be what the calls before would bring
        assert peer.call("file.absent", path="~nobody_of_this_name/y", epoch=4).status is Status.UNKNOWN
        link = peer.call("file.directory", path="~nobody_of_this_name/y", epoch=5)
        assert (link.status, link.unknown) == (Status.CHANGED, True)
    assert not (account / "d").exists()


def test_in_a_check_of_a_converged_host_nothing_excuses_what_is_missing(account: Path) -> None:
    with connected(account, check=True) as peer:
        assert peer.call("exec.run", cmd="exit 3", read_only=True).status is Status.FAILED
        missing = peer.call("file.directory", path="~nobody_of_this_name/y", epoch=1)
        assert (missing.status, missing.error[:35]) == (Status.FAILED, "there is no user nobody_of_this_nam")


def test_an_action_that_reports_no_change_owes_no_handler(
    peer: Peer, account: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = peer.call("exec.run", cmd="exit 3", notify_=["h"])
    assert (failed.status, failed.values["exit_code"]) == (Status.FAILED, 3)
    assert peer.query("handlers") == []
    probe.install(monkeypatch)
    monkeypatch.setattr(probe.Bell, "run", lambda bell: {"changed": False})
    quiet = peer.call("probe.bell", path=str(account / "bell"), notify_=["h"], epoch=1)
    assert quiet.status is Status.UNCHANGED
    assert peer.query("handlers") == []
    assert peer.query("history") == []


def test_two_sites_name_one_thing(account: Path) -> None:
    path = str(account / "x")
    for site in ("one", "two"):
        with connected(account, site=site, run=site) as peer:
            peer.call("file.directory", path=path)
            assert peer.close().orphans == []
    [row] = _list(account)
    assert (row["site"], row["other_sites"]) == ("two", ["one"])
    with connected(account, site="two", run="r3") as peer:
        assert peer.close().orphans == []  # it is the other site's now
    [row] = _list(account)
    assert (row["site"], row["orphaned"]) == ("one", None)


def _list(account: Path) -> list[dict[str, Any]]:
    with connected(account, site="", run="") as peer:
        return peer.query("list")


def test_records_of_older_formats_have_no_claims(account: Path) -> None:
    """They are asked for by the calls that were recorded."""
    with connected(account) as peer:
        for name in ("a", "b", "d"):
            peer.call("file.directory", path=str(account / name))
        peer.close()
    path = account / ".sloth-runner" / "state" / "a.db"
    store = Store(str(path))
    store.write("DELETE FROM claims", ())
    for key, calls in (("b", None), ("d", json.dumps([{"name": "gone.module", "args": {}}]))):
        store.write("UPDATE resources SET calls=? WHERE key=?", (calls, f"file:directory:{account}/{key}"))
    store.close()
    with connected(account, run="r2") as peer:
        peer.call("file.absent", path=str(account / "a"))
        found = sorted(str(row["key"]).rpartition("/")[2] for row in peer.query("orphans"))
        assert found == ["b", "d"]  # a is the other call's now
        rows = peer.query("prune", keys=[f"file:directory:{account}/{name}" for name in "bd"])
        assert [row["status"] for row in rows] == ["refused", "refused"]


class Tree(Resource):
    """Nothing but the base class."""

    name = "probe.tree"
    fields = (Field("path", "path", REQUIRED),)

    def identity(self) -> str:
        return "x"


def test_what_a_resource_is_taken_back_by_when_it_does_not_say() -> None:
    tree = Tree(Args({"path": "/x"}), Host(NoController()))
    assert (tree.place(), tree.takes_along(), tree.files(None), tree.removal(None)) == (None, [], {}, None)
    assert tree.claims() == ["probe:x"]
    assert tree.way_back({"a": 1, "b": 2}, {"a": 3}) == {"a": 1}
    for before, after, why in (({}, None, "not kept"), (None, {"a": 1}, "no way to remove")):
        with pytest.raises(Exception, match=why):
            tree.way_back(before, after)
    change = Change({"a": 1}, None)
    assert tree.part_observed(tree, change, None) is None
    assert tree.part_observed(tree, change, {"a": 2, "b": 3}) == {"a": 2}
    assert tree.part_observed(tree, Change({"a": None}, {"a": None}), {"a": None, "b": 3}) is None
    assert ("" in change, "a" in change) == (True, False)


def test_a_call_that_fails_settles_only_the_handlers_that_it_notified(peer: Peer, account: Path) -> None:
    assert peer.call("file.directory", path=str(account / "x" / "y" / "z"), notify_=["h"]).status is Status.CHANGED
    (account / "f").touch()
    failed = peer.call("file.directory", path=str(account / "f" / "g"), notify_=["h", "i"])
    assert failed.status is Status.FAILED
    assert [row["name"] for row in peer.query("handlers")] == ["h"]


def test_in_this_process_a_call_is_executed_as_on_a_host(tmp_path: Path) -> None:
    outcome = execute_call("file.directory", path=str(tmp_path / "x"))
    assert (outcome.status, outcome.reason) == (Status.CHANGED, Reason.NEW)
    assert os.path.isdir(tmp_path / "x")
