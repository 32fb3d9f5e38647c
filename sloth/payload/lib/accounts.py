"""The account databases as they are read, and the system's own tools that change them: what user and group share."""

import grp
import os
import pwd
import re

from sloth.payload.kernel.resource import ArgumentError, Missing

DATABASES = {"passwd": "/etc/passwd", "group": "/etc/group", "shadow": "/etc/shadow"}
DAY = 86400  # seconds; shadow counts days since the epoch
_NAME = re.compile(r"^[^\s:,/+~-][^\s:,/]*$")


def check_name(values, kind):
    """Raise ArgumentError when values["name"] can be the name of no account."""
    name = values["name"]
    if not _NAME.match(name) or len(name) > 256:
        raise ArgumentError("%r cannot be the name of a %s" % (name, kind))
    if name.isdigit():
        raise ArgumentError("the %s name %s is a number: tools would take it for an id" % (kind, name))


def groups_of(host, name):
    """The names of the groups that list `name` as a member, sorted."""
    members = host.once("user.groups", _members, _stamp("group"))
    return sorted(members.get(name, ()))


def _members():
    found = {}
    for group in grp.getgrall():
        for name in group.gr_mem:
            found.setdefault(name, set()).add(group.gr_name)
    return found


def group_name(host, group):
    """The name of `group` (a name, or a number as str); raise Missing when there is none."""
    if host.has_group(group):
        return group
    if group.isdigit():
        try:
            return grp.getgrgid(int(group)).gr_name
        except KeyError:
            pass
    raise Missing("there is no group %s" % group, hint="make it first, with group.create")


def shadow_entry(host, name):
    """(password hash, day of expiry, [days min, max, warn]) of `name`; None without an entry. Raises OSError (EACCES).

    A number that is not set is None.
    """
    entries = host.once("user.shadow", _shadow, _stamp("shadow"))
    return entries.get(name)


def _shadow():
    entries = {}
    with open(DATABASES["shadow"], encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields = line.rstrip("\n").split(":")
            if len(fields) > 7:
                numbers = [int(text) if text.lstrip("-").isdigit() else None for text in fields[2:]]
                entries[fields[0]] = (fields[1], numbers[5], numbers[1:4])
    return entries


def _stamp(database):
    info = os.stat(DATABASES[database])
    return [info.st_ino, info.st_size, info.st_mtime_ns]


def user_of(uid):
    """The name of the account with the number `uid`, or None."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return None
