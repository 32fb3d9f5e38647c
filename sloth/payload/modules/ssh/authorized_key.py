"""ssh.authorized_key: the public keys that may log in as a user."""

import os

from sloth.payload.kernel.hashing import sha256
from sloth.payload.kernel.resource import REQUIRED, Args, ArgumentError, Change, Failed, Field, Missing
from sloth.payload.lib.accounts import get_account
from sloth.payload.lib.contents import open_regular
from sloth.payload.lib.user_files import UserFile, UserFileEdit, join_lines, split_lines
from sloth.payload.modules.ssh.keys import Key, abbreviate, defect, respace, split_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterable, Iterator

    from sloth.payload.kernel.resource import Resource
    from sloth.payload.kernel.values import Arguments, Attributes


class AuthorizedKey(UserFileEdit):
    """Make sure that public keys are, or are not, in a user's authorized_keys file.

    The semantics are those of Ansible's authorized_key. A key is identified by its data: with other options or another
    comment it is written again at the end. Other lines stay, unless `exclusive` removes them. If one line of `key` is
    not a key, the call fails before anything is written.

    Other than Ansible, lines are read as sshd reads them: tabs may separate the words, so a key that can log in is
    found and removed whatever its line looks like.

    Other than Ansible, ~/.ssh is kept at mode 0700 and the file at 0600, both owned by the user, on every run. A file
    at a `path` of your own keeps its mode, but for write permission of group and others.

    As with Ansible, a call that writes the file separates the words of all keys in it by single blanks. Other than
    Ansible, lines that are no keys keep their repetitions (Ansible writes equal comments and empty lines once), and
    what is quoted keeps its blanks.

    Other than Ansible, a key that is in the file several times is reduced to one line, and with `state = "absent"` all
    of its lines are removed. Lines of other keys are never removed without `exclusive`, even when they are duplicates.

    Other than Ansible, a key that `key` lists several times, with different comments, settles in the first run: the
    last one counts. Ansible moves it to the end in every run.

    Other than Ansible, root follows no link and touches no other user's file below the user's home.

    Other than Ansible, a warning names a key that sshd could not read, and `key` cannot be a URL. A `key` without any
    key in it is an error (with `exclusive`, Ansible removes all keys, otherwise it does nothing), lines with nothing
    but blanks are skipped, and a blank after a comma between options, which sshd would refuse, is not written.
    """

    name = "ssh.authorized_key"
    subject = "user"
    fields = (
        Field("user", "str", REQUIRED, help="user whose file it is"),
        Field("key", "list", REQUIRED, help="a key, a list, text with several lines, or file:///PATH on the host"),
        Field("state", choices=("present", "absent"), default="present", help="whether the keys are in the file"),
        Field("key_options", aliases=("options",), help="options for all the keys, instead of those on their lines"),
        Field("comment", help="comment for all the keys, instead of those on their lines"),
        Field("exclusive", "bool", False, help="with state = present: remove all other keys, and all other lines"),
        Field("path", "path", help="the file, when it is not ~/.ssh/authorized_keys; %u and %h as for sshd"),
        Field("manage_dir", "bool", True, how=True, help="keep the directory's mode and owner; it is created anyway"),
        Field("follow", "bool", False, how=True, help="follow path when it is a link"),
    )  # fmt: skip
    example = """task({name = "keys", become = true, run = function()
    ssh.authorized_key({user = "deploy", key = {
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGrShxPYuoCAF5bnDKQ1kQmJwxJ8s1cZ0lQJZq3yHcAr alice@example",
    }})
end})"""

    @classmethod
    def check_together(cls, values: "Arguments") -> "None":
        lines = _key_lines(values["key"])
        if not lines:
            raise ArgumentError("%s: key is empty" % cls.name)
        for line in lines:
            if not line.startswith("file://") and Key.parse(line, True) is None:
                raise ArgumentError("invalid key specified: %s" % line, hint="a key begins with its type, or options")

    def keys(self) -> "list[Key]":
        """Return the keys of the arguments without repetition, with the options and comment given for all."""
        keys: "dict[str, Key]" = {}
        for line in self._all_lines():
            key = Key.parse(line, True)
            if key is None:
                raise Failed("invalid key specified: %s" % line)
            if self.args.key_options is not None:
                key.options = split_options(self.args.key_options)
            if self.args.comment is not None:
                key.comment = self.args.comment
            if key.data in keys and not keys[key.data].same(key):
                del keys[key.data]  # the last one counts, at its place
            keys[key.data] = key
        return list(keys.values())

    def _all_lines(self) -> "Iterator[str]":
        for line in _key_lines(self.args.key):
            if not line.startswith("file://"):
                yield line
                continue
            path = self.host.expand(line[len("file://") :])
            try:
                with open(open_regular(path), encoding="utf-8", errors="surrogateescape") as file:
                    for inner in _key_lines([file.read()]):
                        yield inner
            except FileNotFoundError:
                raise Missing("file not found: %s" % path)

    def identity(self) -> "str":
        if self._is_exclusive():
            return "%s:exclusive" % self._account_and_path()
        lines = _key_lines(self.args.key)
        key = Key.parse(lines[0], True)
        if len(lines) == 1 and key is not None:
            return "%s:%s" % (self._account_and_path(), abbreviate(key.kind, key.data))
        digest = sha256("\n".join(sorted(lines)).encode("utf-8", "surrogateescape")).hexdigest()[:12]
        return "%s:%d keys %s" % (self._account_and_path(), len(lines), digest)

    def _is_exclusive(self) -> "bool":
        return bool(self.args.exclusive and self.args.state == "present")

    def _account_and_path(self) -> "str":
        user: "str" = self.args.user
        return "%s:%s" % (user, self.args.path) if self.args.path else user

    def claims(self) -> "list[str]":
        path = "path:" + self.host.canonical(self.user_file.path)
        keys = ["%s#key:%s" % (path, key.data) for key in self.keys()]
        return [path, *keys] if self._is_exclusive() else keys

    def parts(self) -> "list[Resource]":
        lines = self._lines_of_parts()
        return [self._with(lines[at : at + 1]) for at in range(len(lines))] or [self]

    def _lines_of_parts(self) -> "list[str]":
        """Return the line of each key that has a record of its own, in the order in which edit() writes them."""
        lines = _key_lines(self.args.key)
        if self._is_exclusive() or len(lines) == 1 or any(line.startswith("file://") for line in lines):
            return []
        parsed = ((line, Key.parse(line, True)) for line in lines)
        found = dict((key.data, line) for line, key in parsed if key)
        return [found[key.data] for key in self.keys()]

    def _with(self, lines: "list[str]") -> "AuthorizedKey":
        return AuthorizedKey(Args(dict(vars(self.args), key=lines)), self.host)

    def part_change(self, part: "Resource", change: "Change") -> "Change":
        """Return what a key changes after those before it, as if each had been a call: so each can be taken back."""
        if not change.names:
            return Change(change.before, part.desired(change.before))
        lines = self._lines_of_parts()
        at = lines.index(part.args.key[0])
        before = self._with(lines[:at]).desired(change.before) if at else change.before
        return Change(before, part.desired(before) if at < len(lines) - 1 else change.after)

    def part_observed(self, part: "Resource", change: "Change", observed: "Attributes | None") -> "Attributes | None":
        seen = UserFileEdit.part_observed(self, part, change, observed)
        after = change.after or {}
        return seen if seen is None or "content" not in after else dict(seen, content=after["content"])

    @property
    def user_file(self) -> "UserFile":
        account = get_account(self.host, self.args.user)
        path = os.path.join(account.pw_dir, ".ssh", "authorized_keys")
        if self.args.path:
            given = self.args.path.replace("%%", "\0").replace("%u", account.pw_name).replace("%h", account.pw_dir)
            path = self.host.expand(given.replace("\0", "%"))
        if self.args.follow:
            path = os.path.realpath(path)
        return UserFile(self.host, account, path, strict=not self.args.path, manage=self.args.manage_dir)

    def edit(self, data: "bytes") -> "bytes":
        """Return the file's content with the keys, or without them."""
        wanted = dict((key.data, key) for key in self.keys())
        is_present = self.args.state == "present"
        kept: "list[str]" = []
        found = set()
        for line in split_lines(data):
            key = Key.parse(line)
            named = wanted.get(key.data) if key is not None else None
            if key is None or named is None:
                if not self._is_exclusive():
                    kept.append(line)
            elif is_present and key.same(named) and key.data not in found:
                found.add(key.data)
                kept.append(line)
        missing = [key for key in wanted.values() if key.data not in found and is_present]
        if not missing and join_lines(kept) == data:
            return data
        if missing and kept and not kept[-1].endswith("\n"):
            kept[-1] += "\n"
        return join_lines([respace(line) for line in kept] + [key.line() + "\n" for key in missing])

    def apply(self, change: "Change") -> "Attributes | None":
        for key in self.keys() if self.args.state == "present" else ():
            why = defect(key.kind, key.data)
            if why:
                self.host.warn("sshd will not accept the key %s: %s" % (abbreviate(key.kind, key.data), why))
        return UserFileEdit.apply(self, change)


def _key_lines(texts: "Iterable[str]") -> "list[str]":
    """Return the lines of `texts` that are not empty and not comments."""
    lines = [line.strip() for text in texts for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]
