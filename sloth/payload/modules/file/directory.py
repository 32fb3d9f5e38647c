"""file.directory: a directory and its parents, their owner and permissions."""

import os

from sloth.payload.kernel.resource import REQUIRED, Change, Failed, Field, Resource
from sloth.payload.lib import files, parents

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.values import Attributes


OWNERS = ("owner", "group")


class Directory(Resource):
    """Make sure that a directory exists; missing parents are created.

    Other than Ansible: parents that are created get default attributes, not those of the directory: a mode such as 1777
    is not meant for them.

    Other than Ansible: `recurse` leaves links in the directory as they are, and does not follow them.
    """

    name = "file.directory"
    fields = (
        Field("path", "path", REQUIRED, aliases=("dest", "name"), help="the directory"),
        *files.FIELDS,
        Field("recurse", "bool", False, help="set owner, group and mode of everything in it, too"),
        Field("follow", "bool", True, how=True, help="accept a link to a directory"),
    )
    example = """task({name = "dirs", run = function()
    file.directory({path = "/srv/app/log", mode = "0750"})
end})"""

    @property
    def path(self) -> "str":
        return self.host.expand(self.args.path)

    def identity(self) -> "str":
        return self.path

    def place(self) -> "str":
        return self.path

    def observe(self) -> "Attributes | None":
        seen = files.look(self.path, self.args.follow)
        if seen is None or not self.args.recurse or seen["type"] != "directory":
            return seen
        inside = {}
        for root, directories, names in os.walk(self.path):
            for name in directories + names:
                path = os.path.join(root, name)
                inside[path] = files.look(path, False)
        return dict(seen, inside=inside)

    def desired(self, now: "Attributes | None") -> "Attributes | None":
        if now is not None and now["type"] != "directory":
            raise Failed("%s exists and is not a directory but a %s" % (self.path, now["type"]))
        desired: "Attributes" = {"type": "directory"}
        new = None
        if now is None:
            path = parents.end_of(self.host, self.path)
            parents.refuse_blocked(self.host, path)
            new = parents.new_directory_mode(self.host, path)
        desired.update(files.desired_attributes(self.host, self.args, now, "directory", new))
        if now is not None and self.args.recurse:
            members = now.get("inside", {})
            desired["inside"] = dict((path, self._member(seen)) for path, seen in members.items())
        return desired

    def _member(self, seen: "Attributes | None") -> "Attributes | None":
        if seen is None or seen["type"] == "link":
            return seen
        desired = files.desired_attributes(self.host, self.args, seen, seen["type"])
        if seen["type"] != "directory" and any(desired.get(name, seen[name]) != seen[name] for name in OWNERS):
            desired.setdefault("mode", (files.rewritten(seen) or seen)["mode"])  # as the kernel does it
        return dict(seen, **desired)

    def apply(self, change: "Change") -> "None":
        assert change.after is not None
        if change.before is None:
            # A link that leads nowhere yet leads to it afterwards.
            files.make_directories(files.resolve(self.path) if self.args.follow else self.path)
        # What is below first: when a directory becomes another account's, that account can change what is in it.
        for path, desired in sorted(change.after.get("inside", {}).items(), reverse=True):
            one = Change((change.before or {})["inside"][path], desired)
            if one.names:
                files.set_attributes(path, one, False)
        files.set_attributes(self.path, change)
