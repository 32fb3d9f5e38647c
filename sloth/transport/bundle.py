"""Packs the payload into one piece. The same sources give the same bytes, so their hash names what a host has."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from functools import lru_cache
from pathlib import Path

import sloth.payload
from sloth.frozen import frozen
from sloth.payload.kernel.hashing import sha256
from sloth.payload.loader import MAGIC

# It is built once, whichever thread is the first; and until Python 3.11.4 two threads must not use `ast` at once.
_LOCK = threading.Lock()


@frozen
class Bundle:
    """The payload.

    data: the sources by their paths, as marshal writes them, compressed by zlib; sha256: the hash of that, as hex;
    path: the file in which what is compiled of them is kept from one start to the next; None: it is not kept.
    """

    sha256: str
    data: bytes
    path: Path | None = field(default=None, repr=False, compare=False)

    def code(self, calls: Iterable[str] | None) -> tuple[str, bytes]:
        """Return the code of what these calls need, for hosts with the same version of Python, after its SHA-256.

        None for `calls`: return no code, which the host compiles itself.
        """
        return _code(self, tuple(calls)) if calls is not None else (NO_CODE, b"")


NO_CODE = sha256(b"").hexdigest()


@lru_cache(maxsize=4)
def _code(bundle: Bundle, calls: tuple[str, ...]) -> tuple[str, bytes]:
    from sloth.transport.precompiled import Compiled  # most runs meet hosts that have it

    with _LOCK, _no_collection():
        kept = _read(bundle.path) if bundle.path is not None else None
        compiled = Compiled(bundle.data, kept or b"")
        code = compiled.select(calls)
        if compiled.has_grown and bundle.path is not None:
            with contextlib.suppress(OSError):  # else the next start compiles them again
                _write(bundle.path, compiled.plain())
    return sha256(code).hexdigest(), code


def build(extra: Mapping[str, bytes] | None = None, cache: Path | None = None) -> Bundle:
    """Return the payload's bundle.

    extra: further files by their path (custom modules); cache: a directory in which the bundle is kept from one start
    to the next. The sources come without what only people and type checkers read (transport/slim.py).
    """
    with _LOCK, _no_collection():
        return _build(tuple(sorted((extra or {}).items())), cache)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Collect no garbage: until Python 3.11.4 a finalizer that runs inside of `ast` and raises breaks it."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@lru_cache(maxsize=4)
def _build(extra: tuple[tuple[str, bytes], ...], cache: Path | None) -> Bundle:
    root = Path(sloth.payload.__file__).parent
    paths = dict(sorted(_sources(str(root), "sloth/payload/")))
    path = None
    if cache is not None:
        path = cache / f"bundle-{_signature(paths, extra)}.zip"
        found = _kept(path)
        if found is not None:
            return found
    made = _packed(paths, extra)
    return _keep(path, made) if path is not None else made


def _sources(directory: str, inside: str) -> Iterator[tuple[str, Path]]:
    """Yield the sources below a directory by their paths in the bundle. (Path.rglob() takes ten times as long.)"""
    for entry in os.scandir(directory):
        if entry.name.endswith(".py"):
            yield inside + entry.name, Path(entry.path)
        elif "." not in entry.name and entry.name != "__pycache__" and entry.is_dir():
            yield from _sources(entry.path, f"{inside}{entry.name}/")


def _packed(paths: Mapping[str, Path], extra: tuple[tuple[str, bytes], ...]) -> Bundle:
    import marshal
    import zlib

    from sloth.transport.slim import slim

    files = {"sloth/__init__.py": b"", **{name: path.read_bytes() for name, path in paths.items()}, **dict(extra)}
    sources = {name: slim(files[name]) for name in sorted(files)}
    # Version 2 is what any Python 3 reads. All is compressed as a whole: the many small files share their words.
    data = zlib.compress(marshal.dumps(sources, 2), 9)
    return Bundle(sha256(data).hexdigest(), data)


def _signature(paths: Mapping[str, Path], extra: tuple[tuple[str, bytes], ...]) -> str:
    """Return what changes whenever a source does. It reads no file, because that would take as long as to pack them."""
    digest = sha256(f"{MAGIC!r} {extra!r}".encode("utf-8", "surrogateescape"))
    for name, path in paths.items():
        info = path.stat()
        digest.update(f"{name} {info.st_size} {info.st_mtime_ns} {info.st_ino}\n".encode())
    return digest.hexdigest()[:32]


def _kept(path: Path) -> Bundle | None:
    """Return the bundle that was kept, if it is intact."""
    data = _read(path)
    if data is None:
        return None
    return Bundle(data[:64].decode("ascii"), data[64:], path.with_suffix(".code"))


def _read(path: Path) -> bytes | None:
    """Return what _write() has written, if it is intact; hosts check the hash, besides."""
    import zlib

    try:
        content = path.read_bytes()
    except OSError:
        return None
    return content[8:] if content[:8] == b"%08x" % zlib.crc32(content[8:]) else None


def _keep(path: Path, made: Bundle) -> Bundle:
    """Keep the bundle, and no other one; return it. If that fails, the next start builds it again."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for other in (*path.parent.glob("bundle-*"), *path.parent.glob(".bundle-*")):
            other.unlink(missing_ok=True)
        _write(path, made.sha256.encode("ascii") + made.data)
    return Bundle(made.sha256, made.data, path.with_suffix(".code"))


def _write(path: Path, data: bytes) -> None:
    """Write a file that appears when it is whole. Raises OSError."""
    import zlib

    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    # Whoever may write it decides what runs on the hosts: private, whatever the umask is.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(b"%08x" % zlib.crc32(data) + data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
