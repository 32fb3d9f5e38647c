"""What is told to the manager and simply done: restart, reload, read the unit files again."""

from sloth.payload.kernel.resource import REQUIRED, Action, ArgumentError, Failed, Field
from sloth.payload.modules.systemd import units

_NAME = Field("name", "str", REQUIRED, aliases=("service", "unit"), help="the unit; without a suffix it is a service")


class _OnUnit(Action):
    @classmethod
    def check_together(cls, values):
        units.full_name(values["name"])
        if values.get("user") and values["scope"] != "user":
            raise ArgumentError('%s: user is for scope = "user"' % cls.name)

    def identity(self):
        return units.identity(self.args)

    @property
    def unit(self):
        return units.full_name(self.args.name)


class Restart(_OnUnit):
    """Restart a unit, or start it. One that dies at once is a failure, shown with the last lines of its journal.

    It is done every time it is reached: put it in a handler that a change notifies.
    """

    name = "systemd.restart"
    fields = (
        _NAME,
        Field("only_if_active", "bool", False, how=True, help="leave a unit that is down alone"),
        units.SCOPE,
        units.USER,
        units.SETTLE,
    )
    example = """handler({name = "restart ssh", become = true, run = function() systemd.restart({name = "ssh"}) end})
task({name = "sshd", become = true, notify = "restart ssh", run = function()
    file.copy({content = "PermitRootLogin no\\n", dest = "/etc/ssh/sshd_config.d/root.conf", mode = "0644"})
end})"""

    def guard(self):
        if self.args.only_if_active:
            if not units.is_active(units.found(self.host, self.args, self.unit)):
                return "%s is not active" % self.unit
        return ""

    def run(self):
        units.found(self.host, self.args, self.unit)
        units.begin(self.host, self.args, "restart", self.unit)
        return {}


class Reload(_OnUnit):
    """Tell a unit to read its configuration again; one that is down is started, as Ansible's `reloaded` does."""

    name = "systemd.reload"
    fields = (_NAME, units.SCOPE, units.USER, units.SETTLE)
    example = 'handler({name = "reload ssh", become = true, run = function() systemd.reload({name = "ssh"}) end})'

    def run(self):
        properties = units.found(self.host, self.args, self.unit)
        if not units.is_active(properties):
            units.begin(self.host, self.args, "start", self.unit)
        elif properties.get("CanReload") == "no":
            raise Failed("%s cannot reload" % self.unit, hint="use systemd.restart")
        else:
            units.begin(self.host, self.args, "reload", self.unit)
        return {}


class DaemonReload(Action):
    """Have the manager read all unit files again. systemd.unit does it by itself when a file has changed."""

    name = "systemd.daemon_reload"
    fields = (units.SCOPE, units.USER)
    example = 'task({name = "reread", become = true, run = function() systemd.daemon_reload() end})'

    def identity(self):
        return "manager" if self.args.scope == "system" else "%s/manager" % (self.args.user or "~")

    def run(self):
        units.systemctl(self.host, self.args, ["daemon-reload"])
        return {}
