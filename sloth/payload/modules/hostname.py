"""hostname.set: the machine's name, now and after the next boot."""

import socket

from sloth.payload.kernel.resource import REQUIRED, ArgumentError, Field, Resource
from sloth.payload.lib import files
from sloth.payload.lib.regex import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.resource import Change
    from sloth.payload.kernel.values import Arguments, Attributes


class Set(Resource):
    """Make sure that the machine has a name, live and in /etc/hostname. To edit /etc/hosts use file.lineinfile.

    Other than Ansible, there is one strategy, which needs neither hostnamectl nor dbus, and a name that the kernel or
    DNS would not accept is refused.
    """

    name = "hostname.set"
    foreseeable = True
    path = "/etc/hostname"
    fields = (Field("name", "str", REQUIRED, aliases=("hostname",), help="host name, with or without a domain"),)
    example = 'task({name = "name", become = true, run = function() hostname.set({name = host.name}) end})'

    @classmethod
    def check_together(cls, values: "Arguments") -> "None":
        name = values["name"]
        labels = name.split(".")
        is_valid = all(re.match(r"^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\Z", label) for label in labels)
        if not is_valid or len(name) > 64:
            raise ArgumentError("%s: %r is not a valid host name" % (cls.name, name))

    def identity(self) -> "str":
        return "name"

    def observe(self) -> "Attributes | None":
        try:
            with open(self.path, encoding="utf-8", errors="replace") as file:
                lines = [line.strip() for line in file if line.strip() and not line.startswith("#")]
        except FileNotFoundError:
            lines = []
        return {"live": socket.gethostname(), "static": lines[0] if lines else ""}

    def desired(self, now: "Attributes | None") -> "Attributes | None":
        return {"live": self.args.name, "static": self.args.name}

    def apply(self, change: "Change") -> "Attributes | None":
        after = change.after or {}
        if "static" in change:
            files.replace(self.path, [(after["static"] + "\n").encode("utf-8")], None)
        if "live" in change:
            socket.sethostname(after["live"])
        return None
