"""Renders templates that hold nothing but names of variables, such as `{{ port }}`, without Jinja2.

Most templates are like this, and to start Jinja2's process takes longer than all else that a converged run does here.
Whatever is not certain to come out as in Jinja2 is left to it: every error, too, since its errors name the line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_NAME = re.compile(r"\{\{[ \t\n]*([A-Za-z_][A-Za-z0-9_]*)[ \t\n]*\}\}")
# What Jinja2 does not look up among the variables.
_WORDS = frozenset(
    {"true", "false", "none", "True", "False", "None", "and", "or", "not", "if", "else", "in", "is", "for", "recursive"}
    | {"self", "super", "loop", "caller", "varargs", "kwargs", "block", "raw", "import", "include", "from", "extends"}
    | {"macro", "call", "filter", "set", "with", "do", "trans", "pluralize", "autoescape", "print", "as", "without"}
)
_LONGEST = 1_000_000  # characters of a template, and of a value
_LARGEST = 10**18  # integer


# The settings with which names of variables come out like this; those that are about blocks may be any.
_USUAL: dict[str, object] = {
    "trim_blocks": None, "lstrip_blocks": None, "newline_sequence": "\n", "keep_trailing_newline": False,
    "block_start_string": "{%", "block_end_string": None, "variable_start_string": "{{", "variable_end_string": "}}",
    "comment_start_string": "{#", "comment_end_string": None,
}  # fmt: skip


def is_usual(setting: str, value: object) -> bool:
    """Return whether a template may have this setting."""
    return setting in _USUAL and _USUAL[setting] in (None, value)


def split(text: str) -> tuple[str, ...] | None:
    """Return the texts and names of a template, in turn, or None if it holds more than names of variables."""
    if len(text) > _LONGEST or "\r" in text or "{%" in text or "{#" in text:
        return None
    parts: list[str] = []
    at = 0
    while (mark := text.find("{{", at)) >= 0:
        found = _NAME.match(text, mark)
        if found is None or found[1] in _WORDS:
            return None
        parts += (text[at:mark], found[1])
        at = found.end()
    return (*parts, text[at:])


def substitute(text: str, variables: Mapping[str, object]) -> str | None:
    """Return the rendered text, or None if only Jinja2 can tell what it is.

    Variables may be texts and integers. As in Renderer.render(), the text ends with at least as many newlines as the
    template does.
    """
    parts = split(text)
    if parts is None:
        return None
    written = list(parts)
    for at in range(1, len(parts), 2):
        value = variables.get(parts[at])
        if type(value) is str and len(value) <= _LONGEST:  # and no class of texts, which Jinja2 may treat differently
            written[at] = value
        elif type(value) is int and abs(value) < _LARGEST:
            written[at] = str(value)
        else:
            return None
    final = len(text) - len(text.rstrip("\n"))
    written[-1] = written[-1].removesuffix("\n")
    whole = "".join(written)
    missing = final - (len(whole) - len(whole.rstrip("\n")))
    return whole + "\n" * max(0, missing)
