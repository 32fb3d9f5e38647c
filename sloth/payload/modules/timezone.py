"""timezone.set: the zone of the machine's clock."""

import os

from sloth.payload.kernel.resource import REQUIRED, ArgumentError, Failed, Field, Missing, Resource, did_you_mean
from sloth.payload.lib import files


class Set(Resource):
    """Make sure that the machine's clock shows the time of a zone; /etc/timezone follows where it is there."""

    name = "timezone.set"
    zones = "/usr/share/zoneinfo"
    link = "/etc/localtime"
    text = "/etc/timezone"
    fields = (Field("name", "str", REQUIRED, aliases=("zone",), help="the zone, such as Europe/Berlin or UTC"),)
    example = 'task({name = "clock", become = true, run = function() timezone.set({name = "Etc/UTC"}) end})'

    @classmethod
    def check_together(cls, values):
        name = values["name"]
        if not name or name.startswith("/") or ".." in name.split("/") or any(char.isspace() for char in name):
            raise ArgumentError("%s: %r cannot be the name of a zone" % (cls.name, name))

    def identity(self):
        return "zone"

    def observe(self):
        path = os.path.join(self.zones, self.args.name)
        if not os.path.isfile(path):
            raise Missing(
                "this host knows no zone %s" % self.args.name,
                hint=did_you_mean(self.args.name, self._names()) or "is tzdata installed?",
            )
        now = {"zone": None}
        try:
            target = os.path.join(os.path.dirname(self.link), os.readlink(self.link))
            now["zone"] = os.path.relpath(os.path.normpath(target), self.zones)
        except OSError:  # a copy instead of a link, or nothing: which zone it is cannot be told
            pass
        if os.path.exists(self.text):
            with open(self.text, encoding="utf-8", errors="replace") as file:
                now["text"] = file.read().strip()
        return now

    def _names(self):
        for root, _, names in os.walk(self.zones):
            for name in names:
                yield os.path.relpath(os.path.join(root, name), self.zones)

    def desired(self, now):
        wish = {"zone": self.args.name}
        if "text" in now:
            wish["text"] = self.args.name
        return wish

    def way_back(self, before, after):
        if before.get("zone") is None:
            raise Failed("which zone it was before cannot be told")
        return Resource.way_back(self, before, after)

    def apply(self, change):
        if "zone" in change:
            temporary = "%s.sloth-%d" % (self.link, os.getpid())
            if os.path.lexists(temporary):
                os.unlink(temporary)
            os.symlink(os.path.join(self.zones, change.after["zone"]), temporary)
            os.rename(temporary, self.link)
        if "text" in change:
            files.replace(self.text, [(change.after["text"] + "\n").encode("utf-8")])
