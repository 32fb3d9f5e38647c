"""ssh.known_hosts: the public keys of other hosts."""

import base64
import hashlib
import hmac
import os

from sloth.payload.kernel.resource import REQUIRED, ArgumentError, Field
from sloth.payload.lib.accounts import get_account
from sloth.payload.lib.regex import expression
from sloth.payload.lib.user_files import UserFile, UserFileEdit, join_lines, split_lines
from sloth.payload.modules.ssh.keys import defect, is_type, split_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Mapping

    from sloth.payload.kernel.resource import Change
    from sloth.payload.kernel.values import Arguments, Attributes, Json

_NAMES = expression(r"^([ \t]*(?:@[^ \t]+[ \t]+)?)([^ \t]+)")


class KnownHosts(UserFileEdit):
    """Make sure that a host's public key is, or is not, in a known_hosts file.

    The semantics are those of Ansible's known_hosts: a key of the same type that the file has for the host is replaced,
    keys of other types are kept; `state = "absent"` without a key removes all keys of the host. Hashed names are
    recognized, and an entry that is right keeps its salt. Comments do not count. Other lines are kept byte for byte.

    Other than Ansible, a key whose name is hashed, as `ssh-keyscan -H` prints it with a new salt each time, settles:
    any hashed entry with this key counts.

    Other than Ansible, `state = "absent"` with a key removes that key only (Ansible removes all of the host's if one is
    of the same type).

    Other than Ansible, only the host's own name is removed from a line that names several hosts; the line stays for the
    others.

    Other than Ansible, ~/.ssh is kept at mode 0700 and the user's file at 0600, both owned by the user; root follows no
    link below the user's home; ssh-keygen is not needed on the host; and `key` may be just "type key".

    Other than Ansible, a last line without a newline is ended first; Ansible appends the key to that line.

    Other than Ansible, `port` adds the port to the name, the key must be one of the host with `hash_host`, too, and a
    warning names a key that ssh could not read.
    """

    name = "ssh.known_hosts"
    fields = (
        Field("name", "str", REQUIRED, aliases=("host",), help="host name or address"),
        Field("key", help='a line "[marker] name type key", as ssh-keyscan prints it, or only "type key"'),
        Field("state", choices=("present", "absent"), default="present", help="whether the key is in the file"),
        Field("port", "int", help="port, if not 22: the name is then written as [name]:port"),
        Field("hash_host", "bool", False, help="write the name as a hash that hides it"),
        Field("user", help="whose ~/.ssh/known_hosts it is; by default that of the account the task runs as"),
        Field("path", "path", help="the file, instead of a user's, such as /etc/ssh/ssh_known_hosts"),
    )
    example = """task({name = "known", run = function()
    ssh.known_hosts({
        name = "git.example.com",
        key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGrShxPYuoCAF5bnDKQ1kQmJwxJ8s1cZ0lQJZq3yHcAr",
    })
end})"""

    @classmethod
    def check_together(cls, values: "Arguments") -> "None":
        name = values["name"]
        if "," in name:
            raise ArgumentError(
                "Comma separated list of names is not supported. "
                "Please pass a single name to lookup in the known_hosts file."
            )
        if not name.strip() or any(char.isspace() for char in name):
            raise ArgumentError("%s: %r is not a valid host name" % (cls.name, name))
        if values.get("key") is None:
            if values["state"] == "present":
                raise ArgumentError("No key specified when adding a host")
            return
        lines = _key_lines(values["key"])
        if len(lines) > 1:
            raise ArgumentError("%s: key holds %d keys" % (cls.name, len(lines)), hint="make a call for each of them")
        entry = _given_entry(values)
        if entry is None:
            raise ArgumentError("%s: invalid key: %s" % (cls.name, values["key"].strip()))
        if not entry.covers(_full_name(values)):
            raise ArgumentError(
                "Host parameter does not match hashed host field in supplied key",
                hint="the key is one of %s: set name, and port, so that they mean that host" % entry.names,
            )

    def identity(self) -> "str":
        path = self.args.path or self.args.user
        name = _full_name(vars(self.args))
        entry = _given_entry(vars(self.args))
        kind = ":%s" % entry.kind if entry else ""
        return "%s:%s%s" % (path, name, kind) if path else name + kind

    @property
    def user_file(self) -> "UserFile":
        account = get_account(self.host, self.args.user)
        if not self.args.path:
            return UserFile(self.host, account, os.path.join(account.pw_dir, ".ssh", "known_hosts"))
        return UserFile(self.host, account, self.host.expand(self.args.path), strict=False, manage=None)

    def desired(self, now: "Attributes | None") -> "Attributes | None":
        desired = UserFileEdit.desired(self, now)
        # A file for all users keeps the mode and owner that it has.
        if desired is not None and desired is not now and self.args.path and not self.args.user:
            desired["mode"] = (now or {}).get("mode", "0644")
            desired["owner"] = (now or {}).get("owner", desired["owner"])
        return desired

    def edit(self, data: "bytes") -> "bytes":
        """Return the file's content with the key, or without it."""
        name = _full_name(vars(self.args))
        given = _given_entry(vars(self.args))
        is_present = self.args.state == "present"
        names = [name] + (given.names.split(",") if given is not None and not given.is_hashed else [])
        kept: "list[str]" = []
        found = False
        for line in split_lines(data):
            entry = Entry.parse(line)
            if entry is None or not entry.covers(name) or not self._is_affected(entry, given):
                kept.append(line)
            elif is_present and given is not None and self._is_right(entry, given) and not found:
                found = True
                kept.append(line)
            else:
                kept += _without_names(line, entry, names)
        if is_present and given is not None and not found:
            if kept and not kept[-1].endswith("\n"):
                kept[-1] += "\n"
            wants_hash = self.args.hash_host and not given.is_hashed
            kept.append(given.line(_hash_name(name, given.data) if wants_hash else given.names))
        return join_lines(kept)

    def _is_affected(self, entry: "Entry", given: "Entry | None") -> "bool":
        """Return whether an entry of the host is one that the call is about."""
        if given is None:
            return True
        if (entry.marker, entry.kind) != (given.marker, given.kind):
            return False
        # There may be several authorities and several revoked keys; and absent removes the key that is given.
        return entry.data == given.data or (not given.marker and self.args.state == "present")

    def _is_right(self, entry: "Entry", given: "Entry") -> "bool":
        return entry.data == given.data and entry.is_hashed == (self.args.hash_host or given.is_hashed)

    def apply(self, change: "Change") -> "Attributes | None":
        given = _given_entry(vars(self.args))
        if given is not None and self.args.state == "present":
            why = defect(given.kind, given.data)
            if why:
                self.host.warn("ssh will not accept the key of %s: %s" % (self.args.name, why))
        return UserFileEdit.apply(self, change)


class Entry(object):
    """A line of a known_hosts file: marker ("", "@revoked", ...), names (with commas), kind, data, comment."""

    __slots__ = ("comment", "data", "is_hashed", "kind", "marker", "names")

    def __init__(self, marker: "str", names: "str", kind: "str", data: "str", comment: "str" = "") -> "None":
        self.marker = marker
        self.names = names
        self.kind = kind
        self.data = data
        self.comment = comment
        self.is_hashed = names.startswith("|1|")

    @classmethod
    def parse(cls, line: "str") -> "Entry | None":
        """Return the Entry on `line`, or None when it holds none."""
        words = split_words(line)
        if not words or words[0].startswith("#"):
            return None
        marker = words.pop(0) if words[0].startswith("@") else ""
        if len(words) < 3 or not is_type(words[1]):
            return None
        return cls(marker, words[0], words[1], words[2], " ".join(words[3:]))

    def covers(self, name: "str") -> "bool":
        """Return whether the entry is about the host `name`."""
        if not self.is_hashed:
            return name.lower() in [part.lower() for part in self.names.split(",")]
        parts = self.names.split("|")
        try:
            salt = base64.b64decode(parts[2])
            digest = hmac.new(salt, name.lower().encode("utf-8"), hashlib.sha1).digest()
            return hmac.compare_digest(digest, base64.b64decode(parts[3]))
        except (IndexError, ValueError):
            return False

    def line(self, names: "str") -> "str":
        """Return the line for other `names`."""
        return " ".join(word for word in (self.marker, names, self.kind, self.data, self.comment) if word) + "\n"


def _without_names(line: "str", entry: "Entry", names: "list[str]") -> "list[str]":
    """Return the line without `names`, all else byte for byte; an empty list when no other name is left."""
    removed = set(name.lower() for name in names)
    left = [] if entry.is_hashed else [part for part in entry.names.split(",") if part.lower() not in removed]
    # Patterns that only exclude hosts match nothing.
    if all(not part or part.startswith("!") for part in left):
        return []
    return [_NAMES.sub(lambda found: found.group(1) + ",".join(left), line, 1)]


def _full_name(values: "Mapping[str, Json]") -> "str":
    """Return the name as known_hosts has it, with the port when it is not 22."""
    name: "str" = values["name"]
    port = values.get("port")
    return "[%s]:%d" % (name, port) if port not in (None, 22) and not name.startswith("[") else name


def _key_lines(key: "str") -> "list[str]":
    """Return the lines of the argument `key` without empty ones and comments, such as those of ssh-keyscan."""
    return [line for line in key.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def _given_entry(values: "Mapping[str, Json]") -> "Entry | None":
    """Return the Entry that the argument `key` stands for; None without one, or when it is invalid."""
    if values.get("key") is None:
        return None
    lines = _key_lines(values["key"])
    if len(lines) != 1:
        return None
    words = split_words(lines[0])
    if len(words) >= 2 and is_type(words[0]):
        return Entry("", _full_name(values), words[0], words[1], " ".join(words[2:]))
    return Entry.parse(lines[0])


def _hash_name(name: "str", data: "str") -> "str":
    """Return the name as OpenSSH hashes it. The salt is derived from name and key, so that the result is stable."""
    salt = hashlib.sha1(("%s %s" % (name, data)).encode("utf-8", "surrogateescape")).digest()
    digest = hmac.new(salt, name.lower().encode("utf-8"), hashlib.sha1).digest()
    return "|1|%s|%s" % (base64.b64encode(salt).decode("ascii"), base64.b64encode(digest).decode("ascii"))
