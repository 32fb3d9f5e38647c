"""What is simply done with units and managers: restart, reload, reload of the unit files."""

from sloth.payload.kernel.resource import Action, Failed, Field
from sloth.payload.modules.systemd import names
from sloth.payload.modules.systemd.systemctl import Manager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.values import Arguments, Attributes


class _UnitAction(Action):
    @classmethod
    def check_together(cls, values: "Arguments") -> "None":
        names.check_arguments(cls.name, values)

    def identity(self) -> "str":
        return names.identity(self.args)

    def foresee(self) -> "None":
        """Note that the unit would be active, for calls that stop it or start it."""
        try:
            is_transitory = self.manager.status(self.unit).is_transitory
        except Failed:  # the run will report it
            return
        if not is_transitory:
            key = names.key(self.args)
            self.host.predicted[key] = dict(self.host.predicted.get(key) or {}, active=True)

    @property
    def unit(self) -> "str":
        return names.full_name(self.args.name)

    @property
    def manager(self) -> "Manager":
        return Manager.of(self.host, self.args)


class Restart(_UnitAction):
    """Restart a unit, or start it. One that fails at once is a failure, reported with the last lines of its journal.

    The restart happens each time the call is reached: put it into a handler that a change notifies.
    """

    name = "systemd.restart"
    fields = (
        names.NAME,
        Field("only_if_active", "bool", False, how=True, help="leave an inactive unit alone"),
        names.SCOPE,
        names.USER,
        names.SETTLE,
    )
    example = """handler({name = "restart ssh", become = true, run = function() systemd.restart({name = "ssh"}) end})
task({name = "sshd", become = true, notify = "restart ssh", run = function()
    file.copy({content = "PermitRootLogin no\\n", dest = "/etc/ssh/sshd_config.d/root.conf", mode = "0644"})
end})"""

    def guard(self) -> "str":
        if self.args.only_if_active and not self._is_active():
            return "%s is not active" % self.unit
        return ""

    def _is_active(self) -> "bool":
        """Return whether the unit is active or, in a check, would be by now."""
        is_active = self.manager.existing(self.unit).is_active
        return bool((self.host.predicted.get(names.key(self.args)) or {}).get("active", is_active))

    def run(self) -> "Attributes":
        self.manager.existing(self.unit)
        self.manager.start("restart", self.unit, self.args.settle)
        return {}


class Reload(_UnitAction):
    """Make a unit reload its configuration; an inactive one is started, as with Ansible's `reloaded`."""

    name = "systemd.reload"
    fields = (names.NAME, names.SCOPE, names.USER, names.SETTLE)
    example = 'handler({name = "reload ssh", become = true, run = function() systemd.reload({name = "ssh"}) end})'

    def run(self) -> "Attributes":
        status = self.manager.existing(self.unit)
        if status.is_active and not status.can_reload:
            raise Failed("%s cannot reload" % self.unit, hint="use systemd.restart")
        self.manager.start("reload" if status.is_active else "start", self.unit, self.args.settle)
        return {}


class DaemonReload(Action):
    """Make the manager reload all unit files. systemd.unit does this by itself when a file has changed."""

    name = "systemd.daemon_reload"
    fields = (names.SCOPE, names.USER)
    example = 'task({name = "reread", become = true, run = function() systemd.daemon_reload() end})'

    def identity(self) -> "str":
        return "manager" if self.args.scope == "system" else "%s/manager" % (self.args.user or "~")

    def run(self) -> "Attributes":
        Manager.of(self.host, self.args).systemctl(["daemon-reload"])
        return {}
