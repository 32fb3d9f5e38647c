"""What dnf and zypper share: the RPM database, read by one query, and the order of RPM's versions."""

from sloth.payload.lib.regex import expression, re
from sloth.payload.modules.pkg import index
from sloth.payload.modules.pkg.backend import Backend
from sloth.payload.modules.pkg.database import Database, Installed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterable, Sequence

    from sloth.payload.modules.pkg.backend import Command
    from sloth.payload.modules.pkg.names import Wanted

DIRECTORIES = ("/var/lib/rpm", "/usr/lib/sysimage/rpm", "/usr/share/rpm")
FILES = ("rpmdb.sqlite", "rpmdb.sqlite-wal", "Packages", "Packages.db")
EVR = "%|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE}"
QUERY = "%{NAME}\\t" + EVR + "\\t%{ARCH}\\n"
ARCHITECTURES = frozenset(
    "noarch x86_64 i386 i486 i586 i686 aarch64 armv7hl armv7l ppc64 ppc64le s390x riscv64 src".split()
)
_PART = expression(r"[0-9]+|[A-Za-z]+|~|\^")
# Names, virtual ones such as perl(DBI) or libz.so.1()(64bit), and files that a package provides. A name that ends like
# a package file would be one to the tools.
VALID_NAME = (
    r"(?!.*\.rpm$)([A-Za-z0-9_][A-Za-z0-9+._-]*(\([A-Za-z0-9+._:/-]*\)){0,2}|/[A-Za-z0-9+._/-]*[A-Za-z0-9+._-])"
)


def parse_query(text: "str") -> "Database":
    """Return the database from the output of `rpm -qa` with QUERY."""
    packages: "dict[str, list[Installed]]" = {}
    for line in text.splitlines():
        fields = line.split("\t")
        if len(fields) == 3:
            packages.setdefault(fields[0], []).append(Installed(fields[1], fields[2]))
    return Database(packages)


def parse_needed(text: "str") -> "set[str]":
    """Return the installed packages that need others, from rpm's refusal to remove those."""
    labels = re.findall(r"^\s*\S.* is needed by (?:\(installed\) )?(\S+)$", text, re.MULTILINE)
    return set(label.rsplit("-", 2)[0] for label in labels if label.count("-") >= 2)


def compare(one: "str", other: "str") -> "int":
    """Compare one version, or release, with another, as rpmvercmp does: return -1, 0 or 1."""
    if one == other:
        return 0
    ones, others = _PART.findall(one), _PART.findall(other)
    for position in range(max(len(ones), len(others))):
        a = ones[position] if position < len(ones) else ""
        b = others[position] if position < len(others) else ""
        result = _compare_part(a, b)
        if result:
            return result
    return 0


def _compare_part(a: "str", b: "str") -> "int":
    if a == b:
        return 0
    if "~" in (a, b):  # before everything, the end included
        return -1 if a == "~" else 1
    if "^" in (a, b):  # after the end, before everything else
        return (1 if b == "" else -1) if a == "^" else (-1 if a == "" else 1)
    if "" in (a, b):
        return -1 if a == "" else 1
    if a.isdigit() and b.isdigit():
        return (int(a) > int(b)) - (int(a) < int(b))
    if a.isdigit() or b.isdigit():  # a number is later than a word
        return 1 if a.isdigit() else -1
    return -1 if a < b else 1


def split_version(text: "str") -> "tuple[str, str, str]":
    """Return (epoch, version, release) of "1:2.0-3"; epoch and release are "" when they are not given."""
    epoch, colon, rest = text.partition(":")
    if not colon:
        epoch, rest = "", text
    version, _, release = rest.partition("-")
    return epoch, version, release


def newer(one: "str", other: "str") -> "bool":
    """Return whether "[epoch:]version[-release]" `one` is later; a part that one of them leaves out is not compared.

    Where both have a release, a missing epoch is 0.
    """
    ones, others = split_version(one), split_version(other)
    if ones[2] and others[2]:
        ones, others = (ones[0] or "0", ones[1], ones[2]), (others[0] or "0", others[1], others[2])
    for a, b in zip(ones, others):
        if a and b and compare(a, b):
            return compare(a, b) > 0
    return False


def latest_first(versions: "Iterable[str]") -> "list[str]":
    """Return the versions without duplicates, the latest first."""
    ordered: "list[str]" = []
    for version in versions:
        if version not in ordered:
            at = next((at for at, other in enumerate(ordered) if newer(version, other)), len(ordered))
            ordered.insert(at, version)
    return ordered


def fits(version: "str", wanted: "str") -> "bool":
    """Return whether `version` is the `wanted` one, which may leave out its epoch and release, or be a pattern."""
    from fnmatch import fnmatchcase

    _, bare, release = split_version(version)
    forms = (version, "%s-%s" % (bare, release), bare, version.rpartition("-")[0])
    return any(form == wanted or fnmatchcase(form, wanted) for form in forms)


class Rpm(Backend):
    """The part that all package managers above rpm share."""

    kind = "rpm"
    valid_name = VALID_NAME
    lock_files = tuple(directory + "/.rpm.lock" for directory in DIRECTORIES)

    def stamp(self) -> "object":
        paths = [self.path("%s/%s" % (directory, file)) for directory in DIRECTORIES for file in FILES]
        found = [index.signature(path) for path in paths]
        return found if any(found) else None  # a database that is kept elsewhere is read again after every change

    def _rpm(self, *words: "str") -> "list[str]":
        return ["rpm", *(["--root", self.root] if self.root else []), *words]

    def read(self) -> "Database":
        return parse_query(self.query(self._rpm("-qa", "--qf", QUERY)))

    def split(self, name: "str", database: "Database") -> "tuple[str, str]":
        bare, _, architecture = name.rpartition(".")
        if bare and architecture in ARCHITECTURES and name not in database.packages:
            return bare, architecture
        return name, ""

    def label(self, name: "str", architecture: "str", database: "Database") -> "str":
        return "%s.%s" % (name, architecture) if len(database.packages[name]) > 1 else name

    def version(self, package: "Wanted") -> "str | None":
        found = Backend.version(self, package)
        if found is not None or package.version or package.path:
            return found
        self.check_name(package.name)
        key = "pkg.provides %s%s" % (package.name, self.root)
        return self.host.once(key, lambda: self._provider(package.name), self.stamp())

    def _provider(self, name: "str") -> "str | None":
        """Return "PROVIDER=VERSION" of an installed package that provides the name or the file, or None."""
        found = self.query(self._rpm("-q", "--whatprovides", name, "--qf", "%{NAME}=" + EVR + "\\n")).split()
        return found[0] if found else None

    def fits(self, version: "str", wanted: "str") -> "bool":
        return fits(version, wanted)

    def newer(self, one: "str", other: "str") -> "bool":
        return newer(one, other)

    def removed_with(self, names: "Sequence[str]") -> "Iterable[str]":
        # What rpm refuses to remove for is what dnf and zypper remove, too. Each round finds the next dependents.
        removed = set(names)
        while True:
            done = self.host.run(self._rpm("-e", "--test", "--", *sorted(removed)), env={"LC_ALL": "C"}, timeout=300)
            more = parse_needed((done.stdout + b"\n" + done.stderr).decode("utf-8", "replace")) - removed
            if not more:
                return removed
            removed |= more

    def file_argv(self, path: "str") -> "Command":
        return ["rpm", "-qp", "--nosignature", "--qf", "%{NAME} " + EVR + " %{ARCH}\\n", path]
