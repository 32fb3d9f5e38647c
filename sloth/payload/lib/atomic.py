"""Atomic writes: a file is replaced as a whole, so that readers and killed runs see the old file or the new one."""

import errno
import os
import stat
import time

from sloth.payload.kernel.resource import Failed
from sloth.payload.lib import unfinished
from sloth.payload.lib.attributes import copy_attributes
from sloth.payload.lib.regex import re
from sloth.payload.lib.safe_path import Parent, open_directory, refuse_foreign_link, refuse_special, resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Iterable

    from sloth.payload.kernel.values import Attributes

WRITE_BACK = 16 * 1024 * 1024  # bytes of a large file that are left to the system to be written at a time
STALE = 3600.0  # seconds after which a temporary file is removed even if its writer's process number is in use
_swept: "set[str]" = set()  # directories that were searched for temporary files of killed writers
_unsynced: "set[str]" = set()  # directories into which a file was renamed since the last sync_directories()


def replace(
    path: "str",
    content: "bytes | Iterable[bytes]",
    mode: "int | str | None" = None,
    validate: "Callable[[str], object] | None" = None,
    read: "os.stat_result | None" = None,
    wanted: "Attributes | None" = None,
) -> "os.stat_result":
    """Write `content` (bytes, or an iterable of bytes) to `path`, atomically; return what fstat() reports of it then.

    The owner, mode, POSIX ACLs, SELinux context and other extended attributes of an existing file are kept; a new file
    gets `mode` (int or "0644"; None: 0666 less the umask). validate(path of the temporary file) is called before the
    new file replaces the old one, and may raise to prevent that. A link at `path` is replaced, not followed: callers
    that want its target pass resolve(path). read: what fstat() reported of the file from which `content` was made;
    Failed when another one is there by now. wanted: the owner, group and mode that the file gets whatever was there, as
    far as it has them, so that the new content is never there with those of the old one. On any error the old file is
    unchanged, and no temporary file is left.
    Raises Failed, OSError, and what `content` or `validate` raise.
    """
    name = os.path.dirname(path) or "."
    directory = open_directory(name)

    def set_attributes(descriptor: "int") -> "None":
        if read is not None:
            _refuse_other(path, directory, read)
        copy_attributes(path, descriptor, mode, directory=directory, wanted=wanted)

    try:
        _sweep(name, directory)
        return put(directory, path, content, set_attributes, validate)
    finally:
        os.close(directory)


def _refuse_other(path: "str", directory: "int", read: "os.stat_result") -> "None":
    """Raise Failed unless the file that was read is the one that is there, with the same content."""
    try:
        now = os.stat(os.path.basename(path), dir_fd=directory, follow_symlinks=False)
        is_same = (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns) == (
            read.st_dev, read.st_ino, read.st_size, read.st_mtime_ns,
        )  # fmt: skip
        # What root read would become readable by the new file's mode.
        refuse_foreign_link(now, os.fstat(directory), path)
    except FileNotFoundError:
        is_same = False
    if not is_same:
        raise Failed("%s was changed by another program while it was edited" % path, hint="run the site again")


def put(
    directory: "int",
    path: "str",
    content: "bytes | Iterable[bytes]",
    set_attributes: "Callable[[int], None]",
    validate: "Callable[[str], object] | None" = None,
) -> "os.stat_result":
    """Write a new file to `path`, atomically, by way of its open directory (a descriptor).

    set_attributes(descriptor) gives the new file its owner and mode; the rest is as in replace().
    """
    base = os.path.basename(path)
    try:
        refuse_special(os.stat(base, dir_fd=directory, follow_symlinks=False), path)
    except FileNotFoundError:
        pass
    temporary = unfinished.new_name(os.path.dirname(path), base)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(temporary, flags, 0o600, dir_fd=directory)
    except OSError as error:
        raise explain(error, path) or OSError(error.errno, error.strerror, path)
    try:
        try:
            _write_all(descriptor, (content,) if isinstance(content, bytes) else content)
            set_attributes(descriptor)
            os.fsync(descriptor)
            info = os.fstat(descriptor)
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
    return info


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
    """Copy `path` with its attributes to PATH.PID.YYYY-mm-dd@HH:MM:SS~ (Ansible's name) and return that name.

    Of a link its target is copied. Raises Failed when it is no regular file, OSError.
    """
    when = time.time()
    while True:
        name = _backup_name(path, when)
        if not os.path.lexists(name):  # one payload may edit a file twice in a second: each edit has its own copy
            break
        when += 1
    source = resolve(path)
    with Parent(source) as parent:
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        old = os.open(parent.base, flags, dir_fd=parent.descriptor)
        try:
            info = os.fstat(old)
            if not stat.S_ISREG(info.st_mode):
                raise Failed("%s is not a regular file, of which a backup could be made" % path)

            def set_attributes(descriptor: "int") -> "None":
                copy_attributes(source, descriptor, 0o600, keep_owner=False, directory=parent.descriptor)
                if not os.path.samestat(os.stat(parent.base, dir_fd=parent.descriptor, follow_symlinks=False), info):
                    raise Failed("%s was changed by another program while it was copied" % path)
                os.utime(descriptor, ns=(info.st_atime_ns, info.st_mtime_ns))

            with Parent(name) as place:
                put(place.descriptor, name, iter(lambda: os.read(old, 1024 * 1024), b""), set_attributes)
        finally:
            os.close(old)
    return name


def _backup_name(path: "str", when: "float") -> "str":
    end = ".%d.%s" % (os.getpid(), time.strftime("%Y-%m-%d@%H:%M:%S~", time.localtime(when)))
    directory, base = os.path.split(path)
    base = os.fsdecode(os.fsencode(base)[: unfinished.LONGEST_NAME - len(end)])
    return os.path.join(directory, base + end)


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


def _write_all(descriptor: "int", content: "Iterable[bytes]") -> "None":
    """Write pieces; let the system write a large file to its disk while more of it comes, or fsync() waits for it all.

    POSIX_FADV_DONTNEED starts that, and waits for nothing.
    """
    written = begun = 0
    for data in content:
        _write(descriptor, data)
        written += len(data)
        if written - begun >= WRITE_BACK:
            try:
                os.posix_fadvise(descriptor, begun, written - begun, os.POSIX_FADV_DONTNEED)
            except (AttributeError, OSError):  # a system or a filesystem without it
                pass
            begun = written


def _write(descriptor: "int", data: "bytes") -> "None":
    view = memoryview(data)
    while len(view):
        view = view[os.write(descriptor, view) :]


def _sweep(name: "str", directory: "int") -> "None":
    """Remove the temporary files that killed writers have left in an open directory; each is searched once a session.

    This is for what the journal (lib/unfinished.py) does not know: files of other accounts' runs. Only files and links
    with the name of such a file count, of the current user (for root: anybody's), when their writer is dead.
    """
    if name in _swept:
        return
    _swept.add(name)
    try:
        names = os.listdir(name)
    except OSError:
        return
    for one in names:
        found = one[0] == "." and ".sloth-" in one and re.match(r"^\..+\.sloth-([0-9]+)-[0-9a-f]{12}$", one, re.DOTALL)
        if not found:
            continue
        try:
            info = os.stat(one, dir_fd=directory, follow_symlinks=False)
            is_own = os.geteuid() in (0, info.st_uid) and stat.S_IFMT(info.st_mode) in (stat.S_IFREG, stat.S_IFLNK)
            if is_own and (time.time() - info.st_mtime > STALE or not _is_alive(int(found.group(1)))):
                os.unlink(one, dir_fd=directory)
        except OSError:
            pass


def remove_unfinished(path: "str") -> "None":
    """Remove a temporary file, link or directory that a killed process has noted. Raises OSError."""
    try:
        with Parent(path) as parent:
            info = parent.stat()
            if info is None:
                return
            if stat.S_ISDIR(info.st_mode):
                parent.remove_tree()
            else:
                parent.unlink()
    except Failed:  # the directory is behind a link now that is not to be trusted
        pass


def _is_alive(pid: "int") -> "bool":
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return True
