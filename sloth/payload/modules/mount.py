"""Mounts: what /etc/fstab says, and what is mounted."""

import os

from sloth.payload.kernel.resource import REQUIRED, ArgumentError, Failed, Field, Resource
from sloth.payload.lib import files

_ESCAPES = (("\\", "\\134"), (" ", "\\040"), ("\t", "\\011"), ("\n", "\\012"))
_FSTAB = Field("fstab", "path", "/etc/fstab", help="the file, when it is another")
_FIELDS = ("src", "path", "fstype", "opts", "dump", "passno")


class _Mount(Resource):
    """Base of both: one mount point, its line and its mount."""

    merged = True

    @property
    def path(self):
        return self.host.expand(self.args.path)

    def key(self):
        return "mount:present:%s" % self.path

    def identity(self):
        return self.path

    def _read(self):
        try:
            with open(self.args.fstab, "rb") as file:
                return [line.decode("utf-8", "surrogateescape") for line in file.read().splitlines(True)]
        except FileNotFoundError:
            return []

    def _is_ours(self, line):
        words = line.split()
        if len(words) < 2 or words[0].startswith("#"):
            return False
        return os.path.normpath(_unescape(words[1])) == self.path

    def _entry(self):
        """The line's fields as a dict, or None; of several lines the last, which is what mount(8) takes."""
        found = [line.split() for line in self._read() if self._is_ours(line)]
        if not found:
            return None
        words = (found[-1] + ["defaults", "0", "0"][max(0, len(found[-1]) - 3) :])[:6]
        return dict((name, _unescape(word)) for name, word in zip(_FIELDS, words) if name != "path")

    def _as_it_was(self, before):
        """The call that brings back a line of fstab, and the mount."""
        if before.get("entry") is None:
            raise Failed("%s was mounted by hand, so how is not known" % self.path)
        state = "mounted" if before.get("mounted") else "configured"
        return "mount.present", dict(before["entry"], path=self.path, fstab=self.args.fstab, state=state)

    def _mounted(self):
        """[source, type] of what is mounted on the path, or None."""
        found = None
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                words = line.split()
                after = words.index("-")
                if _unescape(words[4]) == self.path:  # the last one is on top
                    found = [_unescape(words[after + 2]), words[after + 1]]
        return found

    def _write(self, line):
        """Put `line` (None: nothing) in the place of the path's lines."""
        lines, kept, done = self._read(), [], line is None
        for old in lines:
            if not self._is_ours(old):
                kept.append(old)
            elif not done:
                kept.append(line)
                done = True
        if not done:
            if kept and not kept[-1].endswith("\n"):
                kept[-1] += "\n"
            kept.append(line)
        path = os.path.realpath(self.args.fstab)
        files.replace(path, ["".join(kept).encode("utf-8", "surrogateescape")], None if lines else "0644")


class Present(_Mount):
    """Make sure that a file system is in /etc/fstab, and mounted there.

    Other lines of the file stay byte for byte. The mount point is made when it is not there. A mount whose source or
    type differs is mounted anew; one whose options were changed is remounted.
    """

    name = "mount.present"
    subject = "path"
    fields = (
        Field("path", "path", REQUIRED, aliases=("name",), help="the mount point"),
        Field("src", "str", REQUIRED, help="the device, UUID=..., or host:/export"),
        Field("fstype", "str", REQUIRED, help="the type, such as ext4, nfs, tmpfs, none"),
        Field("opts", "str", "defaults", help="the options, with commas"),
        Field("dump", "str", "0", help="the fifth field"),
        Field("passno", "str", "0", help="the sixth field: when it is checked at boot"),
        Field("state", choices=("mounted", "configured"), default="mounted", help="configured: in the file only"),
        _FSTAB,
    )
    example = """task({name = "scratch", become = true, run = function()
    mount.present({path = "/srv/scratch", src = "tmpfs", fstype = "tmpfs", opts = "size=64m,mode=1777"})
end})"""

    @classmethod
    def check_together(cls, values):
        if not values["path"].startswith("/"):
            raise ArgumentError("%s: path must be absolute: %s" % (cls.name, values["path"]))
        for name in ("opts", "fstype", "dump", "passno"):
            if not values[name] or any(char.isspace() for char in values[name]):
                raise ArgumentError("%s: %s may hold no blanks: %r" % (cls.name, name, values[name]))

    def observe(self):
        now = {"entry": self._entry()}
        mounted = self._mounted()
        if self.args.state == "mounted":
            now["mounted"] = bool(mounted) and self._is_right(mounted)
        return now if now["entry"] or mounted else None

    def _is_right(self, mounted):
        """Whether what is mounted is what is asked for, as far as it can be told: a bind shows its device."""
        source, kind = mounted
        args = self.args
        if args.fstype in ("none", "auto") or "bind" in args.opts.split(","):
            return True
        if kind != args.fstype and not (args.fstype in ("nfs", "fuse") and kind.startswith(args.fstype)):
            return False
        if args.src.startswith("/dev/") and source.startswith("/"):
            return os.path.realpath(source) == os.path.realpath(args.src)
        return True

    def desired(self, now):
        args = self.args
        wish = {"entry": dict((name, getattr(args, name)) for name in _FIELDS if name != "path")}
        if args.state == "mounted":
            wish["mounted"] = True
        return wish

    def removal(self, before):
        return ("mount.absent", {"path": self.path, "fstab": self.args.fstab}) if before is None else None

    def way_back(self, before, after):
        return self.removal(None) if before is None else self._as_it_was(before)

    def apply(self, change):
        args = self.args
        if "entry" in change or change.before is None:
            words = [args.src, self.path, args.fstype, args.opts, args.dump, args.passno]
            self._write(" ".join(_escape(word) for word in words) + "\n")
        if args.state != "mounted":
            return
        now = self._mounted()
        fstab = [] if args.fstab == "/etc/fstab" else ["-T", args.fstab]
        if now and not self._is_right(now):
            self.host.tool(["umount", self.path])
            now = None
        if not now:
            os.makedirs(self.path, exist_ok=True)
            self.host.tool(["mount"] + fstab + [self.path])
        elif "entry" in change:
            self.host.tool(["mount"] + fstab + ["-o", "remount", self.path])


class Absent(_Mount):
    """Make sure that nothing is mounted at a path, and /etc/fstab does not name it. The directory stays."""

    name = "mount.absent"
    removes = True
    fields = (Field("path", "path", REQUIRED, aliases=("name",), help="the mount point"), _FSTAB)
    example = 'task({name = "gone", become = true, run = function() mount.absent({path = "/srv/scratch"}) end})'

    def observe(self):
        entry, mounted = self._entry(), self._mounted()
        return {"entry": entry, "mounted": bool(mounted)} if entry or mounted else None

    def desired(self, now):
        return None

    def way_back(self, before, after):
        return self._as_it_was(before)

    def apply(self, change):
        if self._entry():
            self._write(None)
        while self._mounted():
            self.host.tool(["umount", self.path])


def _escape(text):
    for char, code in _ESCAPES:
        text = text.replace(char, code)
    return text


def _unescape(text):
    for char, code in reversed(_ESCAPES):
        text = text.replace(code, char)
    return text
