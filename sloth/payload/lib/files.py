"""Everything about a file that is not its content, and the one way a file is written: whole, or not at all."""

import errno
import grp
import os
import pwd
import re
import stat
import time

from sloth.payload.kernel.resource import ArgumentError, Failed, Field, Missing
from sloth.payload.lib.modes import parse_mode, umask

FIELDS = (
    Field("owner", help="the user that owns it, by name or number; left as it is when not given"),
    Field("group", help="the group that owns it, by name or number; left as it is when not given"),
    Field(
        "mode",
        "mode",
        help='its permissions: octal digits in quotes ("0644") or symbolic ("u+rwx,g-w,o=r", also X, s and t); '
        "left as they are when not given (a new file gets 0666 less the umask)",
    ),
)
VALIDATE = Field(
    "validate",
    how=True,
    help="a command that must succeed before the new content is put in place; %s stands for the file that holds it "
    '("visudo -cf %s"); run without a shell, and only when the content changes',
)
BACKUP = Field("backup", "bool", False, how=True, help="keep a copy of the old file beside it: PATH.PID.DATE@TIME~")

STALE = 3600.0  # seconds after which the temporary of a writer that may still live is given up
# Bound to the very bytes of the old content: the kernel, too, drops them when a file is written.
_BOUND_TO_CONTENT = ("security.capability", "security.ima", "security.evm")
_NOT_OURS_TO_SET = (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENODATA)
_swept = set()  # directories in which killed writers' temporaries were looked for
_unsettled = set()  # directories in which a file was put since the last settle()
_TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


def look(path, follow=True):
    """Return what is at `path`: a dict of type, mode ("0644"), owner, group (and target, of a link), or None.

    type: "file" "directory" "link" "char" "block" "fifo" "socket"; owner and group are names, or the number as a str
    when it has none. follow: look at what a link points to (a dangling one counts as nothing). Raises OSError.
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


def wanted(host, args, now, kind="file"):
    """Return those of owner, group and mode that `args` asks for, in the form that look() gives.

    now: what look() gave (a dict with at least "mode"), or None when it is yet to be made; kind: "file" or "directory".
    A symbolic mode is taken relative to now's, or to that of a new file (0666) or directory (0777) less the umask.
    Raises Missing for an unknown user or group, ArgumentError for a mode that is none.
    """
    wish = {}
    if args.owner is not None:
        made = "user:%s" % args.owner in host.predicted
        wish["owner"] = args.owner if made else user_name(_uid(args.owner))
    if args.group is not None:
        made = "group:%s" % args.group in host.predicted
        wish["group"] = args.group if made else group_name(_gid(args.group))
    if args.mode is not None:
        old = int(now["mode"], 8) if now is not None else (0o777 if kind == "directory" else 0o666) & ~umask()
        wish["mode"] = "%04o" % parse_mode(args.mode, old, kind == "directory")
    return wish


def set_attributes(path, change, follow=True):
    """Give `path` those of owner, group and mode in which the Change differs; raise OSError.

    Not follow: a link itself gets the owner; a link has no mode of its own.
    """
    after = change.after or {}
    uid = _uid(after["owner"]) if "owner" in change and "owner" in after else -1
    gid = _gid(after["group"]) if "group" in change and "group" in after else -1
    moved = uid != -1 or gid != -1
    if moved:
        os.chown(path, uid, gid, follow_symlinks=follow)
    # Chown clears set-uid and set-gid, so a wished mode is given again after it.
    if "mode" in after and ("mode" in change or moved) and (follow or not os.path.islink(path)):
        os.chmod(path, int(after["mode"], 8))


def replace(path, chunks, mode=None, validate=None):
    """Write `path` anew from `chunks` (iterator of bytes): readers see the old file or the new one, nothing between.

    An existing file's owner, mode, POSIX ACLs, SELinux context and other extended attributes go over to the new one;
    a file that is new gets `mode` (int or "0644"; None: 0666 less the umask). validate(temporary path) is called before
    the new file takes its place, and may raise. `path` must not be a link (callers resolve those). On any error the
    old file stays as it was and no temporary is left. Raises Failed, OSError, and what `chunks` or `validate` raise.
    """
    directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _sweep(os.path.dirname(path) or ".")
        put(directory, path, chunks, lambda descriptor: _dress(descriptor, path, mode), validate)
    finally:
        os.close(directory)


def put(directory, path, chunks, dress, validate=None):
    """Put a new file in the place of `path`, in its open directory (a descriptor): a kill leaves the old or the new.

    dress(descriptor) gives the new file its attributes; the rest is as in replace().
    """
    base = os.path.basename(path)
    temporary = _prefix(base) + "%d-%s" % (os.getpid(), os.urandom(6).hex())
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(temporary, flags, 0o600, dir_fd=directory)
    except OSError as error:
        raise explained(error, path) or OSError(error.errno, error.strerror, path)
    try:
        try:
            for data in chunks:
                write(descriptor, data)
            dress(descriptor)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if validate is not None:
            validate(os.path.join(os.path.dirname(path), temporary))
        os.rename(temporary, base, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException as error:
        try:
            os.unlink(temporary, dir_fd=directory)
        except OSError:
            pass
        raise explained(error, path) or error
    _unsettled.add(os.path.dirname(path) or ".")


def settle():
    """Make the new names of files durable: every directory into which files were put, once for all of them.

    The store does so before it commits a record of them (Database.before_commit): one sync a directory and batch.
    """
    while _unsettled:
        try:
            directory = os.open(_unsettled.pop(), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:  # gone since, or a link now
            continue
        try:
            os.fsync(directory)
        except OSError:  # some network filesystems cannot
            pass
        finally:
            os.close(directory)


def write(descriptor, data):
    """Write all of `data` (bytes)."""
    view = memoryview(data)
    while len(view):
        view = view[os.write(descriptor, view) :]


def _dress(descriptor, path, mode, keep_owner=True):
    """Give the new file the attributes of the old one at `path`; the mode last, since all others can change it."""
    try:
        old = os.stat(path)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
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
            if not keep_owner:  # the copy of somebody else's file is ours, as with cp -p; its set-uid bits go
                os.fchmod(descriptor, stat.S_IMODE(old.st_mode) & 0o777)
                return
            raise Failed(
                "%s belongs to %s:%s, which we may not keep when we write it anew"
                % (path, user_name(old.st_uid), group_name(old.st_gid)),
                hint="set become",
            )
    _copy_xattrs(path, descriptor)
    os.fchmod(descriptor, stat.S_IMODE(old.st_mode))


def _copy_xattrs(source, target):
    if not hasattr(os, "listxattr"):
        return
    try:
        names = os.listxattr(source)
    except OSError:  # a filesystem without any
        return
    for name in names:
        if name in _BOUND_TO_CONTENT:
            continue
        try:
            os.setxattr(target, name, os.getxattr(source, name))
        except OSError as error:
            # Without privilege some namespaces can be seen and not set; what decides access must come along.
            if name.startswith("system.posix_acl") or error.errno not in _NOT_OURS_TO_SET:
                raise


def explained(error, path):
    """Return a Failed that says what an errno means here, or None."""
    if not isinstance(error, OSError):
        return None
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        what = "no space left on" if error.errno == errno.ENOSPC else "the disk quota is used up on"
        return Failed("%s the device that holds %s" % (what, path), hint="the old file is untouched; free some space")
    if error.errno in (errno.EBUSY, errno.EXDEV):
        return Failed(
            "%s cannot be replaced: it is a mount point of its own" % path,
            hint="a file that is bind-mounted (as containers do with /etc/hosts) is changed where it comes from",
        )
    return None


def _prefix(base):
    name = os.fsencode(base)[:200]  # a name may have 255 bytes
    return ".%s.sloth-" % os.fsdecode(name)


def _sweep(directory):
    """Remove the temporaries that killed writers have left, once a session and directory.

    Ours by name and owner, their writer dead.
    """
    if directory in _swept:
        return
    _swept.add(directory)
    try:
        names = os.listdir(directory)
    except OSError:
        return
    for name in names:
        found = name[0] == "." and re.match(r"^\..+\.sloth-([0-9]+)-[0-9a-f]{12}$", name, re.DOTALL)
        if not found:
            continue
        path = os.path.join(directory, name)
        try:
            info = os.lstat(path)
            ours = stat.S_ISREG(info.st_mode) and info.st_uid == os.geteuid()
            if ours and (time.time() - info.st_mtime > STALE or not _alive(int(found.group(1)))):
                os.unlink(path)
        except OSError:
            pass


def _alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return True


def check_validate(args):
    """Raise ArgumentError when args.validate has no %s to put the file's name in."""
    if args.validate is not None and "%s" not in args.validate:
        raise ArgumentError(
            "validate must contain %%s: %s" % args.validate, hint="%s stands for the file to check, as in visudo -cf %s"
        )


def validation(args, host):
    """Return what replace() takes as `validate`, made from args.validate, or None; raise ArgumentError."""
    if args.validate is None:
        return None
    check_validate(args)
    import shlex

    try:
        words = shlex.split(args.validate)
    except ValueError as error:
        raise ArgumentError("validate cannot be read: %s: %s" % (error, args.validate))

    def validate(path):
        argv = []
        for word in words:
            word = os.path.expanduser(os.path.expandvars(word))
            argv.append(re.sub("%[s%]", lambda found: path if found.group() == "%s" else "%", word))
        try:
            done = host.run(argv)
        except OSError as error:
            raise Failed("failed to validate: cannot run %s: %s" % (argv[0], error.strerror))
        if done.exit_code != 0:
            said = done.stderr.decode("utf-8", "replace")
            raise Failed(
                "failed to validate: rc:%d error:%s" % (done.exit_code, said),
                hint="the old file is untouched",
                detail=done.stdout.decode("utf-8", "replace") + said,
            )

    return validate


def back_up(path):
    """Copy `path`, content and attributes, to PATH.PID.YYYY-mm-dd@HH:MM:SS~ (Ansible's name) and return that name."""
    when = time.time()
    while True:
        name = "%s.%d.%s" % (path, os.getpid(), time.strftime("%Y-%m-%d@%H:%M:%S~", time.localtime(when)))
        if not os.path.lexists(name):  # a payload lives on: two edits of one second must not share a copy
            break
        when += 1
    info = os.stat(path)
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            with open(path, "rb", buffering=0) as old:
                for data in iter(lambda: old.read(1024 * 1024), b""):
                    write(descriptor, data)
            _dress(descriptor, path, None, keep_owner=False)
        finally:
            os.close(descriptor)
    except BaseException as error:
        os.unlink(name)
        raise explained(error, name) or error
    os.utime(name, ns=(info.st_atime_ns, info.st_mtime_ns))
    return name


def _uid(owner):
    return _number("user", owner, lambda name: pwd.getpwnam(name).pw_uid)


def _gid(group):
    return _number("group", group, lambda name: grp.getgrnam(name).gr_gid)


def _number(kind, text, look_up):
    if text.isdigit():
        return int(text)
    try:
        return look_up(text)
    except KeyError:
        raise Missing("there is no %s %s on this host" % (kind, text), hint="make it first with %s.create" % kind)


def user_name(uid):
    """The name of the account with the number `uid`, or the number as str."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return str(uid)


def group_name(gid):
    """The name of the group with the number `gid`, or the number as str."""
    try:
        return grp.getgrgid(gid).gr_name
    except (KeyError, OverflowError):
        return str(gid)
