"""Regular expressions as users of Ansible write them, with one meaning under every Python from 3.6 on."""

import re
import sys

from sloth.payload.kernel.resource import ArgumentError

# What may follow a backslash in a replacement, besides digits and g: Python 3.7 and later refuse all other letters.
_TEMPLATE_ESCAPES = "abfnrtvg"


def compiled(name, pattern, flags=0, warn=None):
    """Compile `pattern` (str or bytes), the argument `name`; raise ArgumentError, naming the position, if it is none.

    A global flag that is not at the start (`^(?i)x`), which Python since 3.11 refuses, is moved to the start, where it
    has the meaning it always had; warn (callable taking a str) is told so.
    """
    hoisted = hoist_flags(pattern)
    if hoisted != pattern and warn is not None:
        warn("%s: the flags in the middle of %s count for all of it; write them at its start" % (name, _shown(pattern)))
    try:
        return re.compile(hoisted, flags)
    except (re.error, OverflowError, RecursionError, ValueError) as error:
        raise ArgumentError(
            "%s is not a regular expression: %s: %s" % (name, error, _shown(pattern)),
            hint="it is read as Python %d.%d's re module does" % sys.version_info[:2],
        )


def hoist_flags(pattern):
    """Return `pattern` with every global flag group that is not at its start, such as (?i), moved there."""
    if isinstance(pattern, bytes):
        return hoist_flags(pattern.decode("latin-1")).encode("latin-1")
    flags, kept, position, in_class, late = "", [], 0, False, False
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
            start = re.match(r"\[\^?\]?", pattern[position:]).group()
            kept.append(start)
            position += len(start)
        else:
            in_class = in_class and letter != "]"
            kept.append(letter)
            position += 1
    return "(?%s)%s" % (flags, "".join(kept)) if late else pattern


def check_template(name, template):
    """Raise ArgumentError when `template` (str), the argument `name`, has an escape that no replacement has."""
    for found in re.finditer(r"\\(.|$)", template, re.DOTALL):
        letter = found.group(1)
        if not letter or ("a" <= letter.lower() <= "z" and letter not in _TEMPLATE_ESCAPES):
            raise ArgumentError(
                "%s has the bad escape %r at position %d" % (name, found.group(), found.start()),
                hint="write a backslash that is meant as one twice",
            )


def expand(name, match, template):
    """Return match.expand(template); raise ArgumentError for a group that the pattern does not have."""
    try:
        return match.expand(template)
    except (re.error, IndexError) as error:
        raise ArgumentError("%s names what the pattern does not have: %s" % (name, error))


def substitute(pattern, template, text):
    """Return (text with every match replaced, how many), as re.subn of Python 3.7 and later does it."""
    if sys.version_info >= (3, 7):
        try:
            return pattern.subn(template, text)
        except (re.error, IndexError) as error:
            raise ArgumentError("replace names what regexp does not have: %s" % error)
    # Before 3.7 an empty match was lost when it followed another match at once.
    parts, position, copied, count = [], 0, 0, 0
    while position <= len(text):
        match = pattern.search(text, position)
        if not match:
            break
        parts += [text[copied : match.start()], expand("replace", match, template)]
        count += 1
        copied = match.end()
        position = match.end() + (match.start() == match.end())
    return text[:0].join(parts + [text[copied:]]), count


def _shown(pattern):
    return pattern.decode("utf-8", "replace") if isinstance(pattern, bytes) else pattern
