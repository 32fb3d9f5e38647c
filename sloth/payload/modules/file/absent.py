"""file.absent: nothing at a path."""

import os

from sloth.payload.kernel.resource import REQUIRED, ArgumentError, Field, Resource
from sloth.payload.lib import files

KEPT = ("/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/opt", "/proc", "/root", "/run", "/sbin",
        "/srv", "/sys", "/tmp", "/usr", "/usr/bin", "/usr/lib", "/var", "/var/lib")  # fmt: skip


class Absent(Resource):
    """Make sure that there is nothing at a path: a file, a link (never what it points to) or a whole tree goes."""

    name = "file.absent"
    removes = True
    fields = (Field("path", "path", REQUIRED, aliases=("dest", "name"), help="what is to be gone"),)
    example = """task({name = "clean", run = function()
    file.absent({path = "/srv/app/cache"})
end})"""

    @property
    def path(self):
        return self.host.expand(self.args.path)

    def identity(self):
        return self.path

    def place(self):
        return self.path

    def observe(self):
        if self.path in KEPT or self.path == self.host.home:
            raise ArgumentError("file.absent does not remove %s" % self.path, hint="name what is to go in it")
        seen = files.look(self.path, False)
        if seen is not None and seen["type"] == "file":
            seen["content"] = self.host.content(self.path)
        return seen

    def desired(self, now):
        return None

    def apply(self, change):
        if change.before["type"] != "directory":
            os.unlink(self.path)
            return
        import shutil

        shutil.rmtree(self.path)
