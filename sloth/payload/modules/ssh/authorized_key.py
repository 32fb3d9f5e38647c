"""ssh.authorized_key: who may log in as a user."""

import os

from sloth.payload.kernel.hashing import sha256
from sloth.payload.kernel.resource import REQUIRED, ArgumentError, Failed, Field, Missing
from sloth.payload.lib.accounts import get_account
from sloth.payload.lib.user_files import UserFile, UserFileEdit, join_lines, split_lines
from sloth.payload.modules.ssh.keys import Key, complaint, short, split_options


class AuthorizedKey(UserFileEdit):
    """Make sure that public keys may, or may not, log in as a user.

    The semantics are those of Ansible's authorized_key. A key is known by its data: with other options or another
    comment it is written anew at the end. Other lines stay byte for byte, unless `exclusive` removes them. ~/.ssh is
    kept at 0700 and the file at 0600, both the user's. As root, no link in the user's home is followed. Of a key that
    is given twice the last one counts. One line that is no key stops the call before anything is written.
    """

    name = "ssh.authorized_key"
    subject = "user"
    fields = (
        Field("user", "str", REQUIRED, help="whose file it is"),
        Field("key", "list", REQUIRED, help="a key, a list, text with several lines, or file:///PATH on the host"),
        Field("state", choices=("present", "absent"), default="present", help="whether the keys are there"),
        Field("key_options", aliases=("options",), help="options for all the keys, instead of those on their lines"),
        Field("comment", help="the comment for all the keys, instead of those on their lines"),
        Field("exclusive", "bool", False, help="no other key, and nothing else, is in the file"),
        Field("path", "path", help="the file, when it is not ~/.ssh/authorized_keys; %u and %h as for sshd"),
        Field("manage_dir", "bool", True, how=True, help="make the directory, and keep its mode and owner"),
        Field("follow", "bool", False, how=True, help="path may be a link, which is followed"),
    )  # fmt: skip
    example = """task({name = "keys", become = true, run = function()
    ssh.authorized_key({user = "deploy", key = {
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGrShxPYuoCAF5bnDKQ1kQmJwxJ8s1cZ0lQJZq3yHcAr alice@example",
    }})
end})"""

    @classmethod
    def check_together(cls, values):
        lines = _lines(values["key"])
        if not lines:
            raise ArgumentError("%s: key is empty" % cls.name)
        for line in lines:
            if not line.startswith("file://") and Key.parse(line) is None:
                raise ArgumentError("invalid key specified: %s" % line, hint="a key begins with its type, or options")
        if values["exclusive"] and values["state"] == "absent":
            raise ArgumentError('%s: exclusive goes with state = "present"' % cls.name)

    def keys(self):
        """The keys that are asked for, without repetition, options and comment as given for all."""
        found = {}
        for line in self._all_lines():
            key = Key.parse(line)
            if key is None:
                raise Failed("invalid key specified: %s" % line)
            if self.args.key_options is not None:
                key.options = split_options(self.args.key_options)
            if self.args.comment is not None:
                key.comment = self.args.comment
            found.pop(key.data, None)
            found[key.data] = key
        return list(found.values())

    def _all_lines(self):
        for line in _lines(self.args.key):
            if not line.startswith("file://"):
                yield line
                continue
            path = self.host.expand(line[len("file://") :])
            try:
                with open(path, encoding="utf-8", errors="surrogateescape") as file:
                    for inner in _lines([file.read()]):
                        yield inner
            except FileNotFoundError:
                raise Missing("there is no file %s with keys" % path)

    def identity(self):
        if self.args.exclusive:
            return "%s:exclusive" % self._where()
        lines = _lines(self.args.key)
        key = Key.parse(lines[0])
        if len(lines) == 1 and key is not None:
            return "%s:%s" % (self._where(), short(key.kind, key.data))
        digest = sha256("\n".join(sorted(lines)).encode("utf-8", "surrogateescape")).hexdigest()[:12]
        return "%s:%d keys %s" % (self._where(), len(lines), digest)

    def _where(self):
        return "%s:%s" % (self.args.user, self.args.path) if self.args.path else self.args.user

    @property
    def user_file(self):
        account = get_account(self.host, self.args.user)
        path = os.path.join(account.pw_dir, ".ssh", "authorized_keys")
        if self.args.path:
            given = self.args.path.replace("%%", "\0").replace("%u", account.pw_name).replace("%h", account.pw_dir)
            path = self.host.expand(given.replace("\0", "%"))
        if self.args.follow:
            path = os.path.realpath(path)
        return UserFile(self.host, account, path, strict=not self.args.path, manage=self.args.manage_dir)

    def edit(self, data):
        """The file's bytes with the keys in it, or without them."""
        lines = split_lines(data)
        wanted = dict((key.data, key) for key in self.keys())
        kept, there = [], set()
        for line in lines:
            key = Key.parse(line)
            wish = wanted.get(key.data) if key else None
            if wish is None:
                if not self.args.exclusive:
                    kept.append(line)
            elif self.args.state == "present" and key.same(wish) and key.data not in there:
                there.add(key.data)
                kept.append(line)
        missing = [key for data, key in wanted.items() if data not in there and self.args.state == "present"]
        if missing and kept and not kept[-1].endswith("\n"):
            kept[-1] += "\n"
        return join_lines(kept + [key.line() + "\n" for key in missing])

    def apply(self, change):
        for key in self.keys() if self.args.state == "present" else ():
            why = complaint(key.kind, key.data)
            if why:
                self.host.warn("sshd will not accept the key %s: %s" % (short(key.kind, key.data), why))
        UserFileEdit.apply(self, change)


def _lines(texts):
    lines = [line.strip() for text in texts for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]
