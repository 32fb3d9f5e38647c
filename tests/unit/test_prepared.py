"""Calls that are prepared once for all hosts: only those whose text says all that they depend on."""

from __future__ import annotations

from pathlib import Path

import pytest

from sloth.engine.call_options import CallOptions, Work
from sloth.engine.prepared import MOST, Prepared, PreparedCalls
from sloth.payload.kernel.registry import find
from sloth.playbook import Invoke


def request(name: str = "file.copy", text: bytes = b'{"dest":"/a"}') -> Invoke:
    return Invoke(name, {}, "site.sloth:1", False, False, Path(), (), 0, text)


def prepared(name: str = "file.copy", **given: object) -> Prepared:
    cls = find(name)
    options = CallOptions.of(cls, given, Work())
    args = cls.check(options.arguments)
    return Prepared(cls, args, dict(args), [], options, "")


def test_the_same_request_finds_the_call() -> None:
    calls = PreparedCalls()
    kept = calls.keep(request(), {}, prepared(dest="/a", content="x"))
    assert calls.find(request(), {}) is kept
    assert calls.find(request(), {"A": "1"}) is None  # its task has another environment
    assert calls.find(request(text=b'{"dest":"/b"}'), {}) is None
    assert calls.find(request("file.link"), {}) is None


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("file.copy", {"dest": "/a", "src": "a"}),  # the file may change
        ("file.template", {"dest": "/a", "src": "a"}),
        ("file.copy", {"dest": "/a", "content": "x", "sensitive": True}),
        ("file.copy", {"dest": "/a", "content": "x", "notify": ["restart"]}),  # each program resolves the names
        ("file.fetch", {"src": "/a", "dest": "a"}),
        ("host.reboot", {}),
    ],
)
def test_what_depends_on_more_is_prepared_for_each_host(name: str, given: dict[str, object]) -> None:
    calls = PreparedCalls()
    call = prepared(name, **given)
    assert calls.keep(request(name), {}, call) is call
    assert calls.find(request(name), {}) is None
    assert calls.frames(call, "site.sloth:1") is None


def test_a_program_that_is_not_lua_has_no_text() -> None:
    calls = PreparedCalls()
    call = prepared(dest="/a", content="x")
    assert calls.keep(request(text=b""), {}, call) is call


def test_frames_are_kept_for_what_is_in_them() -> None:
    calls = PreparedCalls()
    call = calls.keep(request(), {}, prepared(dest="/a", content="x"))
    frames = calls.frames(call, "site.sloth:1", "task", 0)
    assert frames is not None
    frames[1, ()] = b"call"
    assert calls.frames(call, "site.sloth:1", "task", 0) == {(1, ()): b"call"}
    assert calls.frames(call, "site.sloth:1", "task", 1) == {}
    assert calls.frames(call, "site.sloth:2", "task", 0) == {}


def test_memory_is_bounded() -> None:
    calls = PreparedCalls()
    for number in range(MOST + 10):
        calls.keep(request(text=b"%d" % number), {}, prepared(dest="/a", content="x"))
    assert calls.find(request(text=b"0"), {}) is None
    call = calls.keep(request(), {}, prepared(dest="/a", content="x"))
    for number in range(MOST + 10):
        calls.frames(call, number)
    assert call.frames is not None
    assert len(call.frames) == 10
