"""The reading of a site's text before a run: what is a mistake in it, and which local files it names."""

from __future__ import annotations

import pytest

from sloth.engine.modules import module_names
from sloth.engine.scan import literal_sources, scan


def problems(text: str) -> list[str]:
    """Return the messages of the mistakes in a site's text, after their lines."""
    found = scan(text, "s", module_names())
    return [f"{problem.where.removeprefix('s:')} {problem.message}" for problem in found]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "file.copy({ dest = '/x', content = 'x', mode = 0x1ff })",
            ["1 file.copy: mode must be a string: the number 511 "],
        ),
        ("exec.run({ cmd = 'x',\n timeout = 'soon' })", ["2 exec.run: timeout must be "]),
        ("local file <const>, user = 1, 2\nfile.nothing({}) user.nothing({})", []),
        ("local x <close> = 1\nfile.nothing({})", ["2 there is no file.nothing"]),
        ("-- file.nothing({})\n--[[\nfile.nothing({}) ]] local s = [[\nfile.nothing()]]\nfile.nothing({})", ["5 "]),
        ("exec.run({ cmd = 'x'; nothing = 1 })", ["1 exec.run has no argument 'nothing'"]),
        ("exec.run({ cmd = (function() local nothing = 1 return 'x' end)() })", []),
        ("file.copy({ dest = '/x', [1] = 2 })", []),
    ],
)
def test_the_text_of_calls_is_checked_as_lua_reads_it(text: str, found: list[str]) -> None:
    said = problems(text)
    assert len(said) == len(found)
    for one, beginning in zip(said, found, strict=True):
        assert one.startswith(beginning)


def test_no_local_file_is_certain_where_a_site_fetches_some() -> None:
    copy = "file.copy({ src = 'motd', dest = '/etc/motd' })\n"
    (source,) = literal_sources(copy, "s", module_names())
    assert (source.where, source.name, source.src, source.is_template) == ("s:1", "file.copy", "motd", False)
    fetched = copy + "file.fetch({ src = '/etc/motd', dest = 'motd', flat = true })\n"
    assert list(literal_sources(fetched, "s", module_names())) == []


@pytest.mark.parametrize(
    ("literal", "value"),
    [
        ("'motd'", "motd"),
        ("'it\\'s'", "it's"),
        ('"a\\\\b"', "a\\b"),
        ("[[motd]]", "motd"),
        ("[==[\n[a]=]]==]", "[a]=]"),
        ('"caf\\u{e9}"', None),
        ('"caf\\xc3\\xa9"', None),
        ('"a\\\\\\t"', None),
        ("'x' .. y", None),
        ("x", None),
    ],
)
def test_only_a_plain_literal_names_a_file(literal: str, value: str | None) -> None:
    found = literal_sources(f"file.copy({{ src = {literal}, dest = '/x' }})\nprint()", "s", module_names())
    assert [source.src for source in found] == ([] if value is None else [value])
