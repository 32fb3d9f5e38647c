"""Reading files that a person or a site names: bounded in size and time, with an OSError for whatever is wrong."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path

root: Path | None = None  # below which the files of a site are, on another machine than that of the run
home: str | None = None  # there: of the user of the run
withheld: dict[str, str] = {}  # there: path -> why its content has stayed on the run's machine
NOT_REGULAR = "it is not a regular file"
LIMIT = 16 * 1024 * 1024  # bytes: far more than anybody writes by hand


def read_file(path: str | os.PathLike[str], limit: int = LIMIT, pipes: bool = False) -> bytes:
    """Return the contents of a regular file; pipes: also those of a pipe or a device, as <(command) and /dev/stdin are.

    Raises OSError, whose `strerror` says what is wrong: also for a directory, a device, a name that no file can have,
    and more than `limit` bytes. A device, a FIFO and some files of /proc would never come to an end.
    """
    name = os.fspath(path)
    if "\0" in name:
        raise OSError(errno.EINVAL, "the name has a NUL character in it")
    try:
        is_pipe = pipes and _is_stream(os.stat(name).st_mode)
        # A pipe is waited for; nothing else is.
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | (0 if is_pipe else os.O_NONBLOCK))
    except UnicodeEncodeError as error:
        raise OSError(errno.EINVAL, "the name cannot be the name of a file") from error
    with open(descriptor, "rb", buffering=0) as file:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise OSError(errno.EISDIR, "it is a directory")
        if not (stat.S_ISREG(mode) or (pipes and _is_stream(mode))):
            raise OSError(errno.EINVAL, why_not_regular(name))
        parts: list[bytes] = []
        left = limit + 1
        while left > 0 and (data := file.read(min(left, 1024 * 1024))):
            parts.append(data)
            left -= len(data)
        if left <= 0:
            raise OSError(errno.EFBIG, f"it is larger than {limit // (1024 * 1024)} MB")
        return b"".join(parts)


def open_regular(path: Path) -> io.FileIO:
    """Open a regular file, unbuffered. Raises OSError, also for anything else: a FIFO would be waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, why_not_regular(path), str(path))
    return io.FileIO(descriptor, "rb")


def why_not_regular(path: str | os.PathLike[str]) -> str:
    """Return why something is not read that is no regular file."""
    return withheld.get(os.path.realpath(path), NOT_REGULAR) if withheld else NOT_REGULAR


def expanduser(name: str) -> Path:
    """Return a path that a site names, whose "~" is the home of the user of the run.

    Raises RuntimeError for a "~user" who does not exist.
    """
    if home is not None and (name == "~" or name.startswith("~/")):
        return Path(home + name[1:])
    return Path(name).expanduser()


def is_withheld(path: str | os.PathLike[str]) -> bool:
    """Return whether a path stands for what has stayed on the run's machine."""
    return bool(withheld) and os.path.realpath(path) in withheld


def of_site(path: Path) -> Path:
    """Return where an absolute path that a site names is on this machine."""
    if root is None or path.is_relative_to(root):
        return path
    return root / str(path).lstrip("/")


def missing_hint(searched: str) -> str:
    """Return what to do about a file that was not found."""
    if root is None:
        return searched
    return f"{searched}; workers on other machines get what is beside the site and in its roles"


def _is_stream(mode: int) -> bool:
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)
