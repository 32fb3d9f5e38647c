"""Reads the account databases; shared by the user and group modules and by everything that names an account."""

import grp
import os
import pwd

from sloth.payload.kernel.resource import ArgumentError, Missing
from sloth.payload.lib.regex import expression, is_word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.values import Arguments
    from sloth.payload.lib.host import Host

DATABASES = {"passwd": "/etc/passwd", "group": "/etc/group", "shadow": "/etc/shadow"}
DAY = 86400  # seconds; /etc/shadow counts days since the epoch
_NAME = expression(r"^[^\s:,/+~-][^\s:,/]*\Z")


class ShadowEntry(object):
    """An entry of /etc/shadow; a number that is not set is None."""

    __slots__ = ("ages", "expires", "password")

    def __init__(self, password: "str", expires: "int | None", ages: "list[int | None]") -> "None":
        """password: the hash; expires: days since the epoch; ages: minimum, maximum, warning, inactivity, in days."""
        self.password = password
        self.expires = expires
        self.ages = ages


def get_account(host: "Host", name: "str | None") -> "pwd.struct_passwd":
    """Return the account `name` (None: the one the payload runs as); raise Missing when it does not exist."""
    account: "pwd.struct_passwd | None" = host.account(name or host.user)
    if account is None:
        raise missing_user(name or host.user)
    return account


def missing_user(name: "str") -> "Missing":
    """Return the error for an account that does not exist."""
    return Missing("there is no user %s" % name, hint="create it first with user.create")


def check_name(values: "Arguments", kind: "str") -> "None":
    """Raise ArgumentError when values["name"] cannot be the name of an account ("user") or a group ("group")."""
    name = values["name"]
    if not (is_word(name) or _NAME.match(name)) or len(name) > 256:
        raise ArgumentError("%r is not a valid %s name" % (name, kind))
    if name.isdigit():
        raise ArgumentError("the %s name %s is a number, which tools would take for an ID" % (kind, name))


def read_groups_of(host: "Host", name: "str") -> "list[str]":
    """Return the sorted names of the groups that list `name` as a member."""
    members: "dict[str, set[str]]" = host.once("user.groups", _read_members, _stamp("group"))
    return sorted(members.get(name, ()))


def _read_members() -> "dict[str, set[str]]":
    members: "dict[str, set[str]]" = {}
    for group in grp.getgrall():
        for name in group.gr_mem:
            members.setdefault(name, set()).add(group.gr_name)
    return members


def group_name(host: "Host", group: "str") -> "str":
    """Return the name of `group` (a name, or a number as str); raise Missing when it does not exist."""
    if host.has_group(group):
        return group
    if group.isdigit():
        try:
            return grp.getgrgid(int(group)).gr_name
        except (KeyError, OverflowError):
            pass
    raise Missing("there is no group %s" % group, hint="create it first with group.create")


def read_shadow(host: "Host", name: "str") -> "ShadowEntry | None":
    """Return the entry of `name` in /etc/shadow, or None; raise PermissionError when it may not be read."""
    entries: "dict[str, ShadowEntry]" = host.once("user.shadow", _read_shadow, _stamp("shadow"))
    return entries.get(name)


def _read_shadow() -> "dict[str, ShadowEntry]":
    entries = {}
    with open(DATABASES["shadow"], encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields = line.rstrip("\n").split(":")
            if len(fields) > 7:
                numbers = [int(text) if text.lstrip("-").isdigit() else None for text in fields[2:]]
                entries[fields[0]] = ShadowEntry(fields[1], numbers[5], numbers[1:5])
    return entries


def _stamp(database: "str") -> "list[int]":
    info = os.stat(DATABASES[database])
    return [info.st_ino, info.st_size, info.st_mtime_ns]


def user_of(uid: "int") -> "str | None":
    """Return the name of the account with the number `uid`, or None."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return None
