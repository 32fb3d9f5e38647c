"""Whether units are enabled, active and masked: several verbs, one resource a unit."""

from sloth.payload.kernel.resource import REQUIRED, ArgumentError, Failed, Field, Resource
from sloth.payload.modules.systemd import units

_NAME = Field("name", "str", REQUIRED, aliases=("service", "unit"), help="the unit; without a suffix it is a service")
_NOW = Field("now", "bool", False, help="start or stop it, too")
_RETURNS = (
    Field("enabled", "any", help='true or false; "static" for a unit that cannot be enabled or disabled'),
    Field("active", "bool", help="whether it is up"),
    Field("masked", "bool", help="whether it is masked"),
)
# Units that have no say in whether they start at boot.
_STATIC = ("static", "generated", "indirect", "transient", "alias")


class _Service(Resource):
    """Base of the verbs; `wish` says which of enabled, active and masked are wanted."""

    merged = True
    returns = _RETURNS

    @classmethod
    def check_together(cls, values):
        units.full_name(values["name"])
        if values.get("user") and values["scope"] != "user":
            raise ArgumentError('%s: user is for scope = "user"' % cls.name)

    @property
    def unit(self):
        return units.full_name(self.args.name)

    def identity(self):
        return units.identity(self.args)

    def key(self):
        return units.key(self.args)

    def wish(self):
        """The attributes that are asked for: a dict of enabled, active, masked (bool)."""
        raise NotImplementedError(self.name)

    def observe(self):
        look = units.show if self.wish().get("masked") is not None else units.found
        properties = look(self.host, self.args, self.unit)
        state = properties.get("UnitFileState", "")
        if properties.get("LoadState") in ("bad-setting", "error") and self.wish().get("active"):
            raise Failed("systemd cannot load %s: %s" % (self.unit, properties.get("LoadError") or "bad setting"))
        if self.wish().get("active") and units.leaves_nothing(properties):
            raise Failed(
                "%s runs to its end and is down again: it cannot be kept up" % self.unit,
                hint="systemd.restart runs it; RemainAfterExit=yes in it would keep it up",
            )
        return {
            "enabled": "static" if state in _STATIC else state in ("enabled", "enabled-runtime", "linked"),
            "active": units.is_active(properties),
            "masked": state in ("masked", "masked-runtime") or properties.get("LoadState") == "masked",
        }

    def desired(self, now):
        wish = self.wish()
        if now["enabled"] == "static" and "enabled" in wish:
            wish["enabled"] = "static"
        masked = wish.get("masked", now["masked"])
        if masked and (wish.get("active") or wish.get("enabled") is True):
            raise Failed("%s is masked" % self.unit, hint="unmask it first, with systemd.unmask")
        return wish

    def apply(self, change):
        def tell(verb):
            units.systemctl(self.host, self.args, [verb, "--", self.unit], self.unit)

        after = change.after
        if "masked" in change and not after["masked"]:
            tell("unmask")
        if "active" in change and not after["active"]:
            tell("stop")
        if "masked" in change and after["masked"]:
            tell("mask")
        if "enabled" in change:
            tell("enable" if after["enabled"] else "disable")
        if "active" in change and after["active"]:
            units.begin(self.host, self.args, "start", self.unit)

    def result(self, now):
        return dict(now or {})


class Service(_Service):
    """See that a unit is enabled or not, up or down, masked or not; what is not named stays as it is.

    A unit that starts and dies at once is a failure, shown with the last lines of its journal. When a unit's file
    has changed on disk, the manager reads it before the unit is started.
    """

    name = "systemd.service"
    fields = (
        _NAME,
        Field("enabled", "bool", help="it starts at boot"),
        Field("state", choices=("started", "stopped"), help="it is up, or down, now"),
        Field("masked", "bool", help="nothing can start it"),
        units.SCOPE,
        units.USER,
        units.SETTLE,
    )
    example = """task({name = "ssh", become = true, run = function()
    systemd.service({name = "ssh", enabled = true, state = "started"})
end})"""

    @classmethod
    def check_together(cls, values):
        if all(values.get(name) is None for name in ("enabled", "state", "masked")):
            raise ArgumentError("%s needs enabled, state or masked" % cls.name)
        super(Service, cls).check_together(values)

    def wish(self):
        args = self.args
        wish = {"enabled": args.enabled, "masked": args.masked}
        wish["active"] = None if args.state is None else args.state == "started"
        return dict((name, value) for name, value in wish.items() if value is not None)


class Enable(_Service):
    """See that a unit starts at boot; with `now` it is started, too."""

    name = "systemd.enable"
    fields = (_NAME, _NOW, units.SCOPE, units.USER, units.SETTLE)
    example = 'task({name = "ssh", become = true, run = function() systemd.enable({name = "ssh", now = true}) end})'

    def wish(self):
        return {"enabled": True, "active": True} if self.args.now else {"enabled": True}


class Disable(_Service):
    """See that a unit does not start at boot; with `now` it is stopped, too."""

    name = "systemd.disable"
    fields = (_NAME, _NOW, units.SCOPE, units.USER)
    example = """task({name = "no timer", become = true, run = function()
    systemd.disable({name = "fstrim.timer", now = true})
end})"""

    def wish(self):
        return {"enabled": False, "active": False} if self.args.now else {"enabled": False}


class Start(_Service):
    """See that a unit is up. One that dies at once is a failure, shown with the last lines of its journal."""

    name = "systemd.start"
    fields = (_NAME, units.SCOPE, units.USER, units.SETTLE)
    example = 'task({name = "ssh", become = true, run = function() systemd.start({name = "ssh"}) end})'

    def wish(self):
        return {"active": True}


class Stop(_Service):
    """See that a unit is down."""

    name = "systemd.stop"
    fields = (_NAME, units.SCOPE, units.USER)
    example = 'task({name = "quiet", become = true, run = function() systemd.stop({name = "fstrim.timer"}) end})'

    def wish(self):
        return {"active": False}


class Mask(_Service):
    """See that nothing can start a unit; with `now` it is stopped, too."""

    name = "systemd.mask"
    fields = (_NAME, _NOW, units.SCOPE, units.USER)
    example = 'task({name = "never", become = true, run = function() systemd.mask({name = "ctrl-alt-del.target"}) end})'

    def wish(self):
        return {"masked": True, "active": False} if self.args.now else {"masked": True}


class Unmask(_Service):
    """See that a unit is not masked."""

    name = "systemd.unmask"
    fields = (_NAME, units.SCOPE, units.USER)
    example = 'task({name = "again", become = true, run = function() systemd.unmask({name = "ssh"}) end})'

    def wish(self):
        return {"masked": False}
