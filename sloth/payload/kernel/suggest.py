"""The one "did you mean"."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterable


def nearest(word: "str", known: "Iterable[str]") -> "str":
    """Return the known word nearest to `word`, or "" when none is near."""
    import difflib

    near = difflib.get_close_matches(word, list(known), 1, 0.6)
    return near[0] if near else ""


def did_you_mean(word: "str", known: "Iterable[str]") -> "str":
    """Return 'did you mean "x"?' for the known word nearest to `word`, or ""."""
    near = nearest(word, known)
    return 'did you mean "%s"?' % near if near else ""
