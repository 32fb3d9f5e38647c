"""Imports asyncssh in half the time: without its search for libraries that hardly any machine has."""

from __future__ import annotations

import contextlib
import os
import sys
import typing
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec

DIRECTORIES = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64", "/lib", "/lib64", "/opt/homebrew/lib")

X509 = "asyncssh.crypto.x509"


def load() -> None:
    """Import asyncssh.

    While it is imported it makes ctypes look for liboqs and nettle, which starts ldconfig, gcc and ld each time; here
    directories are read instead. And it takes the type Self from typing_extensions, which replaces parts of `typing`
    by slower ones; `typing` itself has it. Certificates of X.509 need pyOpenSSL, for which it looks after it has
    imported cryptography.x509, a fifth of all; without pyOpenSSL it is spared that.
    """
    if is_loaded():
        return
    import ctypes.util  # a run on this machine alone needs none of this

    find_library = ctypes.util.find_library
    ctypes.util.find_library = lambda name: _find(name, find_library)
    is_alone = "typing_extensions" not in sys.modules
    if is_alone:
        sys.modules["typing_extensions"] = typing
    has_x509 = X509 in sys.modules or find_spec("OpenSSL") is not None
    if not has_x509:
        sys.modules[X509] = None  # type: ignore[assignment]  # its import fails, as it would later
    try:
        import asyncssh
    except ImportError:  # a version that needs more than `typing` has
        sys.modules.pop("typing_extensions", None)
        import asyncssh  # noqa: F401
    finally:
        ctypes.util.find_library = find_library
        _names.cache_clear()
        if not has_x509:
            sys.modules.pop(X509, None)
        if is_alone and sys.modules.get("typing_extensions") is typing:
            del sys.modules["typing_extensions"]


def _find(name: str, otherwise: Callable[[str], str | None]) -> str | None:
    """Return the name of a library for the dynamic linker, such as libx.so.1; None if there is none.

    otherwise: finds one that is here under another name, in its own time.
    """
    import ctypes

    start = f"lib{name.removeprefix('lib')}."
    names = sorted(found for found in _names() if found.startswith(start))
    for found in names:
        if found.removeprefix(start).removeprefix("so.").isdigit():
            with contextlib.suppress(OSError):  # it is of another kind of processor
                ctypes.CDLL(found)
                return found
    return otherwise(name) if names else None


@cache
def _names() -> frozenset[str]:
    """Return the names of all files in the directories of libraries: several libraries are looked for."""
    found: set[str] = set()
    for top in DIRECTORIES:
        names = _list(top)
        found.update(names)
        for name in names:
            if "-linux-" in name:
                found.update(_list(f"{top}/{name}"))
    return frozenset(found)


def _list(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def is_loaded() -> bool:
    """Return whether asyncssh has been imported."""
    return "asyncssh" in sys.modules
