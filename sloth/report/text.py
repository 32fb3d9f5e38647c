"""Text made safe for a terminal, host names in short, and differences as lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Diff, Json

# Compiled when they are used: plain text needs none of them.
_CONTROL = r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]"
_SURROGATE = r"[\ud800-\udfff]"
_NUMBERED = r"(.*?)(\d+)(\D*)\Z"


def neutral(text: str) -> str:
    """Return `text` with nothing in it that a terminal acts on: control characters and raw bytes are written out."""
    if text.isascii() and text.isprintable():
        return text
    text = re.sub(_SURROGATE, lambda match: f"\\x{ord(match.group()) & 0xFF:02x}", text)
    return re.sub(_CONTROL, lambda match: f"\\x{ord(match.group()):02x}" if match.group() < "\x80" else "?", text)


def table_lines(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table, the heads first; each column is as wide as it needs to be."""
    table = [heads, *rows]
    widths = [max(len(row[at]) for row in table) for at in range(len(heads))]
    for row in table:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def fold_names(names: Iterable[str]) -> str:
    """Return host names as people write them: web01, web02, web03 is web[01:03]. Sorted, each name once."""
    groups: dict[tuple[str, str, int], list[int]] = {}
    plain = []
    for name in sorted(set(names)):
        match = re.match(_NUMBERED, name)
        if match is None:
            plain.append((name, name))
            continue
        digits = match[2]
        width = len(digits) if digits.startswith("0") or len(digits) > 1 else 0
        groups.setdefault((match[1], match[3], width if digits[0] == "0" else -len(digits)), []).append(int(digits))
    parts = plain
    for (head, tail, width), numbers in groups.items():
        numbers.sort()
        start = 0
        for at in range(1, len(numbers) + 1):
            if at < len(numbers) and numbers[at] == numbers[at - 1] + 1:
                continue
            first, last = (str(number).zfill(max(width, 0)) for number in (numbers[start], numbers[at - 1]))
            run = f"{head}{first}{tail}"
            if at - start > 2:
                run = f"{head}[{first}:{last}]{tail}"
            elif at - start == 2:
                run = f"{run}, {head}{last}{tail}"
            parts.append((f"{head}{first.zfill(12)}{tail}", run))
            start = at
    return ", ".join(text for _, text in sorted(parts))


def hosts(names: Iterable[str]) -> str:
    """Return fold_names(), with the count when there are many."""
    found = set(names)
    folded = fold_names(found)
    return f"{folded} ({len(found)} hosts)" if len(found) > 2 else folded


def diff_lines(diff: Diff) -> Iterator[tuple[str, str]]:
    """Yield a result's diff as lines of text, each with the name of its colour; escapes are still in it."""
    for name, entry in diff.items():
        unified = entry.get("unified") if isinstance(entry, dict) else None
        if unified is not None:
            for text in unified.splitlines():
                yield text, {"+": "green", "-": "red", "@": "cyan"}.get(text[:1], "")
        elif isinstance(entry, dict):
            before, after = (_short(entry.get(side)) for side in ("before", "after"))
            yield f"{name}: {before} -> {after}", ""


def _short(value: Json) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict) and set(value) == {"sha256", "size"}:
        return f"{value['size']} bytes ({str(value['sha256'])[:12]})"
    if isinstance(value, dict) and "secret" in value:
        return "(secret)"
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 200 else text[:197] + "..."
