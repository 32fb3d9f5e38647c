r"""Regular expressions that are compiled, and whose module is loaded, when one is used first.

With `enum`, which it needs, `re` takes a tenth of a payload's start; a converged run of files, users and packages can
do without. Modules write `from sloth.payload.lib.regex import expression, re`, and then `re.match(...)` as ever.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re as re
    from typing import AnyStr, Callable, Pattern

_WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


def is_word(text: "str") -> "bool":
    """Return whether `text` is of ASCII letters, digits, "_" and "-", and begins with a letter or digit.

    Nearly all names are, which saves the expression that says what others may be.
    """
    return _WORD.issuperset(text) and text[:1] not in ("", "_", "-")


class _Later(object):
    """Stands for something until an attribute of it is used; then it is made."""

    def __init__(self, make: "Callable[[], object]") -> "None":
        self._make = make

    def __getattr__(self, name: "str") -> "object":
        found: "object" = getattr(self._make(), name)
        setattr(self, name, found)
        return found


if not TYPE_CHECKING:
    re = _Later(lambda: __import__("re"))


def expression(source: "AnyStr") -> "Pattern[AnyStr]":
    """Return a regular expression like re.compile(source); flags are written into it: (?i)."""
    made: "Pattern[AnyStr]" = _Later(lambda: re.compile(source))  # type: ignore[assignment]  # it has whatever that has
    return made
