"""Packs the payload into one piece. The same sources give the same bytes, so their hash names what a host has."""

from __future__ import annotations

import contextlib
import gc
import marshal
import os
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from functools import lru_cache
from pathlib import Path

import sloth.payload
from sloth.frozen import frozen
from sloth.payload.kernel.hashing import sha256
from sloth.payload.loader import MAGIC

ROOT = Path(sloth.payload.__file__).parent
SHIPPED = Path(__file__).with_name("payload.bundle")  # made by setup.py: slimming takes half a second
# It is built once, whichever thread is the first; and until Python 3.11.4 two threads must not use `ast` at once.
_LOCK = threading.Lock()


@frozen
class Bundle:
    """The payload.

    data: the sources by their paths, as payload/loader.py unpacks them; sha256: the hash of that, as hex;
    path: the file in which what is compiled of them is kept from one start to the next; None: it is not kept.
    """

    sha256: str
    data: bytes
    path: Path | None = field(default=None, repr=False, compare=False)

    def code(self, calls: Iterable[str] | None) -> tuple[str, bytes]:
        """Return the code of what these calls need, for hosts with the same version of Python, after its CRC as hex.

        None for `calls`: return no code, which the host compiles itself.
        """
        return _code(self, tuple(calls)) if calls is not None else ("0", b"")


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
    return f"{zlib.crc32(code):x}", code


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
    paths = _own_sources()
    path = None
    if cache is not None:
        path = cache / f"bundle-{_signature(paths, extra)}.zip"
        found = _kept(path)
        if found is not None:
            return found
    made = _packed(_read_sources(paths), extra)
    return _keep(path, made) if path is not None else made


def ship(path: Path) -> None:
    """Write the bundle that a distribution has with it, after the hash of what it was made of. Raises OSError."""
    files = _read_sources(_own_sources())
    with _LOCK, _no_collection():
        made = _packed(files, ())
        _write(path, f"{_hash(files)}{made.sha256}".encode("ascii") + made.data, 0o644)


def _own_sources() -> dict[str, Path]:
    return dict(sorted(_sources(str(ROOT), "sloth/payload/")))


def _sources(directory: str, inside: str) -> Iterator[tuple[str, Path]]:
    """Yield the sources below a directory by their paths in the bundle. (Path.rglob() takes ten times as long.)"""
    for entry in os.scandir(directory):
        if entry.name.endswith(".py"):
            yield inside + entry.name, Path(entry.path)
        elif "." not in entry.name and entry.name != "__pycache__" and entry.is_dir():
            yield from _sources(entry.path, f"{inside}{entry.name}/")


def _read_sources(paths: Mapping[str, Path]) -> dict[str, bytes]:
    return {"sloth/__init__.py": b"", **{name: path.read_bytes() for name, path in paths.items()}}


def _packed(files: Mapping[str, bytes], extra: tuple[tuple[str, bytes], ...]) -> Bundle:
    """Return the bundle of the payload's files and further ones. Those that were shipped need no work."""
    shipped = _shipped(files)
    if shipped is not None and not extra:
        return shipped
    from sloth.payload.installer import FIRST
    from sloth.payload.loader import unpack
    from sloth.transport.slim import slim

    sources = unpack(shipped.data) if shipped else {name: slim(source) for name, source in files.items()}
    sources.update((name, slim(source)) for name, source in extra)
    # Version 2 is what any Python 3 reads. Many small files are compressed as a whole: they share their words.
    parts = {name: sources.pop(name) for name in FIRST}, dict(sorted(sources.items()))
    data = b"".join(zlib.compress(marshal.dumps(part, 2), 9) for part in parts)
    return Bundle(sha256(data).hexdigest(), data)


def _shipped(files: Mapping[str, bytes]) -> Bundle | None:
    """Return the bundle that setup.py has made of exactly these files, if there is one and it is whole."""
    content = _read(SHIPPED)
    if content is None or content[:64] != _hash(files).encode("ascii"):
        return None
    return Bundle(content[64:128].decode("ascii"), content[128:])


def _hash(files: Mapping[str, bytes]) -> str:
    """Return the hash of files, and of what slims them."""
    digest = sha256(Path(__file__).with_name("slim.py").read_bytes())
    for name, source in files.items():
        digest.update(f"{name} {len(source)}\n".encode() + source)
    return digest.hexdigest()


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


def _write(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a file that appears when it is whole. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    # Whoever may write it decides what runs on the hosts: nobody else, whatever the umask is.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(b"%08x" % zlib.crc32(data) + data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
