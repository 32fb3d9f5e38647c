"""Reads tar and zip archives with the standard library, and refuses members that would leave the directory."""

import os
import posixpath
import stat

from sloth.payload.kernel.hashing import sha256
from sloth.payload.kernel.resource import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    import tarfile
    import zipfile
    from typing import IO, Callable, Dict, Iterator, Tuple

    # What is known of a member: its type, its mode (not of a link), and the sha256 of a file or the target of a link.
    Member = Dict[str, str]
    # The name of a member, and a function that yields its bytes.
    Contents = Iterator[Tuple[str, Callable[[], Iterator[bytes]]]]

READ = 1024 * 1024  # bytes


class Archive(object):
    """Base of the formats; use it in a `with` statement."""

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *exc: "object") -> "None":
        self.close()

    def close(self) -> "None":
        raise NotImplementedError

    def members(self) -> "Iterator[tuple[str, Member]]":
        """Yield the name, as it stands in the archive, and the description of every member. Raises Failed."""
        raise NotImplementedError

    def contents(self) -> "Contents":
        """Yield every member in the archive's order: a compressed archive cannot be read backwards."""
        raise NotImplementedError

    def manifest(self) -> "dict[str, Member]":
        """Return the members by their normalized names. Raises Failed for one that must not be unpacked."""
        found = {}
        for name, member in self.members():
            clean = posixpath.normpath(name)
            if name.startswith("/") or _is_outside(clean):
                raise Failed("the archive's member %s would be written outside of dest" % name)
            if clean == ".":
                continue
            if member["type"] == "link":
                target = posixpath.normpath(posixpath.join(posixpath.dirname(clean), member["target"]))
                if member["target"].startswith("/") or _is_outside(target):
                    raise Failed("the archive's link %s leads outside of dest, to %s" % (name, member["target"]))
            found[clean] = member
        return found


def open_archive(path: "str") -> "Archive":
    """Return the archive at `path`, whatever its format. Raises Failed when it is none, or damaged; OSError."""
    import tarfile
    import zipfile

    try:
        if zipfile.is_zipfile(path):
            return Zip(zipfile.ZipFile(path))
        return Tar(tarfile.open(path))
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, ValueError) as error:
        raise Failed("%s cannot be read as an archive: %s" % (os.path.basename(path), error))


class Tar(Archive):
    """A tar archive, compressed or not."""

    def __init__(self, tar: "tarfile.TarFile") -> "None":
        self._tar = tar

    def close(self) -> "None":
        self._tar.close()

    def members(self) -> "Iterator[tuple[str, Member]]":
        for info in self._tar:
            mode = "%04o" % (info.mode & 0o777)  # set-uid, set-gid and sticky bits are not taken over
            if info.isdir():
                yield info.name, {"type": "directory", "mode": mode}
            elif info.issym():
                yield info.name, {"type": "link", "target": info.linkname}
            elif info.isreg() or info.islnk():
                yield info.name, {"type": "file", "mode": mode, "sha256": _digest(self._open(info))}
            else:
                raise Failed("the archive's member %s is a device or the like" % info.name)

    def contents(self) -> "Contents":
        for info in self._tar:
            yield posixpath.normpath(info.name), lambda info=info: _chunks(self._open(info))  # type: ignore[misc]

    def _open(self, info: "tarfile.TarInfo") -> "IO[bytes]":
        file = self._tar.extractfile(info)
        if file is None:
            raise Failed("the archive's member %s has no content" % info.name)
        return file


class Zip(Archive):
    """A zip archive."""

    def __init__(self, zip: "zipfile.ZipFile") -> "None":
        self._zip = zip

    def close(self) -> "None":
        self._zip.close()

    def members(self) -> "Iterator[tuple[str, Member]]":
        for info in self._zip.infolist():
            unix = info.external_attr >> 16
            if info.filename.endswith("/"):
                yield info.filename, {"type": "directory", "mode": "%04o" % (unix & 0o777 or 0o755)}
            elif stat.S_ISLNK(unix):
                yield info.filename, {"type": "link", "target": self._zip.read(info).decode("utf-8", "surrogateescape")}
            else:
                mode = "%04o" % (unix & 0o777 or 0o644)
                yield info.filename, {"type": "file", "mode": mode, "sha256": _digest(self._zip.open(info))}

    def contents(self) -> "Contents":
        for info in self._zip.infolist():
            yield posixpath.normpath(info.filename), lambda info=info: _chunks(self._zip.open(info))  # type: ignore[misc]


def _is_outside(path: "str") -> "bool":
    return path == ".." or path.startswith("../")


def _chunks(file: "IO[bytes]") -> "Iterator[bytes]":
    with file:
        for data in iter(lambda: file.read(READ), b""):
            yield data


def _digest(file: "IO[bytes]") -> "str":
    digest = sha256()
    for data in _chunks(file):
        digest.update(data)
    return digest.hexdigest()
