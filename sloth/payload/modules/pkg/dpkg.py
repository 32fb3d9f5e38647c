"""The files in which dpkg and apt keep what is installed."""

from itertools import zip_longest

from sloth.payload.lib.regex import expression
from sloth.payload.modules.pkg.database import Database, Installed, Packages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator, Mapping, Sequence

STATUS = "/var/lib/dpkg/status"
EXTENDED = "/var/lib/apt/extended_states"
_PARTS = expression(r"([^0-9]*)([0-9]*)")
_END = ([0], 0)
_INSTALLED = ("installed", "triggers-awaited", "triggers-pending")


class Paragraphs(object):
    """The paragraphs of a file; each begins with a newline. Only those that are asked for are decoded, and none copied.

    Of a megabyte, each copy costs a host as much as all that is asked for.
    """

    def __init__(self, data: "bytes") -> "None":
        self._data = data

    def of(self, name: "str") -> "Iterator[str]":
        """Yield those about the package `name`."""
        line = b"Package: %s\n" % name.encode("utf-8", "surrogateescape")
        at = 0 if self._data.startswith(line) else self._data.find(b"\n" + line)
        while at >= 0:
            end = self._data.find(b"\n\n", at)
            end = len(self._data) if end < 0 else end
            start = self._data.rfind(b"\n\n", 0, at + 1)
            yield "\n" + _decoded(self._data[0 if start < 0 else start + 2 : end])
            at = self._data.find(b"\n" + line, end)

    def __iter__(self) -> "Iterator[str]":
        return ("\n" + paragraph for paragraph in _decoded(self._data).split("\n\n"))


def _decoded(data: "bytes") -> "str":
    return data.decode("utf-8", "surrogateescape")


class StatusFile(Packages):
    """The packages of dpkg's status file. One is read when it is queried, all only when that is not enough.

    Most runs query a few packages, and hosts have thousands. A package that waits for a trigger counts as installed,
    one that is unpacked or half configured as broken.
    """

    def __init__(self, data: "bytes") -> "None":
        Packages.__init__(self, {})
        self._file = Paragraphs(data)
        self._provides: "dict[str, list[str]] | None" = None

    def __getitem__(self, name: "str") -> "list[Installed]":
        if name not in self._packages and self._provides is None:
            found = list(self._find(name))
            if not found:
                return []
            self._packages[name] = found
        return self._packages.get(name, [])

    def _find(self, name: "str") -> "Iterator[Installed]":
        for paragraph in self._file.of(name):
            entry = _entry(paragraph)
            if entry:
                yield entry

    def provides(self) -> "dict[str, list[str]]":
        """Return virtual name -> names of the installed packages that provide it."""
        if self._provides is not None:
            return self._provides
        provides: "dict[str, list[str]]" = {}
        self._packages.clear()
        for paragraph in self._file:
            entry = _entry(paragraph)
            if not entry:
                continue
            name = _field(paragraph, "\nPackage: ")
            self._packages.setdefault(name, []).append(entry)
            provided = "" if entry.state else _field(paragraph, "\nProvides: ")
            for virtual in provided.split(",") if provided else ():
                provides.setdefault(virtual.partition("(")[0].strip(), []).append(name)
        self._provides = provides
        return provides

    def __iter__(self) -> "Iterator[str]":
        self.provides()
        return iter(self._packages)

    def __len__(self) -> "int":
        self.provides()
        return len(self._packages)


class Status(Database):
    """The database that a status file describes."""

    def __init__(self, data: "bytes") -> "None":
        packages = StatusFile(data)
        own = [entry.architecture for entry in packages["dpkg"] if not entry.state]
        Database.__init__(self, packages, None, own[-1] if own else "")
        self._status = packages

    @property
    def provides(self) -> "Mapping[str, Sequence[str]]":
        return self._status.provides()


def _entry(paragraph: "str") -> "Installed | None":
    """Return what a paragraph describes, None for a package that is not installed."""
    state = _field(paragraph, "\nStatus: ").rpartition(" ")[2]
    if state in ("", "not-installed"):
        return None
    return Installed(
        _field(paragraph, "\nVersion: "),
        _field(paragraph, "\nArchitecture: "),
        "" if state in _INSTALLED else state,
    )


def _field(paragraph: "str", label: "str") -> "str":
    start = paragraph.find(label)
    if start < 0:
        return ""
    start += len(label)
    end = paragraph.find("\n", start)
    return (paragraph[start:] if end < 0 else paragraph[start:end]).strip()


class Automatic(object):
    """The packages that apt has installed as dependencies. Few are asked for, so that one is read when it is."""

    def __init__(self, data: "bytes") -> "None":
        """data: apt's extended states."""
        self._file = Paragraphs(data)

    def has(self, name: "str", architecture: "str") -> "bool":
        """Return whether the package of an architecture is one of them; "": where all packages are of one.

        apt keeps a mark for each architecture; that of a package for "all" is with those of the host's own.
        """
        return any(
            _field(paragraph, "\nAuto-Installed: ") == "1"
            and (not architecture or _field(paragraph, "\nArchitecture: ") in ("", "all", architecture))
            for paragraph in self._file.of(name)
        )


def newer(one: "str", other: "str") -> "bool":
    """Return whether "[epoch:]version[-revision]" `one` is later than `other`, as dpkg compares them."""
    for a, b in zip(_split(one), _split(other)):
        for part, against in zip_longest(_parts(a), _parts(b), fillvalue=_END):
            if part != against:
                return part > against
    return False


def _split(text: "str") -> "tuple[str, str, str]":
    """Return the epoch, the version and the revision."""
    epoch, colon, rest = text.partition(":")
    version, dash, revision = (rest if colon else text).rpartition("-")
    return epoch if colon else "", version if dash else revision, revision if dash else ""


def _parts(text: "str") -> "list[tuple[list[int], int]]":
    """Return pairs of what is no digit, as ranks, and a number: "~" is before the end, the end before letters."""
    parts = []
    for letters, digits in _PARTS.findall(text):
        ranks = [-1 if char == "~" else ord(char) if char.isalpha() else ord(char) + 256 for char in letters]
        parts.append((ranks + [0], int(digits or 0)))
    return parts
