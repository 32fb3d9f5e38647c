"""Packs the payload into one zip. The same sources give the same bytes, so their hash names what a host has."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
import threading
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import sloth.payload
from sloth.frozen import frozen

DATE = (2000, 1, 1, 0, 0, 0)
# It is built once, whichever thread is the first; and until Python 3.11.4 two threads must not use `ast` at once.
_LOCK = threading.Lock()


@frozen
class Bundle:
    """`data`: a zip with the package `sloth.payload`, compressed by zlib; `sha256`: its hash as hex."""

    sha256: str
    data: bytes


def build(extra: Mapping[str, bytes] | None = None, cache: Path | None = None) -> Bundle:
    """Return the payload's bundle.

    extra: further files by their path in the zip (custom modules); cache: a directory in which the zip is kept from one
    start to the next. The sources come without what only people and type checkers read (transport/slim.py).
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
    kept = None
    if cache is not None:
        kept = cache / f"bundle-{_signature(paths, extra)}.zip"
        data = _kept(kept)
        if data is not None:
            return Bundle(hashlib.sha256(data).hexdigest(), data)
    data = _zipped(paths, extra)
    if kept is not None:
        _keep(kept, data)
    return Bundle(hashlib.sha256(data).hexdigest(), data)


def _sources(directory: str, inside: str) -> Iterator[tuple[str, Path]]:
    """Yield the sources below a directory by their path in the zip. (Path.rglob() takes ten times as long.)"""
    for entry in os.scandir(directory):
        if entry.name.endswith(".py"):
            yield inside + entry.name, Path(entry.path)
        elif "." not in entry.name and entry.name != "__pycache__" and entry.is_dir():
            yield from _sources(entry.path, f"{inside}{entry.name}/")


def _zipped(paths: Mapping[str, Path], extra: tuple[tuple[str, bytes], ...]) -> bytes:
    import io
    import zipfile
    import zlib

    from sloth.transport.slim import slim

    files = {"sloth/__init__.py": b"", **{name: path.read_bytes() for name, path in paths.items()}, **dict(extra)}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, DATE)
            info.external_attr = 0o600 << 16
            archive.writestr(info, slim(files[name]))
    return zlib.compress(buffer.getvalue(), 9)  # as a whole: the many small files share their words


def _signature(paths: Mapping[str, Path], extra: tuple[tuple[str, bytes], ...]) -> str:
    """Return what changes whenever a source does. It reads no file, because that would take as long as the zip."""
    digest = hashlib.sha256(repr(extra).encode("utf-8", "surrogateescape"))
    for name, path in paths.items():
        info = path.stat()
        digest.update(f"{name} {info.st_size} {info.st_mtime_ns} {info.st_ino}\n".encode())
    return digest.hexdigest()[:32]


def _kept(path: Path) -> bytes | None:
    """Return the zip that was kept, if it is intact."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    sha256, data = data[:64], data[64:]
    return data if hashlib.sha256(data).hexdigest().encode("ascii") == sha256 else None


def _keep(path: Path, data: bytes) -> None:
    """Keep the zip, and no other one. If that fails, the next start builds it again."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for other in (*path.parent.glob("bundle-*.zip"), *path.parent.glob(".bundle-*.zip.*")):
            other.unlink(missing_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        # Whoever may write it decides what runs on the hosts: private, whatever the umask is.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(hashlib.sha256(data).hexdigest().encode("ascii") + data)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
