"""Imports asyncssh in half the time: without its search for libraries that hardly any machine has."""

from __future__ import annotations

import contextlib
import os
import sys
import typing
from collections.abc import Callable

DIRECTORIES = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64", "/lib", "/lib64", "/opt/homebrew/lib")


def load() -> None:
    """Import asyncssh.

    While it is imported it makes ctypes look for liboqs and nettle, which starts ldconfig, gcc and ld each time; here
    directories are read instead. And it takes the type Self from typing_extensions, which replaces parts of `typing`
    by slower ones; `typing` itself has it.
    """
    if is_loaded():
        return
    import ctypes.util  # a run on this machine alone needs none of this

    find_library = ctypes.util.find_library
    ctypes.util.find_library = lambda name: _find(name, find_library)
    is_alone = "typing_extensions" not in sys.modules
    if is_alone:
        sys.modules["typing_extensions"] = typing
    try:
        import asyncssh
    except ImportError:  # a version that needs more than `typing` has
        sys.modules.pop("typing_extensions", None)
        import asyncssh  # noqa: F401
    finally:
        ctypes.util.find_library = find_library
        if is_alone and sys.modules.get("typing_extensions") is typing:
            del sys.modules["typing_extensions"]


def _find(name: str, otherwise: Callable[[str], str | None]) -> str | None:
    """Return the name of a library for the dynamic linker, such as libx.so.1; None if there is none.

    otherwise: finds one that is here under another name, in its own time.
    """
    import ctypes
    import glob

    start = f"lib{name.removeprefix('lib')}."
    paths = [
        path for top in DIRECTORIES for deeper in ("", "/*-linux-*") for path in glob.glob(f"{top}{deeper}/{start}*")
    ]
    for found in sorted({os.path.basename(path) for path in paths}):
        if found.removeprefix(start).removeprefix("so.").isdigit():
            with contextlib.suppress(OSError):  # it is of another kind of processor
                ctypes.CDLL(found)
                return found
    return otherwise(name) if paths else None


def is_loaded() -> bool:
    """Return whether asyncssh has been imported."""
    return "asyncssh" in sys.modules
