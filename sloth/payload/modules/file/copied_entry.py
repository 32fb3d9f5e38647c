"""What file.copy does with one file or directory of what it copies."""

import os

from sloth.payload.kernel.resource import Args, Change, Failed, Missing, Resource
from sloth.payload.lib import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.content import Content
    from sloth.payload.kernel.values import Attributes


class Entry(object):
    """A file or directory of a copy: its path on the host, the index of its asset, and the mode of its source."""

    __slots__ = ("index", "is_directory", "mode", "path")

    def __init__(self, path: "str", index: "int | None", mode: "str", is_directory: "bool") -> "None":
        self.path = path
        self.index = index
        self.mode = mode
        self.is_directory = is_directory


class EntryCopy(Resource):
    """Looks at and writes one Entry at a time; the arguments are those of file.copy."""

    def look_at(self, entry: "Entry") -> "Attributes | None":
        seen = files.look(entry.path, self.args.follow or entry.is_directory)  # a link to a directory is one
        if seen is not None and seen["type"] == "file":
            seen["content"] = self.host.content(entry.path)
        return seen

    def desired_entry(self, now: "Attributes | None", entry: "Entry") -> "Attributes":
        if now is not None and not self.args.force and not entry.is_directory:
            return now
        if entry.is_directory:
            return self.desired_directory(now, entry)
        if now is not None and now["type"] == "directory":
            raise Failed("%s is a directory" % entry.path)
        desired: "Attributes" = {"type": "file", "content": self.content(entry.index)}
        mode = self.args.mode
        if mode == "preserve":
            mode = entry.mode if entry.index is not None else _mode_of(self.host.expand(self.args.src))
        given = Args({"owner": self.args.owner, "group": self.args.group, "mode": mode})
        desired.update(files.desired_attributes(self.host, given, now))
        return desired

    def desired_directory(self, now: "Attributes | None", entry: "Entry") -> "Attributes":
        if now is not None and now["type"] != "directory":
            raise Failed("%s exists and is not a directory but a %s" % (entry.path, now["type"]))
        desired = {"type": "directory"}
        if now is None or entry.index is not None:  # dest itself may be anybody's: its attributes are set if it is new
            desired.update(self.directory_attributes(now))
        return desired

    def directory_attributes(self, now: "Attributes | None") -> "Attributes":
        given = Args({"owner": self.args.owner, "group": self.args.group, "mode": self.args.directory_mode})
        return files.desired_attributes(self.host, given, now, "directory")

    def content(self, index: "int | None") -> "Content":
        if index is None:
            path = self.host.expand(self.args.src)
            if os.path.isdir(path):
                raise Failed(
                    "%s is a directory: remote_src copies files only" % path, hint='exec.run({"cp", "-a", ...})'
                )
            if not os.path.isfile(path):
                raise Missing("there is no file %s on the host to copy" % path)
            content = self.host.content(path)
        else:
            content = self.host.asset(self, index)
        if self.args.checksum and content.sha256 != self.args.checksum.lower():
            raise Failed("the SHA-256 of the content is %s, not %s" % (content.sha256, self.args.checksum))
        return content

    def apply_entry(self, entry: "Entry", change: "Change", creates_parent: "bool") -> "Attributes":
        if not entry.is_directory:
            return self.apply_file(entry.path, change, creates_parent)
        if change.before is None:
            _make_directory(entry.path, self.directory_attributes(None))
        files.set_attributes(entry.path, change)
        return {}

    def apply_file(self, path: "str", change: "Change", creates_parent: "bool") -> "Attributes":
        assert change.after is not None
        values = {"dest": path}
        parent = os.path.dirname(path)
        if creates_parent:
            _make_directory(parent, self.directory_attributes(None))
        if not os.path.isdir(parent):
            raise Failed(
                "the directory %s does not exist" % parent, hint="create it with file.directory, or end dest with /"
            )
        if change.before is None or "content" in change or "type" in change:
            if change.before is not None and self.args.backup and os.path.isfile(path):  # also through a link
                values["backup_file"] = files.back_up(path)
            mode = change.after.get("mode") if change.before is None else None
            files.replace(path, change.after["content"].chunks(), mode, files.validation(self.args, self.host))
        files.set_attributes(path, change, self.args.follow)
        return values


def _mode_of(path: "str") -> "str | None":
    seen = files.look(path)
    return None if seen is None else str(seen["mode"])


def _make_directory(path: "str", attributes: "Attributes") -> "None":
    """Create a directory and its parents, each with these attributes."""
    if os.path.isdir(path):
        return
    _make_directory(os.path.dirname(path), attributes)
    with files.Parent(path) as parent:
        parent.mkdir()
    files.set_attributes(path, Change(None, attributes))
