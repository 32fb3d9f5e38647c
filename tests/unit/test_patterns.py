"""Lua's patterns, matched in Lua where C could take for ever: the same results as Lua's own functions."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sloth.playbook.runtime import Limits, new_driver, new_runtime

CONFIG = {
    "host": {}, "host_names": {}, "groups": {}, "vars": {}, "check": False, "modules": {}, "period": 1000,
    "periods": 50_000, "requests": 1000, "seconds": 60, "memory": Limits().memory, "too_large": "", "limit": "",
}  # fmt: skip
# Runs NAME(...) of both; returns their results, or false and the error without its position.
BOTH = """
local room, name, own = ...
room.since = os.clock()
local slow = load(room.later("patterns"), "=(sloth/patterns.lua)", "b")(room)[name]
local function run(f, ...)
    local ok, result = pcall(function(...)
        if name ~= "gmatch" then return table.pack(f(...)) end
        local all = {}
        for a, b in f(...) do
            all[#all + 1] = tostring(a) .. "|" .. tostring(b)
            if #all > 60 then break end
        end
        return all
    end, ...)
    if not ok then return "error: " .. tostring(result):gsub("^[^ ]*:%d+: ", "") end
    for index = 1, result.n or #result do result[index] = tostring(result[index]) end
    return table.concat(result, ";")
end
return function(...) return run(own, ...), run(slow, ...) end
"""


class Both:
    """Lua's function of a name, and ours."""

    def __init__(self, name: str) -> None:
        self.runtime = new_runtime(Limits().memory)
        own = self.runtime.globals()[b"string"][name.encode()]
        keep = self.runtime.execute(b"local kept; return function(room) kept = kept or room; return kept end")
        # The chunks share `room`: the first of them is replaced by one that keeps it.
        from sloth.playbook import runtime as module

        new_driver(self.runtime, CONFIG, lambda name: b"")
        room = keep(self.runtime.table_from({b"config": self.runtime.table_from({})}))
        room[b"later"] = module._later
        self.runtime.execute(
            b"local room = ...; room.caller = function() return 's:1' end; room.check_time = function() end;"
            b"room.fail = function(where, message) error(where .. ': ' .. message, 0) end",
            room,
        )
        self.run = self.runtime.execute(BOTH.encode(), room, name.encode(), own)

    def same(self, *args: str | int) -> None:
        theirs, ours = self.run(*(arg.encode("latin-1") if isinstance(arg, str) else arg for arg in args))
        if theirs.startswith(b"error: "):
            # Lua's own sees a mistake only when it gets there; ours before it begins.
            assert ours.startswith(b"error: "), (args, theirs, ours)
        elif not ours.startswith(b"error: "):
            assert theirs == ours, args
        else:
            assert re.search(rb"malformed|capture|missing|replacement", ours), (args, theirs, ours)


BOTHS = {name: Both(name) for name in ("find", "match", "gmatch", "gsub")}
CLASSES = ["a", "b", ".", "%a", "%d", "%s", "%S", "%.", "[ab]", "[^a]", "[%a_]", "[a-c]", "[]]", "[^]x]"]
CLASSES += ["-", "^", "$", "%-"]
ITEMS = st.one_of(
    st.builds("{}{}".format, st.sampled_from(CLASSES), st.sampled_from(["", "*", "+", "-", "?"])),
    st.sampled_from(["()", "(", ")", "%bab", "%f[%a]", "%1", "%2", "(a*)", "(.-)", "%f[^a]", "%b()"]),
)
PATTERNS = st.builds(
    lambda start, items, end: start + "".join(items) + end,
    st.sampled_from(["", "^"]), st.lists(ITEMS, max_size=6), st.sampled_from(["", "$"]),
)  # fmt: skip
TEXTS = st.text(alphabet="ab1. -_()]x\n\xe4", max_size=14)


@pytest.mark.parametrize("name", ["find", "match", "gmatch"])
@settings(max_examples=400, derandomize=True, deadline=None)
@given(text=TEXTS, pattern=PATTERNS, start=st.integers(-6, 18))
def test_a_pattern_matches_as_in_c(name: str, text: str, pattern: str, start: int) -> None:
    BOTHS[name].same(text, pattern, start)


@settings(max_examples=400, derandomize=True, deadline=None)
@given(
    text=TEXTS,
    pattern=PATTERNS,
    replacement=st.sampled_from(["", "x", "<%0>", "%1", "%2%1", "%%", "%", "%x", "a%0%0"]),
    most=st.integers(-1, 4),
)
def test_a_replacement_is_made_as_in_c(text: str, pattern: str, replacement: str, most: int) -> None:
    BOTHS["gsub"].same(text, pattern, replacement, most)
    BOTHS["gsub"].same(text, pattern, replacement)
