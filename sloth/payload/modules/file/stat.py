"""file.stat: reports what exists at a path."""

import os

from sloth.payload.kernel.resource import REQUIRED, Field, Query
from sloth.payload.lib import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.values import Attributes


class Stat(Query):
    """Report what exists at a path; it changes nothing, and runs in a check, too.

    In a check the changes that earlier calls would make count: the report has no times, inode and numeric owners then.

    Other than Ansible: the values are those of the result itself, and `checksum` is a SHA-256.
    """

    name = "file.stat"
    fields = (
        Field("path", "path", REQUIRED, aliases=("dest", "name"), help="the path to look at"),
        Field("follow", "bool", False, help="report the target of a link"),
        Field("get_checksum", "bool", True, help="compute the SHA-256 of a regular file"),
    )
    returns = (
        Field("exists", "bool", help="whether anything exists at the path"),
        Field("type", help="file, directory, link, char, block, fifo or socket"),
        Field("mode", help='such as "0644"'),
        Field("owner", help="a name, or a number when it has none"),
        Field("group", help="a name, or a number when it has none"),
        Field("size", "int", help="bytes"),
        Field("mtime", "float", help="time of the last change of the content, epoch seconds"),
        Field("target", help="the target of a link"),
        Field("sha256", help="of a regular file"),
    )
    example = """task({name = "look", run = function()
    if file.stat({path = "/etc/motd"}).exists then print("there is a motd") end
end})"""

    def identity(self) -> "str":
        return self.host.expand(self.args.path)

    def look(self) -> "Attributes":
        path = self.host.expand(self.args.path)
        if path in self.host.predicted:
            return self._planned(self.host.predicted[path])
        seen = files.look(path, self.args.follow)
        if seen is None:
            return {"exists": False}
        info = os.stat(path) if self.args.follow else os.lstat(path)
        seen.update(
            exists=True,
            size=info.st_size,
            uid=info.st_uid,
            gid=info.st_gid,
            inode=info.st_ino,
            mtime=info.st_mtime,
            atime=info.st_atime,
            ctime=info.st_ctime,
        )
        if seen["type"] == "file" and self.args.get_checksum:
            seen["sha256"] = seen["checksum"] = self.host.content(path).sha256
        return _with_types(seen)

    def _planned(self, attributes: "Attributes | None") -> "Attributes":
        """Return the report on a path of which only the desired attributes are known."""
        if attributes is None:
            return {"exists": False}
        names = ("type", "mode", "owner", "group", "target")
        seen = dict((name, attributes[name]) for name in names if name in attributes)
        seen["exists"] = True
        content = attributes.get("content")
        if content is not None:
            seen["size"] = content.size
            if self.args.get_checksum:
                seen["sha256"] = seen["checksum"] = content.sha256
        return _with_types(seen)


def _with_types(seen: "Attributes") -> "Attributes":
    kind = seen.get("type")
    return dict(seen, isreg=kind == "file", isdir=kind == "directory", islnk=kind == "link")
