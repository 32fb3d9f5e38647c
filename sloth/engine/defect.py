"""The text of errors that nobody foresaw."""

from __future__ import annotations

import traceback
from pathlib import Path


def defect(error: Exception) -> str:
    """Return the text of such an error: what it is, where it was, and what to do about it."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(frame.filename).name}:{frame.lineno}"
    return f"{type(error).__name__}: {error} ({where}); hint: this is a defect of sloth-runner: please report it"
