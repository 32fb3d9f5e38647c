"""The attributes of a file that are not its content: type, owner, group, mode, and what else must survive a rewrite."""

import errno
import grp
import os
import pwd
import stat

from sloth.payload.kernel.resource import Failed, Field, Missing
from sloth.payload.lib.modes import parse_mode, umask
from sloth.payload.lib.names import group_name, user_name
from sloth.payload.lib.safe_path import Parent, refuse_foreign_link, resolve

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
        "not changed when not given (a new file gets 0666 less the umask, and one with another content or owner loses "
        "set-uid and set-gid)",
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
    seen = describe(info)
    if seen["type"] == "link":
        seen["target"] = os.readlink(path)
    return seen


def describe(info: "os.stat_result") -> "Attributes":
    """Return the type, mode, owner and group of a file in the form of look()."""
    return {
        "type": _TYPES.get(stat.S_IFMT(info.st_mode), "unknown"),
        "mode": "%04o" % stat.S_IMODE(info.st_mode),
        "owner": user_name(info.st_uid),
        "group": group_name(info.st_gid),
    }


def rewritten(now: "Attributes | None") -> "Attributes | None":
    """Return what look() returned, without the set-uid and set-gid bits: a new content does not inherit them."""
    return None if now is None else dict(now, mode="%04o" % (int(now["mode"], 8) & 0o1777))


def desired_attributes(
    host: "Host", args: "Args", now: "Attributes | None", kind: "str" = "file", new: "int | None" = None
) -> "Attributes":
    """Return those of owner, group and mode that `args` gives, in the form of look().

    now: what look() returned (a dict with at least "mode"), or None when it is yet to be created; kind: "file" or
    "directory". A symbolic mode is relative to the mode in `now`, or to that of a new one: `new` (see
    parents.new_directory_mode()), or 0666, for a directory 0777, less the umask. Raises Missing for an unknown user or
    group, ArgumentError for an invalid mode.
    """
    desired = {}
    if args.owner is not None:
        is_planned = "user:%s" % args.owner in host.predicted
        desired["owner"] = args.owner if is_planned else user_name(_uid(args.owner))
    if args.group is not None:
        is_planned = "group:%s" % args.group in host.predicted
        desired["group"] = args.group if is_planned else group_name(_gid(args.group))
    if args.mode is not None:
        if new is None:
            new = (0o777 if kind == "directory" else 0o666) & ~umask()
        old = int(now["mode"], 8) if now is not None else new
        if now is not None and kind != "directory" and _has_new_owner(now, desired):
            old &= 0o1777  # nobody's set-uid program becomes one of another account
        desired["mode"] = "%04o" % parse_mode(args.mode, old, kind == "directory")
    return desired


def _has_new_owner(now: "Attributes", desired: "Attributes") -> "bool":
    return any(name in desired and name in now and desired[name] != now[name] for name in ("owner", "group"))


def set_attributes(path: "str", change: "Change", follow: "bool" = True, link: "str | None" = None) -> "None":
    """Set those of owner, group and mode in which `change` differs. Raises OSError, Missing, Failed.

    follow: of a link, set those of what it leads to; link: the target of the link whose own owner is to be set. A link
    has no mode of its own.
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
        _set(parent, path, uid, gid, mode, link)


def _set(parent: "Parent", path: "str", uid: "int", gid: "int", mode: "int | None", link: "str | None") -> "None":
    """Set owner, group (-1: as it is) and mode of what is there, and of nothing that takes its place meanwhile.

    A link that is not the one that is meant is left as it is: if it became root's, root would follow it from then on.
    """
    flags = getattr(os, "O_PATH", os.O_RDONLY | os.O_NONBLOCK) | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(parent.base, flags, dir_fd=parent.descriptor)
    try:
        info = os.fstat(descriptor)
        refuse_foreign_link(info, os.fstat(parent.descriptor), path)
        if stat.S_ISLNK(info.st_mode) and os.readlink("", dir_fd=descriptor) != link:
            raise Failed("%s has become another link meanwhile, and is left as it is" % path, hint="run it again")
        same = _name_of(descriptor, parent, info)
        if uid != -1 or gid != -1:
            os.chown(same, uid, gid)
        if mode is not None and not stat.S_ISLNK(info.st_mode):  # a link has none
            os.chmod(same, mode)
    finally:
        os.close(descriptor)


def _name_of(descriptor: "int", parent: "Parent", info: "os.stat_result") -> "str | int":
    """Return what chown() and chmod() take for an open file, which O_PATH has opened: a name below /proc.

    Without /proc a file or directory is opened for reading. Raises OSError for anything else then.
    """
    name = "/proc/self/fd/%d" % descriptor
    if os.path.lexists(name):
        return name
    if not (stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode)):
        raise OSError(errno.ENOENT, "/proc is not mounted, which is needed to set the owner of this", parent.base)
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    other = os.open(parent.base, flags, dir_fd=parent.descriptor)
    try:
        if not os.path.samestat(os.fstat(other), info):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), parent.base)
        os.dup2(other, descriptor, False)
    finally:
        os.close(other)
    return descriptor


def copy_attributes(
    path: "str",
    descriptor: "int",
    mode: "int | str | None" = None,
    keep_owner: "bool" = True,
    directory: "int | None" = None,
    wanted: "Attributes | None" = None,
) -> "None":
    """Give a new, open file the owner, mode, ACLs, SELinux context and extended attributes of the file at `path`.

    Set-uid and set-gid bits are not given on: they were meant for another content. mode: for the new file when there is
    no regular file at `path`, of which a link is none (int or "0644"; None: 0666 less the umask). keep_owner: fail when
    the owner cannot be kept; otherwise the new file belongs to the current user. directory: the open directory that
    `path` is in, by which it is looked for. wanted: the owner, group and mode, in the form of look(), that it gets in
    any case. Raises Failed, OSError, Missing.
    """
    wanted = wanted or {}
    uid = _uid(wanted["owner"]) if "owner" in wanted else -1
    gid = _gid(wanted["group"]) if "group" in wanted else -1
    bits = int(wanted["mode"], 8) if "mode" in wanted else None
    name = path if directory is None else os.path.basename(path)
    try:
        old: "os.stat_result | None" = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        old = None
    if old is None or not stat.S_ISREG(old.st_mode):
        if mode is None:
            mode = 0o666 & ~umask()
        if uid != -1 or gid != -1:
            os.fchown(descriptor, uid, gid)
        mode = int(mode, 8) if isinstance(mode, str) else mode
        os.fchmod(descriptor, mode if bits is None else bits)
        return
    new = os.fstat(descriptor)
    owners = (old.st_uid if uid == -1 else uid, old.st_gid if gid == -1 else gid)
    if (new.st_uid, new.st_gid) != owners:
        try:
            os.fchown(descriptor, *owners)
        except OSError as error:
            if error.errno != errno.EPERM or owners != (old.st_uid, old.st_gid):
                raise
            if not keep_owner:
                os.fchmod(descriptor, old.st_mode & 0o777)
                return
            raise Failed(
                "permission denied: %s belongs to %s:%s, and that owner cannot be kept when the file is rewritten"
                % (path, user_name(old.st_uid), group_name(old.st_gid)),
                hint="set become",
            )
    _copy_xattrs(path, name, directory, old, descriptor)
    # Last: setting an owner or an ACL changes the mode.
    os.fchmod(descriptor, old.st_mode & 0o1777 if bits is None else bits)


def _copy_xattrs(path: "str", name: "str", directory: "int | None", old: "os.stat_result", target: "int") -> "None":
    """Copy the extended attributes of the file `old`, at `path` and as `name` in the open directory."""
    if not hasattr(os, "listxattr"):
        return
    source: "int | str" = path
    if directory is not None and os.geteuid() == 0:
        try:
            source = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        except OSError:  # of some network file systems root may not read every file
            return
    try:
        if isinstance(source, str) or os.path.samestat(os.fstat(source), old):
            _copy_xattrs_of(source, target)
    finally:
        if not isinstance(source, str):
            os.close(source)


def _copy_xattrs_of(source: "int | str", target: "int") -> "None":
    follow = not isinstance(source, str)  # a descriptor cannot be combined with not following links
    try:
        names = os.listxattr(source, follow_symlinks=follow)
    except OSError:  # the filesystem has none
        return
    for name in names:
        if name in _BOUND_TO_CONTENT:
            continue
        try:
            os.setxattr(target, name, os.getxattr(source, name, follow_symlinks=follow))
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
