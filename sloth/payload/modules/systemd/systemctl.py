"""The connection to one systemd manager, of the system or of a user: the status of units, and commands."""

import os
import time

from sloth.payload.kernel.resource import Failed, Missing
from sloth.payload.modules.systemd import names, unit_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Mapping, Sequence

    from sloth.payload.kernel.resource import Args
    from sloth.payload.lib.command import Completed
    from sloth.payload.lib.host import Host

DEADLINE = 600  # seconds for one command; a unit's own TimeoutStartSec ends a start long before
JOURNAL = 20  # lines of a unit's journal in an error
_REPORTS = ("Created symlink", "Removed ", "Synchronizing state", "Executing:")  # what it prints on success
_PROPERTIES = (
    "Id", "LoadState", "LoadError", "ActiveState", "SubState", "UnitFileState", "NeedDaemonReload", "Type",
    "RemainAfterExit", "Result", "NRestarts", "CanReload", "ConditionResult", "FragmentPath", "SourcePath",
    "DropInPaths",
)  # fmt: skip


class UnitStatus(object):
    """What the manager reports of one unit, in systemd's own words (see systemctl(1) and org.freedesktop.systemd1(5)).

    unit: the name to give to systemctl; where the site gave an alias, it is the unit's own name. fragment, drop_ins:
    the paths of the unit file and of the files that add to it; source: that of what the unit was generated from.
    """

    __slots__ = (
        "active_state", "can_reload", "conditions_met", "drop_ins", "file_state", "fragment", "load_error",
        "load_state", "needs_reload", "remains", "restarts", "result", "source", "sub_state", "type", "unit",
    )  # fmt: skip

    def __init__(self, name: "str", properties: "Mapping[str, str]") -> "None":
        self.unit = properties.get("Id") or name
        self.load_state = properties.get("LoadState", "")
        # The property is the name of a D-Bus error and, in quotes, its message.
        self.load_error = properties.get("LoadError", "").partition(" ")[2].strip().strip('"')
        self.active_state = properties.get("ActiveState", "")
        self.sub_state = properties.get("SubState", "")
        self.file_state = properties.get("UnitFileState", "")
        self.needs_reload = properties.get("NeedDaemonReload") == "yes"
        self.type = properties.get("Type", "")
        self.remains = properties.get("RemainAfterExit") != "no"
        self.result = properties.get("Result", "")
        self.restarts = int(properties.get("NRestarts") or 0)
        self.can_reload = properties.get("CanReload") != "no"
        self.conditions_met = properties.get("ConditionResult") != "no"
        self.fragment = properties.get("FragmentPath", "")
        self.drop_ins = properties.get("DropInPaths", "").split()
        self.source = properties.get("SourcePath", "")

    @property
    def is_missing(self) -> "bool":
        return self.load_state == "not-found"

    @property
    def is_invalid(self) -> "bool":
        """Whether the manager cannot load the unit's file."""
        return self.load_state in ("bad-setting", "error")

    @property
    def is_active(self) -> "bool":
        return self.active_state in ("active", "reloading", "refreshing")

    @property
    def is_transitory(self) -> "bool":
        """Whether the unit runs to its end and is inactive again, so that nothing shows whether it ever ran."""
        return self.type == "oneshot" and not self.remains


class Manager(object):
    """The systemd manager of the system, or of an account."""

    def __init__(self, host: "Host", scope: "str", user: "str | None") -> "None":
        self.host = host
        self.scope = scope
        self.user = user

    @classmethod
    def of(cls, host: "Host", args: "Args") -> "Manager":
        """Return the manager that the arguments `scope` and `user` name."""
        return cls(host, args.scope, args.user)

    def status(self, unit: "str") -> "UnitStatus":
        """Return the status of `unit`; that of all units of the waiting calls is queried at the same time."""
        manager = "%s %s" % (self.scope, self.user)
        cached: "dict[str, UnitStatus]" = self.host.once("systemd.units %s" % manager, dict)
        if unit not in cached:
            units = [unit, *(other for other in _upcoming(self) if other not in cached and other != unit)]
            cached.update(zip(units, self._query([self._queryable(name) for name in units])))
        if not cached[unit].is_missing:
            return cached[unit]
        named = self.host.once("systemd.alias %s %s" % (manager, unit), lambda: self._by_alias(unit))
        return named or cached[unit]

    def existing(self, unit: "str") -> "UnitStatus":
        """Return the status of `unit`; raise Missing when there is no such unit."""
        status = self.status(unit)
        if status.is_missing and not self.script(status):
            raise Missing("there is no unit %s" % unit, hint="is its package installed, or its file written?")
        return status

    def script(self, status: "UnitStatus") -> "str":
        """Return the path of the System V script that the unit stands for, or "".

        systemd knows a new script only after it has reloaded.
        """
        if self.scope != "system":
            return ""
        if status.is_missing:
            return unit_files.script(status.unit)
        return status.source if status.file_state == "generated" and unit_files.is_script(status.source) else ""

    def directories(self) -> "list[str]":
        """Return the directories of this manager's unit files."""
        return unit_files.directories(self.host, self.scope, self.user)

    def _queryable(self, unit: "str") -> "str":
        """Return `unit`, or the default instance of a template: a template itself has no status."""
        if "@." not in unit:
            return unit
        path = unit_files.find(unit, self.directories())
        instances = unit_files.install_section([path]).get("DefaultInstance")
        if path and not instances:
            raise Failed(
                "%s is a template without a default instance" % unit,
                hint="name an instance, such as %s" % unit.replace("@.", "@NAME."),
            )
        return unit.replace("@.", "@%s." % (instances or ["sloth"])[0])

    def _query(self, units: "list[str]") -> "list[UnitStatus]":
        output = self.systemctl(["show", "--property=" + ",".join(_PROPERTIES), "--", *units])
        blocks = output.rstrip("\n").split("\n\n")
        if len(blocks) != len(units):
            raise Failed("systemctl show returned %d units instead of %d" % (len(blocks), len(units)))
        found = []
        for unit, block in zip(units, blocks):
            properties = dict(line.partition("=")[::2] for line in block.splitlines())
            if "UnitFileState" not in properties:  # before systemd 208
                state = self.run(["is-enabled", "--", unit]).stdout.decode("utf-8", "replace")
                properties["UnitFileState"] = state.strip()
            found.append(UnitStatus(unit, properties))
        return found

    def _by_alias(self, unit: "str") -> "UnitStatus | None":
        """Return the status of the unit that has the missing `unit` among its aliases, or None."""
        if self.script(UnitStatus(unit, {"LoadState": "not-found"})):
            return None
        name = unit_files.find_alias(unit, self.directories())
        status = self._query([name])[0] if name and "@." not in name else None
        return None if status is None or status.is_missing else status

    # Commands

    def run(self, words: "Sequence[str]") -> "Completed":
        """Run systemctl and return its Completed. Raises Failed when the manager cannot be reached."""
        if not os.path.isdir("/run/systemd/system"):
            raise Failed("this host does not run systemd", hint="systemd must be process 1")
        argv = ["systemctl", "--no-pager", "--no-ask-password"]
        env = {"LC_ALL": "C", "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": ""}
        if self.scope == "user":
            argv.append("--user")
            account = self.host.account(self.user) if self.user else None
            if self.user and account is None:
                raise Missing("there is no user %s" % self.user, hint="create the account first, with user.create")
            uid = self.host.uid if account is None else account.pw_uid
            name = self.user or self.host.user
            runtime = "/run/user/%d" % uid
            if not os.path.isdir(runtime):
                raise Failed(
                    "the user manager of %s is not running (%s does not exist)" % (name, runtime),
                    hint="loginctl enable-linger %s starts it without a login" % name,
                )
            env["XDG_RUNTIME_DIR"] = runtime
            env["DBUS_SESSION_BUS_ADDRESS"] = "unix:path=%s/bus" % runtime
            if uid != self.host.uid:
                argv = ["runuser", "-u", name, "--", *argv]
        return self.host.run([*argv, *words], env=env, timeout=DEADLINE)

    def systemctl(self, words: "Sequence[str]", unit: "str" = "") -> "str":
        """Run systemctl and return what it prints; raise Failed, with the journal of `unit`, when it fails.

        What it prints on stderr although it succeeds becomes a warning, except for reports of what it did.
        """
        done = self.run(words)
        errors = done.stderr.decode("utf-8", "replace").strip()
        if done.exit_code == 0:
            lines = [line.strip() for line in errors.splitlines()]
            messages = [line for line in lines if not line.startswith(_REPORTS) and "systemd-sysv-install" not in line]
            # It explains at length, and for some units wrongly, that a unit has no [Install] section.
            if messages and not messages[0].startswith("The unit files have no installation config"):
                self.host.warn("\n".join(messages))
            printed: "str" = done.stdout.decode("utf-8", "replace")
            return printed
        output = errors or done.stdout.decode("utf-8", "replace").strip()
        if done.ended:
            output = "it did not end within %d seconds" % DEADLINE
        hint = ""
        if self.host.uid != 0 and self.scope == "system" and ("authentication" in output or "denied" in output):
            hint = "set become = true on the task or the host"
        first = output.splitlines()[0] if output else "exit code %d" % done.exit_code
        raise Failed("systemctl %s: %s" % (words[0], first), hint, self.journal(unit) if unit else output)

    def journal(self, unit: "str", since: "int" = 0) -> "str":
        """Return the last lines of the journal of `unit` since an epoch second; "" when it cannot be read."""
        option = "--user-unit" if self.scope == "user" else "--unit"
        argv = ["journalctl", "--no-pager", "--quiet", "--boot", "--lines=%d" % JOURNAL, "%s=%s" % (option, unit)]
        argv.append("--since=@%d" % since)
        try:
            done = self.host.run(argv, env={"LC_ALL": "C", "SYSTEMD_COLORS": "0"}, timeout=30)
        except OSError:
            return ""
        text: "str" = done.stdout.decode("utf-8", "replace").rstrip()
        return text

    def complaints(self, unit: "str") -> "list[str]":
        """Return systemd's messages about the settings in the files of `unit`.

        systemd ignores most settings that it cannot parse, and mentions them only in its log.
        """
        argv = ["systemd-analyze", "--no-pager", "--man=no", "verify", unit]
        argv += ["--user"] if self.scope == "user" else []
        try:
            done = self.host.run(argv, env={"LC_ALL": "C", "SYSTEMD_COLORS": "0"}, timeout=30)
        except OSError:
            return []
        files = [part % name for name in (unit, _template(unit)) for part in ("/%s:", "/%s.d/")]
        lines = (done.stderr + done.stdout).decode("utf-8", "replace").splitlines()
        # It verifies the units that this one needs, too.
        return [line for line in lines if line.startswith(unit + ":") or any(file in line for file in files)]

    def start(self, verb: "str", unit: "str", settle: "float") -> "None":
        """Start, restart or reload `unit` and see that it stays active for `settle` seconds.

        Raises Failed, with the last lines of its journal, when it does not.
        """
        before = self.status(unit)
        if before.needs_reload or before.is_missing:
            self.systemctl(["daemon-reload"])
        restarts = 0 if verb == "restart" else before.restarts
        since = int(time.time())
        self.systemctl([verb, "--", before.unit], before.unit)
        if before.is_transitory:
            return  # systemctl has waited for its end
        end = time.monotonic() + settle
        while True:
            self.host.changed()
            now = self.status(unit)
            if not now.is_active or now.restarts > restarts:
                raise self._not_active(now, since)
            if time.monotonic() >= end or now.type not in ("simple", "exec", "idle"):
                return
            time.sleep(0.1)

    def _not_active(self, status: "UnitStatus", since: "int") -> "Failed":
        if not status.conditions_met and status.active_state == "inactive":
            return Failed(
                "%s was not started: one of its conditions is not met on this host" % status.unit,
                hint="see its settings that begin with Condition, and systemctl status %s" % status.unit,
            )
        state = "%s (%s, result %s)" % (status.active_state, status.sub_state, status.result)
        journal = self.journal(status.unit, since)
        return Failed("%s started and did not stay up: it is %s" % (status.unit, state), "", journal)


def _upcoming(manager: "Manager") -> "list[str]":
    """Return the units of `manager` that waiting calls name."""
    units = []
    for call, given in manager.host.upcoming():
        name = given.get("name")
        if not call.startswith("systemd.") or not isinstance(name, str) or not names.is_valid(name):
            continue
        if (given.get("scope") or "system", given.get("user")) == (manager.scope, manager.user):
            unit = names.full_name(name)
            if "@." not in unit and unit not in units:
                units.append(unit)
    return units


def _template(unit: "str") -> "str":
    """Return the template of an instance such as "getty@tty1.service"; any other unit itself."""
    prefix, at, rest = unit.partition("@")
    return "%s@.%s" % (prefix, rest.rpartition(".")[2]) if at else unit
