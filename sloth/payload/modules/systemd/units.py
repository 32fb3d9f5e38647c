"""The conversation with one systemd manager, of the system or of a user: what it says of units, and what it is told."""

import os
import re
import time

from sloth.payload.kernel.resource import ArgumentError, Failed, Field, Missing

SCOPE = Field(
    "scope",
    choices=("system", "user"),
    default="system",
    help="user: the manager of the account that the task runs as, or of `user`",
)
USER = Field("user", help="with scope user: the account whose manager is meant, which must be running")
SETTLE = Field(
    "settle",
    "float",
    0.5,
    how=True,
    help="seconds a simple service must stay up before it counts as started (others say themselves when they are)",
)
SUFFIXES = ("service", "socket", "timer", "mount", "automount", "swap", "target", "path", "slice", "scope", "device")
DEADLINE = 600  # seconds for one command; a unit's own TimeoutStartSec ends a start long before
JOURNAL = 20  # lines of a unit's journal in an error
_PROPERTIES = (
    "Id", "LoadState", "LoadError", "ActiveState", "SubState", "UnitFileState", "NeedDaemonReload", "Type",
    "RemainAfterExit", "Result", "NRestarts", "CanReload", "ConditionResult",
)  # fmt: skip
_NAME = re.compile(r"^[A-Za-z0-9:_.\\@-]+$")


def full_name(name):
    """The unit's name with its suffix; without one it is a service. Raises ArgumentError."""
    if not _NAME.match(name) or name.startswith("-"):
        raise ArgumentError("%r cannot be the name of a unit" % name)
    return name if name.rpartition(".")[2] in SUFFIXES and "." in name else name + ".service"


def identity(args):
    """What tells a unit from others of its type: its name without the suffix, after "USER/" in another's scope."""
    name = full_name(args.name).rpartition(".")[0]
    if args.scope == "user":
        return "%s/%s" % (args.user or "~", name)
    return name


def key(args):
    """The state key that all calls about a unit share."""
    return "systemd:%s:%s" % (full_name(args.name).rpartition(".")[2], identity(args))


def show(host, args, unit):
    """What the manager says of `unit`: a dict of its properties. All units of calls that wait are asked at once."""
    scope = [args.scope, args.user]
    known = host.once("systemd.units %s %s" % (args.scope, args.user), dict)
    if unit not in known:
        units = [unit]
        for name, given in host.upcoming():
            if not name.startswith("systemd.") or not isinstance(given.get("name"), str):
                continue
            if [given.get("scope") or "system", given.get("user")] == scope and _NAME.match(given["name"]):
                other = full_name(given["name"])
                if other not in known and other not in units and "@." not in other:
                    units.append(other)
        said = systemctl(host, args, ["show", "--property=" + ",".join(_PROPERTIES), "--"] + units)
        blocks = said.rstrip("\n").split("\n\n")
        if len(blocks) != len(units):
            raise Failed("systemctl told of %d units where %d were asked for" % (len(blocks), len(units)))
        for name, block in zip(units, blocks):
            known[name] = dict(line.partition("=")[::2] for line in block.splitlines())
            if "UnitFileState" not in known[name]:  # before systemd 208
                told = ask(host, args, ["is-enabled", "--", name]).stdout.decode("utf-8", "replace")
                known[name]["UnitFileState"] = told.strip()
    return known[unit]


def found(host, args, unit):
    """Like show(), for a unit that must be there; raises Missing."""
    properties = show(host, args, unit)
    if properties.get("LoadState") == "not-found":
        raise Missing("there is no unit %s" % unit, hint="is its package installed, or its file written?")
    return properties


def ask(host, args, words):
    """Run systemctl; return its Completed. Raises Failed when there is no systemd to talk to."""
    if not os.path.isdir("/run/systemd/system"):
        raise Failed("this host does not run systemd", hint="it is process 1 of hosts that do")
    argv = ["systemctl", "--no-pager", "--no-ask-password"]
    env = {"LC_ALL": "C", "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": ""}
    if args.scope == "user":
        argv.append("--user")
        account = host.account(args.user) if args.user else None
        if args.user and account is None:
            raise Missing("there is no user %s" % args.user, hint="make it first, with user.create")
        uid = host.uid if account is None else account.pw_uid
        name = args.user or host.user
        runtime = "/run/user/%d" % uid
        if not os.path.isdir(runtime):
            raise Failed(
                "%s has no running manager (%s is not there)" % (name, runtime),
                hint="loginctl enable-linger %s starts it without a login" % name,
            )
        env["XDG_RUNTIME_DIR"] = runtime
        env["DBUS_SESSION_BUS_ADDRESS"] = "unix:path=%s/bus" % runtime
        if uid != host.uid:
            argv = ["runuser", "-u", name, "--"] + argv
    return host.run(argv + words, env=env, timeout=DEADLINE)


def systemctl(host, args, words, unit=""):
    """Run systemctl and return what it prints (str); raise Failed, with the journal of `unit`, when it fails."""
    done = ask(host, args, words)
    if done.exit_code == 0:
        return done.stdout.decode("utf-8", "replace")
    said = (done.stderr or done.stdout).decode("utf-8", "replace").strip()
    if done.ended:
        said = "it did not end within %d seconds" % DEADLINE
    hint = ""
    if host.uid != 0 and args.scope == "system" and ("authentication" in said or "denied" in said):
        hint = "set become = true on the task or the host"
    first = said.splitlines()[0] if said else "exit code %d" % done.exit_code
    raise Failed("systemctl %s: %s" % (words[0], first), hint, journal(host, args, unit) if unit else said)


def journal(host, args, unit, since=0):
    """The last lines that the journal has of `unit` since an epoch second, as str; "" where it cannot be read."""
    scope = "--user-unit" if args.scope == "user" else "--unit"
    argv = ["journalctl", "--no-pager", "--quiet", "--boot", "--lines=%d" % JOURNAL, "%s=%s" % (scope, unit)]
    argv.append("--since=@%d" % since)
    try:
        done = host.run(argv, env={"LC_ALL": "C", "SYSTEMD_COLORS": "0"}, timeout=30)
    except OSError:
        return ""
    return done.stdout.decode("utf-8", "replace").rstrip()


def is_active(properties):
    """Whether the unit is up."""
    return properties.get("ActiveState") in ("active", "reloading", "refreshing")


def leaves_nothing(properties):
    """Whether the unit runs to its end and is down again: nothing tells afterwards that it ever ran."""
    return properties.get("Type") == "oneshot" and properties.get("RemainAfterExit") == "no"


def begin(host, args, verb, unit):
    """Start or restart `unit` and see that it stays up; raise Failed, with the last lines of its journal."""
    before = show(host, args, unit)
    if before.get("NeedDaemonReload") == "yes":
        systemctl(host, args, ["daemon-reload"])
    restarts = 0 if verb == "restart" else int(before.get("NRestarts") or 0)
    since = int(time.time())
    systemctl(host, args, [verb, "--", unit], unit)
    if leaves_nothing(before):
        return  # systemctl has waited for its end
    end = time.monotonic() + getattr(args, "settle", SETTLE.default)
    while True:
        host.changed()
        now = show(host, args, unit)
        if not is_active(now) or int(now.get("NRestarts") or 0) > restarts:
            if now.get("ConditionResult") == "no" and now.get("ActiveState") == "inactive":
                raise Failed(
                    "%s was not started: a condition that it names is not met on this host" % unit,
                    hint="see its lines that begin with Condition, and systemctl status %s" % unit,
                )
            state = "%s (%s, result %s)" % (now.get("ActiveState"), now.get("SubState"), now.get("Result"))
            raise Failed(
                "%s started and did not stay up: it is %s" % (unit, state), "", journal(host, args, unit, since)
            )
        if time.monotonic() >= end or now.get("Type") not in ("simple", "exec", "idle"):
            return
        time.sleep(0.1)
