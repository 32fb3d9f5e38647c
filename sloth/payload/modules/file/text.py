"""What the edits of a part of a text file share: they read it, work out the new text, and write it whole."""

import errno
import os

from sloth.payload.kernel.content import Content
from sloth.payload.kernel.hashing import sha256
from sloth.payload.kernel.resource import REQUIRED, Failed, Field, Missing, Resource
from sloth.payload.lib import files
from sloth.payload.lib.modes import umask

PATH = Field(
    "path", "path", REQUIRED, aliases=("dest", "destfile", "name"), help="the file to edit; links are followed"
)
CREATE = Field("create", "bool", False, help="make the file, and its directory, when it is not there")
KEY = 200  # characters of an identity at most


def raw(text):
    """The bytes of an argument (str); a lone surrogate stands for a byte that is not UTF-8."""
    return text.encode("utf-8", "surrogateescape")


class TextEdit(Resource):
    """Base of the edits: a subclass has `edit`, `part` and the words of its errors."""

    partial = True
    missing = "Path %s does not exist !"  # Ansible's words

    def edit(self, data, new):
        """Return (bytes after the edit, what was done as a str). Pure. new: there is no file yet, and data is b"".

        What was done is "" when nothing was; a new file of which that is said is not made.
        """
        raise NotImplementedError(self.name)

    def part(self):
        """What tells this edit from others of the same file (str), "" for the usual one."""
        raise NotImplementedError(self.name)

    def absent_is_fine(self):
        """Whether there is nothing to do, rather than something wrong, when there is no file."""
        return False

    @property
    def path(self):
        return self.host.expand(self.args.path)

    def place(self):
        return os.path.realpath(self.path)

    def identity(self):
        part = self.part()
        text = "%s:%s" % (self.path, part) if part else self.path
        if len(text) < KEY:
            return text
        digest = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
        return "%s~%s" % (text[: KEY - 14], digest)

    def observe(self):
        path = os.path.realpath(self.path)
        seen = files.look(path)
        if seen is None:
            return None
        if seen["type"] == "directory":
            raise Failed("Path %s is a directory !" % self.path)
        if seen["type"] != "file":
            raise Failed("Path %s is no regular file but a %s" % (self.path, seen["type"]))
        with open(path, "rb") as file:
            content = Content.of_bytes(file.read())
        return {"content": content, "mode": seen["mode"], "owner": seen["owner"], "group": seen["group"]}

    def desired(self, now):
        if now is None:
            if self.absent_is_fine():
                return None
            if not getattr(self.args, "create", False):
                hint = "set create = true" if hasattr(self.args, "create") else "make it first, with file.copy"
                raise Missing(self.missing % self.path, hint=hint)
        old = b"" if now is None else now["content"].data()
        text, done = self.edit(old, now is None)
        if now is None and not done:
            return None
        if now is None or text != old:
            files.check_validate(self.args)
            if self.edit(text, False)[0] != text:
                self.host.warn(
                    "%s of %s is not idempotent: applied to its own result it changes the file again, so every run will"
                    % (self.name, self.path)
                )
        wish = files.wanted(self.host, self.args, now)
        # An edit that changes nothing keeps the very content that was read.
        wish["content"] = now["content"] if now is not None and text == old else Content.of_bytes(text)
        return wish

    def apply(self, change):
        path = os.path.realpath(self.path)
        new = change.before is None
        values = {}
        msg = ""
        if "content" in change:
            msg = self.edit(b"" if new else change.before["content"].data(), new)[1]
            if new:
                _make_directory(os.path.dirname(path))
            elif self.args.backup:
                values["backup_file"] = files.back_up(self.path)  # by the name that was asked for, also of a link
            mode = change.after.get("mode") if new else None
            files.replace(path, change.after["content"].chunks(), mode, files.validation(self.args, self.host))
        files.set_attributes(path, change)
        if self._attributes_differ(change):
            msg += (" and " if msg else "") + "ownership, perms or SE linux context changed"
        values["msg"] = msg
        return values

    @staticmethod
    def _attributes_differ(change):
        if change.before is None:
            return change.after.get("mode", "") not in ("", "%04o" % (0o666 & ~umask()))
        return any(name in change for name in ("mode", "owner", "group"))


def _make_directory(path):
    try:
        os.makedirs(path)
    except OSError as error:
        if error.errno != errno.EEXIST or not os.path.isdir(path):
            raise


EDIT_FIELDS = (PATH, *files.FIELDS, files.BACKUP, files.VALIDATE)
RETURNS = (Field("backup_file", help="the copy of the old file, when backup was set and the content changed"),)
