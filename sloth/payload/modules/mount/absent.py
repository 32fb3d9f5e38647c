"""mount.absent: nothing mounted at a path, now and after the next boot."""

from sloth.payload.kernel.resource import REQUIRED, Field
from sloth.payload.modules.mount.entry import FSTAB, Mount, device_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.resource import Change
    from sloth.payload.kernel.values import Arguments, Attributes


class Absent(Mount):
    """Make sure that nothing is mounted at a path, and that /etc/fstab has no entry for it. The directory is kept.

    Other than Ansible, this is a call of its own; all mounts that are stacked on the path are unmounted; a path that is
    or passes a link is found; and the directory is kept (remove it with file.absent). There is no "unmounted", which
    keeps the entry.
    """

    name = "mount.absent"
    removes = True
    subject = "path"
    fields = (
        Field("path", "str", REQUIRED, aliases=("name",), help='mount point; "none" for a swap area'),
        Field("src", "str", help='the swap area, if path is "none"'),
        FSTAB,
    )
    example = 'task({name = "old", become = true, run = function() mount.absent({path = "/srv/scratch"}) end})'

    def observe(self) -> "Attributes | None":
        entry, is_active = self.read_entry(), self.is_active()
        return {"entry": entry, "mounted": is_active} if entry or is_active else None

    def desired(self, now: "Attributes | None") -> "Attributes | None":
        return None

    def way_back(self, before: "Attributes | None", after: "Attributes | None") -> "tuple[str, Arguments] | Attributes":
        return self.restoring_call(before or {})

    def apply(self, change: "Change") -> "Attributes | None":
        while self.is_active():  # the entry goes last: what cannot be unmounted now still needs it at the next boot
            self.host.tool(["swapoff", device_of(self.args.src)] if self.is_swap else ["umount", self.mount_point])
        if self.read_entry():
            self.write_entry(None)
        return None
