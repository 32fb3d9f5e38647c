"""The contents of files and assets. A large asset is hashed while it comes, and need not be read again when written."""

import os
import stat

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

        def put(self, path: "str", info: "os.stat_result", sha256: "str", ours: "bool" = False) -> "None": ...


LARGE = 1024 * 1024  # bytes; smaller ones are quickly read again
READ = 1024 * 1024  # bytes read at once when a file is hashed or copied


class Contents(object):
    """The contents of this session."""

    def __init__(self, link: "Link") -> "None":
        self._link = link
        self._received: "set[str]" = set()  # hashes of large assets that have come
        self._written: "dict[str, tuple[tuple[int, ...], str]]" = {}  # path -> identity and hash

    def of_file(self, path: "str", signatures: "Hashes | None") -> "Content":
        """Return the Content of a regular file; one not changed since it was last hashed, or written, is not read."""
        info = os.stat(path)
        sha256 = signatures.get(path, info) if signatures else None
        if not sha256:
            identity, ours = self._written.pop(path, ((), ""))
            is_ours = identity == _identity(info)  # else another program has written to it since
            sha256 = ours if is_ours else _hash_file(path)
            if signatures:
                signatures.put(path, info, sha256, ours=is_ours)
        return Content(sha256, info.st_size, lambda: _read_file(path))

    def of_asset(self, asset: "Asset", index: "int") -> "Content":
        """Return the Content of an asset of the running call; the controller sends it when it is first read."""
        pull = self._pull_large if asset.size > LARGE else self._link.pull
        return Content(asset.sha256, asset.size, lambda: pull(index, asset))

    def _pull_large(self, index: "int", asset: "Asset") -> "Iterator[bytes]":
        """Yield the bytes of an asset. Raises Failed in the end if they are not those that were announced."""
        digest = sha256_for(asset.size)
        for data in self._link.pull(index, asset):
            digest.update(data)
            yield data
        if digest.hexdigest() != asset.sha256:
            raise Failed("%s has changed on the controller while it was sent" % asset.name, hint="run again")
        self._received.add(asset.sha256)

    def note_written(self, path: "str", info: "os.stat_result", content: "Content") -> "None":
        """Note that a file was written with this content, if it has come here; info: what fstat() reported then."""
        if content.sha256 in self._received:
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


def _hash_file(path: "str") -> "str":
    digest = sha256_for(os.path.getsize(path))
    for data in _read_file(path):
        digest.update(data)
    return digest.hexdigest()


def _read_file(path: "str") -> "Iterator[bytes]":
    with open(open_regular(path), "rb", buffering=0) as file:
        while True:
            data = file.read(READ)
            if not data:
                return
            yield data
