"""The names of users and groups by their numbers."""

import grp
import pwd

_users: "dict[int, str]" = {}
_groups: "dict[int, str]" = {}


def user_name(uid: "int") -> "str":
    """Return the name of the user with the number `uid`, or the number as a str when it has none."""
    if uid not in _users:
        try:
            _users[uid] = pwd.getpwuid(uid).pw_name
        except (KeyError, OverflowError):
            return str(uid)
    return _users[uid]


def group_name(gid: "int") -> "str":
    """Return the name of the group with the number `gid`, or the number as a str when it has none."""
    if gid not in _groups:
        try:
            _groups[gid] = grp.getgrgid(gid).gr_name
        except (KeyError, OverflowError):
            return str(gid)
    return _groups[gid]


def forget() -> "None":
    """Look all of them up again: something on the host has changed."""
    _users.clear()
    _groups.clear()
