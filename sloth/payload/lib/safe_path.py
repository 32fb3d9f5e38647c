"""Paths that root writes to, walked so that nobody else decides where they lead.

Whoever may write a directory can put a link into it, also between two looks at it. So root opens each directory on the
way by itself, without following links, and follows only those that it may trust: a link of root's own, and one that
leads to what its owner owns. (The directory of a link does not tell who made it: it may have been another account's.)
Other accounts can be led only to what they may write anyway, so for them a path is a path.
"""

import errno
import os
import stat

from sloth.payload.kernel.resource import Failed
from sloth.payload.lib import unfinished

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

NOBODY = -1  # owns nothing
LINKS = 40  # that a path may lead through, as in Linux
_DIRECTORY = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Parent(object):
    """The directory that a path is in, for `with`: `descriptor` is open, and `base` the name in it."""

    def __init__(self, path: "str") -> "None":
        """path: absolute. Entering raises OSError, and Failed for a link that is not to be trusted."""
        directory, self.base = os.path.split(path)
        self._directory = directory or "."
        self.descriptor = -1

    def __enter__(self) -> "Parent":
        self.descriptor = open_directory(self._directory)
        return self

    def __exit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None"
    ) -> "None":
        os.close(self.descriptor)

    def stat(self) -> "os.stat_result | None":
        """Return what is at the path, of a link the link itself; None when nothing is."""
        try:
            return os.stat(self.base, dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def unlink(self) -> "None":
        os.unlink(self.base, dir_fd=self.descriptor)

    def remove_tree(self) -> "None":
        """Remove the directory with all that is in it. Raises OSError."""
        from sloth.payload.lib.trees import remove

        remove(self.descriptor, self.base)

    def rmdir(self) -> "None":
        os.rmdir(self.base, dir_fd=self.descriptor)

    def mkdir(self, mode: "int" = 0o777) -> "None":
        os.mkdir(self.base, mode, dir_fd=self.descriptor)

    def put_link(self, target: "str", hard: "bool" = False) -> "None":
        """Put a link in the place of what is there; a hard one leads to the file `target`."""
        refuse_special(self.stat(), os.path.join(self._directory, self.base))
        temporary = unfinished.new_name(self._directory, self.base)
        try:
            if hard:
                with Parent(resolve(target)) as source:
                    os.link(
                        source.base,
                        temporary,
                        src_dir_fd=source.descriptor,
                        dst_dir_fd=self.descriptor,
                        follow_symlinks=False,
                    )
            else:
                os.symlink(target, temporary, dir_fd=self.descriptor)
            os.rename(temporary, self.base, src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)
            if hard and _exists(temporary, self.descriptor):  # a rename to another name of the same file does nothing
                os.unlink(temporary, dir_fd=self.descriptor)
        except BaseException:
            if _exists(temporary, self.descriptor):
                os.unlink(temporary, dir_fd=self.descriptor)
            raise


def open_directory(path: "str") -> "int":
    """Return a descriptor of a directory. Raises OSError, and Failed for a link that is not to be trusted."""
    if os.geteuid() != 0:
        return os.open(path, _DIRECTORY & ~os.O_NOFOLLOW)
    walk = _Walk(path)
    try:
        walk.go()
    except BaseException:
        os.close(walk.here)
        raise
    return walk.here


def resolve(path: "str") -> "str":
    """Return the path of what `path` means: its last component is no link. Raises Failed for one not to be trusted.

    As root, what is returned was never looked up as a whole, in which a link may have been exchanged meanwhile: each
    link is read once, and its target is judged, whatever is at the link's own place by then.
    """
    if os.geteuid() != 0:
        return os.path.realpath(path)
    for _ in range(LINKS):
        try:
            with Parent(path) as parent:
                link = _read_link(parent.base, parent.descriptor) if parent.base else None
        except FileNotFoundError:
            return path
        if link is None:
            return path
        target = os.path.join(os.path.dirname(path), link[0].rstrip("/") or "/")
        if link[1] != 0:
            _check_target(path, target, link[1])
        path = target
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


def make_directories(path: "str", mode: "int" = 0o777) -> "None":
    """Create a directory and its parents where they are missing. Raises OSError, Failed."""
    missing = []
    while path not in ("/", "") and not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for one in reversed(missing):
        with Parent(one) as parent:
            try:
                parent.mkdir(mode)
            except FileExistsError:
                if not os.path.isdir(one):
                    raise FileExistsError(errno.EEXIST, "a part of the path is no directory", one)


def is_exposed(path: "str") -> "bool":
    """Return whether another account than root may put something else at `path`, or in its way."""
    directory = os.path.abspath(os.path.dirname(path) or ".")
    return any(_is_exposed(one) for one in {directory, os.path.realpath(directory)})


def _is_exposed(path: "str") -> "bool":
    allowed = 0
    while True:
        info = os.lstat(path)
        is_writable = info.st_mode & 0o022 and not info.st_mode & allowed and not stat.S_ISLNK(info.st_mode)
        if info.st_uid != 0 or is_writable:
            return True
        if path == "/":
            return False
        path = os.path.dirname(path)
        allowed = stat.S_ISVTX  # in such a directory nobody can replace what is root's


def refuse_special(info: "os.stat_result | None", path: "str") -> "None":
    """Raise Failed for a device, FIFO or socket: nothing replaces it unless it is removed first."""
    if info is not None and stat.S_IFMT(info.st_mode) not in (stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR):
        raise Failed(
            "%s is a device, a FIFO or a socket, and is not replaced" % path,
            hint="remove it first, with file.absent, if it is not needed",
        )


def refuse_foreign_link(info: "os.stat_result", directory: "os.stat_result", path: "str") -> "None":
    """Raise Failed for a hard link that another account may have made, to a file that it does not own.

    info: of a file whose owner or mode root is about to set; directory: of the one it is in.
    """
    if os.geteuid() != 0 or info.st_nlink < 2 or not stat.S_ISREG(info.st_mode):
        return
    if directory.st_uid == 0 and not directory.st_mode & 0o022:
        return  # only root can have put it there
    is_own = directory.st_uid == info.st_uid
    if is_own and info.st_uid != 0 and not directory.st_mode & 0o022:
        return
    if is_own and not directory.st_mode & 0o002 and _are_links_protected():
        return
    raise Failed(
        "%s is a hard link to a file that the owner of its directory does not own, and is left as it is" % path,
        hint="replace it by a copy of its own",
    )


def _are_links_protected() -> "bool":
    """Return whether the kernel lets accounts make hard links only to what they may write."""
    try:
        with open("/proc/sys/fs/protected_hardlinks") as file:
            return file.read().strip() == "1"
    except OSError:
        return False


class _Walk(object):
    """One path on its way from /."""

    def __init__(self, path: "str") -> "None":
        self.path = path
        self.here = os.open("/" if path.startswith("/") else ".", _DIRECTORY)
        # Names, and at the end of a link's target who must own what it leads to: (owner, name of the link).
        self._steps: "list[str | tuple[int, str]]" = [name for name in path.split("/") if name not in ("", ".")]
        self._count = 0

    def go(self) -> "None":
        while self._steps:
            name = self._steps.pop(0)
            if isinstance(name, tuple):
                if os.fstat(self.here).st_uid != name[0]:
                    raise _untrusted(self.path, name[1])
                continue
            try:
                there = os.open(name, _DIRECTORY, dir_fd=self.here)
            except OSError as error:
                link = _read_link(name, self.here) if error.errno in (errno.ELOOP, errno.ENOTDIR) else None
                if link is None:
                    raise OSError(error.errno, error.strerror, self.path)
                self._follow(name, *link)
                continue
            os.close(self.here)
            self.here = there

    def _follow(self, name: "str", target: "str", owner: "int") -> "None":
        self._count += 1
        if self._count > LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), self.path)
        end = [] if owner == 0 else [(owner, name)]
        self._steps[:0] = [*(part for part in target.split("/") if part not in ("", ".")), *end]
        if target.startswith("/"):
            root = os.open("/", _DIRECTORY)
            os.close(self.here)
            self.here = root


def _read_link(name: "str", directory: "int") -> "tuple[str, int] | None":
    """Return the target of a link, and who decides where it leads; None when it is none."""
    if not hasattr(os, "O_PATH"):
        return None
    try:
        descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return None
    try:
        info = os.fstat(descriptor)
        if not stat.S_ISLNK(info.st_mode):
            return None
        # A link of root's with several names may have been given one here by anybody.
        return os.readlink("", dir_fd=descriptor), info.st_uid if info.st_nlink == 1 else NOBODY
    finally:
        os.close(descriptor)


def _check_target(path: "str", target: "str", owner: "int") -> "None":
    """Raise Failed when the link at `path` leads to what its owner does not own; of what is missing, its directory."""
    real = os.path.realpath(target)
    while not os.path.lexists(real):
        real = os.path.dirname(real)
    if os.lstat(real).st_uid != owner:
        raise _untrusted(path, os.path.basename(path))


def _untrusted(path: "str", name: "str") -> "Failed":
    return Failed(
        "%s leads through the link %s, with which another account could make root write elsewhere" % (path, name),
        hint="name the real path, or let root own the link",
    )


def _exists(name: "str", directory: "int") -> "bool":
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
