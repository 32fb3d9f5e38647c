"""Removes directory trees by descriptors, so that nobody who may write in them can lead the removal elsewhere."""

import errno
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, Tuple

    Level = Tuple[int, str, List[str]]  # an open directory, its name in the one above, and the names that are left

DEEPEST = 50  # levels that are open at once; what is deeper is moved up, whoever made it so deep
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove(directory: "int", name: "str") -> "None":
    """Remove the directory `name` in an open one, with everything in it. Raises OSError.

    A file system that is mounted in it is not entered: what is in it stays, and so do the directories above it.
    """
    device = os.stat(name, dir_fd=directory, follow_symlinks=False).st_dev
    levels = [_enter(name, directory)]
    try:
        while levels:
            here, own, names = levels[-1]
            if not names:
                levels.pop()
                os.close(here)
                os.rmdir(own, dir_fd=levels[-1][0] if levels else directory)
                continue
            one = names.pop()
            info = os.stat(one, dir_fd=here, follow_symlinks=False)
            if not stat.S_ISDIR(info.st_mode):
                os.unlink(one, dir_fd=here)
            elif info.st_dev != device:
                raise OSError(errno.EBUSY, "a file system is mounted in what is to be removed", one)
            elif len(levels) > DEEPEST:
                moved = ".sloth-%s" % os.urandom(6).hex()
                os.rename(one, moved, src_dir_fd=here, dst_dir_fd=levels[0][0])
                levels[0][2].append(moved)
            else:
                levels.append(_enter(one, here))
    finally:
        for level in levels:
            os.close(level[0])


def _enter(name: "str", directory: "int") -> "Level":
    descriptor = os.open(name, _FLAGS, dir_fd=directory)
    try:
        return descriptor, name, os.listdir(descriptor)
    except OSError:
        os.close(descriptor)
        raise
