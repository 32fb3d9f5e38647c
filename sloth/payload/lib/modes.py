"""Permission bits: what an octal or symbolic mode, as people write it, means for a file."""

import os

from sloth.payload.kernel.resource import ArgumentError
from sloth.payload.lib.regex import re

ALL_BITS = 0o7777
_SHIFT = {"u": 6, "g": 3, "o": 0}
_READ_WRITE_EXECUTE = {"r": 4, "w": 2, "x": 1}
_CLEARED_BY_EQUALS = {"u": 0o4700, "g": 0o2070, "o": 0o1007}  # the class's own bits and its special one


def umask() -> "int":
    """Return the process's umask."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def parse_mode(text: "str", old: "int", is_directory: "bool" = False) -> "int":
    """Return the permission bits that `text` makes of the bits `old`, as Ansible's file modules read it.

    Raises ArgumentError when `text` is neither octal nor symbolic.
    """
    try:
        bits = int(text, 8)
    except ValueError:
        return _symbolic(text, old, is_directory)
    if bits & ~ALL_BITS or bits < 0:
        raise _invalid(text, "it has more than permission bits")
    return bits


def _invalid(text: "str", why: "str") -> "ArgumentError":
    return ArgumentError(
        'mode "%s" is not a mode: %s' % (text, why),
        hint='write octal digits such as "0644", or symbols such as "u=rw,go=r" or "a+X"',
    )


def _symbolic(text: "str", old: "int", is_directory: "bool") -> "int":
    bits = old
    for clause in text.split(","):
        found = re.match(r"^([ugoa]*)((?:[-+=][rwxXstugo]*)+)$", clause)
        if not found:
            raise _invalid(text, "%r is neither octal nor of the form u+rwx" % clause)
        who = "ugo" if not found.group(1) or "a" in found.group(1) else found.group(1)
        # Without a "who" the umask limits the bits, as in chmod(1).
        allowed = ~umask() if not found.group(1) else ALL_BITS
        for operator, letters in re.findall(r"([-+=])([rwxXstugo]*)", found.group(2)):
            for one in who:
                value = _value(letters, one, bits, is_directory, allowed)
                if operator == "+":
                    bits |= value
                elif operator == "-":
                    bits &= ~value
                else:
                    bits = bits & ~_CLEARED_BY_EQUALS[one] | value
    return bits


def _value(letters: "str", one: "str", bits: "int", is_directory: "bool", allowed: "int") -> "int":
    """Return the bits that `letters` mean for the class `one` ("u", "g" or "o")."""
    shift = _SHIFT[one]
    value = 0
    for letter in letters:
        if letter in "rwx":
            value |= (_READ_WRITE_EXECUTE[letter] << shift) & allowed
        elif letter == "X":
            value |= 1 << shift if is_directory or bits & 0o111 else 0
        elif letter == "s":
            value |= {"u": 0o4000, "g": 0o2000, "o": 0}[one]
        elif letter == "t":
            value |= 0o1000 if one == "o" else 0
        else:
            value |= ((bits >> _SHIFT[letter]) & 7) << shift
    return value
