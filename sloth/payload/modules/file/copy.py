"""file.copy: a file or a tree from the controller, a text from the site, or a file that is on the host already."""

import os

from sloth.payload.kernel.resource import REQUIRED, ArgumentError, Failed, Field, Missing, Resource
from sloth.payload.lib import files
from sloth.payload.lib.modes import parse_mode

DEST = Field("dest", "path", REQUIRED, help="where it goes on the host; with a final / below it, by its own name")
FORCE = Field("force", "bool", True, how=True, help="false: only when there is nothing at dest")
FOLLOW = Field("follow", "bool", False, how=True, help="write through a link at dest, rather than replace it")


class Copy(Resource):
    """Copy a file or a directory tree, or write a text, to the host.

    Attributes that are not named stay as they are; a new file gets 0666 less the umask. A directory that ends with /
    gives its contents, without it itself. Only what differs is written, each file whole or not at all.
    """

    name = "file.copy"
    ships = "file"
    fields = (
        Field("src", "str", how=True, help="a file or directory on the controller: absolute, or beside the site"),
        Field("content", "str", how=True, help="the text to write, instead of src"),
        DEST,
        Field("remote_src", "bool", False, help="src is a file on the host"),
        *files.FIELDS,
        Field("directory_mode", "mode", help="the mode of directories that are made"),
        FORCE,
        FOLLOW,
        Field("checksum", "str", how=True, help="the SHA-256 that the content must have"),
        files.BACKUP,
        files.VALIDATE,
    )
    returns = (Field("dest", help="the path that was written"), Field("backup_file", help="the copy of the old file"))
    example = """task({name = "motd", run = function()
    file.copy({content = "Welcome to " .. host.name .. "\\n", dest = "/etc/motd", mode = "0644"})
end})"""

    @classmethod
    def check_together(cls, values):
        if (values.get("src") is None) == (values.get("content") is None):
            raise ArgumentError("%s needs src or content, and not both" % cls.name)
        if values.get("validate") and "%s" not in values["validate"]:
            raise ArgumentError("validate must contain %%s: %s" % values["validate"])
        if values.get("mode") not in (None, "preserve"):
            parse_mode(values["mode"], 0, False)

    @property
    def dest(self):
        return self.host.expand(self.args.dest)

    def identity(self):
        path = self.dest
        if self.args.dest.endswith("/") and not self._is_tree():
            path = os.path.join(path, self._source_name())
        return path

    def _source_name(self):
        if self.assets and self.assets[0].name:
            return os.path.basename(self.assets[0].name)
        return os.path.basename(self.args.src or "")

    def _is_tree(self):
        return len(self.assets) > 1 or any(asset.dir for asset in self.assets) or self.tree_source

    @property
    def tree_source(self):
        return bool(not self.args.remote_src and self.args.src and self.args.src.endswith("/"))

    def _target(self):
        """The path of the one file: below dest if dest is a directory, behind a link if that is asked."""
        path = self.dest
        if self.args.dest.endswith("/") or os.path.isdir(path):
            name = self._source_name()
            if not name:
                raise Failed("%s is a directory" % path, hint="name the file in dest")
            path = os.path.join(path, name)
        return os.path.realpath(path) if self.args.follow else path

    def _entries(self):
        """What is to be there: (path, asset index or None, asset mode) of every file and directory."""
        if not self._is_tree():
            mode = self.assets[0].mode if self.assets else ""
            return [(self._target(), 0 if self.assets else None, mode, False)]
        entries = []
        for index, asset in enumerate(self.assets):
            parts = asset.name.split("/")
            if asset.name.startswith("/") or ".." in parts:
                raise Failed("the controller sent the path %r, which leaves dest" % asset.name)
            entries.append((os.path.join(self.dest, asset.name), index, asset.mode, asset.dir))
        return entries

    def place(self):
        return None if self._is_tree() else self._target()

    def _look(self, path):
        seen = files.look(path, self.args.follow)
        if seen is None:
            return None
        if seen["type"] == "file":
            seen["content"] = self.host.content(path)
        return seen

    def observe(self):
        if not self._is_tree():
            return self._look(self._target())
        now = {}
        for path, _, _, _ in self._entries():
            now.update(_named(path, self._look(path)))
        return now or None

    def desired(self, now):
        if not self._is_tree():
            path, index, mode, _ = self._entries()[0]
            return self._wish(now, path, index, mode, False)
        wish = {}
        for path, index, mode, directory in self._entries():
            wish.update(_named(path, self._wish(_of(path, now), path, index, mode, directory)))
        return wish

    def _wish(self, now, path, index, mode, directory):
        if now is not None and not self.args.force and not directory:
            return now
        if now is not None and now["type"] == "directory" and not directory:
            raise Failed("%s is a directory" % path)
        wish = {"type": "directory" if directory else "file"}
        if not directory:
            wish["content"] = self._content(index)
        args = self.args
        chosen = args.directory_mode if directory else mode if args.mode == "preserve" else args.mode
        asked = _Asked(args.owner, args.group, chosen)
        wish.update(files.wanted(self.host, asked, now, "directory" if directory else "file"))
        return wish

    def _content(self, index):
        if index is None:
            path = self.host.expand(self.args.src)
            if not os.path.isfile(path):
                raise Missing("there is no file %s on the host to copy" % path)
            content = self.host.content(path)
        else:
            content = self.host.asset(self, index)
        if self.args.checksum and content.sha256 != self.args.checksum.lower():
            raise Failed("the content's SHA-256 is %s, not %s" % (content.sha256, self.args.checksum))
        return content

    def files(self, attributes):
        if not self._is_tree():
            return Resource.files(self, attributes)
        return dict((path, _of(path, attributes)) for path, _, _, _ in self._entries())

    def apply(self, change):
        if not self._is_tree():
            return self._apply_one(self._entries()[0][0], change, self.args.dest.endswith("/"))
        from sloth.payload.kernel.resource import Change

        values = {}
        for path, _, _, directory in self._entries():
            one = Change(_of(path, change.before), _of(path, change.after))
            if not one.names:
                continue
            if directory:
                if one.before is None:
                    os.makedirs(path)
                files.set_attributes(path, one)
            else:
                values.update(self._apply_one(path, one, True))
        return values

    def _apply_one(self, path, change, make_parent):
        values = {"dest": path}
        parent = os.path.dirname(path)
        if make_parent and not os.path.isdir(parent):
            os.makedirs(parent)
        if not os.path.isdir(parent):
            raise Failed(
                "the directory %s does not exist" % parent, hint="make it with file.directory, or end dest with /"
            )
        if change.before is None or "content" in change or "type" in change:
            if change.before is not None and self.args.backup and change.before["type"] == "file":
                values["backup_file"] = files.back_up(path)
            mode = change.after.get("mode") if change.before is None else None
            files.replace(path, change.after["content"].chunks(), mode, files.validation(self.args, self.host))
        files.set_attributes(path, change, self.args.follow)
        return values

    def result(self, now):
        return {"dest": self.dest if self._is_tree() else self._target()}


def _named(path, attributes):
    """The attributes of one path of a tree, each under a name of its own."""
    return dict(("%s %s" % (name, path), value) for name, value in (attributes or {}).items())


def _of(path, attributes):
    """The reverse of _named: the attributes of `path`, or None when it has none."""
    found = {}
    for key, value in (attributes or {}).items():
        name, _, where = key.partition(" ")
        if where == path:
            found[name] = value
    return found or None


class _Asked(object):
    """owner, group and mode as files.wanted() takes them."""

    def __init__(self, owner, group, mode):
        self.owner, self.group, self.mode = owner, group, mode
