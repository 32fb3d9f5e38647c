"""file.absent: nothing exists at a path."""

from sloth.payload.kernel.resource import REQUIRED, ArgumentError, Field, Resource
from sloth.payload.lib import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.resource import Change
    from sloth.payload.kernel.values import Attributes

PROTECTED = ("/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/opt", "/proc", "/root", "/run", "/sbin",
        "/srv", "/sys", "/tmp", "/usr", "/usr/bin", "/usr/lib", "/var", "/var/lib")  # fmt: skip


class Absent(Resource):
    """Make sure that nothing exists at a path: removes a file, a link (never its target) or a whole tree.

    Other than Ansible: directories that every system needs, such as /etc, and the home of the account are not removed.
    """

    name = "file.absent"
    removes = True
    fields = (Field("path", "path", REQUIRED, aliases=("dest", "name"), help="what to remove"),)
    example = """task({name = "clean", run = function()
    file.absent({path = "/srv/app/cache"})
end})"""

    @property
    def path(self) -> "str":
        return self.host.expand(self.args.path)

    def identity(self) -> "str":
        return self.path

    def place(self) -> "str":
        return self.path

    def observe(self) -> "Attributes | None":
        if self.path in PROTECTED or self.path == self.host.home:
            raise ArgumentError("file.absent does not remove %s" % self.path, hint="name what to remove inside it")
        seen = files.look(self.path, False)
        if seen is not None and seen["type"] == "file":
            seen["content"] = self.host.content(self.path)
        return seen

    def desired(self, now: "Attributes | None") -> "None":
        return None

    def apply(self, change: "Change") -> "None":
        assert change.before is not None
        with files.Parent(self.path) as parent:
            if change.before["type"] != "directory":
                parent.unlink()
                return
            import shutil

            # It follows no link in the tree; the tree's own directory cannot be exchanged either, by this name.
            shutil.rmtree("/proc/self/fd/%d/%s" % (parent.descriptor, parent.base))
