"""Reads tar and zip archives with the standard library, and refuses members that must not be unpacked."""

import os
import posixpath
import stat

from sloth.payload.kernel.hashing import sha256
from sloth.payload.kernel.resource import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    import tarfile
    import zipfile
    from typing import IO, Callable, Dict, Iterator, Mapping, Tuple

    # What is known of a member: its type ("file" "directory" "link" "special"), its mode (not of a link), and the
    # sha256 of a file or the target of a link.
    Member = Dict[str, str]
    # The name of a member, and a function that yields its bytes.
    Contents = Iterator[Tuple[str, Callable[[], Iterator[bytes]]]]

READ = 1024 * 1024  # bytes


class Archive(object):
    """Base of the formats; use it in a `with` statement. `name` is the one of the file, for messages."""

    def __init__(self, name: "str") -> "None":
        self._name = name

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *exc: "object") -> "None":
        self.close()

    def close(self) -> "None":
        raise NotImplementedError

    def members(self) -> "Iterator[tuple[str, Member]]":
        """Yield the normalized name and the description of every member."""
        raise NotImplementedError

    def contents(self) -> "Contents":
        """Yield the normalized name and the content of every member that has one, in the archive's order.

        A compressed archive cannot be read backwards.
        """
        raise NotImplementedError

    def manifest(self) -> "dict[str, Member]":
        """Return the members by their normalized names. Raises Failed when the archive cannot be read to its end."""
        with _explained(self._name):
            return dict((name, member) for name, member in self.members() if name != ".")


def refuse_unsafe(members: "Mapping[str, Member]") -> "None":
    """Raise Failed when one of the members, by their paths below a directory, must not be unpacked there."""
    links = set(path for path, member in members.items() if member["type"] == "link")
    for path, member in members.items():
        parts = path.split("/")
        if path.startswith("/") or ".." in parts:
            raise Failed("the archive's member %s would be written outside of dest" % path, hint="exclude it")
        if member["type"] == "special":
            raise Failed("the archive's member %s is a device or the like" % path, hint="exclude it")
        if any("/".join(parts[:depth]) in links for depth in range(1, len(parts))):
            raise Failed("the archive's member %s is below a link of the archive" % path, hint="exclude one of them")
        if member["type"] == "link" and _leads_outside(path, member["target"], links):
            raise Failed(
                "the archive's link %s leads outside of dest, to %s" % (path, member["target"]), hint="exclude it"
            )


def _leads_outside(path: "str", target: "str", links: "set[str]") -> "bool":
    if target.startswith("/"):
        return True
    directories = path.split("/")[:-1]
    for part in target.split("/"):
        if part == "..":
            # Above a link is not above its name: where that leads depends on the link's target.
            if not directories or "/".join(directories) in links:
                return True
            directories.pop()
        elif part not in ("", "."):
            directories.append(part)
    return False


def open_archive(path: "str") -> "Archive":
    """Return the archive at `path`, whatever its format. Raises Failed when it is none, or damaged; OSError."""
    import tarfile
    import zipfile

    name = os.path.basename(path)
    try:
        with _explained(name, tarfile.TarError):
            # Tar first: a tar whose last member is a zip (a jar, a wheel) looks like a zip from its end.
            return Tar(tarfile.open(path), name)
    except tarfile.TarError:
        pass
    with _explained(name):
        if zipfile.is_zipfile(path):
            return Zip(zipfile.ZipFile(path), name)
    raise Failed("%s is not an archive that can be read" % name, hint="tar (also gz, bz2 or xz) or zip")


class _explained(object):
    """Turns what the standard library raises for a damaged archive into a Failed."""

    def __init__(self, name: "str", *others: "type[Exception]") -> "None":
        """others: exceptions that pass as they are."""
        self._name = name
        self._passing: "tuple[type[Exception], ...]" = (Failed, *others)

    def __enter__(self) -> "None":
        pass

    def __exit__(self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "object") -> "None":
        # The decompressors each have an exception of their own; Failed and errors of the disk keep theirs.
        if (
            isinstance(error, Exception)
            and not isinstance(error, self._passing)
            and getattr(error, "errno", None) is None
        ):
            why = "it is encrypted" if isinstance(error, RuntimeError) else str(error) or type(error).__name__
            raise Failed("the archive %s cannot be read: %s" % (self._name, why))


class Tar(Archive):
    """A tar archive, compressed or not."""

    def __init__(self, tar: "tarfile.TarFile", name: "str") -> "None":
        Archive.__init__(self, name)
        self._tar = tar

    def close(self) -> "None":
        self._tar.close()

    def members(self) -> "Iterator[tuple[str, Member]]":
        links: "dict[str, str]" = {}  # a symbolic link may have several names, which are hard links to it
        for info in self._tar:
            name = posixpath.normpath(info.name)
            mode = "%04o" % (info.mode & 0o777)  # set-uid, set-gid and sticky bits are not taken over
            if info.isdir():
                yield name, {"type": "directory", "mode": mode}
            elif info.issym() or (info.islnk() and info.linkname in links):
                links[info.name] = info.linkname if info.issym() else links[info.linkname]
                yield name, {"type": "link", "target": links[info.name]}
            elif info.isreg() or info.islnk():
                yield name, {"type": "file", "mode": mode, "sha256": _digest(self._open(info))}
            else:
                yield name, {"type": "special"}

    def contents(self) -> "Contents":
        for info in self._tar:
            # mypy cannot infer a lambda whose argument has a default.
            yield posixpath.normpath(info.name), lambda info=info: _chunks(self._open(info))  # type: ignore[misc]

    def _open(self, info: "tarfile.TarInfo") -> "IO[bytes]":
        try:
            file = self._tar.extractfile(info)
        except KeyError:  # a hard link to a member that the archive does not have
            file = None
        if file is None:
            raise Failed("the archive's member %s has no content" % info.name)
        return file


class Zip(Archive):
    """A zip archive."""

    def __init__(self, zip: "zipfile.ZipFile", name: "str") -> "None":
        Archive.__init__(self, name)
        self._zip = zip

    def close(self) -> "None":
        self._zip.close()

    def members(self) -> "Iterator[tuple[str, Member]]":
        for info in self._zip.infolist():
            name = posixpath.normpath(info.filename)
            unix = info.external_attr >> 16
            if info.filename.endswith("/"):
                yield name, {"type": "directory", "mode": "%04o" % (unix & 0o777 or 0o755)}
            elif stat.S_ISLNK(unix):
                yield name, {"type": "link", "target": self._zip.read(info).decode("utf-8", "surrogateescape")}
            else:
                mode = "%04o" % (unix & 0o777 or 0o644)
                yield name, {"type": "file", "mode": mode, "sha256": _digest(self._zip.open(info))}

    def contents(self) -> "Contents":
        for info in self._zip.infolist():
            # As above.
            yield posixpath.normpath(info.filename), lambda info=info: _chunks(self._zip.open(info))  # type: ignore[misc]


def _chunks(file: "IO[bytes]") -> "Iterator[bytes]":
    with file:
        for data in iter(lambda: file.read(READ), b""):
            yield data


def _digest(file: "IO[bytes]") -> "str":
    digest = sha256()
    for data in _chunks(file):
        digest.update(data)
    return digest.hexdigest()
