"""The file of a unit, and a manager that has loaded it."""

import os

from sloth.payload.kernel.resource import REQUIRED, ArgumentError, Failed, Field, Resource
from sloth.payload.lib import files
from sloth.payload.lib.accounts import get_account
from sloth.payload.lib.modes import parse_mode
from sloth.payload.lib.user_files import UserFile
from sloth.payload.modules.systemd import names
from sloth.payload.modules.systemd.systemctl import Manager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.resource import Change
    from sloth.payload.kernel.values import Arguments, Attributes


class Unit(Resource):
    """Install the file of a unit, or a drop-in for one, and have the manager load it when it has changed.

    A file that the manager cannot load is a failure; settings in it that systemd ignores cause warnings. With
    `state = "absent"` the file is removed. For a file made from a template use `content = template("app.service.j2")`.

    Other than Ansible: there is no such module; copy and a handler with daemon_reload are what it replaces.
    """

    name = "systemd.unit"
    ships = "file"
    fields = (
        Field("name", "str", REQUIRED, aliases=("unit",), help=names.NAME.help),
        Field("content", "str", how=True, help="the text of the file"),
        Field("src", "file", how=True, help="the file on the controller, instead of content"),
        Field(
            "dropin", help='the name of a drop-in file, such as "limits.conf": its settings add to those of the unit'
        ),
        Field("state", choices=("present", "absent"), default="present", help="whether the file exists"),
        Field("mode", "mode", "0644", help="the file's mode"),
        names.SCOPE,
        names.USER,
    )
    returns = (Field("path", help="the path of the file"),)
    example = """task({name = "app", become = true, run = function()
    systemd.unit({name = "app", content = "[Service]\\nExecStart=/bin/sleep infinity\\n"})
    systemd.start({name = "app"})
end})"""

    @classmethod
    def check_together(cls, values: "Arguments") -> "None":
        given = [name for name in ("content", "src") if values.get(name) is not None]
        if values["state"] == "absent" and given:
            raise ArgumentError('%s: %s cannot be given with state = "absent"' % (cls.name, given[0]))
        if values["state"] == "present" and len(given) != 1:
            raise ArgumentError("%s needs either content or src" % cls.name)
        if values.get("src") == "":
            raise ArgumentError("%s: src must not be empty" % cls.name)
        dropin = values.get("dropin")
        if dropin is not None and ("/" in dropin or not dropin.endswith(".conf")):
            raise ArgumentError("%s: dropin must be a file name that ends in .conf, not %r" % (cls.name, dropin))
        names.check_arguments(cls.name, values)

    @property
    def unit(self) -> "str":
        return names.full_name(self.args.name)

    @property
    def manager(self) -> "Manager":
        return Manager.of(self.host, self.args)

    @property
    def path(self) -> "str":
        args = self.args
        directory = "/etc/systemd/system"
        if args.scope == "user":
            directory = self.host.expand("~%s/.config/systemd/user" % (args.user or ""))
        return os.path.join(directory, "%s.d/%s" % (self.unit, args.dropin) if args.dropin else self.unit)

    def identity(self) -> "str":
        name = "%s/%s" % (self.unit, self.args.dropin) if self.args.dropin else self.unit
        return "%s/%s" % (self.args.user or "~", name) if self.args.scope == "user" else name

    def claims(self) -> "list[str]":
        return ["path:" + self.host.canonical(self.path)]

    @property
    def _instance(self) -> "str":
        """The unit, or an instance of a template: the manager does not load the template itself."""
        return self.unit.replace("@.", "@sloth.")

    def _load_state(self) -> "str":
        """Return "loaded" when the manager has loaded the file as it is, "stale", or systemd's word for a failure."""
        status = self.manager.status(self._instance)
        if status.needs_reload or (status.is_missing and not self.args.dropin):
            return "stale"
        return "loaded" if status.load_state in ("loaded", "masked", "not-found") else status.load_state

    @property
    def _user_file(self) -> "UserFile | None":
        """The file where it is in the home of another user, in which root must trust nothing."""
        if self.args.scope != "user" or not self.args.user:
            return None
        return UserFile(self.host, get_account(self.host, self.args.user), self.path, strict=False)

    def observe(self) -> "Attributes | None":
        if self._user_file is not None:
            now = self._user_file.observe() or {}
            if "content" not in now:
                return None
            return {"content": now["content"], "mode": now["mode"], "manager": self._load_state()}
        found = files.look(self.path, False)
        if found is None:
            return None
        if found["type"] != "file":
            raise Failed("%s is not a regular file but a %s" % (self.path, found["type"]))
        return {"content": self.host.content(self.path), "mode": found["mode"], "manager": self._load_state()}

    def desired(self, now: "Attributes | None") -> "Attributes | None":
        if self.args.state == "absent":
            return None
        mode = "%04o" % parse_mode(self.args.mode, 0o644, False)
        return {"content": self.host.asset(self, 0), "mode": mode, "manager": "loaded"}

    def way_back(self, before: "Attributes | None", after: "Attributes | None") -> "tuple[str, Arguments] | Attributes":
        if before is None:
            call = self.removal(None)
            assert call is not None  # it has a state
            return call
        return dict(before, manager="loaded")

    def apply(self, change: "Change") -> "Attributes | None":
        user_file = self._user_file
        if user_file is None:
            self._apply_file(change)
        elif change.after is None:
            user_file.remove()
        else:
            user_file.apply(change)
        self.manager.systemctl(["daemon-reload"])
        self.host.changed()
        if change.after is None:
            return None
        complaints = self.manager.complaints(self._instance)
        state = self._load_state()
        if state not in ("loaded", "stale"):
            journal = self.manager.journal(self.unit)
            reason = "; ".join(complaints) or self.manager.status(self._instance).load_error or state
            raise Failed("systemd cannot load %s: %s" % (self.unit, reason), detail=journal)
        for line in complaints:
            self.host.warn(line)
        return None

    def _apply_file(self, change: "Change") -> "None":
        path = self.path
        if change.after is None:
            with files.Parent(path) as parent:
                parent.unlink()
            if self.args.dropin and not os.listdir(os.path.dirname(path)):
                with files.Parent(os.path.dirname(path)) as parent:
                    parent.rmdir()
            return
        if "content" in change:
            files.make_directories(os.path.dirname(path))
            files.replace(path, change.after["content"].chunks(), change.after["mode"], wanted=change.after)
        files.set_attributes(path, change, False)

    def result(self, now: "Attributes | None") -> "Attributes":
        return {"path": self.path}
