"""The contents of files and assets. A large asset is hashed while it comes, and need not be read again when written."""

import os
import stat
import sys
import time

from sloth.payload.kernel.content import Content
from sloth.payload.kernel.errors import Failed
from sloth.payload.kernel.hashing import sha256_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator, Protocol

    from sloth.payload.kernel.record import Asset
    from sloth.payload.lib.host import Link

    class Hashes(Protocol):
        """The hashes that were computed earlier; the state file keeps them."""

        def get(self, path: "str", info: "os.stat_result") -> "str | None": ...

        def put(
            self, path: "str", info: "os.stat_result", sha256: "str", ours: "bool" = False, at: "float | None" = None
        ) -> "None": ...


LARGE = 1024 * 1024  # bytes; smaller ones are quickly read again
READ = 1024 * 1024  # bytes read at once when a file is hashed or copied


class Contents(object):
    """The contents of this session."""

    def __init__(self, link: "Link") -> "None":
        self._link = link
        self._received: "set[str]" = set()  # hashes of large contents that have been read to their end
        self._written: "dict[str, tuple[tuple[int, ...], str]]" = {}  # path -> identity and hash

    def of_file(self, path: "str", signatures: "Hashes | None") -> "Content":
        """Return the Content of a regular file; one not changed since it was last hashed, or written, is not read."""
        info, at = os.stat(path), time.time()
        sha256 = signatures.get(path, info) if signatures else None
        if not sha256:
            identity, ours = self._written.pop(path, ((), ""))
            is_ours = identity == _identity(info)  # else another program has written to it since
            sha256 = ours if is_ours else _hash_file(path, info.st_size)
            if signatures:
                signatures.put(path, info, sha256, ours=is_ours, at=at)
        what, known = "%s has changed while it was read" % path, sha256
        return Content(
            known, info.st_size, lambda: self._verified(_read_file(path, info.st_size), known, info.st_size, what)
        )

    def of_asset(self, asset: "Asset", index: "int") -> "Content":
        """Return the Content of an asset of the running call; the controller sends it when it is first read."""
        what = "%s has changed on the controller while it was sent" % asset.name
        return Content(
            asset.sha256,
            asset.size,
            lambda: self._verified(self._link.pull(index, asset), asset.sha256, asset.size, what),
        )

    def _verified(self, chunks: "Iterator[bytes]", sha256: "str", size: "int", what: "str") -> "Iterator[bytes]":
        """Yield bytes. Raises Failed(what) in the end if they are not those of the hash: then they are not used."""
        digest = sha256_for(size)
        for data in chunks:
            digest.update(data)
            yield data
        if digest.hexdigest() != sha256:
            raise Failed(what, hint="run again")
        if size > LARGE:
            self._received.add(sha256)

    def note_written(self, path: "str", info: "os.stat_result", content: "Content") -> "None":
        """Note that a file was written with this content, if it was verified; info: what fstat() reported then.

        Where times are whole seconds, they do not tell whether it is still the same.
        """
        if content.sha256 in self._received and info.st_mtime_ns % 10**9:
            self._written[path] = _identity(info), content.sha256


def _identity(info: "os.stat_result") -> "tuple[int, ...]":
    """Return what changes when a file is replaced or written to, but not when it is renamed or gets another mode."""
    return (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns)


def open_regular(path: "str") -> "int":
    """Open a regular file, or a link to one, for reading. Raises Failed for anything else; OSError.

    A FIFO that has taken the file's place meanwhile does not make it wait.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise Failed("%s is not a regular file" % path)


def _hash_file(path: "str", size: "int") -> "str":
    digest = sha256_for(size)
    for data in _read_file(path, size):
        digest.update(data)
    return digest.hexdigest()


def _read_file(path: "str", size: "int") -> "Iterator[bytes]":
    """Yield the first `size` bytes of a file: a log may grow meanwhile. 0: all, as /proc does not know its sizes."""
    left = size or sys.maxsize
    with open(open_regular(path), "rb", buffering=0) as file:
        while left > 0:
            data = file.read(min(READ, left))
            if not data:
                return
            left -= len(data)
            yield data
