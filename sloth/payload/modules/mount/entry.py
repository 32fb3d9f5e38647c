"""What mount.present and mount.absent share: an entry of /etc/fstab, and what is mounted."""

import os

from sloth.payload.kernel.resource import ArgumentError, Failed, Field, Resource
from sloth.payload.lib import files
from sloth.payload.lib.contents import open_regular
from sloth.payload.lib.regex import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.values import Arguments, Attributes

_ESCAPES = (("\\", "\\134"), (" ", "\\040"), ("\t", "\\011"), ("\n", "\\012"))
FSTAB = Field("fstab", "path", "/etc/fstab", help="the file, if it is not /etc/fstab")
FIELDS = ("src", "path", "fstype", "opts", "dump", "passno")
SWAP = ("none", "swap")  # what stands for the mount point of a swap entry
NETWORK = ("nfs", "cifs", "smb")  # the types of which the source is compared as text
TAGS = {"UUID": "uuid", "LABEL": "label", "PARTUUID": "partuuid", "PARTLABEL": "partlabel"}


class Mounted(object):
    """A mount as the kernel lists it."""

    __slots__ = ("flags", "kind", "root", "source")

    def __init__(self, source: "str", kind: "str", root: "str", flags: "set[str]") -> "None":
        """root: what of the file system is mounted: "/", or for a bind mount or subvolume a path in it."""
        self.flags = flags
        self.source = source
        self.kind = kind
        self.root = root


class Mount(Resource):
    """Base of both: one mount point or swap area, its entry in fstab and its mount."""

    merged = True
    foreseeable = True
    _read: "os.stat_result | None" = None  # of fstab, when it was read last

    @classmethod
    def check_together(cls, values: "Arguments") -> "None":
        path = values["path"]
        if path in SWAP:
            if not values.get("src"):
                raise ArgumentError("%s: path %r needs src, the swap area" % (cls.name, path))
        elif not path.startswith(("/", "~")):
            raise ArgumentError(
                "%s: path must be absolute: %r" % (cls.name, path), hint='the path of a swap entry is "none"'
            )

    @property
    def is_swap(self) -> "bool":
        return self.args.path in SWAP

    @property
    def path(self) -> "str":
        """The mount point as fstab has it."""
        return self.args.path if self.is_swap else self.host.expand(self.args.path)

    @property
    def mount_point(self) -> "str":
        """The mount point as the kernel has it, without links."""
        return os.path.realpath(self.path)

    def identity(self) -> "str":
        return "swap:%s" % self.args.src if self.is_swap else self.path

    def key(self) -> "str":
        return "mount:present:%s" % self.identity()

    def read_lines(self) -> "list[str]":
        try:
            with open(open_regular(self.args.fstab), "rb") as file:
                self._read = os.fstat(file.fileno())
                return [line.decode("utf-8", "surrogateescape") for line in file.read().splitlines(True)]
        except FileNotFoundError:
            return []

    def is_own(self, line: "str") -> "bool":
        """Return whether a line of fstab is the entry of the mount point or swap area."""
        words = line.split()
        if len(words) < 2 or words[0].startswith("#"):
            return False
        path = unescape(words[1])
        if self.is_swap:
            return path in SWAP and is_same_source(unescape(words[0]), self.args.src)
        if not path.startswith("/"):
            return False
        return os.path.normpath(path) == self.path or os.path.realpath(path) == self.mount_point

    def read_entry(self) -> "Attributes | None":
        """Return the fields of the entry, or None; of several entries the last, which is the one mount(8) takes."""
        entries = [split_comment(line)[0] for line in self.read_lines() if self.is_own(line)]
        if not entries:
            return None
        words = (entries[-1] + ["defaults", "0", "0"][max(0, len(entries[-1]) - 3) :])[:6]
        return dict((name, unescape(word)) for name, word in zip(FIELDS, words) if name != "path")

    def restoring_call(self, before: "Attributes") -> "tuple[str, Arguments]":
        """Return the call that brings back an entry of fstab, and the mount."""
        if before.get("entry") is None:
            raise Failed("%s was mounted by hand, so how to mount it is not known" % self.path)
        state = "mounted" if before.get("mounted") else "configured"
        return "mount.present", dict(before["entry"], path=self.path, fstab=self.args.fstab, state=state)

    def read_mounted(self) -> "Mounted | None":
        """Return what is mounted on the path: of several mounts the last, which is on top."""
        top = None
        mount_point = self.mount_point
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                words = line.split()
                after = words.index("-")
                if unescape(words[4]) == mount_point:
                    flags = set(words[5].split(",") + words[after + 3].split(","))
                    top = Mounted(unescape(words[after + 2]), words[after + 1], unescape(words[3]), flags)
        return top

    def is_active(self) -> "bool":
        """Return whether anything is mounted on the path, or the swap area is in use."""
        if not self.is_swap:
            return self.read_mounted() is not None
        try:
            with open("/proc/swaps", encoding="utf-8", errors="surrogateescape") as file:
                areas = [unescape(line.split()[0]) for line in file.read().splitlines()[1:] if line.strip()]
        except FileNotFoundError:  # a kernel without swap
            return False
        wanted = os.path.realpath(device_of(self.args.src))
        return any(os.path.realpath(area) == wanted for area in areas)

    def write_entry(self, line: "str | None") -> "None":
        """Replace the entries with `line`; None removes them."""
        lines, kept, is_done = self.read_lines(), [], line is None
        for old in lines:
            if not self.is_own(old):
                kept.append(old)
            elif not is_done and line is not None:
                comment = split_comment(old)[1]
                kept.append("%s %s\n" % (line.rstrip("\n"), comment) if comment else line)
                is_done = True
        if not is_done and line is not None:
            if kept and not kept[-1].endswith("\n"):
                kept[-1] += "\n"
            kept.append(line)
        self.write_lines(kept, None if lines else "0644")

    def write_lines(self, lines: "list[str]", mode: "str | None" = None) -> "None":
        path = files.resolve(self.args.fstab)
        files.replace(path, ["".join(lines).encode("utf-8", "surrogateescape")], mode, read=self._read)
        self._read = None


def split_comment(line: "str") -> "tuple[list[str], str]":
    """Return the fields of an entry, and what follows them: mount(8) ignores that, people keep comments there."""
    words = line.split()
    end = next((at for at, word in enumerate(words) if at > 3 and (at > 5 or word.startswith("#"))), len(words))
    return words[:end], " ".join(words[end:])


def device_of(source: "str") -> "str":
    """Return the path of the device that UUID=..., LABEL=... and so on stand for; other sources as they are."""
    tag, _, value = source.partition("=")
    if tag in TAGS and value:
        return "/dev/disk/by-%s/%s" % (TAGS[tag], value.strip('"'))
    return source


def is_same_source(one: "str", other: "str") -> "bool":
    return one == other or os.path.realpath(device_of(one)) == os.path.realpath(device_of(other))


def backing_file(device: "str") -> "str":
    """Return the file of a loop device, or "" when it is none."""
    name = os.path.basename(device)
    if not re.match(r"^loop[0-9]+$", name):
        return ""
    try:
        with open("/sys/block/%s/loop/backing_file" % name, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().rstrip("\n")
    except OSError:
        return ""


def is_same_file(one: "str", other: "str") -> "bool":
    try:
        return os.path.samestat(os.stat(one), os.stat(other))
    except OSError:
        return False


def escape(text: "str") -> "str":
    for char, code in _ESCAPES:
        text = text.replace(char, code)
    return text


def unescape(text: "str") -> "str":
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), text)
