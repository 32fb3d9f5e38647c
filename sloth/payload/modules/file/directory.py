"""file.directory: a directory, its parents, and who may do what in it."""

import os

from sloth.payload.kernel.resource import REQUIRED, Change, Failed, Field, Resource
from sloth.payload.lib import files


class Directory(Resource):
    """Make sure that a directory is there; missing parents are made, with default attributes."""

    name = "file.directory"
    fields = (
        Field("path", "path", REQUIRED, aliases=("dest", "name"), help="the directory"),
        *files.FIELDS,
        Field("recurse", "bool", False, help="owner, group and mode are for everything in it, too"),
        Field("follow", "bool", True, how=True, help="a link to a directory will do"),
    )
    example = """task({name = "dirs", run = function()
    file.directory({path = "/srv/app/log", mode = "0750"})
end})"""

    @property
    def path(self):
        return self.host.expand(self.args.path)

    def identity(self):
        return self.path

    def place(self):
        return self.path

    def observe(self):
        seen = files.look(self.path, self.args.follow)
        if seen is None or not self.args.recurse or seen["type"] != "directory":
            return seen
        inside = {}
        for root, directories, names in os.walk(self.path):
            for name in directories + names:
                path = os.path.join(root, name)
                inside[path] = files.look(path, False)
        return dict(seen, inside=inside)

    def desired(self, now):
        if now is not None and now["type"] != "directory":
            raise Failed("%s is there and is no directory but a %s" % (self.path, now["type"]))
        wish = {"type": "directory"}
        wish.update(files.wanted(self.host, self.args, now, "directory"))
        if now is not None and self.args.recurse:
            members = now.get("inside", {})
            wish["inside"] = dict((path, self._member(seen)) for path, seen in members.items())
        return wish

    def _member(self, seen):
        if seen is None or seen["type"] == "link":
            return seen
        return dict(seen, **files.wanted(self.host, self.args, seen, seen["type"]))

    def apply(self, change):
        if change.before is None:
            os.makedirs(self.path)
        files.set_attributes(self.path, change)
        for path, wish in change.after.get("inside", {}).items():
            one = Change(change.before["inside"][path], wish)
            if one.names:
                files.set_attributes(path, one, False)
