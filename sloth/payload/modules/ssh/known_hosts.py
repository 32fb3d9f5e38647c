"""ssh.known_hosts: which keys other hosts are known by."""

import base64
import hashlib
import hmac
import os

from sloth.payload.kernel.resource import REQUIRED, ArgumentError, Field
from sloth.payload.lib.accounts import get_account
from sloth.payload.lib.user_files import UserFile, UserFileEdit, join_lines, split_lines
from sloth.payload.modules.ssh.keys import complaint, is_type


class KnownHosts(UserFileEdit):
    """Make sure that a host's key is known, or not known.

    The semantics are those of Ansible's known_hosts: a key of the same type that the file has for the host is replaced,
    others stay; absent without a key removes all of the host's. Hashed names are recognised; an entry that is right
    keeps its salt. Comments do not count. Other lines stay byte for byte.
    """

    name = "ssh.known_hosts"
    fields = (
        Field("name", "str", REQUIRED, aliases=("host",), help="the host's name or address"),
        Field("key", help='a line "[marker] name type key", as ssh-keyscan prints it, or only "type key"'),
        Field("state", choices=("present", "absent"), default="present", help="whether the key is there"),
        Field("port", "int", help="when it is not 22: the name is then written as [name]:port"),
        Field("hash_host", "bool", False, help="write the name as a hash that hides it"),
        Field("user", help="whose ~/.ssh/known_hosts it is; without it, that of the account the task runs as"),
        Field("path", "path", help="the file, instead of a user's, such as /etc/ssh/ssh_known_hosts"),
    )
    example = """task({name = "known", run = function()
    ssh.known_hosts({
        name = "git.example.com",
        key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGrShxPYuoCAF5bnDKQ1kQmJwxJ8s1cZ0lQJZq3yHcAr",
    })
end})"""

    @classmethod
    def check_together(cls, values):
        name = values["name"]
        if "," in name:
            raise ArgumentError(
                "Comma separated list of names is not supported. "
                "Please pass a single name to lookup in the known_hosts file."
            )
        if not name.strip() or any(char.isspace() for char in name):
            raise ArgumentError("%s: %r cannot be the name of a host" % (cls.name, name))
        if values.get("key") is None:
            if values["state"] == "present":
                raise ArgumentError("No key specified when adding a host")
            return
        entry = _wanted(values)
        if entry is None:
            raise ArgumentError("%s: the key cannot be read: %s" % (cls.name, values["key"].strip()[:80]))
        if not entry.covers(_full_name(values)):
            raise ArgumentError("Host parameter does not match hashed host field in supplied key")

    def identity(self):
        where = self.args.path or self.args.user
        name = _full_name(vars(self.args))
        entry = _wanted(vars(self.args))
        kind = ":%s" % entry.kind if entry else ""
        return "%s:%s%s" % (where, name, kind) if where else name + kind

    @property
    def user_file(self):
        account = get_account(self.host, self.args.user)
        if not self.args.path:
            return UserFile(self.host, account, os.path.join(account.pw_dir, ".ssh", "known_hosts"))
        return UserFile(self.host, account, self.host.expand(self.args.path), strict=False, manage=False)

    def desired(self, now):
        wish = UserFileEdit.desired(self, now)
        # A file for everybody: who may read it is not our business.
        if wish is not now and self.args.path and not self.args.user:
            wish["mode"] = (now or {}).get("mode", "0644")
            wish["owner"] = (now or {}).get("owner", wish["owner"])
        return wish

    def edit(self, data):
        """The file's bytes with the key in it, or without it."""
        name = _full_name(vars(self.args))
        entry = _wanted(vars(self.args))
        kept, there = [], False
        for line in split_lines(data):
            old = Entry.parse(line)
            if old is None or not old.covers(name) or (entry and (old.marker, old.kind) != (entry.marker, entry.kind)):
                kept.append(line)
            elif entry and entry.marker and old.data != entry.data:
                kept.append(line)  # there may be several authorities, and several revoked keys
            elif self.args.state == "absent":
                if entry and old.data != entry.data:
                    kept.append(line)
            elif old.data == entry.data and old.hashed == self.args.hash_host and not there:
                there = True
                kept.append(line)
        if self.args.state == "present" and not there:
            if kept and not kept[-1].endswith("\n"):
                kept[-1] += "\n"
            kept.append(entry.line(_hashed(name, entry.data) if self.args.hash_host else entry.names))
        return join_lines(kept)

    def apply(self, change):
        entry = _wanted(vars(self.args))
        if entry is not None and self.args.state == "present" and complaint(entry.kind, entry.data):
            self.host.warn("ssh will not read the key of %s: %s" % (self.args.name, complaint(entry.kind, entry.data)))
        UserFileEdit.apply(self, change)


class Entry(object):
    """One line of a known_hosts file: marker ("", "@revoked", ...), names (str), kind, data, comment."""

    def __init__(self, marker, names, kind, data, comment=""):
        self.marker, self.names, self.kind, self.data, self.comment = marker, names, kind, data, comment
        self.hashed = names.startswith("|1|")

    @classmethod
    def parse(cls, line):
        """Return the Entry on `line`, or None when it holds none."""
        words = line.split()
        if not words or words[0].startswith("#"):
            return None
        marker = words.pop(0) if words[0].startswith("@") else ""
        if len(words) < 3 or not is_type(words[1]):
            return None
        return cls(marker, words[0], words[1], words[2], " ".join(words[3:]))

    def covers(self, name):
        """Whether it is about the host `name`."""
        if not self.hashed:
            return name.lower() in [part.lower() for part in self.names.split(",")]
        parts = self.names.split("|")
        try:
            salt = base64.b64decode(parts[2])
            digest = hmac.new(salt, name.lower().encode("utf-8"), hashlib.sha1).digest()
            return hmac.compare_digest(digest, base64.b64decode(parts[3]))
        except (IndexError, ValueError):
            return False

    def line(self, names):
        return " ".join(word for word in (self.marker, names, self.kind, self.data, self.comment) if word) + "\n"


def _full_name(values):
    name, port = values["name"], values.get("port")
    return "[%s]:%d" % (name, port) if port not in (None, 22) and not name.startswith("[") else name


def _wanted(values):
    """The Entry that the argument `key` means; None without one, or when it cannot be read."""
    if values.get("key") is None:
        return None
    text = values["key"].strip()
    words = text.split()
    if len(words) >= 2 and is_type(words[0]):
        return Entry("", _full_name(values), words[0], words[1], " ".join(words[2:]))
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return Entry.parse(lines[0]) if len(lines) == 1 else None


def _hashed(name, data):
    """The name as OpenSSH hashes it. The salt comes from name and key, so that asking twice gives the same."""
    salt = hashlib.sha1(("%s %s" % (name, data)).encode("utf-8", "surrogateescape")).digest()
    digest = hmac.new(salt, name.lower().encode("utf-8"), hashlib.sha1).digest()
    return "|1|%s|%s" % (base64.b64encode(salt).decode("ascii"), base64.b64encode(digest).decode("ascii"))
