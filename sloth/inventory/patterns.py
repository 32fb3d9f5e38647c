"""Host patterns: names, ranges, wildcards, @groups and exclusions."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache

from sloth.errors import InventoryError
from sloth.suggest import did_you_mean, did_you_mean_or_list

RANGE = re.compile(r"\[(\d+):(\d+)(?::(\d+))?\]")
LARGEST_RANGE = 100_000  # names; a typing error such as [1:999999999] must not fill the memory


def expand(text: str) -> list[str]:
    """Return the names that `text` stands for: `web[01:03]` is web01, web02, web03 (the end is included).

    Leading zeros of the first number give the width; a third number is the step. Raises InventoryError for a range
    that is empty or too large.
    """
    match = RANGE.search(text)
    if match is None:
        return [text]
    first, last, step = int(match[1]), int(match[2]), int(match[3] or 1)
    if last < first or step < 1:
        raise InventoryError(f"the range {match[0]} is empty", hint="write the smaller number first, as in [01:20]")
    if (last - first) // step >= LARGEST_RANGE:
        raise InventoryError(f"the range {match[0]} has more than {LARGEST_RANGE} names")
    width = len(match[1]) if match[1].startswith("0") else 0
    heads = [text[: match.start()] + str(number).zfill(width) for number in range(first, last + 1, step)]
    tails = expand(text[match.end() :])
    if len(heads) * len(tails) > LARGEST_RANGE:
        raise InventoryError(f"{text} has more than {LARGEST_RANGE} names")
    return [head + tail for head in heads for tail in tails]


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(pattern))


def matches(pattern: str, name: str) -> bool:
    """Return whether a name or wildcard matches `name`; case is significant."""
    return _compiled(pattern).match(name) is not None


def items(pattern: str | Sequence[str]) -> list[str]:
    """Return the single items of a pattern: comma lists are split, blanks removed."""
    parts = [pattern] if isinstance(pattern, str) else list(pattern)
    return [item.strip() for part in parts for item in _split(part) if item.strip()]


def _split(text: str) -> list[str]:
    """Split at commas that are not within brackets."""
    return re.split(r",(?![^\[]*\])", text)


Tagged = Callable[[], Mapping[str, frozenset[str]]]
TAG = "tag:"


def select(
    pattern: str | Sequence[str],
    names: Iterable[str],
    groups: Mapping[str, frozenset[str]],
    where: str = "",
    tagged: Tagged = dict,
) -> frozenset[str]:
    """Return the names that a pattern selects.

    An item is a name, a wildcard (`web*`), a range (`web[01:05]`), `@group` (or a wildcard for groups), `tag:edge` (or
    a wildcard for tags) or `all`; one that begins with `!` excludes instead. A pattern that only excludes begins with
    all. `tagged` returns the hosts of each tag. Raises InventoryError, with the nearest name, for an item that matches
    nothing.
    """
    known = list(names)
    every = frozenset(known)
    included: set[str] = set()
    excluded: set[str] = set()
    parts = items(pattern)
    for item in parts:
        text = item.removeprefix("!")
        if text.startswith(TAG):
            found: Iterable[str] = _select_tag(text.removeprefix(TAG), tagged(), where)
        else:
            found = _select_item(text, known, every, groups, where)
        (excluded if item.startswith("!") else included).update(found)
    if parts and all(item.startswith("!") for item in parts):
        included = set(every)
    return frozenset(included - excluded)


def _select_tag(tag: str, tagged: Mapping[str, frozenset[str]], where: str) -> Iterable[str]:
    wanted = [name for name in tagged if matches(tag, name)]
    if not wanted:
        hint = did_you_mean_or_list(tag, sorted(tagged), "tags") or "a host gets tags by tags = [...] in the inventory"
        raise InventoryError(f"no host has the tag {tag}", hint=hint, where=where)
    return [host for name in wanted for host in tagged[name]]


def _select_item(
    item: str, known: list[str], every: frozenset[str], groups: Mapping[str, frozenset[str]], where: str
) -> Iterable[str]:
    if item in ("all", "*"):
        return every
    if item.startswith("@"):
        wanted = [name for name in groups if matches(item[1:], name)]
        if not wanted:
            raise InventoryError(f"there is no group {item[1:]}", hint=did_you_mean(item[1:], groups), where=where)
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
        hint = f'did you mean "@{item}"?' if item in groups else did_you_mean(item, known)
        raise InventoryError(f"no host matches {item}", hint=hint or "see sloth-runner inventory list", where=where)
    return found
