"""file.copy: a file or a tree from the controller, a text from the site, or a file that is already on the host."""

import os

from sloth.payload.kernel.resource import REQUIRED, Args, ArgumentError, Asset, Change, Failed, Field, Resource
from sloth.payload.lib import files
from sloth.payload.lib.modes import parse_mode
from sloth.payload.modules.file.copied_entry import Entry, EntryCopy, remote_entries

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar, Sequence

    from sloth.payload.kernel.values import Arguments, Attributes
    from sloth.payload.lib.host import Host

DEST = Field("dest", "path", REQUIRED, help="the path on the host; with a final / the directory, under its own name")
FORCE = Field("force", "bool", True, how=True, help="false: write only when nothing exists at dest")
FOLLOW = Field("follow", "bool", False, how=True, help="write to the target of a link at dest, and keep the link")


class Copy(EntryCopy):
    """Copy a file or a directory tree, or write a text, to the host.

    Attributes that are not given are not changed; a new file gets 0666 less the umask. Of a directory whose path ends
    with / the contents are copied, otherwise the directory itself; links in it are followed. Only what differs is
    written, and each file is replaced atomically. With `mode = "preserve"` a file gets the mode of its source.

    With `remote_src` src is a file or directory on the host; of a tree the files that are written get the modes of
    their sources unless `mode` is given, and new directories unless `directory_mode` is. If `force` is false, nothing
    is copied to a directory that exists.

    Other than Ansible: with `remote_src`, too, `mode` is that of the files of a tree and `directory_mode` that of its
    directories.

    Other than Ansible: links in a tree are always followed (Ansible copies those of a tree on the host as links), and a
    `validate` without %s is an error even when nothing differs.

    Other than Ansible: `checksum` may be a SHA-256, besides Ansible's SHA-1, and is not returned.
    """

    name = "file.copy"
    ships = "file"
    fields: "ClassVar[tuple[Field, ...]]" = (
        Field("src", "file", how=True, help="a file or directory on the controller: absolute, or below the site"),
        Field("content", "str", how=True, help="the text to write, instead of src"),
        DEST,
        Field("remote_src", "bool", False, help="src is on the host, not on the controller"),
        *files.FIELDS,
        Field(
            "directory_mode",
            "mode",
            help="the mode of the directories of the tree, and of dest and its parents where they are created",
        ),
        FORCE,
        FOLLOW,
        Field("checksum", "str", how=True, help="the SHA-256 or SHA-1 that the content must have"),
        files.BACKUP,
        files.VALIDATE,
    )
    returns = (Field("dest", help="the path that was written"), Field("backup_file", help="the copy of the old file"))
    example = """task({name = "motd", run = function()
    file.copy({content = "Welcome to " .. host.name .. "\\n", dest = "/etc/motd", mode = "0644"})
end})"""

    @classmethod
    def check_together(cls, values: "Arguments") -> "None":
        if (values.get("src") is None) == (values.get("content") is None):
            raise ArgumentError("%s needs src or content, and not both" % cls.name)
        if values.get("validate") and "%s" not in values["validate"]:
            raise ArgumentError("validate must contain %%s: %s" % values["validate"])
        if values.get("mode") == "preserve" and values.get("content") is not None:
            raise ArgumentError("%s: mode preserve needs src: content has no mode" % cls.name)
        for mode in (values.get("mode"), values.get("directory_mode")):
            if mode not in (None, "preserve"):
                parse_mode(mode, 0, False)

    def __init__(self, args: "Args", host: "Host", assets: "Sequence[Asset]" = ()) -> "None":
        Resource.__init__(self, args, host, assets)
        self._split: "list[tuple[Attributes | None, dict[str, Attributes]]]" = []  # see _by_path

    @property
    def dest(self) -> "str":
        return self.host.expand(self.args.dest)

    def identity(self) -> "str":
        is_tree = self._is_tree()
        if is_tree and self.args.remote_src:
            return self._entries()[0].path
        is_below = self.args.dest.endswith("/") and not is_tree
        return os.path.join(self.dest, self._source_name()) if is_below else self.dest

    def _source_name(self) -> "str":
        if self.assets and self.assets[0].name:
            return os.path.basename(self.assets[0].name)
        return os.path.basename(self.args.src or "")

    def _is_tree(self) -> "bool":
        if self._is_directory():
            return False
        if len(self.assets) > 1 or any(asset.dir for asset in self.assets):
            return True
        if self.args.remote_src:
            return bool(self.args.src) and os.path.isdir(self.host.expand(self.args.src))
        return bool(self.args.src and self.args.src.endswith("/"))

    def _is_directory(self) -> "bool":
        """Return whether this is one directory of a tree (see parts)."""
        return len(self.assets) == 1 and self.assets[0].dir and not self.assets[0].name

    def _target(self) -> "str":
        """Return the path of the one file: below dest when that is a directory, the target of a link with `follow`."""
        return self.host.resolve(self._path()) if self.args.follow and not self._is_directory() else self._path()

    def _path(self) -> "str":
        path = self.dest
        if self._is_directory() or not (self.args.dest.endswith("/") or os.path.isdir(path)):
            return path
        name = self._source_name()
        if not name:
            raise Failed("%s is a directory" % path, hint="name the file in dest")
        return os.path.join(path, name)

    def _entries(self) -> "list[Entry]":
        """Return every file and directory that the copy consists of."""
        if not self._is_tree():
            index = 0 if self.assets else None
            mode = self.assets[0].mode if self.assets else ""
            source = self.host.expand(self.args.src) if self.args.remote_src and self.args.src else ""
            return [Entry(self._target(), index, mode, self._is_directory(), source)]
        if self.args.remote_src:
            return remote_entries(self.host.expand(self.args.src), self.dest, self.args.src.endswith("/"))
        entries = [] if self.assets else [Entry(self.dest, None, "", True)]  # an empty tree is dest itself
        for index, asset in enumerate(self.assets):
            if asset.name.startswith("/") or ".." in asset.name.split("/"):
                raise Failed("the controller sent the path %r, which leaves dest" % asset.name)
            entries.append(Entry(os.path.join(self.dest, asset.name), index, asset.mode, asset.dir))
        return entries

    def place(self) -> "str | None":
        return None if self._is_tree() else self._target()

    def parts(self) -> "list[Resource]":
        """Return a copy for each file and directory of a tree: each is a thing of its own."""
        if not self._is_tree():
            return [self]
        if self.args.remote_src:
            return [_remote_part(self, entry) for entry in self._entries() if entry.source] or [self]
        if not self.assets:
            return [self]
        src = self.args.src or ""
        base = src if src.endswith("/") else os.path.dirname(src)
        found: "list[Resource]" = []
        for entry, asset in zip(self._entries(), self.assets):
            args = dict(self.args.__dict__, dest=entry.path, src=os.path.join(base, asset.name))
            name = "" if asset.dir else os.path.basename(asset.name)
            found.append(type(self)(Args(args), self.host, [asset.replace(name=name)]))
        return found

    def part_change(self, part: "Resource", change: "Change") -> "Change":
        path = part.args.dest
        return Change(self._by_path(change.before).get(path), self._by_path(change.after).get(path))

    def part_observed(self, part: "Resource", change: "Change", observed: "Attributes | None") -> "Attributes | None":
        return self._by_path(observed).get(part.args.dest)

    def _by_path(self, attributes: "Attributes | None") -> "dict[str, Attributes]":
        """Return a tree's attributes path by path; undoes _with_path(). They are kept, because each part needs them."""
        for known, split in self._split:
            if known is attributes:
                return split
        found: "dict[str, Attributes]" = {}
        for key, value in (attributes or {}).items():
            name, _, path = key.partition(" ")
            found.setdefault(path, {})[name] = value
        self._split = [(attributes, found), *self._split[:2]]
        return found

    def observe(self) -> "Attributes | None":
        if not self._is_tree():
            return self.look_at(self._entries()[0])
        now = {}
        for entry in self._entries():
            now.update(_with_path(entry.path, self.look_at(entry)))
        return now or None

    def desired(self, now: "Attributes | None") -> "Attributes | None":
        if not self._is_tree():
            return self.desired_entry(now, self._entries()[0])
        desired: "Attributes" = {}
        seen = self._by_path(now)
        if self.args.remote_src and not self.args.force and self._entries()[0].path in seen:
            return now
        for entry in self._entries():
            desired.update(_with_path(entry.path, self.desired_entry(seen.get(entry.path), entry)))
        return desired

    def files(self, attributes: "Attributes | None") -> "dict[str, Attributes | None]":
        if not self._is_tree():
            return Resource.files(self, attributes)
        seen = self._by_path(attributes)
        return dict((entry.path, seen.get(entry.path)) for entry in self._entries())

    def apply(self, change: "Change") -> "Attributes":
        if not self._is_tree():
            entry = self._entries()[0]
            if self.args.follow and not entry.is_directory:
                entry.path = files.resolve(self._path())  # refuses a link that is not to be trusted
            return self.apply_entry(entry, change, self.args.dest.endswith("/"))
        return self.apply_entries(self._entries(), self._by_path(change.before), self._by_path(change.after))

    def result(self, now: "Attributes | None") -> "Attributes":
        return {"dest": self.dest if self._is_tree() else self._target()}


def _with_path(path: "str", attributes: "Attributes | None") -> "Attributes":
    """Return the attributes of one path of a tree, each under a name that contains the path."""
    return dict(("%s %s" % (name, path), value) for name, value in (attributes or {}).items())


def _remote_part(call: "Copy", entry: "Entry") -> "Copy":
    """Return the copy of one file of a tree that is on the host, or of one of its directories."""
    args = dict(call.args.__dict__, dest=entry.path, src=entry.source)
    if not entry.is_directory:
        return type(call)(Args(args), call.host)
    return type(call)(Args(dict(args, src=None, remote_src=False)), call.host, [Asset(dir=True)])
