"""mount.present: a file system that is mounted, or a swap area in use, now and after the next boot."""

import os

from sloth.payload.kernel.resource import REQUIRED, ArgumentError, Failed, Field, Missing
from sloth.payload.lib import files
from sloth.payload.modules.mount import entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.resource import Change
    from sloth.payload.kernel.values import Arguments, Attributes


_RESTRICTIONS = ("ro", "nosuid", "nodev", "noexec")


class Present(entry.Mount):
    """Make sure that a file system or swap area is in /etc/fstab, and is mounted or in use.

    Other lines of the file are kept byte for byte. The mount point is created if it does not exist. A file system whose
    source or type differs from what is mounted is mounted again; one whose options are changed is remounted.

    Other than Ansible, the source counts for bind mounts, network file systems, loop devices, labels and subvolumes,
    too: when it is changed, the old one is unmounted. A mount that lacks "ro", "nosuid", "nodev" or "noexec" of the
    options, because somebody remounted it, is remounted.

    Other than Ansible, a mount point may be a link or below one: it is mounted once, and found where the link leads.

    Other than Ansible, a swap area (`path = "none"`, `fstype = "swap"`) may have the state "mounted": it is in use.

    Other than Ansible, the states are "mounted" and "configured" (Ansible's "present": in the file only); mount.absent
    is a call of its own, which keeps the directory. When mounting fails, /etc/fstab is restored as it was.
    """

    name = "mount.present"
    subject = "path"
    fields = (
        Field("path", "str", REQUIRED, aliases=("name",), help='mount point; "none" for a swap area'),
        Field("src", "str", REQUIRED, help="device, UUID=..., LABEL=..., host:/export, or a path"),
        Field("fstype", "str", REQUIRED, help="type of the file system, such as ext4, nfs, tmpfs, swap, none"),
        Field("opts", "str", "defaults", help="options, with commas"),
        Field("dump", "str", "0", help="fifth field of the entry"),
        Field("passno", "str", "0", help="sixth field: when it is checked at boot"),
        Field("state", choices=("mounted", "configured"), default="mounted", help="configured: in the file only"),
        entry.FSTAB,
    )
    example = """task({name = "scratch", become = true, run = function()
    mount.present({path = "/srv/scratch", src = "tmpfs", fstype = "tmpfs", opts = "size=64m,mode=1777"})
end})"""

    @classmethod
    def check_together(cls, values: "Arguments") -> "None":
        super(Present, cls).check_together(values)
        if (values["path"] in entry.SWAP) != (values["fstype"] == "swap"):
            raise ArgumentError('%s: a swap area has path = "none" and fstype = "swap"' % cls.name)
        for name in ("opts", "fstype", "dump", "passno"):
            if not values[name] or any(char.isspace() for char in values[name]):
                raise ArgumentError("%s: %s must not contain blanks: %r" % (cls.name, name, values[name]))
        if not values["src"].strip() or "\n" in values["src"]:
            raise ArgumentError("%s: src must be one line" % cls.name)

    def observe(self) -> "Attributes | None":
        now: "Attributes" = {"entry": self.read_entry()}
        is_active = self.is_active()
        if self.args.state == "mounted":
            now["mounted"] = is_active and self._is_right() and self._is_restricted()
        return now if now["entry"] or is_active else None

    def _is_right(self) -> "bool":
        """Return whether what is mounted has the source and type of the arguments."""
        if self.is_swap:
            return True
        mounted = self.read_mounted()
        return mounted is not None and self._has_type(mounted) and self._has_source(mounted)

    def _is_restricted(self) -> "bool":
        """Return whether the mount has the restricting flags among the options, such as noexec."""
        mounted = self.read_mounted()
        wanted: "set[str]" = set()
        for word in self.args.opts.split(","):
            if word in _RESTRICTIONS:
                wanted.add(word)
            elif word == "defaults":
                wanted.clear()
            else:  # of "noexec,exec" the last counts
                wanted.discard("ro" if word == "rw" else "no" + word)
        return mounted is None or wanted <= mounted.flags

    def _has_type(self, mounted: "entry.Mounted") -> "bool":
        kind: "str" = self.args.fstype
        if kind in ("none", "auto") or self._is_bind() or mounted.kind == kind:
            return True
        # A type with a program of its own may appear under another name: nfs as nfs4, sshfs as fuse.sshfs.
        return mounted.kind.startswith(("fuse", kind)) or os.path.exists("/sbin/mount." + kind)

    def _has_source(self, mounted: "entry.Mounted") -> "bool":
        """Return whether the source is right, as far as that is known: a false alarm would unmount it in every run."""
        src: "str" = self.args.src
        if self._is_bind():
            return entry.is_same_file(src, self.mount_point)
        if mounted.kind == "btrfs":  # which may be on several devices, of which the kernel shows any
            subvolumes = [word.partition("=")[2] for word in self.args.opts.split(",") if word.startswith("subvol=")]
            return not subvolumes or mounted.root.strip("/") == subvolumes[-1].strip("/")
        if mounted.kind.startswith(entry.NETWORK):
            return mounted.source.rstrip("/") == src.rstrip("/")
        if not mounted.source.startswith("/dev/") or not os.path.exists(mounted.source):
            return True  # the source of tmpfs and the like is only a name
        if src.partition("=")[0] in entry.TAGS and not os.path.exists(entry.device_of(src)):
            return True  # there is no udev, so which device it is is not known
        return entry.is_same_source(src, mounted.source) or entry.is_same_source(
            src, entry.backing_file(mounted.source)
        )

    def _is_bind(self) -> "bool":
        return bool({"bind", "rbind"} & set(self.args.opts.split(",")))

    def desired(self, now: "Attributes | None") -> "Attributes | None":
        args = self.args
        desired: "Attributes" = {"entry": dict((name, getattr(args, name)) for name in entry.FIELDS if name != "path")}
        if args.state == "mounted":
            desired["mounted"] = True
        return desired

    def removal(self, before: "Attributes | None") -> "tuple[str, Arguments] | None":
        if before is not None:
            return None
        args = {"path": self.path, "fstab": self.args.fstab}
        return "mount.absent", dict(args, src=self.args.src) if self.is_swap else args

    def way_back(self, before: "Attributes | None", after: "Attributes | None") -> "tuple[str, Arguments] | Attributes":
        removal = self.removal(before)
        return removal if removal is not None else self.restoring_call(before or {})

    def apply(self, change: "Change") -> "Attributes | None":
        args = self.args
        is_new_entry = "entry" in change or change.before is None
        lines = self.read_lines()
        if is_new_entry:
            words = [args.src, self.path, args.fstype, args.opts, args.dump, args.passno]
            self.write_entry(" ".join(entry.escape(word) for word in words) + "\n")
        if args.state != "mounted":
            return None
        try:
            self._activate("entry" in change)
        except Failed:
            if is_new_entry:  # an entry that cannot be mounted may keep the machine from booting
                self.write_lines(lines)
            raise
        return None

    def _remount(self, mount: "list[str]") -> "None":
        """Give the mount its new options; a network file system that cannot take them is mounted again."""
        mounted = self.read_mounted()
        try:
            self.host.tool(mount + ["-o", "remount", self.path])
        except Failed:
            if mounted is None or not mounted.kind.startswith(entry.NETWORK):
                raise
            self.host.tool(["umount", self.mount_point])
            self.host.tool(mount + [self.path])

    def _activate(self, is_changed: "bool") -> "None":
        """Mount the file system, or use the swap area; remount with new options when `is_changed`."""
        args = self.args
        if self.is_swap:
            if is_changed and self.is_active():
                self.host.tool(["swapoff", entry.device_of(args.src)])
            if not self.is_active():
                opts = [] if args.opts in ("defaults", "sw") else ["-o", args.opts]
                self.host.tool(["swapon"] + opts + [entry.device_of(args.src)])
            return
        mounted = self.read_mounted()
        mount = ["mount"] + ([] if args.fstab == "/etc/fstab" else ["-T", args.fstab])
        if self._is_bind() and not os.path.exists(args.src):
            raise Missing("%s, which is to be mounted on %s, does not exist" % (args.src, self.path))
        while mounted is not None and not self._is_right():
            self.host.tool(["umount", self.mount_point])
            mounted = self.read_mounted()
        if mounted is None:
            # mount(8) follows links: one that another account has put on the way would decide what is covered.
            files.make_directories(self.path)
            os.close(files.open_directory(self.path))
            self.host.tool(mount + [self.path])
        elif is_changed or not self._is_restricted():
            self._remount(mount)
