"""hostname.set: the machine's name, now and after the next boot."""

import re
import socket

from sloth.payload.kernel.resource import REQUIRED, ArgumentError, Field, Resource
from sloth.payload.lib import files


class Set(Resource):
    """Make sure that the machine has a name, live and in /etc/hostname. /etc/hosts is left to file.lineinfile."""

    name = "hostname.set"
    path = "/etc/hostname"
    fields = (Field("name", "str", REQUIRED, aliases=("hostname",), help="the name; it may have a domain"),)
    example = 'task({name = "name", become = true, run = function() hostname.set({name = host.name}) end})'

    @classmethod
    def check_together(cls, values):
        name = values["name"]
        labels = name.split(".")
        good = all(re.match(r"^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$", label) for label in labels)
        if not good or len(name) > 64:
            raise ArgumentError("%s: %r cannot be a host's name" % (cls.name, name))

    def identity(self):
        return "name"

    def observe(self):
        try:
            with open(self.path, encoding="utf-8", errors="replace") as file:
                lines = [line.strip() for line in file if line.strip() and not line.startswith("#")]
        except FileNotFoundError:
            lines = []
        return {"live": socket.gethostname(), "static": lines[0] if lines else ""}

    def desired(self, now):
        return {"live": self.args.name, "static": self.args.name}

    def apply(self, change):
        if "static" in change:
            files.replace(self.path, [(change.after["static"] + "\n").encode("utf-8")], None)
        if "live" in change:
            socket.sethostname(change.after["live"])
