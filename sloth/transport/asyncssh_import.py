"""Imports asyncssh, without the half of its time that it spends on looking for libraries that are hardly ever there."""

from __future__ import annotations

import ctypes.util
import glob
import sys
from functools import cache
from typing import Any

PLACES = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64", "/lib", "/lib64", "/opt/homebrew/lib")


def _is_there(name: str) -> bool:
    """Whether a library of that name is in one of the usual places."""
    short = name.removeprefix("lib")
    return any(glob.glob(f"{place}{deeper}/lib{short}.*") for place in PLACES for deeper in ("", "/*-linux-*"))


@cache
def asyncssh() -> Any:
    """The module asyncssh.

    While it is imported it asks ctypes for liboqs and nettle, which starts ldconfig, gcc and ld each time. ctypes is
    asked only when a file of that name is there.
    """
    real = ctypes.util.find_library
    ctypes.util.find_library = lambda name: real(name) if _is_there(name) else None
    try:
        import asyncssh as module
    finally:
        ctypes.util.find_library = real
    return module


def is_loaded() -> bool:
    """Whether asyncssh() takes no time."""
    return "asyncssh" in sys.modules
