"""systemd.unit: a unit's file, and a manager that has read it."""

import os

from sloth.payload.kernel.resource import REQUIRED, ArgumentError, Failed, Field, Resource
from sloth.payload.lib import files
from sloth.payload.lib.accounts import get_account
from sloth.payload.lib.user_files import UserFile
from sloth.payload.modules.systemd import units


class Unit(Resource):
    """Install the file of a unit, or a drop-in for one, and have the manager read it when it has changed.

    A file that the manager cannot load is a failure. Without content or src, `state = "absent"` removes it. For a
    unit made from a template give `content = template("app.service.j2")`.
    """

    name = "systemd.unit"
    ships = "file"
    fields = (
        Field("name", "str", REQUIRED, aliases=("unit",), help="the unit; without a suffix it is a service"),
        Field("content", "str", how=True, help="the text of the file"),
        Field("src", "file", how=True, help="the file on the controller, instead of content"),
        Field("dropin", help='write NAME.d/DROPIN: settings that add to the unit\'s own, such as "limits.conf"'),
        Field("state", choices=("present", "absent"), default="present", help="whether the file is there"),
        Field("mode", "mode", "0644", help="the file's mode"),
        units.SCOPE,
        units.USER,
    )
    returns = (Field("path", help="the unit's file"),)
    example = """task({name = "app", become = true, run = function()
    systemd.unit({name = "app", content = "[Service]\\nExecStart=/bin/sleep infinity\\n"})
    systemd.start({name = "app"})
end})"""

    @classmethod
    def check_together(cls, values):
        units.full_name(values["name"])
        given = [name for name in ("content", "src") if values.get(name) is not None]
        if values["state"] == "absent" and given:
            raise ArgumentError("%s: a file that shall not be there has no %s" % (cls.name, given[0]))
        if values["state"] == "present" and len(given) != 1:
            raise ArgumentError("%s needs content or src, and not both" % cls.name)
        dropin = values.get("dropin")
        if dropin is not None and ("/" in dropin or not dropin.endswith(".conf")):
            raise ArgumentError("%s: dropin must be the name of a file that ends in .conf: %r" % (cls.name, dropin))
        if values.get("user") and values["scope"] != "user":
            raise ArgumentError('%s: user is for scope = "user"' % cls.name)

    @property
    def unit(self):
        return units.full_name(self.args.name)

    @property
    def path(self):
        args = self.args
        directory = "/etc/systemd/system"
        if args.scope == "user":
            directory = self.host.expand("~%s/.config/systemd/user" % (args.user or ""))
        return os.path.join(directory, "%s.d/%s" % (self.unit, args.dropin) if args.dropin else self.unit)

    def identity(self):
        name = "%s/%s" % (self.unit, self.args.dropin) if self.args.dropin else self.unit
        return "%s/%s" % (self.args.user or "~", name) if self.args.scope == "user" else name

    def _loaded(self):
        """Whether the manager has read the file as it is; a template is seen by an instance of it."""
        unit = self.unit.replace("@.", "@sloth.")
        properties = units.show(self.host, self.args, unit)
        if properties.get("NeedDaemonReload") == "yes":
            return "stale"
        state = properties.get("LoadState", "")
        if state == "not-found" and not self.args.dropin:
            return "stale"
        return "loaded" if state in ("loaded", "masked", "not-found") else state

    @property
    def _home(self):
        """The UserFile of a file in a user's home, in which root trusts nothing; None for any other."""
        if self.args.scope != "user" or not self.args.user:
            return None
        return UserFile(self.host, get_account(self.host, self.args.user), self.path, strict=False)

    def observe(self):
        if self._home is not None:
            seen = self._home.observe() or {}
            if "content" not in seen:
                return None
            return {"content": seen["content"], "mode": seen["mode"], "manager": self._loaded()}
        seen = files.look(self.path, False)
        if seen is None:
            return None
        if seen["type"] != "file":
            raise Failed("%s is there and is no file but a %s" % (self.path, seen["type"]))
        return {"content": self.host.content(self.path), "mode": seen["mode"], "manager": self._loaded()}

    def desired(self, now):
        if self.args.state == "absent":
            return None
        mode = "%04o" % files.parse_mode(self.args.mode, 0o644, False)
        return {"content": self.host.asset(self, 0), "mode": mode, "manager": "loaded"}

    def way_back(self, before, after):
        if before is None:
            return self.removal(None)
        return dict(before, manager="loaded")

    def apply(self, change):
        if self._home is not None:
            self._home.remove() if change.after is None else self._home.apply(change)
        else:
            self._apply_file(change)
        units.systemctl(self.host, self.args, ["daemon-reload"])
        self.host.changed()
        if change.after is not None and self._loaded() not in ("loaded", "stale"):
            journal = units.journal(self.host, self.args, self.unit)
            raise Failed("systemd cannot load %s: %s" % (self.unit, self._loaded()), detail=journal)

    def _apply_file(self, change):
        path = self.path
        if change.after is None:
            os.unlink(path)
            if self.args.dropin and not os.listdir(os.path.dirname(path)):
                os.rmdir(os.path.dirname(path))
            return
        if "content" in change:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            files.replace(path, change.after["content"].chunks(), change.after["mode"])
        if "mode" in change:
            os.chmod(path, int(change.after["mode"], 8))

    def result(self, now):
        return {"path": self.path}
