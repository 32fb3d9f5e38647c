"""The global `groups` of a site: as if it were a plain table, though each group is read when it is used first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from sloth.playbook import Done, Error, Limits, Output, Program, Site
from sloth.playbook.group_names import GroupNames

GROUPS = {"web": ["web1", "web2", "web3"], "db": ["db1"], "none": [], "all": ["web1", "web2", "web3", "db1"]}


def printed(
    tmp_path: Path, body: str, groups: Mapping[str, Sequence[str]] = GROUPS, limits: Limits | None = None
) -> list[str]:
    """Return what a site prints; an error ends it and is the last line."""
    path = tmp_path / "site.sloth"
    path.write_text(body)
    program = Program(Site.read(str(path)), host={"name": "web1"}, groups=groups, vars={}, modules={}, limits=limits)
    lines = []
    request = program.load()
    while not isinstance(request, (Done, Error)):
        if isinstance(request, Output):
            lines.append(request.text.replace("\t", " "))
        request = program.resume(None)
    if isinstance(request, Error):
        lines.append(f"{request.where}: {request.message}")
    return lines


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("print(#groups.web, groups.web[2], groups.nobody, #groups.none)", "3 web2 nil 0"),
        ("local n = {} for name in pairs(groups) do n[#n + 1] = name end table.sort(n) print(table.concat(n, ' '))",
         "all db none web"),
        ("local n = 0 for _, hosts in pairs(groups) do n = n + #hosts end print(n)", "8"),
        ("print(next(groups) ~= nil, rawget(groups, 'db')[1])", "true db1"),
        ("local n, k = 0, nil repeat k = next(groups, k); n = n + 1 until k == nil print(n)", "5"),
        ("print(json.encode(groups))",
         '{"all":["web1","web2","web3","db1"],"db":["db1"],"none":[],"web":["web1","web2","web3"]}'),
        ("print(groups)",
         '{all = {"web1", "web2", "web3", "db1"}, db = {"db1"}, none = {}, web = {"web1", "web2", "web3"}}'),
        # Where a program cannot wait for an answer: in what C calls.
        ("local g = {'web', 'db', 'none'} table.sort(g, function(a, b) return #groups[a] < #groups[b] end)"
         " print(table.concat(g, ' '))", "none db web"),
        ("local t = setmetatable({}, { __index = function(_, name) return #groups[name] end }) print(t.web)", "3"),
        # Sites change what they have read.
        ("table.remove(groups.web) print(#groups.web, #groups.all)", "2 4"),
        ("groups.web = {'x'} print(#groups.web)", "1"),
        ("groups.web = nil print(groups.web)", "nil"),
        ("print(groups.db == groups.db)", "true"),
        ("groups.extra = {'y'} local n = 0 for _ in pairs(groups) do n = n + 1 end print(n)", "5"),
        ("print((pcall(setmetatable, groups, {})))", "false"),
    ],
)  # fmt: skip
def test_groups_are_a_table(tmp_path: Path, body: str, expected: str) -> None:
    assert printed(tmp_path, body) == [expected]


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    assert printed(tmp_path, "print(groups['gr\xfcn'][1])", {"gr\xfcn": ["h\xf6st", "b"]}) == ["h\xf6st"]


def test_a_group_that_does_not_fit_is_an_error_at_its_line(tmp_path: Path) -> None:
    many = {"all": [f"host{n:06}" for n in range(50_000)], "few": ["a"]}
    lines = printed(tmp_path, "print(#groups.few)\nprint(#groups.all)", many, Limits(memory=4 * 1024 * 1024))
    assert lines[0] == "1"
    assert lines[1].startswith(f"{tmp_path}/site.sloth:2: ")
    assert "the group all" in lines[1]


def test_a_program_does_not_cost_more_with_more_hosts(tmp_path: Path) -> None:
    """Each runtime had the names of all hosts: a megabyte and 10 ms for each of 10,000 hosts."""
    (tmp_path / "site.sloth").write_text("local x = 1")
    site = Site.read(str(tmp_path / "site.sloth"))
    used = []
    for count in (10, 20_000):
        names = GroupNames({"all": [f"host{n:06}" for n in range(count)]})
        program = Program(site, host={"name": "a"}, groups=names, vars={}, modules={})
        used.append(program._runtime.get_memory_used(total=True))
    assert abs(used[1] - used[0]) < 2000
