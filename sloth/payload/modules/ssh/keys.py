"""What an OpenSSH public key looks like."""

import base64
import binascii
import re
import struct

TYPES = (
    "ssh-ed25519", "ssh-rsa", "ssh-dss", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com", "sk-ssh-ed25519@openssh.com", "ssh-ed448",
)  # fmt: skip
_CERTIFICATE = re.compile(r"^(?:sk-)?(?:ssh|ecdsa)-[a-z0-9-]+-cert-v01@openssh\.com$")
SHOWN = 40  # characters of a key's data that may stand in a state key


def is_type(word):
    """Whether `word` names a type of key."""
    return word in TYPES or bool(_CERTIFICATE.match(word))


def complaint(kind, data):
    """Why sshd could not read the key (str), "" when it can."""
    try:
        blob = base64.b64decode(data.encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        return "it is no base64"
    if len(blob) < 4:
        return "it is too short"
    length = struct.unpack(">I", blob[:4])[0]
    inside = blob[4 : 4 + length]
    if inside != kind.encode("ascii"):
        return "it is not a key of the type %s" % kind
    return ""


def short(kind, data):
    """What stands for a key in a state key: its type and data, cut in the middle where they are long."""
    text = data if len(data) <= SHOWN else "%s...%s" % (data[:8], data[-24:])
    return "%s-%s" % (kind, text)


def split_options(text):
    """Split "a,b=\\"x,y\\"" at the commas outside of quotes; return a list of str."""
    parts, quoted, start, at = [], False, 0, 0
    while at < len(text):
        char = text[at]
        if char == "\\" and quoted:
            at += 1
        elif char == '"':
            quoted = not quoted
        elif char == "," and not quoted:
            parts.append(text[start:at])
            start = at + 1
        at += 1
    parts.append(text[start:])
    return [part.strip() for part in parts if part.strip()]


def first_word(text):
    """(the first word, the rest without the blanks between): blanks in quotes are a part of the word."""
    quoted, at = False, 0
    while at < len(text):
        char = text[at]
        if char == "\\" and quoted:
            at += 1
        elif char == '"':
            quoted = not quoted
        elif char in " \t" and not quoted:
            break
        at += 1
    return text[:at], text[at:].strip(" \t")


class Key(object):
    """One line of an authorized_keys file: options (list), kind, data, comment."""

    def __init__(self, options, kind, data, comment):
        self.options, self.kind, self.data, self.comment = options, kind, data, comment

    @classmethod
    def parse(cls, line):
        """Return the Key on `line` (str), or None when it holds none."""
        text = line.strip(" \t\r\n")
        if not text or text.startswith("#"):
            return None
        word, rest = first_word(text)
        options = []
        if not is_type(word):
            options = split_options(word)
            word, rest = first_word(rest)
        data, _, comment = rest.partition(" ")
        if not is_type(word) or not data:
            return None
        return cls(options, word, data, comment.strip())

    def same(self, other):
        """Whether both say the same; the order of options does not count."""
        mine, theirs = sorted(self.options), sorted(other.options)
        return (mine, self.kind, self.data, self.comment) == (theirs, other.kind, other.data, other.comment)

    def line(self):
        words = [",".join(self.options), self.kind, self.data, self.comment]
        return " ".join(word for word in words if word)
