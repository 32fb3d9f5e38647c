"""Regular expressions of sites: Python's results with Lua's positions, and never more than a moment."""

from __future__ import annotations

import re
import signal
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sloth.errors import CallError
from sloth.playbook import Error, Limits, Matching, Program, Site, Turn
from sloth.playbook.regex import LONGEST, Expression, Slow, evaluate, evaluate_quickly

PATTERNS = st.sampled_from(
    ["a", "(a)|(b)", "x*", "(?P<n>\\w)(\\d)?", "$", "^", "\\b", "[^a]+", "(?=a)", "é|\\s", "(?:)"]
)
TEXTS = st.text("ab1 é\n\udcff", max_size=12)


def groups(match: re.Match[str]) -> list[object]:
    return [False if text is None else text for text in (match.group(), *match.groups())]


@given(PATTERNS, TEXTS, st.integers(0, 3))
def test_the_results_are_those_of_python(pattern: str, text: str, most: int) -> None:
    def result(op: str, replacement: str = "") -> object:
        return evaluate_quickly(Expression(op, pattern, text, replacement, most))

    data = text.encode("utf-8", "surrogateescape")
    for op in ("match", "search", "fullmatch"):
        expected = getattr(re, op)(pattern, text)
        found = result(op)
        if expected is None:
            assert found is None
            continue
        assert isinstance(found, dict)
        assert found["groups"] == groups(expected)
        assert found["named"] == {name: value for name, value in expected.groupdict().items() if value is not None}
        assert data[found["first"] - 1 : found["last"]].decode("utf-8", "surrogateescape") == expected.group()
    found_all = result("finditer")
    assert isinstance(found_all, list)
    for one, expected in zip(found_all, re.finditer(pattern, text), strict=False):
        assert isinstance(one, dict)
        assert one["groups"] == groups(expected)
        assert data[one["first"] - 1 : one["last"]].decode("utf-8", "surrogateescape") == expected.group()
    assert len(found_all) == min(most or 99, len(list(re.finditer(pattern, text))))
    assert result("findall") == [list(one) if isinstance(one, tuple) else one for one in re.findall(pattern, text)]
    assert result("split") == [part or "" for part in re.split(pattern, text, maxsplit=most)]
    for replacement in ("-", "[\\g<0>]", ""):
        assert result("sub", replacement) == re.sub(pattern, replacement, text, count=most)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (Expression("search", "(", "x"), "is not valid: missing )"),
        (Expression("search", "a{99999999999}", "x"), "too large: the repetition number"),
        (Expression("search", "(" * 5000, "x"), "too large"),
        (Expression("sub", "a", "x", "\\9"), "invalid group reference"),
        (Expression("sub", "a", "x", "\\g<name>"), "unknown group name"),
        (Expression("search", "a", "x", flags=re.DEBUG), "the flags of a regular expression are"),
        (Expression("search", "a", "x", flags=re.LOCALE), "the flags of a regular expression are"),
        (Expression("sub", "(?=(.*))", "x" * LONGEST, "\\1"), "larger than"),
    ],
)
def test_what_is_wrong_with_an_expression(
    expression: Expression, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CallError, match=re.escape(message)):
        evaluate(expression)
    assert evaluate(Expression("search", "[[a]", "a")) is not None  # Python warns of it
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("pattern", "text"),
    [("(a+)+$", "a" * 40 + "b"), ("(?:a|a)*c", "a" * 60), ("a*a*a*b", "a" * LONGEST), ("(.*)*\\1x", "ab" * 3000)],
)
def test_a_match_that_takes_long_is_given_up(pattern: str, text: str) -> None:
    begun = time.process_time()
    with pytest.raises(Slow):
        evaluate_quickly(Expression("search", pattern, text))
    assert time.process_time() - begun < 1
    assert signal.getitimer(signal.ITIMER_PROF) == (0, 0)
    os_signal = signal.getsignal(signal.SIGPROF)
    assert callable(os_signal)
    os_signal(signal.SIGPROF, None)  # one that comes late does nothing


def test_long_texts_and_other_threads_are_not_for_the_event_loop() -> None:
    with pytest.raises(Slow):
        evaluate_quickly(Expression("search", "a", "a" * (LONGEST + 1)))
    found: list[object] = []

    def search() -> None:
        try:
            found.append(evaluate_quickly(Expression("search", "a", "a")))
        except Slow as error:
            found.append(error)

    thread = threading.Thread(target=search)
    thread.start()
    thread.join()
    assert isinstance(found[0], Slow)


def test_slow_matches_count_as_work() -> None:
    """Each is quick enough, and all together are not."""
    body = 'while true do pcall(re.search, "(?:a|a)*c", string.rep("a", 15) .. "b") end'
    site = Site("site.sloth", body.encode(), Path())
    program = Program(site, host={}, groups={}, vars={}, modules={}, limits=Limits(requests=2000))
    begun = time.process_time()
    request = program.load()
    while isinstance(request, (Turn, Matching)):
        request = program.resume({"cost": 1.0} if isinstance(request, Matching) else None)
    assert isinstance(request, Error)
    assert request.message == "more than 2000 requests without a call: an endless loop?"
    assert time.process_time() - begun < 2
