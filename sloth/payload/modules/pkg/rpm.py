"""What dnf and zypper share: the RPM database, read by one query, and the order of RPM's versions."""

import re

from sloth.payload.modules.pkg.backend import Backend, look
from sloth.payload.modules.pkg.names import Database

DIRECTORIES = ("/var/lib/rpm", "/usr/lib/sysimage/rpm", "/usr/share/rpm")
FILES = ("rpmdb.sqlite", "rpmdb.sqlite-wal", "Packages", "Packages.db")
EVR = "%|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE}"
QUERY = "%{NAME}\\t" + EVR + "\\t%{ARCH}\\n"
ARCHITECTURES = frozenset(
    "noarch x86_64 i386 i486 i586 i686 aarch64 armv7hl armv7l ppc64 ppc64le s390x riscv64 src".split()
)
_PART = re.compile(r"[0-9]+|[A-Za-z]+|~|\^")


def parse_query(text):
    """Return the Database of what `rpm -qa` prints by QUERY."""
    packages = {}
    for line in text.splitlines():
        fields = line.split("\t")
        if len(fields) == 3:
            packages.setdefault(fields[0], []).append((fields[1], fields[2], ""))
    return Database(packages)


def compare(one, other):
    """rpmvercmp of one version or release with another: -1, 0 or 1."""
    if one == other:
        return 0
    ours, theirs = _PART.findall(one), _PART.findall(other)
    for index in range(max(len(ours), len(theirs))):
        a = ours[index] if index < len(ours) else ""
        b = theirs[index] if index < len(theirs) else ""
        if a == b:
            continue
        if "~" in (a, b):  # before everything, the end included
            return -1 if a == "~" else 1
        if "^" in (a, b):  # after the end, before everything else
            return (1 if b == "" else -1) if a == "^" else (-1 if a == "" else 1)
        if "" in (a, b):
            return -1 if a == "" else 1
        if a.isdigit() and b.isdigit():
            a, b = int(a), int(b)
            if a == b:
                continue
        elif a.isdigit() or b.isdigit():  # a number is later than a word
            return 1 if a.isdigit() else -1
        return -1 if a < b else 1
    return 0


def split_version(text):
    """(epoch, version, release) of "1:2.0-3"; epoch and release are "" when they are not named."""
    epoch, colon, rest = text.partition(":")
    if not colon:
        epoch, rest = "", text
    version, _, release = rest.partition("-")
    return epoch, version, release


def newer(one, other):
    """Whether "[epoch:]version[-release]" `one` is later than `other`; what one of them leaves out is not compared.

    Two full versions of which one names no epoch have epoch 0 there.
    """
    ours, theirs = split_version(one), split_version(other)
    if ours[2] and theirs[2]:
        ours, theirs = (ours[0] or "0",) + ours[1:], (theirs[0] or "0",) + theirs[1:]
    for a, b in zip(ours, theirs):
        if a and b and compare(a, b):
            return compare(a, b) > 0
    return False


def fits(version, wish):
    """Whether `version` is the `wish`, which may leave out its epoch and its release, or be a pattern."""
    from fnmatch import fnmatchcase

    _, bare, release = split_version(version)
    forms = (version, "%s-%s" % (bare, release), bare, version.rpartition("-")[0])
    return any(form == wish or fnmatchcase(form, wish) for form in forms)


class Rpm(Backend):
    """The part that all tools above rpm share."""

    kind = "rpm"
    lock_files = tuple(directory + "/.rpm.lock" for directory in DIRECTORIES)

    def stamp(self):
        seen = look(*[self.path("%s/%s" % (directory, file)) for directory in DIRECTORIES for file in FILES])
        return seen if any(seen) else None  # a database that is kept elsewhere is read again after every change

    def _rpm(self, *words):
        return ["rpm"] + (["--root", self.root] if self.root else []) + list(words)

    def read(self):
        return parse_query(self.ask(self._rpm("-qa", "--qf", QUERY)))

    def split(self, name, database):
        bare, _, architecture = name.rpartition(".")
        if bare and architecture in ARCHITECTURES and name not in database.packages:
            return bare, architecture
        return name, ""

    def label(self, name, architecture, database):
        return "%s.%s" % (name, architecture) if len(database.packages[name]) > 1 else name

    def version(self, package):
        found = Backend.version(self, package)
        if found is not None or package.version or package.path:
            return found
        name = "pkg.provides %s%s" % (package.name, self.root)
        return self.host.once(name, lambda: self._provider(package.name), self.stamp())

    def _provider(self, name):
        """ "provider=version" of an installed package that provides the name or the file, or None."""
        told = self.ask(self._rpm("-q", "--whatprovides", name, "--qf", "%{NAME}=" + EVR + "\\n")).split()
        return told[0] if told else None

    def fits(self, version, wish):
        return fits(version, wish)

    def newer(self, one, other):
        return newer(one, other)

    def file_argv(self, path):
        return ["rpm", "-qp", "--nosignature", "--qf", "%{NAME} " + EVR + " %{ARCH}\\n", path]
