"""Templates that hold nothing but names of variables come out as Jinja2 renders them, and all others are left to it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sloth.errors import CallError
from sloth.inventory.templated import Literal, Templated
from sloth.playbook.rendering import Templates, Worker
from sloth.playbook.substitution import split, substitute
from sloth.playbook.template import Renderer

PIECES = st.sampled_from(
    (
        "{{ a }}", "{{a}}", "{{\n b\t}}", "{{ n }}", "{{ a", "}}", "{", "}", "\n", "\n\n", " ", "é", "{{ true }}",
        "{{ none }}", "{{ self }}", "{{-a}}", "{{ a.b }}", "{{ a | upper }}", "{#", "{% if a %}", "\r\n", "{{ c }}",
    )
)  # fmt: skip
VALUES = st.one_of(st.text("ab{}%\n ", max_size=5), st.integers(), st.booleans(), st.none(), st.just(["x"]))


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=6).map("".join), VALUES, VALUES, st.integers())
@example("{{ a }}\n\n", "x\n", "", 0)
@example("{{{ a }}}", "x", "", 0)
@example("{{ a }}\n", "\n\n", "", 0)
@example("{{ a }}", "{{ b }}", "x", 0)
@example("{{ n }}", "", "", 10**30)
def test_what_is_substituted_is_what_jinja_renders(
    tmp_path_factory: pytest.TempPathFactory, text: str, a: object, b: object, n: int
) -> None:
    variables = {"a": a, "b": b, "n": n}
    found = substitute(text, variables)
    if found is None:
        return
    path = tmp_path_factory.getbasetemp() / "template"
    path.write_bytes(text.encode())
    assert Renderer([path.parent]).render("template", variables) == found


@pytest.mark.parametrize(
    "text",
    [
        "{{ a.b }}", "{{ a | upper }}", "{{ a() }}", "{{- a }}", "{{ 1 }}", "{{ '}}' }}", "{{ not }}", "{{ a }", "{{",
        "{{ self }}", "{{ loop }}", "{{ None }}", "{% raw %}{{ a }}{% endraw %}", "{# {{ a }} #}", "a\r\n",
        "{{ a\u00a0}}",
    ],
)  # fmt: skip
def test_more_than_a_name_is_left_to_jinja(text: str) -> None:
    assert split(text) is None


@pytest.mark.parametrize("value", [True, None, 1.5, ["x"], {}, Literal("x"), Templated("{{ b }}", "x:1"), 10**18, b"x"])
def test_other_values_are_left_to_jinja(value: object) -> None:
    assert substitute("{{ a }}", {"a": value}) is None
    assert substitute("{{ a }}", {}) is None


class _Left(Exception):
    """A template was left to Jinja2's process."""


class _NoProcess(Worker):
    async def call(self, *_: object) -> NoReturn:
        raise _Left


HEADERS = st.sampled_from(
    (
        "", "#jinja2: trim_blocks: False\n", "#jinja2:lstrip_blocks:True, trim_blocks:True\n", "\n#jinja2: x\n",
        "#jinja2: keep_trailing_newline: False\n", "#jinja2: newline_sequence: '\\r\\n'\n",
        "#jinja2: trim_blocks: True", "#jinja2: variable_start_string: '[['\n",
    )
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(HEADERS, st.lists(PIECES, max_size=4).map("".join), VALUES)
@example("#jinja2: trim_blocks: False\n", "{{ a }}\n", "x")
def test_a_template_with_settings_before_it_comes_out_as_jinja_renders_it(
    tmp_path_factory: pytest.TempPathFactory, header: str, text: str, a: object
) -> None:
    path = tmp_path_factory.getbasetemp() / "with_settings"
    path.write_bytes((header + text).encode())
    variables = {"a": a, "b": "b", "n": 1}
    try:
        found = asyncio.run(Templates([path.parent], _NoProcess()).render(path.name, variables))
    except (_Left, CallError):
        return
    assert Renderer([path.parent]).render(path.name, variables) == found


async def test_such_a_template_starts_no_process(tmp_path: Path) -> None:
    (tmp_path / "simple").write_text("port {{ port }} of {{ name }}\n")
    (tmp_path / "set").write_text("#jinja2: lstrip_blocks: True\nport {{ port }}\n")
    worker = Worker()
    templates = Templates([tmp_path], worker)
    try:
        assert await templates.render("simple", {"port": 80, "name": "web"}) == "port 80 of web\n"
        assert worker._process is None
        assert await templates.render("set", {"port": 80}) == "port 80\n"
        usual = {"trim_blocks": True, "lstrip_blocks": True, "newline_sequence": "\n", "variable_start_string": "{{"}
        assert await templates.render("simple", {"port": 80, "name": "web"}, usual) == "port 80 of web\n"
        assert worker._process is None
        other = {"newline_sequence": "\r\n"}
        assert await templates.render("simple", {"port": 80, "name": "web"}, other) == "port 80 of web\r\n"
        assert worker._process is not None
    finally:
        await worker.close()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("#jinja2: line_comment_prefix: '##'\na\n## no part of it\nb\n", "a\n\nb\n"),
        ("#jinja2: newline_sequence: '\\r\\n'\na\nb\n", "a\r\nb\r\n"),
        ("#jinja2: trim_blocks: False\na\r\nb\n", "a\nb\n"),
        ("a\r\nb\n", "a\r\nb\n"),
    ],
)
async def test_settings_count_in_a_template_without_expressions(tmp_path: Path, source: str, expected: str) -> None:
    (tmp_path / "t").write_bytes(source.encode())
    worker = Worker()
    try:
        assert await Templates([tmp_path], worker).render("t", {}) == expected
    finally:
        await worker.close()
    assert Renderer([tmp_path]).render("t", {}) == expected
