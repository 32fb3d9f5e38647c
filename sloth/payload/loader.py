"""Loads the payload's modules from one file with the code of all: a file for each costs several times as much.

The code file lies beside the sources, which are one file, too. It is of one version of Python, begins with what the
controller has compiled if that has the same one, and grows by what a session had to compile. It needs no dates: the
sources never change, because their directory is named after their hash.
"""

import _imp
import marshal
import os
import sys
import zlib

# The import system itself; the package `importlib` takes a millisecond of every start.
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import MAGIC_NUMBER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

PREFIX = "sloth."
SOURCES = "sources"  # the file with the sources of all modules, as stage 1 received it
MAGIC: "bytes" = MAGIC_NUMBER


class CodeFile(object):
    """Finds and loads modules below `root`, for sys.meta_path."""

    def __init__(self, root: "str") -> "None":
        self._root = root
        self._path = "%s/code.%s" % (root, sys.implementation.cache_tag)
        self._kept = Kept(self._path)
        self._compiled: "dict[str, tuple[bool, bytes]]" = {}  # what the file does not have
        self._sources: "dict[str, bytes] | None" = None

    def find_spec(self, name: "str", path: "object" = None, target: "object" = None) -> "ModuleSpec | None":
        """Return how to load one of our modules; None for others, and when there is none of this name."""
        if not name.startswith(PREFIX):
            return None
        if name not in self._compiled and name not in self._kept.index and not self._compile(name):
            return None
        is_package = (self._compiled.get(name) or self._kept.index[name])[0]
        spec = ModuleSpec(name, self, is_package=is_package)  # type: ignore[arg-type]  # a Loader by its methods
        if is_package:
            spec.submodule_search_locations = [self._root + "/" + name.replace(".", "/")]
        return spec

    def create_module(self, spec: "ModuleSpec") -> "None":
        """Let the import system make an ordinary module."""

    def exec_module(self, module: "ModuleType") -> "None":
        name = module.__name__
        data = self._kept.read(name)
        if data is None and name not in self._compiled and not self._compile(name):
            raise ImportError("the source of %s is gone" % name, name=name)
        code = marshal.loads(self._compiled[name][1] if data is None else data)
        path = code.co_filename
        if not path.startswith("/"):  # the controller has compiled it
            path = self._root + "/" + path
            _imp._fix_co_filename(code, path)  # type: ignore[attr-defined]  # as the import system does
        module.__file__ = path
        exec(code, module.__dict__)  # noqa: S102  # that is what a loader does

    def _compile(self, name: "str") -> "bool":
        found = self._source(name)
        if found is None:
            return False
        path, is_package, source = found
        code = compile(source, path, "exec", 0, True)  # without what this file itself imports from __future__
        self._compiled[name] = (is_package, marshal.dumps(code))
        return True

    def _source(self, name: "str") -> "tuple[str, bool, bytes] | None":
        """Return where the source of a module is, whether it is a package, and the source; None if there is none."""
        stem = name.replace(".", "/")
        for inside, is_package in ((stem + "/__init__.py", True), (stem + ".py", False)):
            path = self._root + "/" + inside
            source = self.sources().get(inside)
            if source is None:
                try:
                    with open(path, "rb") as file:
                        source = file.read()
                except OSError:
                    continue
            return path, is_package, source
        return None

    def sources(self) -> "dict[str, bytes]":
        """Return the sources of the bundle by their paths below the root; {} when they are files there."""
        if self._sources is None:
            try:
                with open(self._root + "/" + SOURCES, "rb") as file:
                    self._sources = unpack(file.read())
            except OSError:
                self._sources = {}
        return self._sources

    def get_source(self, name: "str") -> "str | None":
        """Return the source of a module, for tracebacks."""
        found = self._source(name)
        return None if found is None else found[2].decode("utf-8")

    def save(self) -> "None":
        """Write what had to be compiled, and what other sessions wrote meanwhile; if it fails, the next one tries."""
        if not self._compiled:
            return
        for directory in (self._root, os.path.dirname(self._root)):
            _remove_unfinished(directory)
        kept = Kept(self._path)
        data = pack(dict(kept.all(), **self._compiled))
        kept.close()
        new = "%s/.new-%d" % (self._root, os.getpid())
        try:
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(data)
            os.rename(new, self._path)
        except OSError:
            try:
                os.unlink(new)
            except OSError:
                pass
        self._compiled.clear()
        self._kept.close()
        self._kept = Kept(self._path)


def _remove_unfinished(directory: "str") -> "None":
    """Remove what killed processes have left of a code file or of an installation (see transport/stage1.py)."""
    try:
        names = os.listdir(directory)
    except OSError:
        return
    for name in names:
        if name.startswith(".new-") and not os.path.exists("/proc/" + name.split("-")[1]):
            path = directory + "/" + name
            if os.path.isdir(path):
                import shutil

                shutil.rmtree(path, True)
            else:
                try:
                    os.unlink(path)
                except OSError:  # another session was faster
                    pass


class Kept(object):
    """A code file: what it has is listed at its start, with sizes and checksums, and read when it is needed."""

    def __init__(self, path: "str") -> "None":
        """It has nothing when it is not there, or damaged, or of another Python."""
        self.index: "dict[str, tuple[bool, int, int, int]]" = {}  # whether a package, where, how long, its CRC
        self._start, self._file = 0, -1
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            start = os.pread(self._file, 16384, 0)
            size = len(MAGIC) + 16
            crc, length = int(start[size - 16 : size - 8], 16), int(start[size - 8 : size], 16)
            if not 0 < length <= os.fstat(self._file).st_size:  # no memory is taken for what damage says
                return
            index = start[size : size + length]
            if len(index) < length:
                index += os.pread(self._file, length - len(index), size + len(index))
        except (OSError, ValueError):
            return
        if start.startswith(MAGIC) and zlib.crc32(index) == crc:
            self.index = marshal.loads(index)
            self._start = size + length

    def read(self, name: "str") -> "bytes | None":
        """Return the code of a module, as marshal makes it; None when it is not here, or damaged."""
        if name not in self.index:
            return None
        _, at, length, crc = self.index[name]
        try:
            data = os.pread(self._file, length, self._start + at)
        except OSError:
            return None
        return data if zlib.crc32(data) == crc else None

    def all(self) -> "dict[str, tuple[bool, bytes]]":
        """Return what can be read, by the names of the modules."""
        found = ((name, self.index[name][0], self.read(name)) for name in self.index)
        return dict((name, (is_package, data)) for name, is_package, data in found if data is not None)

    def close(self) -> "None":
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def pack(codes: "dict[str, tuple[bool, bytes]]") -> "bytes":
    """Return the contents of a code file."""
    index, at = {}, 0
    for name, (is_package, data) in codes.items():
        index[name] = (is_package, at, len(data), zlib.crc32(data))
        at += len(data)
    start = marshal.dumps(index)
    return b"%s%08x%08x%s%s" % (
        MAGIC,
        zlib.crc32(start),
        len(start),
        start,
        b"".join(data for _, data in codes.values()),
    )


def unpack(data: "bytes") -> "dict[str, bytes]":
    """Return the sources of a bundle by their paths. It has two parts: what installs it, and all the rest."""
    sources: "dict[str, bytes]" = {}
    while data:
        part = zlib.decompressobj()
        sources.update(marshal.loads(part.decompress(data)))
        data = part.unused_data
    return sources


_installed: "list[CodeFile]" = []


def install(root: "str") -> "None":
    """Load the modules below the directory `root` from now on."""
    found = CodeFile(root)
    _installed.append(found)
    sys.meta_path.insert(0, found)


def save() -> "None":
    """Keep the code of the modules that this process had to compile, if modules come from a code file."""
    for found in _installed:
        found.save()
