"""Temporary files: their names, and a note of each, by which the next run removes what a killed one has left.

A session notes a file before it creates it, in a journal of its own in the directory of sloth-runner's files, and
removes the journal when it ends. Of a killed session the journal stays. Its lock tells whether its session still lives.
"""

import fcntl
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

LONGEST_NAME = 255  # bytes
NOTHING = -1
_directory = ""  # of the journals; without one (no session) nothing is noted
_journal = NOTHING  # the descriptor of this process's journal, as soon as something was noted
_path = ""


def use(directory: "str") -> "None":
    """Note what follows in a journal below `directory`, the one of sloth-runner's own files."""
    global _directory
    _directory = os.path.join(directory, "unfinished")


def new_name(directory: "str", base: "str") -> "str":
    """Return a new name for a temporary file in `directory` that will become `base`, and note it."""
    # A name may have 255 bytes.
    start = os.fsdecode(os.fsencode(base)[:200])
    name = ".%s.sloth-%d-%s" % (start, os.getpid(), os.urandom(6).hex())
    note(os.path.join(directory, name))
    return name


def note(path: "str") -> "None":
    """Note that `path` is removed if this process is killed."""
    global _journal, _path
    if not _directory:
        return
    try:
        if _journal == NOTHING:
            os.makedirs(_directory, 0o700, exist_ok=True)
            _path = os.path.join(_directory, "%d-%s" % (os.getpid(), os.urandom(4).hex()))
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            _journal = os.open(_path, flags, 0o600)
            fcntl.flock(_journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(_journal, os.fsencode(path) + b"\0")
    except OSError:  # such as a full disk: then only what the directory of a file shows is known
        pass


def close() -> "None":
    """Remove the journal: every temporary file of this process is finished."""
    global _journal, _path
    if _journal == NOTHING:
        return
    try:
        os.unlink(_path)
    except OSError:
        pass
    os.close(_journal)
    _journal, _path = NOTHING, ""


def clean(remove: "Callable[[str], None]") -> "None":
    """Call remove(path) for what killed processes have noted, and remove their journals. OSErrors of it are ignored."""
    try:
        names = os.listdir(_directory) if _directory else []
    except OSError:  # there was never one
        return
    for name in names:
        path = os.path.join(_directory, name)
        try:
            journal = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its process lives
            with open(journal, "rb", closefd=False) as file:
                notes = file.read().split(b"\0")[:-1]
            for one in notes:
                try:
                    remove(os.fsdecode(one))
                except OSError:
                    pass
            os.unlink(path)
        except OSError:
            pass
        finally:
            os.close(journal)
