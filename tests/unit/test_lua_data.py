"""Data that pass through a site come out as they went in: what is an object stays one when it is empty."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sloth.playbook import Done, Invoke, Program, Site

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
LEAVES = st.booleans() | NUMBERS | TEXT
DATA = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))


def passed(run: str, **variables: object) -> object:
    """Return the argument `x` of the call that a task makes."""
    source = f"task({{ name = 't', run = function() {run} end }})"
    program = Program(
        Site("site.sloth", source.encode(), Path()),
        host={"name": "web1"}, groups={}, vars=variables, modules={"file": ["copy"]},
    )  # fmt: skip
    assert isinstance(program.load(), Done)
    request = program.start(program.tasks[0])
    assert isinstance(request, Invoke), request
    return request.args["x"]


def same(one: object, other: object) -> bool:
    """Return whether two values are one and the same in JSON."""
    if isinstance(one, float) and isinstance(other, float):
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


@settings(max_examples=200, deadline=None)
@given(DATA)
def test_data_come_back_as_they_were(value: object) -> None:
    assert same(passed("file.copy({ x = vars.it })", it=value), value)
    literal = "[====[" + json.dumps(value) + "]====]"
    if "]====]" not in literal[6:-6]:
        assert same(passed(f"file.copy({{ x = json.decode({literal}) }})"), value)
        assert same(json.loads(str(passed(f"file.copy({{ x = json.encode(json.decode({literal})) }})"))), value)


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ("local t = json.decode('{}') file.copy({ x = { t, t } })", [{}, {}]),
        ("local t = json.decode('{}') t.a = 1 file.copy({ x = t })", {"a": 1}),
        ("local t = json.decode('{}') t[1] = 1 file.copy({ x = t })", [1]),
        ("local t = json.decode('{\"a\": 1}') t.a = nil file.copy({ x = t })", []),
        ("file.copy({ x = {} })", []),
    ],
)
def test_what_a_site_makes_of_an_empty_object(run: str, expected: object) -> None:
    assert passed(run) == expected
