"""Diffs side by side."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from enum import StrEnum

from sloth.frozen import frozen

MOST_LINES = 2000  # of a diff on a page
LONGEST_LINE = 2000  # characters


class Side(StrEnum):
    """What became of a line."""

    SAME = "same"
    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    GAP = "gap"  # lines that are left out


@frozen
class DiffLine:
    """A line before and after; numbers are 0 and texts "" where there is none. Of a gap, `before` is its head."""

    kind: Side
    before_number: int
    before: str
    after_number: int
    after: str


@frozen
class Attribute:
    """How one attribute differs.

    Attributes:
        before, after: plain data; lines: of a text, side by side.
        is_text: whether `lines` show the difference.
        cut: how many characters were not kept or are not shown.
    """

    name: str
    before: object
    after: object
    is_text: bool
    lines: tuple[DiffLine, ...]
    cut: int


def attributes(text: str | None) -> tuple[Attribute, ...]:
    """Return a recorded diff (JSON) as values."""
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return ()
    if not isinstance(found, dict):
        return ()
    return tuple(_attribute(name, entry) for name, entry in found.items() if isinstance(entry, dict))


def _attribute(name: str, entry: dict[str, object]) -> Attribute:
    unified = entry.get("unified")
    cut = entry.get("cut")
    lines: list[DiffLine] = []
    left = cut if isinstance(cut, int) else 0
    if isinstance(unified, str):
        for number, line in enumerate(side_by_side(unified)):
            if number == MOST_LINES:
                left += 1
                break
            lines.append(line)
    return Attribute(
        name=name,
        before=_bounded(entry.get("before")),
        after=_bounded(entry.get("after")),
        is_text=isinstance(unified, str),
        lines=tuple(lines),
        cut=left,
    )


def _bounded(value: object) -> object:
    """Return plain data, of which a text that is too long for a page is cut."""
    if isinstance(value, str) and len(value) > 20 * LONGEST_LINE:
        return value[: 20 * LONGEST_LINE] + "…"
    return value


def side_by_side(unified: str) -> Iterator[DiffLine]:
    """Yield the lines of a unified diff; a removed line stands beside the added one that replaces it."""
    before = after = 0
    removed: list[str] = []
    added: list[str] = []

    def pairs() -> Iterator[DiffLine]:
        nonlocal before, after
        for at in range(max(len(removed), len(added))):
            has_before, has_after = at < len(removed), at < len(added)
            before += has_before
            after += has_after
            kind = Side.CHANGED if has_before and has_after else Side.REMOVED if has_before else Side.ADDED
            yield DiffLine(
                kind,
                before * has_before,
                removed[at] if has_before else "",
                after * has_after,
                added[at] if has_after else "",
            )
        removed.clear()
        added.clear()

    is_inside = False
    for whole in unified.splitlines():
        line = whole if len(whole) <= LONGEST_LINE else whole[:LONGEST_LINE] + "…"
        head = re.match(r"@@ -(\d{1,9})(?:,\d+)? \+(\d{1,9})(?:,\d+)? @@", line, re.ASCII)
        if head is not None:
            yield from pairs()
            before, after, is_inside = max(0, int(head[1]) - 1), max(0, int(head[2]) - 1), True
            yield DiffLine(Side.GAP, 0, line, 0, "")
        elif not is_inside and line.startswith(("--- ", "+++ ")):
            continue
        elif line.startswith("-"):
            if added:
                yield from pairs()
            removed.append(line[1:])
        elif line.startswith("+"):
            added.append(line[1:])
        elif line.startswith("\\"):  # "\ No newline at end of file"
            yield from pairs()
            yield DiffLine(Side.GAP, 0, line, 0, "")
        else:
            yield from pairs()
            before, after = before + 1, after + 1
            yield DiffLine(Side.SAME, before, line[1:], after, line[1:])
    yield from pairs()
