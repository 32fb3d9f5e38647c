"""The text of errors that nobody foresaw."""

from __future__ import annotations

import errno
import traceback
from pathlib import Path

# What the machine that runs sloth-runner lacks, and what helps.
HINTS = {
    # Hosts that wait for others keep theirs.
    errno.EMFILE: "raise the limit of open files (ulimit -Hn), or lower --forks",
    errno.ENFILE: "too many files are open on the whole machine",
    errno.EAGAIN: "raise the limit of processes (ulimit -u), or lower --forks",
    errno.ENOMEM: "free some memory, or lower --forks",
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space: the quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EIO: "the disk fails",
}


def defect(error: Exception) -> str:
    """Return the text of such an error: what it is, where it was, and what to do about it."""
    if isinstance(error, OSError) and error.errno in HINTS:
        return f"{error.strerror} (errno {error.errno}) on this machine; hint: {HINTS[error.errno]}"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(frame.filename).name}:{frame.lineno}"
    return f"{type(error).__name__}: {error} ({where}); hint: this is a defect of sloth-runner: please report it"
