"""Ansible's filters and tests in templates: the values are what ansible-core 2.19 gave."""

from __future__ import annotations

from pathlib import Path

import pytest

from sloth.errors import CallError
from sloth.playbook.template import Renderer

VARIABLES = {"a": "val", "lst": [1, 2, 3], "m": {"k": "v", "n": 1, "b": True}, "flag": True, "nul": None}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ flag | ternary('t', 'f') }}!", "t!"),
        ("{{ nul | ternary('t', 'f', 'n') }}!", "n!"),
        ("<{{ nul }}>", "<>"),
        ("{{ m | dict2items | map(attribute='key') | list | join }}", "knb"),
        ("{{ [{'key': 'x', 'value': 1}] | items2dict }}!", "{'x': 1}!"),
        ("{{ lst | max }} {{ [[1], [2]] | flatten }} {{ 'abc' | regex_search('b.') }}", "3 [1, 2] bc"),
        ("{{ 'a.b' | regex_escape }} {{ 1024 | human_readable }}", "a\\.b 1.00 KB"),
        ("{{ 10 | human_readable }} {{ '1.5 K' | human_to_bytes }}", "10.00 Bytes 1536"),
        ("{{ '/a/b.c' | splitext | last }} {{ '/a/b.c' | dirname }}", ".c /a"),
        ("{{ 'x' | hash('sha1') }} {{ 'x' | b64encode }}", "11f6ad8ec52a2984abaafd7c3b516503785c2072 eA=="),
        ("{{ a | comment }}", "#\n# val\n#"),
        ("{{ a | comment('c') }}", "//\n// val\n//"),
        ("{{ 'a1b2' | regex_findall('[0-9]') }}!", "['1', '2']!"),
        ("{{ 'AbC' | regex_replace('b', 'X', ignorecase=true) }}", "AXC"),
        ("{{ {'a': {'b': 1}} | combine({'a': {'c': 2}}, recursive=true) }}!", "{'a': {'b': 1, 'c': 2}}!"),
        ("{{ {'a': [1]} | combine({'a': [2]}, list_merge='append') }}!", "{'a': [1, 2]}!"),
        ("{% if a is match('v') %}m{% endif %}{% if a is match('al') %}n{% endif %}", "m"),
        ("{% if a is search('al') and a is not regex('x') %}s{% endif %}", "s"),
        ("{{ '1.10' is version('1.9', '>') }} {{ '2.0' is version('2.0-rc1', 'lt') }}", "True True"),
        ("{{ [1, 2] is subset(lst) }} {{ lst is contains(4) }}", "True False"),
        ("{{ lst | intersect([2, 3, 4]) }} {{ [1, 1] | unique }}", "[2, 3] [1]"),
        ("{{ 'a,b' | split(',') }} {{ ['x', 'y'] | path_join }}", "['a', 'b'] x/y"),
        ("{{ [1, 2] | zip(['a', 'b']) | list }}!", "[[1, 'a'], [2, 'b']]!"),
        ("{{ {'b': 1, 'a': [true]} | to_nice_json }}", '{\n    "a": [\n        true\n    ],\n    "b": 1\n}'),
        ("{{ lst | type_debug }}", "list"),
    ],
)
def test_filters(tmp_path: Path, template: str, text: str) -> None:
    (tmp_path / "t").write_text(template)
    assert Renderer([tmp_path]).render("t", VARIABLES) == text


def test_a_file_without_expressions_is_written_as_it_is(tmp_path: Path) -> None:
    """Its line ends are the user's: Jinja2 would write them anew."""
    (tmp_path / "t").write_bytes(b"a\r\nb\r\n\n")
    assert Renderer([tmp_path]).render("t", VARIABLES) == "a\r\nb\r\n\n"
    (tmp_path / "t").write_bytes(b"{{ a }}\r\nb\r\n")
    assert Renderer([tmp_path]).render("t", VARIABLES) == "val\nb\n"


def test_a_first_line_has_settings(tmp_path: Path) -> None:
    """As in Ansible; the line itself is not written, and errors name the lines of the file."""
    (tmp_path / "t").write_text("#jinja2: trim_blocks: False, lstrip_blocks: True\n  {% if a %}\nx\n  {% endif %}\n")
    assert Renderer([tmp_path]).render("t", VARIABLES) == "\nx\n"
    assert Renderer([tmp_path]).render("t", VARIABLES, {"trim_blocks": True}) == "\nx\n"
    (tmp_path / "t").write_text("#jinja2: variable_start_string: '[%', variable_end_string: '%]'\n[% a %] {{ a }}\n")
    assert Renderer([tmp_path]).render("t", VARIABLES) == "val {{ a }}\n"
    for text, line in (("#jinja2:lstrip_blocks: True\n{{ a }}\n{{ nope }}\n", 3), ("#jinja2: nope: True\n", 1)):
        (tmp_path / "t").write_text(text)
        with pytest.raises(CallError) as caught:
            Renderer([tmp_path]).render("t", VARIABLES)
        assert caught.value.where == f"{tmp_path}/t:{line}"
