"""file.absent: nothing exists at a path."""

from sloth.payload.kernel.resource import REQUIRED, ArgumentError, Failed, Field, Resource
from sloth.payload.lib import files
from sloth.payload.lib.regex import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.resource import Change
    from sloth.payload.kernel.values import Attributes

PROTECTED = ("/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/opt", "/proc", "/root", "/run", "/sbin",
        "/srv", "/sys", "/tmp", "/usr", "/usr/bin", "/usr/lib", "/var", "/var/lib")  # fmt: skip


class Absent(Resource):
    """Make sure that nothing exists at a path: removes a file, a link (never its target) or a whole tree.

    Other than Ansible: nothing is removed when a file system is mounted below the path.

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
            self._refuse_mounts()
            parent.remove_tree()

    def _refuse_mounts(self) -> "None":
        """Raise Failed when a file system is mounted below the path: what is in it would be removed, too."""
        below = self.host.canonical(self.path) + "/"
        try:
            with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
                points = [line.split()[4] for line in file]
        except OSError:
            return
        for point in points:
            point = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), point)
            if (point + "/").startswith(below):
                raise Failed("a file system is mounted on %s" % point, hint="unmount it first, with mount.absent")
