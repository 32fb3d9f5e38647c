"""The words of a line, and patterns: each function does what one of OpenSSH's does."""

from __future__ import annotations

import re
from functools import cache

BLANK = " \t\r\n"


def take(text: str) -> tuple[str | None, str | None]:
    """Return the first word of `text` and the rest (strdelim()): words end with blanks, a quote, or one "=".

    The word is None when its quotes do not match; the rest is None at the end.
    """
    at = next((index for index, character in enumerate(text) if character in BLANK + '"='), None)
    if at is None:
        return text, None
    if text[at] == '"':
        joined = text[:at] + text[at + 1 :]
        end = joined.find('"', at)
        if end < 0:
            return None, None
        return joined[:end], joined[end + 1 :].lstrip(BLANK)
    has_equals = text[at] == "="
    rest = text[at + 1 :].lstrip(BLANK)
    if rest.startswith("=") and not has_equals:
        rest = rest[1:].lstrip(BLANK)
    return text[:at], rest


def split(text: str) -> list[str]:
    """Return the words of `text` up to a comment (argv_split()). Raises ValueError when quotes do not match."""
    words: list[str] = []
    at = 0
    while at < len(text):
        if text[at] in " \t":
            at += 1
            continue
        if text[at] == "#":
            break
        word, at = _word(text, at)
        words.append(word)
    return words


def _word(text: str, at: int) -> tuple[str, int]:
    word: list[str] = []
    quote = ""
    while at < len(text):
        character = text[at]
        following = text[at + 1 : at + 2]
        if character == "\\" and following and (following in "'\"\\" or (not quote and following == " ")):
            word.append(following)
            at += 1
        elif not quote and character in " \t":
            break
        elif not quote and character in "\"'":
            quote = character
        elif quote and character == quote:
            quote = ""
        else:
            word.append(character)
        at += 1
    if quote:
        raise ValueError("quotes do not match")
    return "".join(word), at


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = (".*" if part == "*" else "." if part == "?" else re.escape(part) for part in re.split(r"([*?])", pattern))
    return re.compile("".join(parts), re.DOTALL)


def matches(text: str, pattern: str) -> bool:
    """Return whether a pattern with `*` and `?` matches all of `text`."""
    if "*" not in pattern and "?" not in pattern:
        return text == pattern
    return _compiled(pattern).fullmatch(text) is not None


def matches_list(text: str, patterns: str, lower: bool = False) -> bool:
    """Return whether one of the patterns, separated by commas, matches, and none that "!" negates."""
    found = False
    for pattern in patterns.split(","):
        is_negated = pattern.startswith("!")
        pattern = pattern[is_negated:]
        if matches(text, pattern.lower() if lower else pattern):
            if is_negated:
                return False
            found = True
    return found


def matches_hosts(name: str, patterns: str) -> bool:
    """Return whether a list of host patterns matches a name; case does not count."""
    return matches_list(name.lower(), patterns, lower=True)
