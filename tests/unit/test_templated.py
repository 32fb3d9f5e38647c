"""Variables of inventories with Jinja in them come to what Ansible makes of them; recorded with ansible-core 2.16."""

from __future__ import annotations

import pytest

from sloth.inventory.templated import mark
from sloth.playbook.template import Renderer

PLAIN = {"n": 3, "a": "x", "b": "b\n", "l": ["p", "q"], "on": True, "d": {"k": -1}}


def value_of(text: str) -> object:
    variables = {**PLAIN, "it": mark(text, "hosts.yml:1")}
    return Renderer([]).evaluate("it", variables["it"], variables)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ -n }}", -3), ("{{- -n -}}", -3), ("{{ - n }}", -3), ("{{ +n }}", 3), ("{{ -n - 1 }}", -4),
        ("{{ n }}{# of the service #}", 3), ("{# of the service #}{{ l }}", ["p", "q"]), ("{#- c -#}\n{{ on }}", True),
        ("{{ -d.k }}", 1), ("{{ l }}\n", ["p", "q"]), ("\n{{- n -}}\n", 3),
        ("{% if on %}{{ l }}{% else %}{{ [] }}{% endif %}", ["p", "q"]), ("{% set z = n %}{{ z }}", 3),
    ],
)  # fmt: skip
def test_one_value_keeps_its_type_and_its_sign(text: str, expected: object) -> None:
    found = value_of(text)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ a }}\n", "x\n"), ("{{ b }}\n\n", "b\n\n"), ("{% if on %}\nx{% endif %}\n", "x\n"), ("{{ n }} ", "3 "),
        ("{% for i in l %}\n{{ i }}\n{% endfor %}\n", "p\nq\n"), ("{% for i in l %}{{ i }}{% endfor %}\n", "pq\n"),
        ("{{ '1.10' }}", "1.10"), ("{{ n }}{{ n }}", "33"), ("{% raw %}{{ a }}{% endraw %}", "{{ a }}"),
    ],
)  # fmt: skip
def test_a_text_keeps_the_newlines_at_its_end(text: str, expected: str) -> None:
    assert value_of(text) == expected
