"""Host patterns: names, ranges, wildcards, @groups and exclusions."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from sloth.errors import InventoryError

RANGE = re.compile(r"\[(\d+):(\d+)(?::(\d+))?\]")
MOST = 100_000  # hosts that one range may stand for


def expand(text: str) -> list[str]:
    """Return the names that `text` stands for: `web[01:03]` is web01, web02, web03 (the end is included).

    Leading zeros of the first number give the width; a third number is the step. Raises InventoryError when a range
    runs backwards or is too long.
    """
    match = RANGE.search(text)
    if match is None:
        return [text]
    first, last, step = int(match[1]), int(match[2]), int(match[3] or 1)
    if last < first or step < 1:
        raise InventoryError(f"the range {match[0]} is empty", hint="write the smaller number first, as in [01:20]")
    if (last - first) // step >= MOST:
        raise InventoryError(f"the range {match[0]} stands for more than {MOST} names")
    width = len(match[1]) if match[1].startswith("0") else 0
    heads = [text[: match.start()] + str(number).zfill(width) for number in range(first, last + 1, step)]
    tails = expand(text[match.end() :])
    if len(heads) * len(tails) > MOST:
        raise InventoryError(f"{text} stands for more than {MOST} names")
    return [head + tail for head in heads for tail in tails]


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(pattern))


def matches(pattern: str, name: str) -> bool:
    """Whether the plain pattern (a name or a wildcard) matches `name`; case counts."""
    return _compiled(pattern).match(name) is not None


def items(pattern: str | Sequence[str]) -> list[str]:
    """The single items of a pattern: comma lists are taken apart, blanks dropped."""
    parts = [pattern] if isinstance(pattern, str) else list(pattern)
    return [item.strip() for part in parts for item in _split(part) if item.strip()]


def _split(text: str) -> list[str]:
    """Split at commas that are not within brackets."""
    return re.split(r",(?![^\[]*\])", text)


def select(
    pattern: str | Sequence[str], names: Iterable[str], groups: Mapping[str, frozenset[str]], where: str = ""
) -> frozenset[str]:
    """Return the names that a pattern selects.

    Items: a name, a wildcard (`web*`), a range (`web[01:05]`), `@group` (wildcards too), `all`; with `!` before it, an
    item takes away. Raises InventoryError, with the nearest name, for an item that matches nothing.
    """
    known = list(names)
    every = frozenset(known)
    taken: set[str] = set()
    dropped: set[str] = set()
    parts = items(pattern)
    for item in parts:
        found = _one(item.removeprefix("!"), known, every, groups, where)
        (dropped if item.startswith("!") else taken).update(found)
    if parts and all(item.startswith("!") for item in parts):
        taken = set(every)
    return frozenset(taken - dropped)


def _one(
    item: str, known: list[str], every: frozenset[str], groups: Mapping[str, frozenset[str]], where: str
) -> Iterable[str]:
    if item in ("all", "*"):
        return every
    if item.startswith("@"):
        wanted = [name for name in groups if matches(item[1:], name)]
        if not wanted:
            raise InventoryError(f"there is no group {item[1:]}", hint=_near(item[1:], groups), where=where)
        return [host for name in wanted for host in groups[name]]
    if item in every:
        return (item,)
    if RANGE.search(item):
        found = [name for name in expand(item) if name in every]
    elif any(mark in item for mark in "*?["):
        found = [name for name in known if matches(item, name)]
    else:
        found = []
    if not found:
        hint = f'did you mean "@{item}"?' if item in groups else _near(item, known)
        raise InventoryError(f"no host matches {item}", hint=hint or "see sloth-runner inventory list", where=where)
    return found


def _near(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), 1, 0.6)
    return f'did you mean "{near[0]}"?' if near else ""
