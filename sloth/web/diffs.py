"""Diffs side by side: unified text as rows of what was and what is."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sloth.frozen import frozen

MOST = 2000  # rows of one diff; the rest is counted
LONGEST = 2000  # characters of a line
_HUNK = re.compile(r"@@ -(\d{1,9})(?:,\d{1,9})? \+(\d{1,9})(?:,\d{1,9})? @@", re.ASCII)


@frozen
class Side:
    """A line of one side; number None: there is none."""

    number: int | None
    text: str


@frozen
class Line:
    """A row of a diff.

    Attributes:
        kind: "same", "changed", "added", "removed", or "gap" between two parts of the text.
    """

    kind: str
    left: Side
    right: Side


NOTHING = Side(None, "")


def side_by_side(unified: object) -> list[Line]:
    """Return the rows of a unified diff."""
    found: list[Line] = []
    for line in _rows(str(unified)):
        if len(found) >= MOST:
            found.append(Line("gap", Side(None, "… more lines are not shown"), NOTHING))
            break
        found.append(line)
    return found


def _rows(text: str) -> Iterator[Line]:
    left = right = 1
    removed: list[Side] = []
    added: list[Side] = []
    is_inside = False
    for line in text.split("\n"):
        hunk = _HUNK.match(line)
        if hunk is not None:
            yield from _pair(removed, added)
            if is_inside:
                yield Line("gap", Side(None, "…"), NOTHING)
            is_inside = True
            left, right = int(hunk[1]), int(hunk[2])
            continue
        if not is_inside or line.startswith("\\"):
            continue
        body = line[1:] if len(line) <= LONGEST else line[1:LONGEST] + "…"
        if line.startswith("-"):
            removed.append(Side(left, body))
            left += 1
        elif line.startswith("+"):
            added.append(Side(right, body))
            right += 1
        elif line:
            yield from _pair(removed, added)
            yield Line("same", Side(left, body), Side(right, body))
            left, right = left + 1, right + 1
    yield from _pair(removed, added)


def _pair(removed: list[Side], added: list[Side]) -> Iterator[Line]:
    """Yield the lines that were removed beside those that came instead; empty both lists."""
    for index in range(max(len(removed), len(added))):
        before = removed[index] if index < len(removed) else NOTHING
        after = added[index] if index < len(added) else NOTHING
        kind = "added" if before.number is None else "removed" if after.number is None else "changed"
        yield Line(kind, before, after)
    removed.clear()
    added.clear()
