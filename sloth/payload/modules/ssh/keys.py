"""Parses public keys and the lines of authorized_keys, as sshd does."""

import base64
import binascii
import struct

from sloth.payload.lib.regex import expression, re

TYPES = (
    "ssh-ed25519", "ssh-rsa", "ssh-dss", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com", "sk-ssh-ed25519@openssh.com", "ssh-ed448",
)  # fmt: skip
_CERTIFICATE = expression(r"^(?:sk-)?(?:ssh|ecdsa)-[a-z0-9-]+-cert-v01@openssh\.com$")
BLANKS = " \t"  # what separates words for OpenSSH; str.split() would also split at a no-break space
SHOWN = 40  # characters of a key's data that may stand in a state key


def is_type(word: "str") -> "bool":
    """Return whether `word` names a type of key."""
    return word in TYPES or bool(_CERTIFICATE.match(word))


def defect(kind: "str", data: "str") -> "str":
    """Return why OpenSSH cannot read a key, or ""."""
    try:
        blob = base64.b64decode(data.encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        return "it is not valid base64"
    if len(blob) < 4:
        return "it is too short"
    length = struct.unpack(">I", blob[:4])[0]
    inside = blob[4 : 4 + length]
    if inside != kind.encode("ascii"):
        return "it is not a key of the type %s" % kind
    return ""


def abbreviate(kind: "str", data: "str") -> "str":
    """Return what stands for a key in a state key: its type and data, shortened in the middle where they are long."""
    text = data if len(data) <= SHOWN else "%s...%s" % (data[:8], data[-24:])
    return "%s-%s" % (kind, text)


def split_options(text: "str") -> "list[str]":
    """Split "a,b=\\"x,y\\"" at the commas outside of quotes."""
    parts, is_quoted, start, at = [], False, 0, 0
    while at < len(text):
        if text[at : at + 2] == '\\"':
            at += 1
        elif text[at] == '"':
            is_quoted = not is_quoted
        elif text[at] == "," and not is_quoted:
            parts.append(text[start:at])
            start = at + 1
        at += 1
    parts.append(text[start:])
    return [part.strip() for part in parts if part.strip()]


def first_word(text: "str") -> "tuple[str, str]":
    """Return the first word, with the blanks that are quoted in it, and the rest without the blanks between."""
    is_quoted, at = False, 0
    while at < len(text):
        if text[at : at + 2] == '\\"':
            at += 1
        elif text[at] == '"':
            is_quoted = not is_quoted
        elif text[at] in BLANKS and not is_quoted:
            break
        at += 1
    return text[:at], text[at:].strip(BLANKS)


def split_words(text: "str") -> "list[str]":
    """Split a line at its blanks, without its line end; quotes have no meaning."""
    return [word for word in re.split("[ \t]+", text.strip(" \t\r\n")) if word]


class Key(object):
    """A line of an authorized_keys file."""

    __slots__ = ("comment", "data", "kind", "options")

    def __init__(self, options: "list[str]", kind: "str", data: "str", comment: "str") -> "None":
        self.options = options
        self.kind = kind
        self.data = data
        self.comment = comment

    @classmethod
    def parse(cls, line: "str", is_given: "bool" = False) -> "Key | None":
        """Return the Key on `line`, or None when it holds none.

        is_given: it is an argument, not a line of the file: a blank after a comma between options is allowed.
        """
        text = line.strip(" \t\r\n")
        if not text or text.startswith("#"):
            return None
        word, rest = first_word(text)
        options: "list[str]" = []
        if not is_type(word):
            while is_given and word.endswith(",") and rest:
                more, rest = first_word(rest)
                word += more
            options = split_options(word)
            word, rest = first_word(rest)
        words = re.split("[ \t]+", rest, maxsplit=1)
        if not is_type(word) or not words[0]:
            return None
        return cls(options, word, words[0], " ".join(split_words(words[1])) if len(words) > 1 else "")

    def same(self, other: "Key") -> "bool":
        """Return whether both mean the same; the order of options does not count."""
        mine, theirs = sorted(self.options), sorted(other.options)
        return (mine, self.kind, self.data, self.comment) == (theirs, other.kind, other.data, other.comment)

    def line(self) -> "str":
        """Return the line, without its end; as Ansible writes it, with a blank after a key without a comment."""
        options = ",".join(self.options)
        return "%s%s %s %s" % (options + " " if options else "", self.kind, self.data, self.comment)


def respace(line: "str") -> "str":
    """Return the line of a key with single blanks between its words, as Ansible writes it; any other line as it is.

    What is quoted stays as it is, and so does a line whose words sshd and Ansible would separate at other places.
    """
    key = Key.parse(line)
    text = line.strip(" \t\r\n")
    options, rest = ("", text) if key is None or not key.options else first_word(text)
    if key is None or "\r" in line or re.search(r"\s\s|[^\S ]", options) or re.search(r"[^\S \t]", rest):
        return line
    return "%s%s %s %s\n" % (options + " " if options else "", key.kind, key.data, key.comment)
