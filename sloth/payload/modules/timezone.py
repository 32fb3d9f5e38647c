"""timezone.set: the machine's time zone."""

import os

from sloth.payload.kernel.resource import REQUIRED, ArgumentError, Failed, Field, Missing, Resource, did_you_mean
from sloth.payload.lib import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator

    from sloth.payload.kernel.resource import Change
    from sloth.payload.kernel.values import Arguments, Attributes


class Set(Resource):
    """Make sure that the machine uses a time zone. /etc/timezone is updated where it exists.

    Other than Ansible, timedatectl is not needed, an unknown zone is refused with the nearest name, and the hardware
    clock (`hwclock`) is left alone.
    """

    name = "timezone.set"
    foreseeable = True
    zones = "/usr/share/zoneinfo"
    link = "/etc/localtime"
    text = "/etc/timezone"
    fields = (Field("name", "str", REQUIRED, aliases=("zone",), help="time zone, such as Europe/Berlin or UTC"),)
    example = 'task({name = "clock", become = true, run = function() timezone.set({name = "Etc/UTC"}) end})'

    @classmethod
    def check_together(cls, values: "Arguments") -> "None":
        name = values["name"]
        if not name or name.startswith("/") or ".." in name.split("/") or any(char.isspace() for char in name):
            raise ArgumentError("%s: %r is not a valid time zone name" % (cls.name, name))

    def identity(self) -> "str":
        return "zone"

    def observe(self) -> "Attributes | None":
        path = os.path.join(self.zones, self.args.name)
        if not os.path.isfile(path):
            raise Missing(
                "there is no time zone %s on this host" % self.args.name,
                hint=did_you_mean(self.args.name, self._zone_names()) or "is tzdata installed?",
            )
        now: "Attributes" = {"zone": None}
        try:
            target = os.path.join(os.path.dirname(self.link), os.readlink(self.link))
            now["zone"] = os.path.relpath(os.path.normpath(target), self.zones)
        except OSError:  # a copy instead of a link, or nothing: the zone is not known
            pass
        if os.path.exists(self.text):
            with open(self.text, encoding="utf-8", errors="replace") as file:
                now["text"] = file.read().strip()
        return now

    def _zone_names(self) -> "Iterator[str]":
        for root, _, names in os.walk(self.zones):
            for name in names:
                yield os.path.relpath(os.path.join(root, name), self.zones)

    def desired(self, now: "Attributes | None") -> "Attributes | None":
        desired = {"zone": self.args.name}
        if "text" in (now or {}):
            desired["text"] = self.args.name
        return desired

    def way_back(self, before: "Attributes | None", after: "Attributes | None") -> "tuple[str, Arguments] | Attributes":
        if (before or {}).get("zone") is None:
            raise Failed("the former time zone is not known")
        return Resource.way_back(self, before, after)

    def apply(self, change: "Change") -> "Attributes | None":
        after = change.after or {}
        if "zone" in change:
            with files.Parent(self.link) as parent:
                parent.put_link(os.path.join(self.zones, after["zone"]))
        if "text" in change:
            files.replace(self.text, [(after["text"] + "\n").encode("utf-8")])
        return None
