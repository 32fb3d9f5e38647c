"""The controller's one "did you mean": what the payload suggests for a mistyped argument, for every other word."""

from __future__ import annotations

from collections.abc import Iterable

from sloth.payload.kernel.errors import did_you_mean, nearest

__all__ = ["did_you_mean", "did_you_mean_or_list", "nearest"]


def did_you_mean_or_list(word: str, known: Iterable[str], what: str) -> str:
    """Return 'did you mean "x"?', or else all known words after `what`: "options are a, b"; "" when none is known."""
    words = list(known)
    return did_you_mean(word, words) or (f"{what} are {', '.join(words)}" if words else "")
