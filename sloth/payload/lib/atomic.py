"""Atomic writes: a file is replaced as a whole, so that readers and killed runs see the old file or the new one."""

import errno
import os
import re
import stat
import time

from sloth.payload.kernel.resource import Failed
from sloth.payload.lib.attributes import copy_attributes
from sloth.payload.lib.safe_path import Parent, open_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Iterable

STALE = 3600.0  # seconds after which a temporary file is removed even if its writer's process number is in use
_swept: "set[str]" = set()  # directories that were searched for temporary files of killed writers
_unsynced: "set[str]" = set()  # directories into which a file was renamed since the last sync_directories()


def replace(
    path: "str",
    content: "bytes | Iterable[bytes]",
    mode: "int | str | None" = None,
    validate: "Callable[[str], object] | None" = None,
) -> "None":
    """Write `content` (bytes, or an iterable of bytes) to `path`, atomically.

    The owner, mode, POSIX ACLs, SELinux context and other extended attributes of an existing file are kept; a new file
    gets `mode` (int or "0644"; None: 0666 less the umask). validate(path of the temporary file) is called before the
    new file replaces the old one, and may raise to prevent that. A link at `path` is replaced, not followed: callers
    that want its target pass os.path.realpath(path). On any error the old file is unchanged, and no temporary file is
    left. Raises Failed, OSError, and what `content` or `validate` raise.
    """
    name = os.path.dirname(path) or "."
    directory = open_directory(name)
    try:
        _sweep(name)
        put(directory, path, content, lambda descriptor: copy_attributes(path, descriptor, mode), validate)
    finally:
        os.close(directory)


def put(
    directory: "int",
    path: "str",
    content: "bytes | Iterable[bytes]",
    set_attributes: "Callable[[int], None]",
    validate: "Callable[[str], object] | None" = None,
) -> "None":
    """Write a new file to `path`, atomically, by way of its open directory (a descriptor).

    set_attributes(descriptor) gives the new file its owner and mode; the rest is as in replace().
    """
    base = os.path.basename(path)
    temporary = _prefix(base) + "%d-%s" % (os.getpid(), os.urandom(6).hex())
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(temporary, flags, 0o600, dir_fd=directory)
    except OSError as error:
        raise explain(error, path) or OSError(error.errno, error.strerror, path)
    try:
        try:
            for data in (content,) if isinstance(content, bytes) else content:
                _write(descriptor, data)
            set_attributes(descriptor)
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
        raise explain(error, path) or error
    _unsynced.add(os.path.dirname(path) or ".")


def sync_directories() -> "None":
    """Make the names of new files durable: sync every directory into which a file was renamed.

    The state file's commit calls it first (Database.before_commit), so that a batch of files costs one sync for each
    directory, and no record describes a file that a power cut could still undo.
    """
    while _unsynced:
        try:
            directory = os.open(_unsynced.pop(), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:  # removed meanwhile, or replaced by a link
            continue
        try:
            os.fsync(directory)
        except OSError:  # some network filesystems cannot
            pass
        finally:
            os.close(directory)


def back_up(path: "str") -> "str":
    """Copy `path` with its attributes to PATH.PID.YYYY-mm-dd@HH:MM:SS~ (Ansible's name) and return that name."""
    when = time.time()
    while True:
        name = "%s.%d.%s" % (path, os.getpid(), time.strftime("%Y-%m-%d@%H:%M:%S~", time.localtime(when)))
        if not os.path.lexists(name):  # one payload may edit a file twice in a second: each edit has its own copy
            break
        when += 1
    source = os.path.realpath(path)  # of a link, its target is kept
    info = os.stat(source)
    with Parent(name) as parent:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(parent.base, flags, 0o600, dir_fd=parent.descriptor)
        try:
            with open(source, "rb", buffering=0) as old:
                for data in iter(lambda: old.read(1024 * 1024), b""):
                    _write(descriptor, data)
            copy_attributes(source, descriptor, keep_owner=False)
            os.utime(descriptor, ns=(info.st_atime_ns, info.st_mtime_ns))
        except BaseException as error:
            parent.unlink()
            raise explain(error, name) or error
        finally:
            os.close(descriptor)
    return name


def explain(error: "BaseException", path: "str") -> "Failed | None":
    """Return a Failed with a sentence for errors whose usual text would mislead, or None."""
    if not isinstance(error, OSError):
        return None
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        what = "no space left on" if error.errno == errno.ENOSPC else "the disk quota is used up on"
        return Failed("%s the device that holds %s" % (what, path), hint="the old file is unchanged; free some space")
    if error.errno in (errno.EBUSY, errno.EXDEV):
        return Failed(
            "%s cannot be replaced: it is a mount point" % path,
            hint="change a bind-mounted file (as containers have for /etc/hosts) where it is mounted from",
        )
    return None


def _write(descriptor: "int", data: "bytes") -> "None":
    view = memoryview(data)
    while len(view):
        view = view[os.write(descriptor, view) :]


def _prefix(base: "str") -> "str":
    name = os.fsencode(base)[:200]  # a name may have 255 bytes
    return ".%s.sloth-" % os.fsdecode(name)


def _sweep(directory: "str") -> "None":
    """Remove the temporary files that killed writers have left in `directory`; each is searched once a session.

    Only regular files of the current user with the name of such a file count, when their writer is dead.
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
            is_own = stat.S_ISREG(info.st_mode) and info.st_uid == os.geteuid()
            if is_own and (time.time() - info.st_mtime > STALE or not _is_alive(int(found.group(1)))):
                os.unlink(path)
        except OSError:
            pass


def _is_alive(pid: "int") -> "bool":
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return True
