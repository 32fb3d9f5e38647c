"""Regular expressions as users of Ansible write them, with the same meaning under every Python from 3.6 on."""

import sys

from sloth.payload.kernel.resource import ArgumentError
from sloth.payload.lib.regex import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import AnyStr, Callable, Match, Pattern

# What may follow a backslash in a replacement, besides digits and g: Python 3.7 and later refuse all other letters.
_TEMPLATE_ESCAPES = "abfnrtvg"


def compile_pattern(
    name: "str", pattern: "AnyStr", flags: "int" = 0, warn: "Callable[[str], None] | None" = None
) -> "Pattern[AnyStr]":
    """Compile `pattern`, the value of the argument `name`. Raises ArgumentError, with the position of the mistake.

    A global flag that is not at the start (`^(?i)x`), which Python refuses since 3.11, is moved to the start, where it
    has the meaning that it always had; warn(text) is then called.
    """
    hoisted = hoist_flags(pattern)
    if hoisted != pattern and warn is not None:
        warn("%s: the flags in the middle of %s apply to all of it; write them at its start" % (name, _text(pattern)))
    try:
        return re.compile(hoisted, flags)
    except (re.error, OverflowError, RecursionError, ValueError) as error:
        raise ArgumentError(
            "%s is not a valid regular expression: %s: %s" % (name, error, _text(pattern)),
            hint="the syntax is that of Python %d.%d's re module" % sys.version_info[:2],
        )


def hoist_flags(pattern: "AnyStr") -> "AnyStr":
    """Return `pattern` with every global flag group that is not at its start, such as (?i), moved there."""
    if isinstance(pattern, bytes):
        return hoist_flags(pattern.decode("latin-1")).encode("latin-1")
    flags, position, in_class, late = "", 0, False, False
    kept: "list[str]" = []
    while position < len(pattern):
        letter = pattern[position]
        group = None if in_class else re.match(r"\(\?([aiLmsux]+)\)", pattern[position:])
        if letter == "\\":
            kept.append(pattern[position : position + 2])
            position += 2
        elif group:
            late = late or position > 0
            flags += "".join(flag for flag in group.group(1) if flag not in flags)
            position += group.end()
        elif not in_class and letter == "[":
            in_class = True
            # A ] that comes first in a class is one of its characters.
            start = "[^" if pattern.startswith("[^", position) else "["
            start += "]" if pattern.startswith("]", position + len(start)) else ""
            kept.append(start)
            position += len(start)
        else:
            in_class = in_class and letter != "]"
            kept.append(letter)
            position += 1
    return "(?%s)%s" % (flags, "".join(kept)) if late else pattern


def check_template(name: "str", template: "str") -> "None":
    """Raise ArgumentError when `template`, the value of the argument `name`, has an escape that is not valid there."""
    for found in re.finditer(r"\\(.|$)", template, re.DOTALL):
        letter = found.group(1)
        if not letter or ("a" <= letter.lower() <= "z" and letter not in _TEMPLATE_ESCAPES):
            raise ArgumentError(
                "%s has the bad escape %r at position %d" % (name, found.group(), found.start()),
                hint="write a literal backslash as two",
            )


def expand(name: "str", match: "Match[AnyStr]", template: "AnyStr") -> "AnyStr":
    """Return match.expand(template). Raises ArgumentError for a group that the pattern does not have."""
    try:
        return match.expand(template)
    except (re.error, IndexError) as error:
        raise ArgumentError("%s refers to a group that the pattern does not have: %s" % (name, error))


def substitute(pattern: "Pattern[str]", template: "str", text: "str") -> "tuple[str, int]":
    """Replace every match as re.subn() of Python 3.7 and later does; return the new text and the number of matches."""
    if sys.version_info >= (3, 7):
        try:
            return pattern.subn(template, text)
        except (re.error, IndexError) as error:
            raise ArgumentError("replace refers to a group that regexp does not have: %s" % error)
    # Before 3.7 an empty match was lost when it directly followed another match.
    parts: "list[str]" = []
    position = copied = count = 0
    while position <= len(text):
        match = pattern.search(text, position)
        if not match:
            break
        parts += [text[copied : match.start()], expand("replace", match, template)]
        count += 1
        copied = match.end()
        position = match.end() + (match.start() == match.end())
    return "".join(parts + [text[copied:]]), count


def _text(pattern: "str | bytes") -> "str":
    return pattern.decode("utf-8", "replace") if isinstance(pattern, bytes) else pattern
