"""Names of entries as paths, for servers that take no arbitrary text: URLs that are cleaned, and objects in files.

Letters and digits of any script and "._-" stay as they are. Other characters are "=XX"; a part that is empty is "=",
and one that is long has "=+/" in it, since some servers keep a part as a file's name.
"""

from __future__ import annotations

import re

LONGEST = 180  # bytes of one part
PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
LEAF = ".value"  # ends the last part of an object, so that no object's name is another one's directory


def encode(key: str, leaf: str = "") -> str:
    """Return the path for a key; leaf: the end of its last part."""
    *directories, last = key.split("/")
    return "/".join([*(_part(one, leaf) for one in directories), _part(last, "") + leaf])


def directory(prefix: str, leaf: str = "") -> str:
    """Return the path of the directory in which all keys with a prefix are, with "/" at its end; "" for the top."""
    parts = prefix.split("/")[:-1]
    return "".join(f"{_part(one, leaf)}/" for one in parts)


def decode(path: str, leaf: str = "") -> str | None:
    """Return the key of a path, or None for a path that encode() has not made."""
    if not path.endswith(leaf):
        return None
    whole = path[: len(path) - len(leaf)].replace("=+/", "")
    key = "/".join("" if part == "=" else re.sub(r"=([0-9A-F]{2})", _character, part) for part in whole.split("/"))
    return key if encode(key, leaf) == path else None


def _part(part: str, leaf: str) -> str:
    """Return a part of a path; leaf: what no directory may end with."""
    if not part:
        return "="
    if part in (".", ".."):
        return part.replace(".", "=2E")
    pieces = [one if one in PLAIN or (one > "\x7f" and not _is_escape(one)) else _escape(one) for one in part]
    if leaf and part.endswith(leaf):
        pieces[-len(leaf)] = _escape(part[-len(leaf)])
    out, size = "", 0
    for piece in pieces:
        length = len(piece.encode("utf-8"))
        if size + length > LONGEST:
            out, size = f"{out}=+/", 0
        out, size = out + piece, size + length
    return out


def _is_escape(character: str) -> bool:
    """Return whether a character stands for a byte that is not UTF-8."""
    return "\udc80" <= character <= "\udcff"


def _escape(character: str) -> str:
    return f"={ord(character) & 0xFF:02X}"


def _character(found: re.Match[str]) -> str:
    code = int(found[1], 16)
    return chr(code) if code < 0x80 else chr(0xDC00 + code)
