"""Creates the home directories of accounts."""

import os
import stat

from sloth.payload.lib import files, unfinished

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pwd import struct_passwd

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def make_home(entry: "struct_passwd", skeleton: "str", umask: "int") -> "None":
    """Create the home directory of `entry` from `skeleton`, as useradd does, when nothing exists at its path."""
    if os.path.lexists(entry.pw_dir):
        return
    path = os.path.normpath(entry.pw_dir)
    files.make_directories(os.path.dirname(path))
    with files.Parent(path) as parent:
        # Created under another name and renamed when complete, so that a killed run leaves no partial home.
        temporary = unfinished.new_name(os.path.dirname(path), parent.base)
        os.mkdir(temporary, 0o700, dir_fd=parent.descriptor)
        try:
            home = os.open(temporary, _DIRECTORY, dir_fd=parent.descriptor)
            try:
                if os.path.isdir(skeleton):
                    _copy_tree(skeleton, home, entry)
                os.fchown(home, entry.pw_uid, entry.pw_gid)
                os.fchmod(home, 0o777 & ~umask)
            finally:
                os.close(home)
            os.rename(temporary, parent.base, src_dir_fd=parent.descriptor, dst_dir_fd=parent.descriptor)
        except BaseException:
            from sloth.payload.lib.trees import remove

            try:
                remove(parent.descriptor, temporary)
            except OSError:
                pass
            raise


def _copy_tree(source: "str", target: "int", entry: "struct_passwd") -> "None":
    """Copy what is in a directory to an open one, as the files of an account."""
    for name in sorted(os.listdir(source)):
        path = os.path.join(source, name)
        info = os.lstat(path)
        if stat.S_ISLNK(info.st_mode):
            os.symlink(os.readlink(path), name, dir_fd=target)
            os.chown(name, entry.pw_uid, entry.pw_gid, dir_fd=target, follow_symlinks=False)
        elif stat.S_ISDIR(info.st_mode):
            os.mkdir(name, 0o700, dir_fd=target)
            inner = os.open(name, _DIRECTORY, dir_fd=target)
            try:
                _copy_tree(path, inner, entry)
                _finish(inner, info, entry)
            finally:
                os.close(inner)
        elif stat.S_ISREG(info.st_mode):
            descriptor = os.open(name, _NEW, 0o600, dir_fd=target)
            try:
                with open(path, "rb") as old, open(descriptor, "wb", closefd=False) as new:
                    for data in iter(lambda: old.read(1024 * 1024), b""):
                        new.write(data)
                _finish(descriptor, info, entry)
            finally:
                os.close(descriptor)


def _finish(descriptor: "int", source: "os.stat_result", entry: "struct_passwd") -> "None":
    os.fchown(descriptor, entry.pw_uid, entry.pw_gid)
    os.fchmod(descriptor, stat.S_IMODE(source.st_mode))
    os.utime(descriptor, ns=(source.st_atime_ns, source.st_mtime_ns))


def read_home_umask() -> "int":
    """Return the umask of new homes from /etc/login.defs: HOME_MODE, else UMASK, else 022."""
    values: "dict[str, str]" = {}
    try:
        with open("/etc/login.defs", encoding="utf-8", errors="replace") as file:
            for line in file:
                words = line.split()
                if len(words) > 1:
                    values[words[0]] = words[1]
    except OSError:
        pass
    try:
        if "HOME_MODE" in values:
            return 0o777 & ~int(values["HOME_MODE"], 8)
        return int(values.get("UMASK", "022"), 8)
    except ValueError:
        return 0o022
