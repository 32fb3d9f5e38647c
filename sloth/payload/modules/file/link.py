"""file.link: a symbolic or hard link."""

import os

from sloth.payload.kernel.resource import REQUIRED, Args, Failed, Field, Missing, Resource
from sloth.payload.lib import files, parents

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.resource import Change
    from sloth.payload.kernel.values import Attributes


class Link(Resource):
    """Make sure that a link exists and points to src.

    A link with another target is replaced. A file or an empty directory at the path is replaced only with `force`.

    Other than Ansible: a symbolic link to what does not exist causes a warning without `force`, not an error. `owner`
    and `group` are those of the link; Ansible's `follow` also gives them to its target.

    Other than Ansible: a hard link to what is a link leads to that one's target (Ansible makes another name of the
    link), and with `force` it replaces an empty directory at the path (Ansible puts it into a directory).
    """

    name = "file.link"
    subject = "path"
    fields = (
        Field("src", "file", REQUIRED, aliases=("target",), help="the target, written to the link as given"),
        Field("path", "path", REQUIRED, aliases=("dest", "name"), help="the link"),
        Field("hard", "bool", False, help="create a hard link"),
        Field(
            "force",
            "bool",
            False,
            how=True,
            help="replace a file or an empty directory; do not warn of a missing src",
        ),
        Field("owner", help="the owner of the link itself"),
        Field("group", help="the group of the link itself"),
    )
    example = """task({name = "current", run = function()
    file.link({src = "releases/42", path = "/srv/app/current", force = true})
end})"""

    @property
    def path(self) -> "str":
        return self.host.expand(self.args.path)

    def identity(self) -> "str":
        return self.path

    def files(self, attributes: "Attributes | None") -> "dict[str, Attributes | None]":
        return {self.path: attributes}

    def _source(self) -> "str":
        source: "str" = self.args.src
        return self.host.expand(source) if source.startswith("~") else source

    def _exists(self, path: "str") -> "bool":
        """Return whether a path exists or, in a check, an earlier call would create it."""
        planned = self.host.predicted.get(os.path.normpath(path))
        return planned is not None or os.path.lexists(path)

    def observe(self) -> "Attributes | None":
        seen = files.look(self.path, False)
        if seen is None or not self.args.hard:
            return seen
        info = os.lstat(self.path)
        return dict(seen, inode=[info.st_dev, info.st_ino])

    def desired(self, now: "Attributes | None") -> "Attributes | None":
        source = self._source()
        target = os.path.join(os.path.dirname(self.path), source)
        if now is None:
            parents.refuse_blocked(self.host, self.path)
        elif now["type"] == "directory" and self.args.force and not self.host.pending and os.listdir(self.path):
            raise Failed("%s is a directory that is not empty, and is not replaced" % self.path)
        if not self.args.force:
            is_other = now is None or now.get("target") != source
            if not self.args.hard and is_other and not self._exists(target):
                self.host.warn("%s points to %s, which does not exist" % (self.path, source))
            if now is not None and now["type"] != "link" and not self.args.hard:
                raise Failed("%s exists and is not a link but a %s" % (self.path, now["type"]), hint="set force = true")
        if self.args.hard:
            if not os.path.exists(target):
                raise Missing("there is no %s to link to" % target)
            if os.path.isdir(target):
                raise Failed("%s is a directory, to which there are no hard links" % target)
            info = os.stat(target)
            inode = [info.st_dev, info.st_ino]
            if now is not None and now["inode"] != inode and not self.args.force:
                raise Failed("%s exists and is another file" % self.path, hint="set force = true")
            return {"inode": inode}
        # A link has an owner and a group, and no mode of its own.
        owner = Args({"owner": self.args.owner, "group": self.args.group, "mode": None})
        return dict({"type": "link", "target": source}, **files.desired_attributes(self.host, owner, now))

    def apply(self, change: "Change") -> "None":
        if "target" in change or "type" in change or "inode" in change or change.before is None:
            with files.Parent(self.path) as parent:
                if change.before is not None and change.before["type"] == "directory":
                    parent.rmdir()
                target = self._source()
                if self.args.hard:
                    target = os.path.join(os.path.dirname(self.path), target)
                parent.put_link(target, self.args.hard)
        files.set_attributes(self.path, change, False, (change.after or {}).get("target"))
