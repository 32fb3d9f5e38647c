"""Strips the payload's sources of what only people and type checkers read; every statement stays on its line."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterable, Iterator

from sloth.frozen import frozen

# What has a position in the text, or holds what has one.
_WITH_TEXT = (ast.stmt, ast.expr, ast.arguments, ast.arg, ast.keyword, ast.excepthandler, ast.withitem,
              ast.comprehension, ast.alias, ast.match_case, ast.pattern)  # fmt: skip
_SCOPES = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.If)


def slim(source: bytes) -> bytes:
    """Return Python source without docstrings, comments, annotations, and the bodies of `if TYPE_CHECKING:`.

    Annotations in class bodies stay, since kernel/value.py reads them. Source is unchanged when it does not parse, or
    when it is not what is cut here: UTF-8 with plain line ends, and annotations without parentheses around them.
    """
    try:
        if b"\r" in source or tokenize.detect_encoding(io.BytesIO(source).readline)[0] != "utf-8":
            return source  # ast counts columns in UTF-8
        tree = ast.parse(source)
        lines = source.split(b"\n")
        nodes = _nodes(tree)
        scopes = [node for node in nodes if isinstance(node, _SCOPES)]
        cuts = {cut for node in scopes for cut in _cuts(node, lines)} | set(_comments(nodes, lines))
    except (SyntaxError, ValueError):
        return source
    kept: list[_Cut] = []
    for cut in sorted(cuts, key=lambda cut: (cut.first, (-cut.last[0], -cut.last[1]))):
        if not kept or cut.first >= kept[-1].last:  # else it lies inside another one
            kept.append(cut)
    for cut in reversed(kept):  # what is cut moves nothing that is cut after it
        cut.apply(lines)
    slimmed = b"\n".join(lines)
    try:
        compile(slimmed, "<slimmed>", "exec", dont_inherit=True)  # ast.parse() takes twice as long
    except SyntaxError:  # a parenthesis of an annotation was left, which ast does not count to it
        return source
    return slimmed


@frozen
class _Cut:
    """A piece of source: from (line, column) to (line, column), both from 0, in bytes; and what replaces it."""

    first: tuple[int, int]
    last: tuple[int, int]
    text: bytes = b""

    def apply(self, lines: list[bytes]) -> None:
        """Make the cut."""
        (first, start), (last, end) = self.first, self.last
        tail = lines[last][end:]
        if first == last:
            lines[first] = lines[first][:start] + self.text + tail
            return
        lines[first] = lines[first][:start] + self.text
        lines[first + 1 : last + 1] = [b""] * (last - first)
        lines[last] = tail


def _nodes(tree: ast.AST) -> list[ast.AST]:
    """Return all nodes but those that have no text, such as ast.Load. (ast.walk() takes twice as long.)"""
    found = [tree]
    for node in found:
        for name in node._fields:
            value = getattr(node, name, None)
            if isinstance(value, list):
                found += [item for item in value if isinstance(item, _WITH_TEXT)]
            elif isinstance(value, _WITH_TEXT):
                found.append(value)
    return found


def _cuts(node: ast.AST, lines: list[bytes]) -> Iterator[_Cut]:
    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node, False) is not None:
        text = node.body[0]
        if lines[_end(text)[0]].rstrip()[-1:] in (b'"', b"'"):  # nothing follows it on its line
            yield _Cut(_start(text), _end(text), b'""')
    if isinstance(node, ast.FunctionDef):
        yield from _signature(node, lines)
    if isinstance(node, (ast.Module, ast.FunctionDef)):
        yield from _variables(node)
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        line, column = _start(node.body[0])
        for decorator in getattr(node.body[0], "decorator_list", ()):
            line = min(line, decorator.lineno - 1)
        yield _Cut((line, column), _end(node.body[-1]), b"pass")


def _signature(function: ast.FunctionDef, lines: list[bytes]) -> Iterator[_Cut]:
    arguments = function.args
    for argument in (*arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg):
        if argument is not None and argument.annotation is not None:
            line, column = _start(argument)
            yield _Cut((line, column + len(argument.arg.encode())), _end(argument.annotation))
    if function.returns is not None:
        line, column = _start(function.returns)
        arrow = lines[line].rfind(b"->", 0, column)
        if arrow >= 0:
            yield _Cut((line, len(lines[line][:arrow].rstrip())), _end(function.returns))


def _variables(scope: ast.Module | ast.FunctionDef) -> Iterator[_Cut]:
    """Yield the cuts of a scope's own variables: `x: "int" = 1` becomes `x = 1`, `x: "int"` becomes `pass`."""
    waiting: list[ast.AST] = list(scope.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.expr)):  # variables are declared by statements
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.AnnAssign) and node.value is None:
            yield _Cut(_start(node), _end(node), b"pass")
        elif isinstance(node, ast.AnnAssign):
            yield _Cut(_end(node.target), _end(node.annotation))


def _comments(nodes: Iterable[ast.AST], lines: list[bytes]) -> Iterator[_Cut]:
    """Yield the cuts of comments: what follows the first # of a line that is in no string. (tokenize takes longer.)"""
    strings: dict[int, list[tuple[int, int]]] = {}  # line -> columns, from and to
    for node in nodes:
        if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)):
            (first, start), (last, end) = _start(node), _end(node)
            for line in range(first, last + 1):
                columns = (start if line == first else 0, end if line == last else len(lines[line]))
                strings.setdefault(line, []).append(columns)
    for number, text in enumerate(lines):
        at = text.find(b"#")
        while at >= 0 and any(start <= at < end for start, end in strings.get(number, ())):
            at = text.find(b"#", at + 1)
        if at >= 0 and not (number < 2 and b"coding" in text[at:]):
            yield _Cut((number, at), (number, len(text)))


def _start(node: ast.stmt | ast.expr | ast.arg) -> tuple[int, int]:
    return node.lineno - 1, node.col_offset


def _end(node: ast.stmt | ast.expr | ast.arg) -> tuple[int, int]:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return node.end_lineno - 1, node.end_col_offset
