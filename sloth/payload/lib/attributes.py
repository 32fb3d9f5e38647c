"""The attributes of a file that are not its content: type, owner, group, mode, and what else must survive a rewrite."""

import errno
import grp
import os
import pwd
import stat

from sloth.payload.kernel.resource import Failed, Field, Missing
from sloth.payload.lib.modes import parse_mode, umask
from sloth.payload.lib.names import group_name, user_name
from sloth.payload.lib.safe_path import Parent, resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from sloth.payload.kernel.resource import Args, Change
    from sloth.payload.kernel.values import Attributes
    from sloth.payload.lib.host import Host

FIELDS = (
    Field("owner", help="the user that owns it, a name or a number; not changed when not given"),
    Field("group", help="the group that owns it, a name or a number; not changed when not given"),
    Field(
        "mode",
        "mode",
        help='its permissions: octal digits in quotes ("0644") or symbolic ("u+rwx,g-w,o=r", also X, s and t); '
        "not changed when not given (a new file gets 0666 less the umask)",
    ),
)

# These describe the old content byte for byte, so they must not be copied: the kernel, too, drops them on a write.
_BOUND_TO_CONTENT = ("security.capability", "security.ima", "security.evm")
_NOT_PERMITTED = (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENODATA)
_TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


def look(path: "str", follow: "bool" = True) -> "Attributes | None":
    """Return the type, mode ("0644"), owner and group of `path` (of a link also its target), or None if nothing exists.

    type: "file" "directory" "link" "char" "block" "fifo" "socket"; owner and group are names, or the number as a str
    when it has none. follow: describe the target of a link (None for a dangling one). Raises OSError.
    """
    try:
        info = os.stat(path) if follow else os.lstat(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return None
        raise
    seen = {
        "type": _TYPES.get(stat.S_IFMT(info.st_mode), "unknown"),
        "mode": "%04o" % stat.S_IMODE(info.st_mode),
        "owner": user_name(info.st_uid),
        "group": group_name(info.st_gid),
    }
    if seen["type"] == "link":
        seen["target"] = os.readlink(path)
    return seen


def desired_attributes(host: "Host", args: "Args", now: "Attributes | None", kind: "str" = "file") -> "Attributes":
    """Return those of owner, group and mode that `args` gives, in the form of look().

    now: what look() returned (a dict with at least "mode"), or None when it is yet to be created; kind: "file" or
    "directory". A symbolic mode is relative to the mode in `now`, or to that of a new file (0666) or directory (0777)
    less the umask. Raises Missing for an unknown user or group, ArgumentError for an invalid mode.
    """
    desired = {}
    if args.owner is not None:
        is_planned = "user:%s" % args.owner in host.predicted
        desired["owner"] = args.owner if is_planned else user_name(_uid(args.owner))
    if args.group is not None:
        is_planned = "group:%s" % args.group in host.predicted
        desired["group"] = args.group if is_planned else group_name(_gid(args.group))
    if args.mode is not None:
        old = int(now["mode"], 8) if now is not None else (0o777 if kind == "directory" else 0o666) & ~umask()
        desired["mode"] = "%04o" % parse_mode(args.mode, old, kind == "directory")
    return desired


def set_attributes(path: "str", change: "Change", follow: "bool" = True) -> "None":
    """Set those of owner, group and mode in which `change` differs. Raises OSError, Missing.

    follow: false changes the owner of a link itself; a link has no mode of its own.
    """
    after = change.after or {}
    uid = _uid(after["owner"]) if "owner" in change and "owner" in after else -1
    gid = _gid(after["group"]) if "group" in change and "group" in after else -1
    has_new_owner = uid != -1 or gid != -1
    # chown and a new content clear the set-uid and set-gid bits, so the desired mode is set after them.
    is_due = "mode" in change or has_new_owner or "content" in change
    mode = int(after["mode"], 8) if "mode" in after and is_due else None
    if not has_new_owner and mode is None:
        return
    with Parent(resolve(path) if follow else path) as parent:
        if has_new_owner:
            os.chown(parent.base, uid, gid, dir_fd=parent.descriptor, follow_symlinks=False)
        if mode is not None:
            _set_mode(parent, mode)


def _set_mode(parent: "Parent", mode: "int") -> "None":
    """Set the mode of what is there, and of nothing that takes its place meanwhile; a link has none."""
    if not hasattr(os, "O_PATH"):
        os.chmod(parent.base, mode, dir_fd=parent.descriptor)
        return
    descriptor = os.open(parent.base, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent.descriptor)
    try:
        if not stat.S_ISLNK(os.fstat(descriptor).st_mode):
            os.chmod("/proc/self/fd/%d" % descriptor, mode)
    finally:
        os.close(descriptor)


def copy_attributes(
    path: "str", descriptor: "int", mode: "int | str | None" = None, keep_owner: "bool" = True
) -> "None":
    """Give a new, open file the owner, mode, ACLs, SELinux context and extended attributes of the file at `path`.

    Set-uid and set-gid bits are not given on: they were meant for another content. mode: for the new file when there is
    no regular file at `path`, of which a link is none (int or "0644"; None: 0666 less the umask). keep_owner: fail when
    the owner cannot be kept; otherwise the new file belongs to the current user. Raises Failed, OSError.
    """
    try:
        old: "os.stat_result | None" = os.lstat(path)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        old = None
    if old is None or not stat.S_ISREG(old.st_mode):
        if mode is None:
            mode = 0o666 & ~umask()
        os.fchmod(descriptor, int(mode, 8) if isinstance(mode, str) else mode)
        return
    new = os.fstat(descriptor)
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        try:
            os.fchown(descriptor, old.st_uid, old.st_gid)
        except OSError as error:
            if error.errno != errno.EPERM:
                raise
            if not keep_owner:
                os.fchmod(descriptor, old.st_mode & 0o777)
                return
            raise Failed(
                "permission denied: %s belongs to %s:%s, and that owner cannot be kept when the file is rewritten"
                % (path, user_name(old.st_uid), group_name(old.st_gid)),
                hint="set become",
            )
    _copy_xattrs(path, descriptor)
    os.fchmod(descriptor, old.st_mode & 0o1777)  # last: setting an owner or an ACL changes the mode


def _copy_xattrs(source: "str", target: "int") -> "None":
    if not hasattr(os, "listxattr"):
        return
    try:
        names = os.listxattr(source, follow_symlinks=False)
    except OSError:  # the filesystem has none
        return
    for name in names:
        if name in _BOUND_TO_CONTENT:
            continue
        try:
            os.setxattr(target, name, os.getxattr(source, name, follow_symlinks=False))
        except OSError as error:
            # Without privilege some namespaces can be read and not set. An ACL decides access, so it must be kept.
            if name.startswith("system.posix_acl") or error.errno not in _NOT_PERMITTED:
                raise


def _uid(owner: "str") -> "int":
    return _number("user", owner, lambda name: pwd.getpwnam(name).pw_uid)


def _gid(group: "str") -> "int":
    return _number("group", group, lambda name: grp.getgrnam(name).gr_gid)


def _number(kind: "str", text: "str", look_up: "Callable[[str], int]") -> "int":
    if text.isdigit():
        return int(text)
    try:
        return look_up(text)
    except KeyError:
        raise Missing("there is no %s %s on this host" % (kind, text), hint="create it first with %s.create" % kind)
