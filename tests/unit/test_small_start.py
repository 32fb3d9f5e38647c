"""What stands on hosts for modules of Python's that take long to load does what they do."""

from __future__ import annotations

import copy
import enum
import json
import pickle
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sloth.payload.kernel import plain_json, status
from sloth.payload.lib import accounts
from sloth.payload.lib.regex import expression, is_word
from sloth.payload.modules.pkg import apk, apt, names, pacman, rpm
from sloth.payload.session import threads
from tests.support.paths import PYTHONS, ROOT

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers() | st.none(), inner, max_size=4)
    ),
    max_leaves=12,
)
NO_JSON = st.sampled_from(
    [object, b"a", {1}, {(1,): 2}, [float("nan")], {"a": 1j}, {1: 1, "a": 2}, [10**400, "\ud800"]]
)


def outcome(function: Callable[..., Any], *given: object, **options: Any) -> str:
    try:
        return repr(function(*given, **options))
    except Exception as error:  # which one is what is compared
        return f"{type(error).__name__}: {error}"


@given(JSON | NO_JSON, st.booleans(), st.booleans(), st.sampled_from([(", ", ": "), (",", ":")]))
def test_json_is_written_as_the_package_writes_it(value: object, sort: bool, nan: bool, marks: tuple[str, str]) -> None:
    ours = plain_json.encoder(marks, sort_keys=sort, allow_nan=nan)
    assert outcome(ours, value) == outcome(json.dumps, value, separators=marks, sort_keys=sort, allow_nan=nan)


def _refuse_long(text: str) -> int:
    if len(text) > 5:
        raise ValueError("too long")
    return int(text)


SOUND = JSON.map(json.dumps)
DAMAGED = st.tuples(
    SOUND, st.integers(0, 30), st.sampled_from(['"', "{", "]", ",", " ", "\x01", "\ufeff", "nul", "\\u12"])
).map(lambda made: made[0][: made[1]] + made[2] + made[0][made[1] :])


@given(SOUND | DAMAGED | st.text(max_size=20))
def test_json_is_read_as_the_package_reads_it(text: str) -> None:
    assert outcome(plain_json.loads, text) == outcome(json.loads, text)
    limited = plain_json.decoder(_refuse_long, str, len)
    assert outcome(limited, text) == outcome(
        json.loads, text, parse_int=_refuse_long, parse_float=str, parse_constant=len
    )


WITHOUT_THE_PACKAGE = """
import sys
sys.path.insert(0, %r)
from sloth.payload.kernel import plain_json
def outcome(function, given):
    try:
        return repr(function(given))
    except Exception as error:
        return "%%s: %%s" %% (type(error).__name__, error)
texts = ['{"a": [1, -2.5e3, null, true, "\\u00e9"]}', '"\\\\ud83d\\\\ude00"', "[NaN]", "[1]"]
values = [{"b": [1, 2.5, None, "\\u00e9"], "a": {}}, "x", [[]]]
ours = [outcome(plain_json.loads, text) for text in texts] + [outcome(plain_json.dumps, value) for value in values]
assert "json" not in sys.modules and "re" not in sys.modules, sys.modules.keys()
# Each of these would be the first for which the package is loaded.
bad = %r
ours.append(outcome(plain_json.loads, bad))
import json
theirs = [outcome(json.loads, text) for text in texts] + [outcome(json.dumps, value) for value in values]
assert ours == theirs + [outcome(json.loads, bad)], ours
"""


@pytest.mark.parametrize("python", PYTHONS, ids=str)
@pytest.mark.parametrize("bad", ["[1", '{"a": 1} x', " [1] ", "", '"\x01"', "[01]"])
def test_the_package_is_loaded_for_what_is_wrong_only(python: Path, bad: str) -> None:
    done = subprocess.run(
        [python, "-I", "-S", "-c", WITHOUT_THE_PACKAGE % (str(ROOT), bad)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_words_do_what_an_enumeration_of_python_does() -> None:
    class Twin(enum.StrEnum):
        CHANGED = "changed"
        NONE = ""

    class Ours(status.Word):
        CHANGED = "changed"
        NONE = ""

    for kind in (Twin, Ours):
        one = kind.CHANGED
        assert isinstance(one, kind)
        assert isinstance(one, str)
        assert one is kind("changed") is copy.copy(one) is copy.deepcopy(one)
        assert [str(each) for each in kind] == ["changed", ""]
        assert [each.name for each in kind] == ["CHANGED", "NONE"]
        assert (one == "changed", {one: 1}["changed"], f"{one:>9}", one.value) == (True, 1, "  changed", "changed")
        assert json.dumps({"a": one}) == '{"a": "changed"}'
        assert not kind.NONE
        for wrong in ("CHANGED", "gone", None, 3, []):
            with pytest.raises(ValueError, match="is not a valid"):
                kind(wrong)
    assert repr(Ours.CHANGED) == repr(Twin.CHANGED).replace("Twin", "Ours")
    for each in status.Status:
        assert pickle.loads(pickle.dumps(each)) is each


PATTERNS = {
    "account": accounts._NAME.pattern,
    "package": names._NAME,
    "pattern of packages": names._PATTERN,
    **{module.BACKEND.name: rf"(?:{module.BACKEND.valid_name})\Z" for module in (apk, apt, pacman)},
    "rpm": rf"(?:{rpm.VALID_NAME})\Z",
}


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
@given(text=st.text("aZ09_-.+/: é\n", max_size=8))
def test_what_is_a_word_is_a_name_wherever_words_are_names(pattern: str, text: str) -> None:
    assert not is_word(text) or re.match(pattern, text)
    assert is_word(text) == (re.match(r"[A-Za-z0-9][A-Za-z0-9_-]*\Z", text) is not None)


def test_an_expression_is_compiled_when_it_is_used_and_then_as_ever() -> None:
    ours, its = expression(r"(?i)(a+)(b)?"), re.compile(r"(?i)(a+)(b)?")
    assert ours.sub("x", "Aab b") == its.sub("x", "Aab b")
    assert (ours.pattern, ours.flags, ours.findall("aB a")) == (its.pattern, its.flags, its.findall("aB a"))
    with pytest.raises(re.error):
        expression("(").match("")  # where it is used, not where it is made


def test_who_waits_is_woken_by_a_change_and_by_time() -> None:
    condition = threads.Condition()
    seen: list[int] = []
    done = threading.Semaphore(0)

    def follow() -> None:
        with condition:
            while len(seen) < 500:
                condition.wait(60)
        done.release()

    for _ in range(3):
        threads.start(follow)
    begun = time.monotonic()
    with condition:
        condition.wait(0.05)
    assert time.monotonic() - begun >= 0.05
    for number in range(500):
        with condition:
            with condition:  # as a signal handler does
                seen.append(number)
            condition.notify_all()
    for _ in range(3):
        assert done.acquire(timeout=30), "a wait of 60 seconds was not cut short"
    assert condition._waiting == []


def test_a_signal_handler_may_notify_in_the_middle_of_anything() -> None:
    """A handler runs between any two steps of the main thread, also of those that wait and notify."""
    condition = threads.Condition()
    caught = 0

    def notify(number: int, frame: object) -> None:
        nonlocal caught
        caught += 1
        if condition.acquire(timeout=1):
            condition.notify_all()
            condition.release()

    def follow() -> None:
        while not done:
            with condition:
                condition.wait(0.001)

    done: list[bool] = []
    former = signal.signal(signal.SIGALRM, notify)
    for _ in range(4):
        threads.start(follow)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        end = time.monotonic() + 1
        while time.monotonic() < end:
            with condition:
                condition.notify_all()
                condition.wait(0.0001)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
        done.append(True)
    assert caught > 50


def test_a_lock_is_given_away_while_its_owner_waits() -> None:
    condition = threads.Condition()
    order: list[str] = []

    def other() -> None:
        with condition:
            order.append("other")
            condition.notify_all()

    with condition:
        threads.start(other)
        while not order:
            condition.wait(1)
        order.append("owner")
    assert order == ["other", "owner"]
    assert not condition._lock._is_owned()
