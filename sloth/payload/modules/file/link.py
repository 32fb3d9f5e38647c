"""file.link: a symbolic or hard link."""

import os

from sloth.payload.kernel.resource import REQUIRED, Failed, Field, Missing, Resource
from sloth.payload.lib import files


class Link(Resource):
    """Make sure that a link is there and points to src.

    A link that points elsewhere is replaced. A file, or an empty directory, in its place is replaced with force only.
    """

    name = "file.link"
    subject = "path"
    fields = (
        Field("src", "str", REQUIRED, aliases=("target",), help="what it points to, written as it is given"),
        Field("path", "path", REQUIRED, aliases=("dest", "name"), help="the link"),
        Field("hard", "bool", False, help="a hard link"),
        Field("force", "bool", False, how=True, help="replace a file or an empty directory, and allow a missing src"),
        Field("owner", help="the owner of the link itself"),
        Field("group", help="the group of the link itself"),
    )
    example = """task({name = "current", run = function()
    file.link({src = "releases/42", path = "/srv/app/current", force = true})
end})"""

    @property
    def path(self):
        return self.host.expand(self.args.path)

    def identity(self):
        return self.path

    def files(self, attributes):
        return {self.path: attributes}

    def _source(self):
        return self.host.expand(self.args.src) if self.args.src.startswith("~") else self.args.src

    def observe(self):
        seen = files.look(self.path, False)
        if seen is None or not self.args.hard:
            return seen
        info = os.lstat(self.path)
        return dict(seen, inode=[info.st_dev, info.st_ino])

    def desired(self, now):
        source = self._source()
        place = os.path.join(os.path.dirname(self.path), source)
        if not self.args.force:
            if not self.args.hard and not os.path.lexists(place) and now is None:
                self.host.warn("%s points to %s, which is not there" % (self.path, source))
            if now is not None and now["type"] != "link" and not self.args.hard:
                raise Failed("%s is there and is no link but a %s" % (self.path, now["type"]), hint="set force = true")
        if self.args.hard:
            if not os.path.exists(place):
                raise Missing("there is no %s to link to" % place)
            info = os.stat(place)
            wish = {"inode": [info.st_dev, info.st_ino]}
            if now is not None and now["inode"] != wish["inode"] and not self.args.force:
                raise Failed("%s is there and is another file" % self.path, hint="set force = true")
            return wish
        return dict({"type": "link", "target": source}, **files.wanted(self.host, _Owner(self.args), now))

    def apply(self, change):
        if "target" in change or "type" in change or "inode" in change or change.before is None:
            if change.before is not None and change.before["type"] == "directory":
                os.rmdir(self.path)
            temporary = "%s/.%s.%d" % (os.path.dirname(self.path), os.path.basename(self.path), os.getpid())
            if self.args.hard:
                os.link(os.path.join(os.path.dirname(self.path), self._source()), temporary)
            else:
                os.symlink(self._source(), temporary)
            try:
                os.rename(temporary, self.path)
            except OSError:
                os.unlink(temporary)
                raise
        files.set_attributes(self.path, change, False)


class _Owner(object):
    """A link has an owner and a group, and no mode of its own."""

    def __init__(self, args):
        self.owner, self.group, self.mode = args.owner, args.group, None
