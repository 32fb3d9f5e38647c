"""Diffs as run records keep them: as JSON, cut to a limit for each change and for a run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Diff, Json, JsonObject

CHANGE_LIMIT = 64 * 1024  # characters of JSON
RUN_LIMIT = 16 * 1024 * 1024
SMALL = 1024  # characters of an attribute's value that is kept beside a text that was cut


class KeptDiffs:
    """Turns the diffs of one run into what its record keeps. They are redacted already."""

    def __init__(self) -> None:
        self._left = RUN_LIMIT

    def keep(self, diff: Diff | None) -> str | None:
        """Return a diff as JSON, None for none.

        Of what is too large, the text is cut after a line, and "cut" is how many characters were left out.
        """
        if not diff:
            return None
        text = _dumps(diff)
        limit = min(CHANGE_LIMIT, self._left)
        if len(text) > limit:
            text = _dumps(_shortened(diff, limit))
        self._left = max(0, self._left - len(text))
        return text


def _shortened(diff: Diff, limit: int) -> JsonObject:
    """Return a diff whose JSON has about `limit` characters at most; the smallest attributes are kept whole."""
    sizes = {name: _size(name, entry) for name, entry in diff.items()}
    kept: JsonObject = {}
    left = limit - 1  # for the other brace
    omitted = 0
    for name in sorted(diff, key=sizes.__getitem__):
        entry, size = diff[name], sizes[name]
        if size <= left:
            kept[name] = entry
        elif left > SMALL + _size(name, 0):
            kept[name] = entry = _cut(entry, left - SMALL - _size(name, 0))
            size = _size(name, entry)
        else:
            omitted += len(_dumps(entry))
            continue
        left -= size
    if omitted:
        kept["…"] = {"cut": omitted}
    return {name: kept[name] for name in (*diff, "…") if name in kept}


def _size(name: str, entry: Json) -> int:
    """Return how much of an object's JSON an entry is, with the comma or the brace behind it."""
    return len(_dumps({name: entry})) - 1


def _cut(entry: Json, room: int) -> JsonObject:
    """Return the beginning of one attribute's entry."""
    found: JsonObject = {}
    if isinstance(entry, dict):
        sides = {side: entry[side] for side in ("before", "after") if side in entry}
        found = {side: value for side, value in sides.items() if len(_dumps(value)) <= SMALL // 4}
        text = entry.get("unified")
        if isinstance(text, str):
            room -= len(_dumps(found))
            head = text[: max(0, room)]
            while len(json.dumps(head)) > room:  # a character may take six as JSON
                head = head[: len(head) * 3 // 4]
            found["unified"] = head[: head.rfind("\n") + 1]
    return {**found, "cut": len(_dumps(entry)) - len(_dumps(found))}


def _dumps(value: Json) -> str:
    return json.dumps(value, separators=(",", ":"), default=str)
