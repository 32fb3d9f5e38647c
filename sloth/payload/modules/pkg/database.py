"""What is installed, and what can be installed, as values."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator, Mapping, Sequence


class Installed(object):
    """One installed package. state: what is wrong with it, in the package manager's words, or "" when nothing is."""

    __slots__ = ("architecture", "state", "version")

    def __init__(self, version: "str", architecture: "str" = "", state: "str" = "") -> "None":
        self.version = version
        self.architecture = architecture
        self.state = state

    def __eq__(self, other: "object") -> "bool":
        return isinstance(other, Installed) and str(self) == str(other) and self.architecture == other.architecture

    def __hash__(self) -> "int":
        return hash((self.version, self.architecture, self.state))

    def __str__(self) -> "str":
        return ("%s %s" % (self.version, self.state)).strip()

    def __repr__(self) -> "str":
        return "Installed(%r, %r, %r)" % (self.version, self.architecture, self.state)


class Offer(object):
    """A package that can be installed. version: the one that a plain install chooses, "" when another package provides
    the name; versions: all that the index has, the latest first."""

    __slots__ = ("version", "versions")

    def __init__(self, version: "str" = "", versions: "Sequence[str]" = ()) -> "None":
        self.version = version
        self.versions = list(versions) or ([version] if version else [])

    def __eq__(self, other: "object") -> "bool":
        return isinstance(other, Offer) and (self.version, self.versions) == (other.version, other.versions)

    def __hash__(self) -> "int":
        return hash(self.version)

    def __repr__(self) -> "str":
        return "Offer(%r, %r)" % (self.version, self.versions)


class Packages(object):
    """The installed packages: name -> all that is installed under it, of several architectures or versions."""

    def __init__(self, packages: "dict[str, list[Installed]]") -> "None":
        self._packages = packages

    def __getitem__(self, name: "str") -> "list[Installed]":
        return self._packages.get(name, [])

    def __iter__(self) -> "Iterator[str]":
        return iter(self._packages)

    def __len__(self) -> "int":
        return len(self._packages)

    def __contains__(self, name: "str") -> "bool":
        return bool(self[name])


class Database(object):
    """The installed packages of a host.

    provides: virtual name -> names of the installed packages that provide it; native: the host's own architecture, ""
    where the package manager does not distinguish.
    """

    def __init__(
        self,
        packages: "Packages | dict[str, list[Installed]]",
        provides: "Mapping[str, Sequence[str]] | None" = None,
        native: "str" = "",
    ) -> "None":
        self.packages = Packages(packages) if isinstance(packages, dict) else packages
        self._provides = provides or {}
        self.native = native

    @property
    def provides(self) -> "Mapping[str, Sequence[str]]":
        return self._provides

    def provider(self, name: "str") -> "str | None":
        """Return "PACKAGE=VERSION" of an installed package that provides the virtual `name`, or None."""
        for package in self.provides.get(name, ()):
            for entry in self.packages[package]:
                if not entry.state:
                    return "%s=%s" % (package, entry.version)
        return None

    def is_native(self, architecture: "str") -> "bool":
        """Return whether packages of `architecture` are those that a name without one means."""
        return architecture in ("all", "noarch", self.native)


def transaction(before: "Database", after: "Database") -> "list[str]":
    """Return how two databases differ, sorted: "name old -> new", "name new" or "name old -> gone"."""
    lines = []
    for name in sorted(set(before.packages) | set(after.packages)):
        old, new = (
            ",".join(sorted(entry.version for entry in database.packages[name] if not entry.state))
            for database in (before, after)
        )
        if old != new:
            lines.append("%s %s" % (name, new) if not old else "%s %s -> %s" % (name, old, new or "gone"))
    return lines
