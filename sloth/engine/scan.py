"""Finds mistakes in the text of a site's calls, also in code that no host would run."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType

from sloth.frozen import frozen
from sloth.payload.kernel.field import Field
from sloth.payload.kernel.options import check, options_of
from sloth.payload.kernel.registry import find
from sloth.payload.kernel.resource import ArgumentError, Call
from sloth.suggest import did_you_mean, did_you_mean_or_list


@frozen
class Problem:
    """A mistake in a site. where: "site.sloth:12"."""

    where: str
    message: str
    hint: str = ""


@frozen
class _Token:
    kind: str  # "name" "string" "number" "op"
    text: str
    line: int


_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<comment>--\[(?P<ceq>=*)\[.*?\](?P=ceq)\]|--[^\n]*)
    |(?P<long>\[(?P<eq>=*)\[.*?\](?P=eq)\])
    |(?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
    |(?P<number>0[xX][0-9a-fA-F]+|\d+\.?\d*(?:[eE][+-]?\d+)?)
    |(?P<name>[A-Za-z_]\w*)
    |(?P<op>\.\.\.|\.\.|==|~=|<=|>=|//|::|<<|>>|.)""",
    re.VERBOSE | re.DOTALL,
)
_UNREAD = re.compile(r"(?<!\\)(?:\\\\)*\\[^\\'\"]", re.DOTALL)  # an escape that stands for another character
_KINDS = ("space", "comment", "long", "string", "number", "name", "op")


def tokens(source: str) -> list[_Token]:
    """Return the tokens of Lua source that has passed the syntax check, without its comments."""
    found = []
    line = 1
    for match in _TOKEN.finditer(source):
        kind = next(name for name in _KINDS if match.group(name) is not None)
        if kind not in ("space", "comment"):
            found.append(_Token("string" if kind == "long" else kind, match.group(), line))
        line += match.group().count("\n")
    return found


def scan(
    source: str,
    path: str,
    modules: Mapping[str, Sequence[str]],
    facts: Collection[str] = (),
    names: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> Iterator[Problem]:
    """Yield the mistakes in every `module.verb{...}` and `facts.NAME` of a site's text.

    modules: namespace -> verbs. A name that the text gives another meaning anywhere, such as `local file`, is skipped.
    names: what the options `delegate_to` and `notify` of calls may name, where that is known.
    """
    text = tokens(source)
    own = _own_names(text)
    for at in range(len(text) - 2):
        name, dot, verb = text[at : at + 3]
        if name.kind != "name" or dot.text != "." or verb.kind != "name" or name.text in own:
            continue
        if at and text[at - 1].text in (".", ":"):
            continue
        where = f"{path}:{name.line}"
        if name.text == "facts" and facts and verb.text not in facts:
            yield Problem(where, f"there is no facts.{verb.text}", did_you_mean_or_list(verb.text, facts, "facts"))
        if name.text not in modules:
            continue
        if name.text == "host" and verb.text not in modules["host"]:
            continue  # a value
        if verb.text not in modules[name.text]:
            yield Problem(where, f"there is no {name.text}.{verb.text}", did_you_mean(verb.text, modules[name.text]))
            continue
        start = at + 3
        if start < len(text) and text[start].text == "(":
            start += 1
        if start < len(text) and text[start].text == "{":
            yield from _table(text, start, find(f"{name.text}.{verb.text}"), path, names)


@frozen
class Source:
    """A file of the controller that a call names literally."""

    where: str
    name: str  # of the call
    src: str
    is_template: bool


def literal_sources(source: str, path: str, modules: Mapping[str, Sequence[str]]) -> Iterator[Source]:
    """Yield the literal `src` of each call that sends a file.

    None where the site fetches files, which may be those, or ignores errors; and none inside of a pcall.
    """
    text = tokens(source)
    own = _own_names(text)
    words = {token.text for token in text if token.kind == "name"}
    if "ignore_errors" in words:
        return
    found: list[Source] = []
    protected = 0  # how deep the parentheses are in which a pcall stands
    depth: list[bool] = []
    for at in range(len(text) - 3):
        token = text[at]
        if token.text == "(":
            depth.append(at > 0 and text[at - 1].text in ("pcall", "xpcall"))
            protected += depth[-1]
        elif token.text == ")" and depth:
            protected -= depth.pop()
        name, dot, verb = text[at : at + 3]
        if name.kind != "name" or dot.text != "." or name.text in own or verb.text not in modules.get(name.text, ()):
            continue
        cls = find(f"{name.text}.{verb.text}")
        if cls.fetches:
            return
        start = at + 3 + (text[at + 3].text == "(")
        if not cls.ships or protected or start >= len(text) or text[start].text != "{":
            continue
        given = dict(_literals(text, start))
        src = given.get("src")
        if isinstance(src, str) and not given.keys() & {"remote_src", "content"}:
            found.append(Source(f"{path}:{name.line}", cls.name, src, cls.ships == "template"))
    yield from found


def _literals(text: Sequence[_Token], start: int) -> Iterator[tuple[str, object]]:
    """Yield the named items of the table constructor at `start`; the value is None where it is no plain literal."""
    depth = 0
    for at in range(start, len(text)):
        token = text[at]
        if token.text in ("{", "(", "[", "function", "do", "then", "repeat"):
            depth += 1
        elif token.text in ("}", ")", "]", "end", "until", "elseif"):
            depth -= 1
            if depth == 0:
                return
        if depth == 1 and token.kind == "name" and text[at - 1].text in ("{", ",", ";") and text[at + 1].text == "=":
            yield token.text, _literal(text, at + 2)


def _own_names(text: Sequence[_Token]) -> set[str]:
    """Return the names that the text declares as variables or parameters, or assigns to."""
    found: set[str] = set()
    for at, token in enumerate(text):
        following = text[at + 1].text if at + 1 < len(text) else ""
        if token.text in ("local", "for"):
            found.update(_names(text, at + 1 + (following == "function")))
        elif token.text == "function":
            while at + 1 < len(text) and text[at].text != "(":
                at += 1
            found.update(_names(text, at + 1))
        elif token.kind == "name" and following == "=" and (at == 0 or text[at - 1].text not in ("{", ",", ";", ".")):
            found.add(token.text)  # after those it is a name in a table
    return found


def _names(text: Sequence[_Token], at: int) -> Iterator[str]:
    """Yield the names of a comma list, such as `a, b <const>`."""
    while at < len(text) and text[at].kind == "name":
        yield text[at].text
        at += 1
        if at < len(text) and text[at].text == "<":
            at += 3
        if at >= len(text) or text[at].text != ",":
            return
        at += 1


def _table(
    text: list[_Token], start: int, cls: type[Call], path: str, names: Mapping[str, Collection[str]]
) -> Iterator[Problem]:
    """Check the names, and the values that are plain literals, of the table constructor at `start`."""
    declared: tuple[Field, ...] = cls.fields
    fields = {name: field for field in declared for name in (field.name, *field.aliases)}
    options = options_of(cls)
    named = {field.name: field for field in declared}
    given: set[str] = set()
    literal = True
    depth = 0
    for at in range(start, len(text)):
        token = text[at]
        if token.text in ("{", "(", "[") or token.text in ("function", "do", "then", "repeat"):
            depth += 1
        elif token.text in ("}", ")", "]") or token.text in ("end", "until", "elseif"):
            depth -= 1
            if depth == 0:
                break
        if depth != 1 or token.kind != "name" or at + 1 >= len(text) or text[at + 1].text != "=":
            literal = literal and not (depth == 2 and token.text == "[" and text[at - 1].text in ("{", ",", ";"))
            continue
        where = f"{path}:{token.line}"
        if token.text in options:
            yield from _option(options[token.text], _literal(text, at + 2), cls, where, names)
            continue
        field = fields.get(token.text)
        if field is None:
            hint = did_you_mean(token.text, [*fields, *options]) or "it takes " + ", ".join(sorted(named))
            yield Problem(where, f"{cls.name} has no argument '{token.text}'", hint)
            continue
        given.add(field.name)
        value = _literal(text, at + 2)
        if value is not None:
            try:
                field.coerce(value)
            except ArgumentError as error:
                yield Problem(where, f"{cls.name}: {error.message}", error.hint)
    if literal and text[start + 1].text != "}":
        for field in declared:
            if field.required and field.name not in given and _all_named(text, start):
                yield Problem(f"{path}:{text[start].line}", f"{cls.name} needs {field.name}", field.help)


def _option(
    field: Field,
    value: str | int | float | bool | None,
    cls: type[Call],
    where: str,
    names: Mapping[str, Collection[str]],
) -> Iterator[Problem]:
    """Check an option of a call whose value is a plain literal."""
    if value is None:
        return
    try:
        check(field, value)
    except ArgumentError as error:
        yield Problem(where, f"{cls.name}: {error.message}", error.hint)
        return
    known = names.get(field.name)
    if known is not None and value not in known:
        if field.name == "notify":
            text, hint = (
                "handler {}, which is not declared",
                did_you_mean_or_list(str(value), sorted(known), "handlers"),
            )
        else:
            text, hint = "host {}, which the inventory does not have", delegate_hint(known, str(value))
        yield Problem(where, f"{cls.name}: {field.name} names the {text.format(value)}", hint)


def delegate_hint(known: Collection[str], name: str) -> str:
    """Return what helps where the host is not known to which something is delegated."""
    if name in ("localhost", "127.0.0.1", "::1"):
        return 'the machine of the controller is "local"'
    return did_you_mean(name, known) or '`groups` has the names of all hosts; "local" is the controller itself'


def _all_named(text: list[_Token], start: int) -> bool:
    """Return whether the constructor's first item is `name = ...` (not a variable that is a table itself)."""
    return text[start + 1].kind == "name" and text[start + 2].text == "="


def _literal(text: Sequence[_Token], at: int) -> str | int | float | bool | None:
    """Return the value of a plain literal that ends its item, or None."""
    if at + 1 >= len(text) or text[at + 1].text not in (",", ";", "}"):
        return None
    token = text[at]
    if token.kind == "string":
        if token.text.startswith("["):
            bracket = token.text.index("[", 1) + 1
            return token.text[bracket:-bracket].removeprefix("\n")
        inner = token.text[1:-1]
        if _UNREAD.search(inner):
            return None
        return re.sub(r"\\(.)", r"\1", inner)
    if token.kind == "number":
        return _number(token.text)
    return {"true": True, "false": False}.get(token.text)


def _number(text: str) -> int | float:
    """Return the value of a Lua number: 0644 is decimal, as Ansible's modes are not."""
    if text[:2].lower() == "0x":
        return int(text, 16)
    return int(text) if text.isdecimal() else float(text)
