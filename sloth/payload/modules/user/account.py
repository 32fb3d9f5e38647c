"""What user.create, user.modify and user.delete share: one account, its attributes as the databases have them."""

import os
import time

from sloth.payload.kernel.resource import REQUIRED, ArgumentError, Failed, Field, Resource
from sloth.payload.lib import accounts, files
from sloth.payload.lib.regex import re
from sloth.payload.modules.user.home import make_home, read_home_umask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.resource import Change
    from sloth.payload.kernel.values import Arguments, Attributes

NAME = Field("name", "str", REQUIRED, aliases=("username", "user"), help="name of the account")
ATTRIBUTES = (
    Field("uid", "int", help="numeric user ID"),
    Field("group", help="primary group, by name or number"),
    Field(
        "groups",
        "list",
        help="supplementary groups: a list, or a string with commas; an empty list removes the user from all of them",
    ),
    Field("append", "bool", False, how=True, help="keep the user's other supplementary groups"),
    Field("shell", help="login shell"),
    Field("home", help="home directory"),
    Field("move_home", "bool", False, how=True, help="when home changes, move the content of the old one"),
    Field("comment", help="GECOS field, such as the full name"),
    Field(
        "password",
        secret=True,
        help='crypt(3) hash of the password, as `openssl passwd -6` prints it; "*" disables password login',
    ),
    Field("empty_password", "bool", False, help="the account has no password: anybody may log in without one"),
    Field(
        "update_password",
        choices=("always", "on_create"),
        default="always",
        how=True,
        help="on_create: do not change the password of an existing account",
    ),
    Field("password_lock", "bool", aliases=("lock", "locked"), help="lock (true) or unlock (false) the password"),
    Field(
        "expires",
        help='when the account expires: "2027-01-31" or seconds since the epoch; "" or a negative number: never',
    ),
    Field("password_expire_min", "int", help="minimum number of days between password changes; -1: none"),
    Field("password_expire_max", "int", help="days after which the password must be changed; -1: never"),
    Field("password_expire_warn", "int", help="days of warning before the password expires"),
    Field(
        "password_expire_account_disable",
        "int",
        help="days after the password has expired for which the account still works; -1: for ever",
    ),
    Field("non_unique", "bool", False, how=True, help="allow a uid that another account has"),
    Field("skeleton", "path", how=True, help="directory that a new home is copied from"),
    Field("umask", how=True, help="umask of a new home directory, in octal, instead of that of /etc/login.defs"),
    Field("system", "bool", False, how=True, help="create a system account, with a uid of their range"),
)
RETURNS = (
    Field("uid", "int", help="numeric user ID"),
    Field("group", help="primary group"),
    Field("groups", "list", help="supplementary groups"),
    Field("home", help="home directory"),
    Field("shell", help="login shell"),
    Field("comment", help="GECOS field"),
)


AGEING = {  # chage's options, in the order in which /etc/shadow has the numbers
    "password_expire_min": "-m",
    "password_expire_max": "-M",
    "password_expire_warn": "-W",
    "password_expire_account_disable": "-I",
}
_HASH = r"^(\$[0-9a-z]+\$|_|[*!x]|[./0-9A-Za-z]{13}$|$)"


class User(Resource):
    """Base of the three: they describe one account, under one key."""

    merged = True

    @classmethod
    def check_together(cls, values: "Arguments") -> "None":
        accounts.check_name(values, "user")
        for name in ("shell", "home", "comment"):
            text = values.get(name)
            if text is not None and (":" in text or "\n" in text):
                raise ArgumentError("%s: %s must not contain a colon or a newline" % (cls.name, name))
        home = values.get("home")
        if home is not None and not home.startswith("/"):
            raise ArgumentError("%s: home must be an absolute path: %r" % (cls.name, home))
        if values.get("umask") is not None and not re.match(r"^0*[0-7]{1,3}\Z", values["umask"]):
            raise ArgumentError("%s: umask must consist of octal digits: %s" % (cls.name, values["umask"]))
        _check_password(cls.name, values)
        if values.get("expires") is not None:
            _parse_day(values["expires"])

    def key(self) -> "str":
        return "user:create:%s" % self.args.name

    def identity(self) -> "str":
        return str(self.args.name)

    def place(self) -> "str | None":
        return "user:%s" % self.args.name

    def observe(self) -> "Attributes | None":
        entry = self.host.account(self.args.name)
        if entry is None:
            return None
        now: "Attributes" = {
            "uid": entry.pw_uid,
            "group": files.group_name(entry.pw_gid),
            "groups": accounts.read_groups_of(self.host, self.args.name),
            "shell": entry.pw_shell,
            "home": entry.pw_dir,
            "comment": entry.pw_gecos,
            "home_exists": os.path.isdir(entry.pw_dir),
        }
        given = self.given()
        if any(name in given for name in ("password", "empty_password", "password_lock", "expires", *AGEING)):
            now.update(self._observe_shadow())
        return now

    def _observe_shadow(self) -> "Attributes":
        try:
            entry = accounts.read_shadow(self.host, self.args.name)
        except PermissionError:
            raise Failed("permission denied: %s" % accounts.DATABASES["shadow"], hint="set become = true")
        entry = entry or accounts.ShadowEntry("!", None, [None] * len(AGEING))
        # An account without a password has "!" or "!!": locked, with nothing to unlock.
        now: "Attributes" = {
            "password": entry.password.lstrip("!"),
            "password_lock": entry.password.startswith("!"),
            "expires": _format_day(entry.expires),
        }
        now.update(zip(AGEING, entry.ages))
        return now

    def removal(self, before: "Attributes | None") -> "tuple[str, Arguments] | None":
        return ("user.delete", {"name": self.args.name}) if before is None else None

    def way_back(self, before: "Attributes | None", after: "Attributes | None") -> "tuple[str, Arguments] | Attributes":
        if after is None:
            raise Failed("an account that was removed is not brought back: its home and password are lost")
        step = Resource.way_back(self, before, after)
        if isinstance(step, dict):
            step.pop("home_exists", None)  # the content of a home is never removed
        return step

    def result(self, now: "Attributes | None") -> "Attributes":
        return dict((field.name, now[field.name]) for field in self.returns if now and field.name in now)


class Present(User):
    """Base of create and modify: the attributes of an account that exists in the end."""

    def _named_groups(self) -> "list[str]":
        names: "set[str]" = set()
        for item in self.args.groups:
            names.update(name.strip() for name in item.split(",") if name.strip())
        return sorted(accounts.group_name(self.host, name) for name in names)

    def desired(self, now: "Attributes | None") -> "Attributes | None":
        args = self.args
        owner = None if args.uid is None or args.non_unique else accounts.user_of(args.uid)
        if owner not in (None, args.name):
            raise Failed("the uid %d belongs to %s" % (args.uid, owner), hint="set non_unique = true to share it")
        desired: "Attributes" = {}
        for name in ("uid", "shell", "home", "comment", "password_lock", *AGEING):
            value = getattr(args, name)
            if value is not None:
                desired[name] = None if name in AGEING and value < 0 else value
        if args.home is not None:
            desired["home"] = os.path.normpath(args.home)  # the tools drop a slash at the end
        if args.group is not None:
            desired["group"] = accounts.group_name(self.host, args.group)
        if args.groups is not None:
            desired["groups"] = self._desired_groups(now, desired)
        desired.update(self._desired_password(now))
        if args.expires is not None:
            desired["expires"] = _format_day(_parse_day(args.expires))
        if self._wants_home():
            desired["home_exists"] = True
        return desired

    def _desired_groups(self, now: "Attributes | None", desired: "Attributes") -> "list[str]":
        current: "set[str]" = set((now or {}).get("groups", ()))
        wanted = set(self._named_groups()) | (current if self.args.append else set())
        primary = (now or {}).get("group")
        # The databases need not list a user as a member of its primary group.
        if desired.get("group", primary) == primary and wanted - {primary} == current:
            wanted.discard(primary)
        return sorted(wanted)

    def _wants_home(self) -> "bool":
        """Return whether the home is created if it is missing: by user.modify only if it is given."""
        if self.args.create_home is None:
            return self.args.home is not None
        return bool(self.args.create_home)

    def make_home(self) -> "None":
        """Create the account's home directory if it does not exist."""
        skeleton = self.host.expand(self.args.skeleton or "/etc/skel")
        umask = int(self.args.umask, 8) if self.args.umask else read_home_umask()
        make_home(accounts.get_account(self.host, self.args.name), skeleton, umask)

    def _desired_password(self, now: "Attributes | None") -> "Attributes":
        args = self.args
        if args.empty_password:
            return {"password": "", "password_lock": False}
        if args.password is not None and (now is None or args.update_password == "always"):
            desired: "Attributes" = {"password": args.password.lstrip("!")}
            if args.password.startswith("!") and args.password_lock is None:
                desired["password_lock"] = True
            return desired
        if args.password_lock is False and not (now or {}).get("password"):
            raise Failed(
                "%s has no password: unlocked, anybody could log in" % args.name,
                hint="set its password, too, or empty_password = true if this is what you want",
            )
        return {}

    def _modify(self, change: "Change") -> "None":
        self._modify_account(change)
        if self._wants_home():
            self.make_home()

    def _modify_account(self, change: "Change") -> "None":
        argv = ["usermod"]
        after = change.after or {}
        if "uid" in change:
            argv += ["-u", str(after["uid"])] + (["-o"] if self.args.non_unique else [])
        if "group" in change:
            argv += ["-g", after["group"]]
        if "groups" in change:
            argv += ["-G", ",".join(after["groups"])]
        if "comment" in change:
            argv += ["-c", after["comment"]]
        if "home" in change:
            argv += ["-d", after["home"]] + (["-m"] if self.args.move_home else [])
            if self.args.move_home:
                self._prepare_move(change)
        if "shell" in change:
            argv += ["-s", after["shell"]]
        if "expires" in change:
            argv += ["-e", after["expires"]]
        if len(argv) == 1:
            return
        if not self.host.has_tool("usermod") and self.host.has_tool("adduser"):
            self._modify_busybox(change)
        else:
            self.host.tool(argv + [self.args.name])

    def _prepare_move(self, change: "Change") -> "None":
        """Check and create what usermod does not: it changes the account first, then fails to move the home."""
        new, old = (change.after or {})["home"], (change.before or {}).get("home", "")
        if os.path.lexists(new) and os.path.isdir(old):
            raise Failed(
                "cannot move the home of %s: %s already exists" % (self.args.name, new),
                hint="remove it, or leave out move_home to use it as it is",
            )
        files.make_directories(os.path.dirname(new))
        for path in (new, old):  # usermod follows links: another account's would lead it elsewhere
            with files.Parent(os.path.normpath(path)):
                pass

    def _modify_busybox(self, change: "Change") -> "None":
        """Change memberships of groups: Busybox has no tools for the rest."""
        for name in change.names:
            if name not in ("groups", "password", "password_lock", "home_exists"):
                raise Failed("busybox has no tool that changes a user's %s" % name, hint="install the package shadow")
        before: "list[str]" = (change.before or {}).get("groups", [])
        after: "list[str]" = (change.after or {}).get("groups", before)
        for name in after:
            if name not in before:
                self.host.tool(["addgroup", self.args.name, name])
        for name in before:
            if name not in after:
                self.host.tool(["delgroup", self.args.name, name])

    def _set_password(self, change: "Change") -> "None":
        name, after = self.args.name, change.after or {}
        argv = []
        for field, option in AGEING.items():
            if field in change:
                days = after[field]
                argv += [option, "-1" if days is None else str(days)]
        if argv:
            self.host.tool(["chage"] + argv + [name])
        if self.args.empty_password and ("password" in change or "password_lock" in change):
            self.host.tool(["passwd", "-d", name])
        elif "password" in change:
            if not re.match(_HASH, after["password"]):
                self.host.warn("the password of %s is not a crypt(3) hash, so no password will match it" % name)
            # On stdin, since every user of the host can read command lines.
            secret = ("!" if after.get("password_lock") else "") + after["password"]
            self.host.tool(["chpasswd", "-e"], ("%s:%s\n" % (name, secret)).encode("utf-8"))
        elif "password_lock" in change:
            lock = after["password_lock"]
            if self.host.has_tool("usermod"):
                argv = ["usermod", "-L" if lock else "-U"]
            else:
                argv = ["passwd", "-l" if lock else "-u"]
            self.host.tool(argv + [name])


def _check_password(call: "str", values: "Arguments") -> "None":
    """Raise ArgumentError for a password that is no hash, or one that lets everybody in."""
    password = values.get("password")
    if values.get("empty_password"):
        if password or values.get("password_lock"):
            raise ArgumentError("%s: empty_password excludes password and password_lock" % call)
        return
    if password is None:
        return
    if any(sign in password for sign in ":\n"):
        raise ArgumentError("%s: password is not a hash: it contains a colon or a newline" % call)
    is_unlocked = not password.startswith("!") or values.get("password_lock") is False
    if is_unlocked and not password.lstrip("!").strip():
        raise ArgumentError(
            "%s: password is empty: anybody could log in as %s" % (call, values["name"]),
            hint='for an account without a password set empty_password = true; password = "*" disables it',
        )


def _parse_day(text: "str") -> "int | None":
    """Return the days since the epoch of a date, or of seconds, as text; None: never. Raises ArgumentError."""
    text = text.strip()
    if text == "" or text.startswith("-"):
        return None
    if text.replace(".", "", 1).isdigit():
        return int(float(text)) // accounts.DAY
    try:
        import calendar

        return calendar.timegm(time.strptime(text, "%Y-%m-%d")) // accounts.DAY
    except ValueError:
        raise ArgumentError("expires must be a date such as 2027-01-31, seconds since the epoch, or empty: %r" % text)


def _format_day(day: "int | None") -> "str":
    return "" if day is None else time.strftime("%Y-%m-%d", time.gmtime(day * accounts.DAY))
