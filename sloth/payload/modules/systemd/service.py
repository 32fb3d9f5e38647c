"""Whether units are enabled, active and masked: several calls that describe one resource, the unit."""

import os

from sloth.payload.kernel.resource import ArgumentError, Failed, Field, Resource
from sloth.payload.modules.systemd import names
from sloth.payload.modules.systemd.enablement import PARTLY, RUNTIME, STATIC, is_enabled, is_masked
from sloth.payload.modules.systemd.systemctl import Manager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.resource import Change
    from sloth.payload.kernel.values import Arguments, Attributes
    from sloth.payload.modules.systemd.systemctl import UnitStatus

_NOW = Field("now", "bool", False, help="also start or stop it")
_LINKS = "/etc/systemd/system"  # where `systemctl link` puts its links


class _Service(Resource):
    """Base of the calls about a unit's status; `wanted` names the attributes that a call manages."""

    merged = True
    foreseeable = True
    returns = (
        Field(
            "enabled",
            "any",
            help='true or false; "static" for a unit that can be neither enabled nor disabled; "runtime" for one that '
            'is enabled until the next boot; "partly" when not all that its [Install] section names is enabled',
        ),
        Field("active", "bool", help="whether it is active"),
        Field("masked", "any", help='true or false; "runtime" for a unit that is masked until the next boot'),
    )

    @classmethod
    def check_together(cls, values: "Arguments") -> "None":
        names.check_arguments(cls.name, values)

    @property
    def unit(self) -> "str":
        return names.full_name(self.args.name)

    @property
    def manager(self) -> "Manager":
        return Manager.of(self.host, self.args)

    def claims(self) -> "list[str]":
        return ["unit:" + self.identity()]

    def identity(self) -> "str":
        return names.identity(self.args)

    def key(self) -> "str":
        return names.key(self.args)

    def wanted(self) -> "dict[str, bool]":
        """Return the desired attributes, out of enabled, active and masked."""
        raise NotImplementedError(self.name)

    def _status(self) -> "UnitStatus":
        # What is not installed can be masked nevertheless.
        return self.manager.status(self.unit) if "masked" in self.wanted() else self.manager.existing(self.unit)

    def observe(self) -> "Attributes | None":
        status = self._status()
        if self.wanted().get("active") and status.is_invalid:
            complaints = self.manager.complaints(status.unit)
            raise Failed(_cannot_load(status, complaints), detail="\n".join(complaints))
        if self.wanted().get("active") and status.is_transitory:
            raise Failed(
                "%s runs to its end and is inactive again: it cannot be kept active" % self.unit,
                hint="systemd.restart runs it; with RemainAfterExit=yes it would stay active",
            )
        return {
            "enabled": is_enabled(self.manager, status),
            "active": status.is_active,
            "masked": is_masked(status),
        }

    def desired(self, now: "Attributes | None") -> "Attributes | None":
        assert now is not None
        wanted: "Attributes" = dict(self.wanted())
        if now["enabled"] == STATIC and "enabled" in wanted:
            wanted["enabled"] = STATIC
        masked = wanted.get("masked", now["masked"])
        if masked and (wanted.get("active") or wanted.get("enabled") is True):
            raise Failed("%s is masked" % self.unit, hint="unmask it first, with systemd.unmask")
        return wanted

    def foresee(self, before: "Attributes | None", desired: "Attributes | None") -> "Attributes | None":
        after = dict(before or {}, **(desired or {}))
        if after.get("masked"):
            after["enabled"] = False  # systemd's state of its file is "masked" then
        return after

    def wants_nothing(self) -> "bool":
        return not any(self.wanted().values())

    def apply(self, change: "Change") -> "Attributes | None":
        after = change.after or {}
        if self._status().is_missing and self.manager.script(self._status()):
            self.manager.systemctl(["daemon-reload"])  # it does not know the System V script yet
            self.host.changed()
        if "masked" in change and after["masked"] is not True:
            self._unmask()
        if "active" in change and not after["active"]:
            self._systemctl("stop")
        if "masked" in change and after["masked"]:
            self._systemctl("mask", *_runtime(after["masked"]))
        if "enabled" in change:
            self._set_enabled(after["enabled"])
        if "active" in change and after["active"]:
            self.manager.start("start", self.unit, float(getattr(self.args, "settle", 0.5)))
        return None

    def _systemctl(self, verb: "str", *options: "str") -> "None":
        unit = self._status().unit
        self.manager.systemctl([verb, *options, "--", unit], unit)
        self.host.changed()

    def _unmask(self) -> "None":
        for options in ((), ("--runtime",)):  # without --runtime a mask below /run stays
            if is_masked(self._status()):
                self._systemctl("unmask", *options)

    def _set_enabled(self, enabled: "bool | str") -> "None":
        status = self._status()
        if enabled is True:
            # After a change of the [Install] section links that it no longer asks for go, too.
            is_stale = status.file_state == "enabled" and is_enabled(self.manager, status) == PARTLY
            self._systemctl("reenable" if is_stale and not self._link(status) else "enable")
            return
        link = self._link(status)
        self._systemctl("disable")
        if link and not os.path.lexists(os.path.join(_LINKS, status.unit)):
            # systemctl has removed the unit itself, of which the next run would know nothing.
            self.manager.systemctl(["link", "--", link])
            self.host.changed()
        if enabled == RUNTIME:
            self._systemctl("enable", "--runtime")
        elif is_enabled(self.manager, self._status()) == RUNTIME:
            self._systemctl("disable", "--runtime")

    def _link(self, status: "UnitStatus") -> "str":
        """Return the path outside of systemd's directories to which the unit is linked, or ""."""
        path = os.path.join(_LINKS, status.unit)
        if self.args.scope != "system" or not os.path.islink(path):
            return ""
        target = os.path.join(_LINKS, os.readlink(path))
        is_outside = (
            os.path.basename(target) == status.unit and os.path.dirname(target) not in self.manager.directories()
        )
        return target if is_outside else ""

    def result(self, now: "Attributes | None") -> "Attributes":
        if self.wanted().get("enabled"):
            status = self._status()
            if status.is_invalid:
                self.host.warn(_cannot_load(status, self.manager.complaints(status.unit)))
            elif (now or {}).get("enabled") == STATIC:
                self.host.warn("%s cannot be enabled: it has no [Install] section, or is generated" % self.unit)
        return dict(now or {})


def _runtime(state: "bool | str") -> "tuple[str, ...]":
    return ("--runtime",) if state == RUNTIME else ()


def _cannot_load(status: "UnitStatus", complaints: "list[str]") -> "str":
    """Return why systemd cannot load the unit."""
    reason = "; ".join(complaints) or status.load_error or status.load_state
    return "systemd cannot load %s: %s" % (status.unit, reason)


class Service(_Service):
    """Ensure that a unit is enabled or disabled, active or inactive, masked or not; what is not given stays as it is.

    A unit that starts and fails at once is a failure, reported with the last lines of its journal. A unit file that
    has changed on disk is reloaded before the unit is started. A unit may be given by an alias, also by one that
    systemd only knows once the unit is enabled.

    Other than Ansible: a unit that is enabled, or masked, until the next boot only ("enabled-runtime") is not enabled.
    Other than Ansible: a unit whose [Install] section changed after it was enabled is enabled again.
    Other than Ansible: a unit that only has Also= settings is enabled when the units that they name are.
    Other than Ansible: disabling a unit that was linked from outside of systemd's directories leaves the link.
    Other than Ansible: a name cannot be the path of a unit file; systemd.unit installs one.
    Other than Ansible: restarting and reloading are calls of their own: systemd.restart, systemd.reload.
    Other than Ansible: a unit that cannot be enabled, or that systemd cannot load, causes a warning.
    """

    name = "systemd.service"
    fields = (
        names.NAME,
        Field("enabled", "bool", help="whether it is started at boot"),
        Field("state", choices=("started", "stopped"), help="whether it is active now"),
        Field("masked", "bool", help="whether it is impossible to start it"),
        names.SCOPE,
        names.USER,
        names.SETTLE,
    )
    example = """task({name = "ssh", become = true, run = function()
    systemd.service({name = "ssh", enabled = true, state = "started"})
end})"""

    @classmethod
    def check_together(cls, values: "Arguments") -> "None":
        if all(values.get(name) is None for name in ("enabled", "state", "masked")):
            raise ArgumentError("%s needs enabled, state or masked" % cls.name)
        super(Service, cls).check_together(values)

    def wanted(self) -> "dict[str, bool]":
        args = self.args
        active = None if args.state is None else args.state == "started"
        wanted = {"enabled": args.enabled, "masked": args.masked, "active": active}
        return dict((name, value) for name, value in wanted.items() if value is not None)


class Enable(_Service):
    """Ensure that a unit is started at boot; with `now` it is also started.

    A unit that systemd cannot load, and one that cannot be enabled, cause a warning. See systemd.service.
    """

    name = "systemd.enable"
    fields = (names.NAME, _NOW, names.SCOPE, names.USER, names.SETTLE)
    example = 'task({name = "ssh", become = true, run = function() systemd.enable({name = "ssh", now = true}) end})'

    def wanted(self) -> "dict[str, bool]":
        return {"enabled": True, "active": True} if self.args.now else {"enabled": True}


class Disable(_Service):
    """Ensure that a unit is not started at boot; with `now` it is also stopped. See systemd.service."""

    name = "systemd.disable"
    fields = (names.NAME, _NOW, names.SCOPE, names.USER)
    example = """task({name = "no timer", become = true, run = function()
    systemd.disable({name = "fstrim.timer", now = true})
end})"""

    def wanted(self) -> "dict[str, bool]":
        return {"enabled": False, "active": False} if self.args.now else {"enabled": False}


class Start(_Service):
    """Ensure that a unit is active. One that fails at once is a failure, with the last lines of its journal."""

    name = "systemd.start"
    fields = (names.NAME, names.SCOPE, names.USER, names.SETTLE)
    example = 'task({name = "ssh", become = true, run = function() systemd.start({name = "ssh"}) end})'

    def wanted(self) -> "dict[str, bool]":
        return {"active": True}


class Stop(_Service):
    """Ensure that a unit is inactive."""

    name = "systemd.stop"
    fields = (names.NAME, names.SCOPE, names.USER)
    example = 'task({name = "quiet", become = true, run = function() systemd.stop({name = "fstrim.timer"}) end})'

    def wanted(self) -> "dict[str, bool]":
        return {"active": False}


class Mask(_Service):
    """Ensure that nothing can start a unit; with `now` it is also stopped. The unit need not be installed."""

    name = "systemd.mask"
    fields = (names.NAME, _NOW, names.SCOPE, names.USER)
    example = 'task({name = "never", become = true, run = function() systemd.mask({name = "ctrl-alt-del.target"}) end})'

    def wanted(self) -> "dict[str, bool]":
        return {"masked": True, "active": False} if self.args.now else {"masked": True}


class Unmask(_Service):
    """Ensure that a unit is not masked, neither permanently nor until the next boot."""

    name = "systemd.unmask"
    fields = (names.NAME, names.SCOPE, names.USER)
    example = 'task({name = "again", become = true, run = function() systemd.unmask({name = "ssh"}) end})'

    def wanted(self) -> "dict[str, bool]":
        return {"masked": False}
