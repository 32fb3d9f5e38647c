"""Invents inventories of Ansible: trees of files, as INI or YAML with files of variables beside them."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

Files = dict[str, str]

GROUPS = ("web", "db", "edge", "prod", "stage", "eu-west", "x")
NAMES = ("a", "b", "c", "port", "path", "ntp", "list", "table")
HOSTS = ("web1", "web2", "db1.example.org", "10.0.0.7", "lonely", "n[01:03]", "m[a:c]-x", "k[1:7:3]", "s1:2222")
INI_VALUES = (
    "1", "007", "1.5", "true", "True", "None", "yes", "text", "'quoted text'", '"a b"', "[1,2]", "{'k':1}", "a=b",
    "0x1f", "10.1.2.3", "/etc/x", "user@h", "''", "1_000", "a,b", "(1,2)", "-3", "1e3", "~/x", "'1'", "a:b",
)  # fmt: skip
SECTION_VALUES = (*INI_VALUES, "two words", "text # no comment", '"{{ a }}"', "{{ b }}-x", "[1, 'x']", "it's")
PLAIN = st.one_of(
    st.integers(-5, 10**9), st.booleans(), st.none(), st.sampled_from(("text", "", "yes", "a: b", "{{ a }}", "ü")),
    st.floats(-10, 10, allow_nan=False),
)  # fmt: skip
VALUES = st.one_of(PLAIN, st.lists(PLAIN, max_size=3), st.dictionaries(st.sampled_from(("k", "l", "1")), PLAIN))
VARS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4)


@st.composite
def ini(draw: st.DrawFn) -> str:
    """Return an INI inventory. A group has only groups that come later as children, so there are no cycles."""
    groups = draw(st.lists(st.sampled_from(GROUPS), unique=True, max_size=5))
    lines = [_ini_host(draw) for _ in range(draw(st.integers(0, 2)))]
    sections = []
    for number, group in enumerate(groups):
        hosts = [_ini_host(draw) for _ in range(draw(st.integers(0, 3)))]
        sections.append([f"[{group}]", *hosts])
        later = groups[number + 1 :]
        children = draw(st.lists(st.sampled_from(later), unique=True, max_size=3)) if later else []
        if children:
            sections.append([f"[{group}:children]", *children])
        if draw(st.booleans()):
            sections.append([f"[{group}:vars]", *_section_vars(draw)])
    if draw(st.booleans()):
        sections.append(["[all:vars]", *_section_vars(draw)])
    for section in draw(st.permutations(sections)):
        lines += section
    return "\n".join(["; made by hypothesis", *lines, ""])


def _ini_host(draw: st.DrawFn) -> str:
    words = [draw(st.sampled_from(HOSTS))]
    for name in draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=3)):
        words.append(f"{name}={draw(st.sampled_from(INI_VALUES))}")
    return draw(st.sampled_from((" ", "  "))).join(words) + draw(st.sampled_from(("", "  # note")))


def _section_vars(draw: st.DrawFn) -> list[str]:
    names = draw(st.lists(st.sampled_from(NAMES), max_size=3))
    lines = [f"{name}{draw(st.sampled_from(('=', ' = ')))}{draw(st.sampled_from(SECTION_VALUES))}" for name in names]
    if draw(st.integers(0, 3)) == 0:
        lines.append(f"ansible_group_priority={draw(st.integers(0, 5))}")
    return lines


@st.composite
def yaml(draw: st.DrawFn) -> str:
    """Return a YAML inventory; JSON is YAML, too."""

    def group(name: str, later: list[str], depth: int) -> dict[str, Any] | None:
        made: dict[str, Any] = {}
        if draw(st.booleans()):
            hosts = draw(st.lists(st.sampled_from(HOSTS), unique=True, max_size=3))
            made["hosts"] = {host: draw(st.one_of(st.none(), VARS)) for host in hosts}
        if draw(st.booleans()):
            made["vars"] = draw(VARS)
        if later and depth < 3 and draw(st.booleans()):
            names = draw(st.lists(st.sampled_from(later), unique=True, max_size=3))
            made["children"] = {one: group(one, later[later.index(one) + 1 :], depth + 1) for one in names}
        return made or None

    names = draw(st.lists(st.sampled_from(GROUPS), unique=True, min_size=1, max_size=5))
    if draw(st.booleans()):
        data = {"all": group("all", names, 0)}
    else:
        data = {name: group(name, names[number + 1 :], 1) for number, name in enumerate(names)}
    return "---\n" + json.dumps(data, indent=2, ensure_ascii=False) + "\n"


@st.composite
def trees(draw: st.DrawFn) -> tuple[Files, list[str]]:
    """Return files by name, and the sources to name on the command line, in this order."""
    files: Files = {}
    sources = []
    for number in range(draw(st.integers(1, 2))):
        kind = draw(st.sampled_from(("hosts", "inv.ini", "inv.yml")))
        name = f"{'abc'[number]}/{kind}"
        files[name] = draw(yaml() if kind.endswith("yml") else ini())
        sources.append(draw(st.sampled_from((name, "abc"[number]))))
        for entity in draw(st.lists(st.sampled_from(("all", *GROUPS)), unique=True, max_size=3)):
            _vars_file(draw, files, f"{'abc'[number]}/group_vars/{entity}")
        for entity in draw(st.lists(st.sampled_from(("web1", "lonely", "n01", "10.0.0.7")), unique=True, max_size=2)):
            _vars_file(draw, files, f"{'abc'[number]}/host_vars/{entity}")
    return files, sources


def _vars_file(draw: st.DrawFn, files: Files, stem: str) -> None:
    within = ("/main.yml", "/extra", "/no.txt", "/.hid")
    for ending in draw(st.sampled_from((("",), (".yml",), (".yaml",), (".json",), within, (".yml", ".json")))):
        files[stem + ending] = json.dumps(draw(VARS), ensure_ascii=False) + "\n"
