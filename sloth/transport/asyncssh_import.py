"""Imports asyncssh in half the time: without its search for libraries that hardly any machine has."""

from __future__ import annotations

import sys

DIRECTORIES = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64", "/lib", "/lib64", "/opt/homebrew/lib")


def load() -> None:
    """Import asyncssh.

    While it is imported it makes ctypes look for liboqs and nettle, which starts ldconfig, gcc and ld each time. ctypes
    gets to look only where a file of that name exists.
    """
    if is_loaded():
        return
    import ctypes.util  # a run on this machine alone needs none of this

    find_library = ctypes.util.find_library
    ctypes.util.find_library = lambda name: find_library(name) if _exists(name) else None
    try:
        import asyncssh  # noqa: F401  for its place in sys.modules
    finally:
        ctypes.util.find_library = find_library


def _exists(name: str) -> bool:
    """Return whether a library of that name is in one of the usual directories."""
    import glob

    short = name.removeprefix("lib")
    return any(glob.glob(f"{path}{deeper}/lib{short}.*") for path in DIRECTORIES for deeper in ("", "/*-linux-*"))


def is_loaded() -> bool:
    """Return whether asyncssh has been imported."""
    return "asyncssh" in sys.modules
