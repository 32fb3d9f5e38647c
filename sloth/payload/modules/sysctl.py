"""sysctl.set: a kernel parameter, now and after the next boot."""

import errno
import os

from sloth.payload.kernel.resource import REQUIRED, ArgumentError, Failed, Field, Missing, Resource
from sloth.payload.lib import files
from sloth.payload.lib.contents import open_regular
from sloth.payload.lib.regex import expression, re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.resource import Change
    from sloth.payload.kernel.values import Arguments, Attributes

_LINE = expression(rb"^\s*-?\s*([^#;\s=][^=]*?)\s*=\s*(.*?)\s*$")
_RANGES = expression(r"^[0-9]+(?:-[0-9]+)?(?:,[0-9]+(?:-[0-9]+)?)*\Z")
_NUMBER = expression(r"^[+-]?(?:0[xX][0-9a-fA-F]+|[0-9]+)\Z")


class Set(Resource):
    """Make sure that a kernel parameter has a value: in a file that is read at boot, and live.

    Several blanks in a value count as one. `state = "absent"` removes the line; the live value is kept. Other lines are
    kept byte for byte.

    Other than Ansible, the live value is set and compared by default (`sysctl_set`), and no file is reloaded, so
    parameters of others are not touched. The default file is /etc/sysctl.d/99-sloth.conf.

    Other than Ansible, values are compared as the kernel reads them: `0x10`, `020` and `16` are the same number, and
    `8080,9091,9090` is the same list of ports as `8080,9090-9091`. When the kernel stores any other value than the one
    given, the error shows it.

    Other than Ansible, if the file has several lines for a name, only the first is kept, and names with slashes are
    understood as sysctl does.
    """

    name = "sysctl.set"
    _read: "os.stat_result | None" = None  # of sysctl_file, when it was read last
    fields = (
        Field("name", "str", REQUIRED, aliases=("key",), help="name of the parameter, such as net.ipv4.ip_forward"),
        Field("value", "any", aliases=("val",), help="a string, a number, or true and false for 1 and 0"),
        Field("state", choices=("present", "absent"), default="present", help="whether the file sets the parameter"),
        Field("sysctl_file", "path", "/etc/sysctl.d/99-sloth.conf", help="file that sets the parameter at boot"),
        Field("sysctl_set", "bool", True, help="set the live value, too"),
        Field("ignoreerrors", "bool", False, how=True, help="ignore a parameter that the kernel does not have"),
    )
    returns = (Field("value", help="live value"),)
    example = """task({name = "forward", become = true, run = function()
    sysctl.set({name = "net.ipv4.ip_forward", value = 1})
end})"""

    @classmethod
    def check_together(cls, values: "Arguments") -> "None":
        if not re.match(r"^[A-Za-z0-9_./:@*-]+\Z", values["name"]) or ".." in values["name"]:
            raise ArgumentError("%s: %r is not a valid parameter name" % (cls.name, values["name"]))
        if values["state"] == "present" and (values["value"] is None or isinstance(values["value"], (list, dict))):
            raise ArgumentError("%s needs a value: a string, a number, true or false" % cls.name)
        if "\n" in str(values["value"]):
            raise ArgumentError("%s: the value must be one line" % cls.name)

    @property
    def value(self) -> "str":
        value = self.args.value
        if isinstance(value, bool):
            return "1" if value else "0"
        if isinstance(value, float) and value == int(value):
            value = int(value)
        return " ".join(str(value).split())

    @property
    def live(self) -> "str":
        """The file of the live value. Where dots separate, a slash in a name stands for a dot, and the reverse."""
        name: "str" = self.args.name
        if "/" in name and ("." not in name or name.index("/") < name.index(".")):
            return "/proc/sys/" + name
        return "/proc/sys/" + name.replace(".", "\0").replace("/", ".").replace("\0", "/")

    def identity(self) -> "str":
        return _dotted(self.args.name)

    def claims(self) -> "list[str]":
        path = self.host.canonical(self.args.sysctl_file)
        return ["sysctl:" + self.identity(), "path:%s#sysctl:%s" % (path, self.identity())]

    def _lines(self) -> "list[bytes]":
        try:
            with open(open_regular(self.args.sysctl_file), "rb") as file:
                self._read = os.fstat(file.fileno())
                return file.read().splitlines(True)
        except FileNotFoundError:
            return []

    def _is_own(self, line: "bytes") -> "bool":
        """Return whether a line of the file sets the parameter."""
        found = _LINE.match(line)
        return found is not None and _dotted(found.group(1).decode("utf-8", "replace")) == self.identity()

    def _file_values(self) -> "list[str]":
        """Return the values that the file gives the parameter."""
        found = [_LINE.match(line) for line in self._lines() if self._is_own(line)]
        return [" ".join(one.group(2).decode("utf-8", "replace").split()) for one in found if one is not None]

    def observe(self) -> "Attributes | None":
        values = self._file_values()
        now: "Attributes" = {"line": values[-1] if values else None, "lines": len(values)}
        if self.args.sysctl_set and self.args.state == "present":
            try:
                now["live"] = self._read_live()
            except FileNotFoundError:
                if not self.args.ignoreerrors:
                    raise Missing("the kernel has no parameter %s" % self.args.name, hint="is its module loaded?")
            except PermissionError:  # some can only be written
                pass
        return now

    def _read_live(self) -> "str":
        with open(self.live, encoding="utf-8", errors="replace") as file:
            return " ".join(file.read().split())

    def desired(self, now: "Attributes | None") -> "Attributes | None":
        if self.args.state == "absent":
            return {"line": None, "lines": 0}
        desired: "Attributes" = {"line": self.value, "lines": 1}
        live = (now or {}).get("live")
        if live is not None:
            desired["live"] = live if is_same_value(self.value, live) else self.value
        return desired

    def apply(self, change: "Change") -> "Attributes | None":
        after = change.after or {}
        if "live" in change:
            self._write_live(after)
        if "line" in change or "lines" in change:
            self._write_line(after["line"])
        return None

    def _write_live(self, after: "Attributes") -> "None":
        """Set the live value, and put into `after` how the kernel writes it."""
        wanted = after["live"]
        try:
            with open(self.live, "w") as file:
                file.write(wanted + "\n")  # without it an empty value would write nothing
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise Failed("the kernel does not accept %r for %s" % (wanted, self.args.name))
            if error.errno == errno.EROFS:
                raise Failed("/proc/sys is read-only here", hint="in a container set sysctl_set = false")
            raise
        stored = self._read_live()
        if not is_same_value(wanted, stored):
            raise Failed(
                "the kernel stored %r for %s instead of %r" % (stored, self.args.name, wanted),
                hint="give the value as the kernel writes it, or set sysctl_set = false",
            )
        after["live"] = stored

    def _write_line(self, value: "str | None") -> "None":
        """Write the parameter's line to the file; None removes it."""
        kept, is_done = [], value is None
        wanted = ("%s = %s\n" % (self.args.name, value)).encode("utf-8", "surrogateescape")
        for line in self._lines():
            if not self._is_own(line):
                kept.append(line)
            elif not is_done:
                kept.append(wanted)
                is_done = True
        if not is_done:
            if kept and not kept[-1].endswith(b"\n"):
                kept[-1] += b"\n"
            kept.append(wanted)
        path = files.resolve(self.args.sysctl_file)
        files.make_directories(os.path.dirname(path))
        files.replace(path, kept, "0644", read=self._read)

    def removal(self, before: "Attributes | None") -> "tuple[str, Arguments] | None":
        if before is None or before.get("line") is None:
            return Resource.removal(self, None)
        return None

    def way_back(self, before: "Attributes | None", after: "Attributes | None") -> "tuple[str, Arguments] | Attributes":
        step = Resource.way_back(self, before, after)
        if isinstance(step, dict) and "lines" in step:
            step["lines"] = 0 if step["line"] is None else 1
        return step

    def result(self, now: "Attributes | None") -> "Attributes":
        return {"value": (now or {}).get("live", (now or {}).get("line"))}


def is_same_value(one: "str", other: "str") -> "bool":
    """Return whether the kernel, which stored `other`, was given `one`; blanks count as one in both.

    The kernel reads numbers with the prefixes of C, sorts and joins lists of ranges, and leaves the rest of several
    numbers as they are when fewer are given.
    """
    if one == other:
        return True
    mine, theirs = one.split(), other.split()
    if len(mine) > len(theirs) or not mine:
        return False
    if len(mine) < len(theirs) and not all(_NUMBER.match(word) for word in mine + theirs):
        return False
    return all(_is_same_word(*pair) for pair in zip(mine, theirs))


def _is_same_word(one: "str", other: "str") -> "bool":
    if one == other:
        return True
    if _NUMBER.match(one) and _NUMBER.match(other):
        return _number(one) == _number(other)
    if _RANGES.match(one) and _RANGES.match(other):
        return _ranges(one) == _ranges(other)
    return False


def _number(word: "str") -> "int":
    sign = -1 if word.startswith("-") else 1
    digits = word.lstrip("+-")
    if digits[:2] in ("0x", "0X"):
        return sign * int(digits[2:], 16)
    is_octal = digits.startswith("0") and not set(digits) - set("01234567")
    return sign * int(digits, 8 if is_octal else 10)


def _ranges(text: "str") -> "list[tuple[int, int]]":
    """Return the ranges of "1,5-7", sorted, with those that touch joined."""
    joined: "list[tuple[int, int]]" = []
    for part in sorted((int(part.split("-")[0]), int(part.split("-")[-1])) for part in text.split(",")):
        if joined and part[0] <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], part[1]))
        else:
            joined.append(part)
    return joined


def _dotted(name: "str") -> "str":
    """Return a parameter's name with dots between its parts."""
    name = name.strip()
    if "/" in name and ("." not in name or name.index("/") < name.index(".")):
        return name.replace("/", "\0").replace(".", "/").replace("\0", ".")
    return name
