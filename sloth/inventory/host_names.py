"""Host patterns of Ansible's inventories: `web[01:20:2].example.org:2222`, `db-[a:f]`, `[::1]:22`."""

from __future__ import annotations

import re
import string

from sloth.inventory.patterns import LARGEST_RANGE

_BRACKETED = re.compile(r"\[(.+)\]:(\d+)\Z")
_WITH_PORT = re.compile(r"((?:[^:\[\]]|\[[^\]]*\])*):(\d+)\Z")
_RANGE = re.compile(r"\[([^\[\]]*)\]")
_NAME = re.compile(r"(?:[\w.-]|\[[^\[\]]*\])+\Z")
_IPV6 = re.compile(r"[0-9a-fA-F:.\[\]]*:[0-9a-fA-F:.\[\]]*\Z")


def read_host(pattern: str) -> tuple[list[str], int | None]:
    """Return the names that a pattern stands for, and their port. Raises ValueError for an invalid range."""
    name, port = pattern, None
    for form in (_BRACKETED, _WITH_PORT):
        found = form.match(pattern) if ":" in pattern else None
        if found and (_NAME.match(found[1]) or _IPV6.match(found[1])):
            name, port = found[1], int(found[2])
            break
    if port is None and pattern.endswith(":"):
        raise ValueError(f"{pattern!r} must not end in ':'")
    if port is not None and not 0 < port < 65536:
        raise ValueError(f"{port} is not a port number")
    return (_expand(name) if "[" in name else [name]), port


def _expand(text: str) -> list[str]:
    found = _RANGE.search(text)
    if found is None:
        if "[" in text or "]" in text:
            raise ValueError(f"{text!r} has a bracket without its other half")
        return [text]
    heads = [text[: found.start()] + item for item in _items(found[1])]
    tails = _expand(text[found.end() :])
    if len(heads) * len(tails) > LARGEST_RANGE:
        raise ValueError(f"{text} has more than {LARGEST_RANGE} names")
    return [head + tail for head in heads for tail in tails]


def _items(text: str) -> list[str]:
    bounds = text.split(":")
    if len(bounds) not in (2, 3):
        raise ValueError(f"the range [{text}] must be [first:last] or [first:last:step]")
    first, last = bounds[0] or "0", bounds[1]
    if not last:
        raise ValueError(f"the range [{text}] must have an end")
    if len(bounds) == 3 and not (bounds[2].isdecimal() and int(bounds[2]) > 0):
        raise ValueError(f"the step of the range [{text}] must be a whole number above 0")
    step = int(bounds[2]) if len(bounds) == 3 else 1
    letters = string.ascii_letters
    if len(first) == len(last) == 1 and first in letters and last in letters:
        if letters.index(first) > letters.index(last):
            raise ValueError(f"the range [{text}] is empty: write the smaller end first")
        return list(letters[letters.index(first) : letters.index(last) + 1 : step])
    if not (first.isdecimal() and last.isdecimal()):
        raise ValueError(f"the range [{text}] must have numbers or letters at both ends")
    width = len(first) if first.startswith("0") and len(first) > 1 else 0
    if width and width != len(last):
        raise ValueError(f"the ends of the range [{text}] must have the same number of digits")
    if int(first) > int(last):
        raise ValueError(f"the range [{text}] is empty: write the smaller end first")
    if (int(last) - int(first)) // step >= LARGEST_RANGE:
        raise ValueError(f"the range [{text}] has more than {LARGEST_RANGE} names")
    return [str(number).zfill(width) for number in range(int(first), int(last) + 1, step)]
