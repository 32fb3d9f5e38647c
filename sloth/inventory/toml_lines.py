"""Line numbers of a TOML file: tomllib gives values without them, and errors need both."""

from __future__ import annotations

import re
import tomllib

_PART = re.compile(r"""\s*(?:"((?:\\.|[^"\\])*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*(\.|$)""")
_KEY = re.compile(r"""\s*((?:"(?:\\.|[^"\\])*"|'[^']*'|[A-Za-z0-9_.\s-])+?)\s*=""")
_SIMPLE_HEADER = re.compile(r"\s*\[([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)\]\s*(?:#.*)?\Z")
_BARE = re.compile(r"[A-Za-z0-9_-]+\Z")
_INNER = re.compile(r"[{,]\s*([A-Za-z0-9_-]+)\s*=")

LONGEST = 1000  # characters of a key; a longer beginning of a line is a value


def locate(source: str) -> dict[tuple[str, ...], int]:
    """Return the line (from 1) on which each table and key of TOML text first appears, by its path.

    The text must be valid TOML: it has been parsed before. Keys of an inline table are found only on the line on which
    it begins; for others, the line of the table is near enough.
    """
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    closing = ""
    for number, line in enumerate(source.splitlines(), 1):
        if closing:  # inside a multi-line string
            closing = "" if closing in line else closing
            continue
        simple = _SIMPLE_HEADER.match(line)
        if simple:
            path: tuple[str, ...] | None = tuple(simple[1].split("."))
        else:
            path = _header_path(line) if line.lstrip().startswith("[") else None
        if path is not None:
            table = path
            _record(lines, table, number)
            continue
        key = _KEY.match(line, 0, LONGEST)
        if key and not line.lstrip().startswith("#"):
            path = (key[1],) if _BARE.match(key[1]) else _path(key[1])
            if path is not None:
                _record(lines, table + path, number)
                rest = line[key.end() :]
                if "{" in rest:
                    for inner in _INNER.finditer(rest):
                        lines.setdefault((*table, *path, inner[1]), number)
        if '""' in line or "''" in line:
            for mark in ('"""', "'''"):
                if line.count(mark) % 2:
                    closing = mark
    return lines


def _record(lines: dict[tuple[str, ...], int], path: tuple[str, ...], number: int) -> None:
    for end in range(1, len(path) + 1):
        lines.setdefault(path[:end], number)


def _header_path(line: str) -> tuple[str, ...] | None:
    """Return the path of a table header; tomllib itself reads it, since quoted keys may contain brackets."""
    text = line.strip()
    opening = "[[" if text.startswith("[[") else "["
    try:
        parsed = tomllib.loads(text + "\n")
    except tomllib.TOMLDecodeError:
        return None
    if not text.startswith(opening):
        return None
    path: list[str] = []
    node: object = parsed
    while isinstance(node, (dict, list)) and node:
        if isinstance(node, list):
            node = node[0]
            continue
        key = next(iter(node))
        path.append(key)
        node = node[key]
    return tuple(path)


def _path(text: str) -> tuple[str, ...] | None:
    parts = []
    at = 0
    while at < len(text):
        match = _PART.match(text, at)
        if match is None:
            return None
        parts.append(next(group for group in match.groups()[:3] if group is not None))
        at = match.end()
        if not match[4]:
            break
    return tuple(parts) or None
