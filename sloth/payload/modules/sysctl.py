"""sysctl.set: a setting of the kernel, now and after the next boot."""

import errno
import os
import re

from sloth.payload.kernel.resource import REQUIRED, ArgumentError, Failed, Field, Missing, Resource
from sloth.payload.lib import files

_LINE = re.compile(rb"^\s*-?\s*([^#;\s=][^=]*?)\s*=\s*(.*?)\s*$")


class Set(Resource):
    """Make sure that a kernel setting has a value: in a file that is read at boot, and live.

    Blanks in values count as one. With state "absent" the line goes, and the live value stays. Other lines stay byte
    for byte; of a name that the file has several times, all but the first go.
    """

    name = "sysctl.set"
    fields = (
        Field("name", "str", REQUIRED, aliases=("key",), help="the setting, such as net.ipv4.ip_forward"),
        Field("value", "any", aliases=("val",), help="a text, a number, or true and false for 1 and 0"),
        Field("state", choices=("present", "absent"), default="present", help="whether the file sets it"),
        Field("sysctl_file", "path", "/etc/sysctl.d/99-sloth.conf", help="the file that sets it at boot"),
        Field("sysctl_set", "bool", True, help="the live value is right, too"),
        Field("ignoreerrors", "bool", False, how=True, help="a kernel that lacks the setting is no failure"),
    )
    returns = (Field("value", help="the live value"),)
    example = """task({name = "forward", become = true, run = function()
    sysctl.set({name = "net.ipv4.ip_forward", value = 1})
end})"""

    @classmethod
    def check_together(cls, values):
        if not re.match(r"^[A-Za-z0-9_./:@*-]+$", values["name"]) or ".." in values["name"]:
            raise ArgumentError("%s: %r cannot be the name of a setting" % (cls.name, values["name"]))
        if values["state"] == "present" and (values["value"] is None or isinstance(values["value"], (list, dict))):
            raise ArgumentError("%s needs a value: a text, a number, true or false" % cls.name)
        if "\n" in str(values["value"]):
            raise ArgumentError("%s: the value must be one line" % cls.name)

    @property
    def value(self):
        value = self.args.value
        if isinstance(value, bool):
            return "1" if value else "0"
        if isinstance(value, float) and value == int(value):
            value = int(value)
        return " ".join(str(value).split())

    @property
    def live(self):
        """The file of the live value: where dots separate, a slash in a name stands for a dot, and the reverse."""
        name = self.args.name
        if "/" in name and ("." not in name or name.index("/") < name.index(".")):
            return "/proc/sys/" + name
        return "/proc/sys/" + name.replace(".", "\0").replace("/", ".").replace("\0", "/")

    def identity(self):
        return _dotted(self.args.name)

    def _lines(self):
        try:
            with open(self.args.sysctl_file, "rb") as file:
                return file.read().splitlines(True)
        except FileNotFoundError:
            return []

    def _is_ours(self, line):
        found = _LINE.match(line)
        return bool(found) and _dotted(found.group(1).decode("utf-8", "replace")) == self.identity()

    def observe(self):
        lines = [_LINE.match(line).group(2).decode("utf-8", "replace") for line in self._lines() if self._is_ours(line)]
        now = {"line": " ".join(lines[-1].split()) if lines else None, "lines": len(lines)}
        if self.args.sysctl_set and self.args.state == "present":
            try:
                with open(self.live, encoding="utf-8", errors="replace") as file:
                    now["live"] = " ".join(file.read().split())
            except FileNotFoundError:
                if not self.args.ignoreerrors:
                    raise Missing("the kernel has no setting %s" % self.args.name, hint="is its module loaded?")
            except PermissionError:  # some can be written only
                pass
        return now

    def desired(self, now):
        if self.args.state == "absent":
            return {"line": None, "lines": 0}
        wish = {"line": self.value, "lines": 1}
        if "live" in now:
            wish["live"] = self.value
        return wish

    def apply(self, change):
        if "live" in change:
            try:
                with open(self.live, "w") as file:
                    file.write(change.after["live"])
            except OSError as error:
                if error.errno == errno.EINVAL:
                    raise Failed("the kernel does not take %r for %s" % (change.after["live"], self.args.name))
                if error.errno == errno.EROFS:
                    raise Failed("/proc/sys is read-only here", hint="in a container set sysctl_set = false")
                raise
        if "line" not in change and "lines" not in change:
            return
        kept, done = [], change.after["line"] is None
        wish = ("%s = %s\n" % (self.args.name, change.after["line"])).encode("utf-8", "surrogateescape")
        for line in self._lines():
            if not self._is_ours(line):
                kept.append(line)
            elif not done:
                kept.append(wish)
                done = True
        if not done:
            if kept and not kept[-1].endswith(b"\n"):
                kept[-1] += b"\n"
            kept.append(wish)
        path = os.path.realpath(self.args.sysctl_file)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        files.replace(path, kept, None if os.path.exists(path) else "0644")

    def removal(self, before):
        if before is None or before.get("line") is None:
            return Resource.removal(self, None)
        return None

    def way_back(self, before, after):
        wanted = Resource.way_back(self, before, after)
        if "lines" in wanted:
            wanted["lines"] = 0 if wanted["line"] is None else 1
        return wanted

    def result(self, now):
        return {"value": (now or {}).get("live", (now or {}).get("line"))}


def _dotted(name):
    """A setting's name with dots between its parts."""
    name = name.strip()
    if "/" in name and ("." not in name or name.index("/") < name.index(".")):
        return name.replace("/", "\0").replace(".", "/").replace("\0", ".")
    return name
