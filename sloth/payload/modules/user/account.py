"""What user.create, user.modify and user.delete share: one account, its attributes as the databases give them."""

import os
import re
import time

from sloth.payload.kernel.resource import REQUIRED, ArgumentError, Failed, Field, Resource
from sloth.payload.lib import accounts, files

NAME = Field("name", "str", REQUIRED, aliases=("username", "user"), help="the account's name")
WISHES = (
    Field("uid", "int", help="its number"),
    Field("group", help="its primary group, by name or number"),
    Field("groups", "list", help="its further groups: a list, or a string with commas; {} takes it out of all"),
    Field("append", "bool", False, how=True, help="it stays in groups that are not named"),
    Field("shell", help="its login shell"),
    Field("home", help="its home directory"),
    Field("move_home", "bool", False, how=True, help="when home changes, move what is in the old one"),
    Field("comment", help="the GECOS field: its full name, say"),
    Field(
        "password",
        secret=True,
        help='its password as a crypt(3) hash, as `openssl passwd -6` prints it; "*" for none that would ever fit',
    ),
    Field(
        "update_password",
        choices=("always", "on_create"),
        default="always",
        how=True,
        help="on_create: leave the password of an account that is there alone",
    ),
    Field("password_lock", "bool", aliases=("lock", "locked"), help="true: no password fits; false: it fits again"),
    Field(
        "expires",
        help='when the account ends: "2027-01-31", or seconds since the epoch; "" or a negative number: never',
    ),
    Field("password_expire_min", "int", help="days before the password may be changed; -1: none"),
    Field("password_expire_max", "int", help="days after which it must be changed; -1: never"),
    Field("password_expire_warn", "int", help="days of warning before that"),
    Field("non_unique", "bool", False, how=True, help="its uid may be another account's, too"),
)
RETURNS = (
    Field("uid", "int", help="its number"),
    Field("group", help="its primary group"),
    Field("groups", "list", help="its further groups"),
    Field("home", help="its home directory"),
    Field("shell", help="its login shell"),
    Field("comment", help="its GECOS field"),
)


AGEING = {"password_expire_min": "-m", "password_expire_max": "-M", "password_expire_warn": "-W"}  # as chage has them
_HASH = r"^(\$[0-9a-z]+\$|_|[*!x]|[./0-9A-Za-z]{13}$|$)"


class User(Resource):
    """Base of the three: they describe one account, under one key."""

    merged = True

    @classmethod
    def check_together(cls, values):
        accounts.check_name(values, "user")
        for name in ("shell", "home", "comment"):
            text = values.get(name)
            if text is not None and (":" in text or "\n" in text):
                raise ArgumentError("%s: %s may hold no colon and no newline" % (cls.name, name))
        if values.get("append") and values.get("groups") is None:
            raise ArgumentError("%s: append says how groups are taken, and there are no groups" % cls.name)
        if any(sign in (values.get("password") or "") for sign in ":\n"):
            raise ArgumentError("%s: the password holds a colon or a newline, so it is no hash" % cls.name)
        if values.get("expires") is not None:
            _day(values["expires"])

    def key(self):
        return "user:create:%s" % self.args.name

    def identity(self):
        return self.args.name

    def place(self):
        return "user:%s" % self.args.name

    def observe(self):
        entry = self.host.account(self.args.name)
        if entry is None:
            return None
        now = {
            "uid": entry.pw_uid,
            "group": files.group_name(entry.pw_gid),
            "groups": accounts.groups_of(self.host, self.args.name),
            "shell": entry.pw_shell,
            "home": entry.pw_dir,
            "comment": entry.pw_gecos,
            "home_exists": os.path.isdir(entry.pw_dir),
        }
        if any(name in self.args for name in ("password", "password_lock", "expires", *AGEING)):
            now.update(self._shadow())
        return now

    def _shadow(self):
        try:
            found = accounts.shadow_entry(self.host, self.args.name)
        except PermissionError:
            raise Failed("we may not read %s" % accounts.DATABASES["shadow"], hint="set become = true")
        secret, day, ages = found or ("!", None, (None, None, None))
        # Accounts without a password are "!" or "!!": locked, and nothing to unlock.
        now = {"password": secret.lstrip("!"), "password_lock": secret.startswith("!"), "expires": _date(day)}
        return dict(now, **dict(zip(AGEING, ages)))

    def removal(self, before):
        return ("user.delete", {"name": self.args.name}) if before is None else None

    def way_back(self, before, after):
        if after is None:
            raise Failed("an account that was removed is not brought back: its home and password are gone")
        wanted = Resource.way_back(self, before, after)
        if isinstance(wanted, dict):
            wanted.pop("home_exists", None)  # what is in a home is never removed
        return wanted

    def result(self, now):
        return dict((field.name, now[field.name]) for field in self.returns if field.name in (now or {}))


class Kept(User):
    """Base of create and modify: what is asked of an account that is there."""

    def _asked_groups(self):
        names = set()
        for item in self.args.groups:
            names.update(name.strip() for name in item.split(",") if name.strip())
        return sorted(accounts.group_name(self.host, name) for name in names)

    def desired(self, now):
        args = self.args
        owner = None if args.uid is None or args.non_unique else accounts.user_of(args.uid)
        if owner not in (None, args.name):
            raise Failed("the uid %d belongs to %s" % (args.uid, owner), hint="set non_unique = true to share it")
        wish = {}
        for name in ("uid", "shell", "home", "comment", "password_lock", *AGEING):
            value = getattr(args, name)
            if value is not None:
                wish[name] = None if name in AGEING and value < 0 else value
        if args.group is not None:
            wish["group"] = accounts.group_name(self.host, args.group)
        if args.groups is not None:
            kept = (now or {}).get("groups", []) if args.append else []
            # Membership of the primary group need not be written down a second time.
            primary = wish.get("group", (now or {}).get("group"))
            asked = [name for name in self._asked_groups() if name != primary or name in (now or {}).get("groups", [])]
            wish["groups"] = sorted(set(asked) | set(kept))
        if args.password is not None and (now is None or args.update_password == "always"):
            wish["password"] = args.password.lstrip("!")
            if args.password.startswith("!") and args.password_lock is None:
                wish["password_lock"] = True
        elif args.password_lock is False and not (now or {}).get("password"):
            raise Failed(
                "%s has no password: unlocked, anybody could log in" % args.name, hint="give it a password, too"
            )
        if args.expires is not None:
            wish["expires"] = _date(_day(args.expires))
        return wish

    def _modify(self, change):
        argv = ["usermod"]
        after = change.after
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

    def _modify_busybox(self, change):
        """Busybox has tools for membership of groups, and none for the rest."""
        for name in change.names:
            if name not in ("groups", "password", "password_lock", "home_exists"):
                raise Failed("busybox has no tool that changes a user's %s" % name, hint="install the package shadow")
        before = (change.before or {}).get("groups", [])
        for name in change.after["groups"]:
            if name not in before:
                self.host.tool(["addgroup", self.args.name, name])
        for name in before:
            if name not in change.after["groups"]:
                self.host.tool(["delgroup", self.args.name, name])

    def _set_password(self, change):
        name = self.args.name
        argv = []
        for field, option in AGEING.items():
            if field in change:
                days = change.after[field]
                argv += [option, "-1" if days is None else str(days)]
        if argv:
            self.host.tool(["chage"] + argv + [name])
        if "password" in change:
            if not re.match(_HASH, change.after["password"]):
                self.host.warn("the password of %s is no crypt(3) hash: nothing will fit it" % name)
            # By stdin: what is on a command line can be read by everybody on the host.
            secret = ("!" if change.after.get("password_lock") else "") + change.after["password"]
            self.host.tool(["chpasswd", "-e"], ("%s:%s\n" % (name, secret)).encode("utf-8"))
        elif "password_lock" in change:
            lock = change.after["password_lock"]
            if self.host.has_tool("usermod"):
                argv = ["usermod", "-L" if lock else "-U"]
            else:
                argv = ["passwd", "-l" if lock else "-u"]
            self.host.tool(argv + [name])


def _day(text):
    """Days since the epoch for a date or seconds as text; None: never. Raises ArgumentError."""
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


def _date(day):
    return "" if day is None else time.strftime("%Y-%m-%d", time.gmtime(day * accounts.DAY))
