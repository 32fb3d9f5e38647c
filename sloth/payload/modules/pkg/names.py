"""The words of pkg's calls: what is asked for, what is installed, and how versions are wished."""

import os
import re

from sloth.payload.kernel.hashing import sha256
from sloth.payload.kernel.resource import REQUIRED, ArgumentError, Field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.values import Attributes

MANAGERS = ("apt", "dnf", "yum", "zypper", "pacman", "apk")
KEY = 200  # characters of an identity

NAME = Field(
    "name",
    "list",
    REQUIRED,
    aliases=("pkg", "package", "packages"),
    help="a package, or a list of packages",
)
LOCK_TIMEOUT = Field("lock_timeout", "float", 120.0, how=True, help="seconds to wait while others use the database")
USE = Field("use", choices=MANAGERS, how=True, help="the package manager; found out by /etc/os-release when not given")
CACHE_VALID_TIME = Field(
    "cache_valid_time", "int", 0, how=True, help="seconds for which a refreshed index counts as fresh"
)
TRANSACTION = Field("packages", "list", help='what came, went and changed, dependencies too: "nginx 1.22 -> 1.24"')

# Compiled when they are needed: most runs do not need them all.
_NAME = r"^[A-Za-z0-9/][A-Za-z0-9+._:~()/-]*$"
_GLOB = r"^[A-Za-z0-9*?\[][A-Za-z0-9+._:~*?\[\]-]*$"
_VERSION = r"^[A-Za-z0-9*][A-Za-z0-9+._:~^*?\[\]-]*$"


class Wanted(object):
    """One package that is asked for: its name, a version or "", and the path of a local file that holds it or "".

    offer: the version that the index offers and that is to be reached ("" when any will do, or none is known).
    """

    def __init__(self, name, version="", path="", offer=""):
        self.name = name
        self.offer = offer
        self.version = version
        self.path = path


class Version(str):
    """A version as it is wished: it is shown as its text, and equal to every version that `good` accepts."""

    def __new__(cls, text, good):
        self = str.__new__(cls, text)
        self.good = good
        return self

    def __eq__(self, other):
        return isinstance(other, str) and bool(self.good(other))

    def __ne__(self, other):
        return not self == other

    __hash__ = str.__hash__


class Database(object):
    """What is installed. packages: name -> list of (version, architecture, state), state "" when all is well.

    provides: virtual name -> list of names of installed packages that provide it.
    """

    def __init__(self, packages, provides=None, native=""):
        self.packages = packages
        self.provides = provides or {}
        self.native = native


def words(values):
    """The names of a call: the given ones, also as "a, b" the way Ansible takes them, without doubles."""
    names = []
    for text in values:
        for name in text.split(","):
            if name.strip() not in names:
                names.append(name.strip())
    return names


def parse(text, path=False):
    """Return the Wanted of "name", "name=version", or (path) "/a/file.deb"; raise ArgumentError."""
    if path and text.startswith(("/", "~")) and file_kind(text):
        return Wanted("", "", text)
    name, equals, version = text.partition("=")
    if not re.match(_NAME, name):
        raise ArgumentError("%r cannot be the name of a package" % text)
    if equals and not re.match(_VERSION, version):
        raise ArgumentError("%r cannot be a version (in %r)" % (version, text), hint='write "name=version"')
    return Wanted(name, version)


def is_pattern(version):
    return any(char in version for char in "*?[")


def check_glob(text):
    """Raise ArgumentError when `text` is neither a name nor a pattern of names."""
    if not re.match(_NAME, text) and not re.match(_GLOB, text):
        raise ArgumentError("%r cannot be the name of a package" % text)


def file_kind(path):
    """ "deb", "rpm" or "pkg" when `path` is named like a package file, else ""."""
    if path.endswith((".deb", ".rpm")):
        return path[-3:]
    return "pkg" if ".pkg.tar" in os.path.basename(path) else ""


def identity(names):
    """A stable id of the sorted names, shortened with a hash when it is long."""
    text = ",".join(sorted(names))
    if len(text) <= KEY:
        return text
    return "%s~%s" % (text[: KEY - 14], sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12])


def only(versions: "Attributes | None", wanted: "list[str]") -> "Attributes | None":
    """Return the versions of `wanted` packages; None when none of them is installed."""
    found = dict((name, versions[name]) for name in wanted if name in versions) if versions is not None else {}
    return found if any(version is not None for version in found.values()) else None


def plain_names(given):
    """The package names of a call that waits, as far as they can be told from raw arguments."""
    for key in (NAME.name,) + NAME.aliases:
        value = given.get(key)
        if value:
            values = [value] if isinstance(value, str) else value
            return [name for name in words([v for v in values if isinstance(v, str)]) if re.match(_NAME, name)]
    return []


def transaction(before, after):
    """What changed between two Databases: sorted list of "name old -> new", "name new" or "name old -> gone"."""
    told = []
    for name in sorted(set(before.packages) | set(after.packages)):
        old, new = (
            ",".join(sorted(version for version, _, state in database.packages.get(name, ()) if not state))
            for database in (before, after)
        )
        if old != new:
            told.append("%s %s" % (name, new) if not old else "%s %s -> %s" % (name, old, new or "gone"))
    return told
