"""The base of the modules that edit a part of a text file: they read it, compute the new text, and write it whole."""

import errno
import os

from sloth.payload.kernel.content import Content
from sloth.payload.kernel.hashing import sha256
from sloth.payload.kernel.resource import REQUIRED, Failed, Field, Missing, Resource
from sloth.payload.lib import files, parents
from sloth.payload.lib.modes import umask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.resource import Change
    from sloth.payload.kernel.values import Attributes

PATH = Field("path", "path", REQUIRED, aliases=("dest", "destfile", "name"), help="the file to edit, or a link to it")
CREATE = Field("create", "bool", False, help="create the file, and its directory, when it does not exist")
LONGEST_IDENTITY = 200  # characters


def has_crlf(data: "bytes") -> "bool":
    """Return whether every line of a text ends with CR LF, as Windows writes it."""
    count = data.count(b"\n")
    return count > 0 and count == data.count(b"\r\n") and b"\r\r\n" not in data


def encode(text: "str") -> "bytes":
    """Return the bytes of an argument; a lone surrogate stands for a byte that is not UTF-8."""
    return text.encode("utf-8", "surrogateescape")


class TextEdit(Resource):
    """Base of the edits: a subclass has edit() and part(), and may word its own error for a missing file."""

    partial = True
    missing = "Path %s does not exist !"  # Ansible's words
    keeps_crlf = True  # the lines that are written to a file with CR LF get CR LF, too
    _read: "os.stat_result | None" = None  # of the file, when observe() read it
    is_crlf = False  # during edit(): the lines of the file end with CR LF

    def edit(self, data: "bytes", is_new: "bool") -> "tuple[bytes, str]":
        """Return the bytes after the edit, and what was done ("" when nothing was). Pure.

        The lines of `data` end with LF, even if those of the file end with CR LF (unless keeps_crlf is false). is_new:
        no file exists yet, and `data` is b""; when nothing was done then, no file is created.
        """
        raise NotImplementedError(self.name)

    def _edited(self, data: "bytes", is_new: "bool") -> "tuple[bytes, str]":
        """Return what edit() returns, for a file with any line ends."""
        self.is_crlf = self.keeps_crlf and has_crlf(data)
        if not self.is_crlf:
            return self.edit(data, is_new)
        text, done = self.edit(data.replace(b"\r\n", b"\n"), is_new)
        return text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"), done

    def part(self) -> "str":
        """Return what distinguishes this edit from others of the same file, "" for the usual one."""
        raise NotImplementedError(self.name)

    def is_absence_fine(self) -> "bool":
        """Return whether a missing file means that there is nothing to do, and is not an error."""
        return False

    @property
    def path(self) -> "str":
        return self.host.expand(self.args.path)

    def place(self) -> "str":
        return self.host.resolve(self.path)

    def identity(self) -> "str":
        part = self.part()
        text = "%s:%s" % (self.path, part) if part else self.path
        if len(text) < LONGEST_IDENTITY:
            return text
        digest = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
        return "%s~%s" % (text[: LONGEST_IDENTITY - 14], digest)

    def observe(self) -> "Attributes | None":
        try:
            # Without blocking: it may be a FIFO.
            descriptor = os.open(self.host.resolve(self.path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return None
            if error.errno == errno.ENXIO:
                raise Failed("Path %s is not a regular file but a socket" % self.path)
            raise
        with open(descriptor, "rb") as file:
            self._read = os.fstat(descriptor)
            seen = files.describe(self._read)
            if seen["type"] == "directory":
                raise Failed("Path %s is a directory !" % self.path)
            if seen["type"] != "file":
                raise Failed("Path %s is not a regular file but a %s" % (self.path, seen["type"]))
            content = Content.of_bytes(file.read())
        return {"content": content, "mode": seen["mode"], "owner": seen["owner"], "group": seen["group"]}

    def desired(self, now: "Attributes | None") -> "Attributes | None":
        if now is None:
            if self.is_absence_fine():
                return None
            if not getattr(self.args, "create", False):
                hint = "set create = true" if hasattr(self.args, "create") else "create it first, with file.copy"
                raise Missing(self.missing % self.path, hint=hint)
            parents.refuse_blocked(self.host, parents.end_of(self.host, self.path))
        old = b"" if now is None else now["content"].data()
        text, done = self._edited(old, now is None)
        if now is None and not done:
            return None
        if now is None or text != old:
            files.check_validate(self.args)
            if self._edited(text, False)[0] != text:
                self.host.warn(
                    "%s of %s is not idempotent: applied to its own result it changes the file again, so every run will"
                    % (self.name, self.path)
                )
        desired = files.desired_attributes(self.host, self.args, now if text == old else files.rewritten(now))
        # An edit that changes nothing keeps the content that was read, so that its hash is not computed again.
        desired["content"] = now["content"] if now is not None and text == old else Content.of_bytes(text)
        return desired

    def apply(self, change: "Change") -> "Attributes":
        assert change.after is not None
        path = files.resolve(self.path)
        values = {}
        msg = ""
        if "content" in change:
            old = b"" if change.before is None else change.before["content"].data()
            msg = self._edited(old, change.before is None)[1]
            mode = None
            if change.before is None:
                files.make_directories(os.path.dirname(path))
                mode = change.after.get("mode")
            elif self.args.backup:
                values["backup_file"] = files.back_up(self.path)  # beside a link, not beside its target
            # What was read through a link that leads elsewhere by now must not be written here.
            read = None if change.before is None else self._read
            validate = files.validation(self.args, self.host)
            files.replace(path, change.after["content"].chunks(), mode, validate, read, wanted=change.after)
        files.set_attributes(path, change)
        if self._attributes_differ(change):
            msg += (" and " if msg else "") + "ownership, perms or SE linux context changed"
        values["msg"] = msg
        return values

    @staticmethod
    def _attributes_differ(change: "Change") -> "bool":
        if change.before is None:
            mode = (change.after or {}).get("mode", "")
            return mode not in ("", "%04o" % (0o666 & ~umask()))
        return any(name in change for name in ("mode", "owner", "group"))


EDIT_FIELDS = (PATH, *files.FIELDS, files.BACKUP, files.VALIDATE)
RETURNS = (Field("backup_file", help="the copy of the old file, when backup was set and the content changed"),)
