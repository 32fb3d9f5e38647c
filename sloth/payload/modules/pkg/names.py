"""The names and versions that calls ask for, and the arguments that several calls share."""

import os

from sloth.payload.kernel.hashing import sha256
from sloth.payload.kernel.resource import ArgumentError, Field
from sloth.payload.lib.regex import is_word, re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Iterable, Mapping, Sequence

    from sloth.payload.kernel.values import Attributes, Json

MANAGERS = ("apt", "dnf", "yum", "zypper", "pacman", "apk")
KEY = 200  # characters of an identity

ALIASES = ("pkg", "package", "packages")
LOCK_TIMEOUT = Field(
    "lock_timeout", "float", 120.0, how=True, help="seconds to wait while another process has locked the database"
)
USE = Field("use", choices=MANAGERS, how=True, help="the package manager; by default the one of the distribution")
CACHE_VALID_TIME = Field(
    "cache_valid_time", "int", 0, how=True, help="seconds for which a refreshed index counts as fresh"
)
DPKG_OPTIONS = Field(
    "dpkg_options",
    "list",
    how=True,
    aliases=("dpkg-options",),
    help='with apt: options of dpkg without their dashes; by default "force-confdef,force-confold"',
)
TRANSACTION = Field(
    "packages", "list", help='what was installed, changed and removed, with dependencies: "nginx 1.22 -> 1.24"'
)

# What no package manager's names go beyond; each has a stricter rule of its own (Backend.valid_name). Characters that
# are syntax to one of them (= < > ~ ! @ * ? and blanks) are not among these, nor is a leading - or +.
_NAME = r"^[A-Za-z0-9_/][A-Za-z0-9+._:()/-]*\Z"
_PATTERN = r"^[A-Za-z0-9_*?\[][A-Za-z0-9+._:*?!\[\]-]*\Z"
AT_LEAST = ">="  # before a version: this one or a later one
_VERSION = r"^[A-Za-z0-9*][A-Za-z0-9+._:~^*?\[\]-]*\Z"


class Wanted(object):
    """One package that a call asks for.

    version: the version or pattern of versions that was given, with ">=" before the earliest one, or ""; path: the
    local file that holds the package, or "";
    target: the exact version to install, or "" when the package manager may choose.
    """

    __slots__ = ("name", "path", "target", "version")

    def __init__(self, name: "str", version: "str" = "", path: "str" = "", target: "str" = "") -> "None":
        self.name = name
        self.version = version
        self.path = path
        self.target = target


class Version(str):
    """A desired version: it is shown as its text, and equal to every version that `is_good` accepts."""

    is_good: "Callable[[str], bool]"

    def __new__(cls, text: "str", is_good: "Callable[[str], bool]") -> "Version":
        self = str.__new__(cls, text)
        self.is_good = is_good
        return self

    def __eq__(self, other: "object") -> "bool":
        return isinstance(other, str) and bool(self.is_good(other))

    def __ne__(self, other: "object") -> "bool":
        return not self == other

    __hash__ = str.__hash__


def split_list(values: "Iterable[str]") -> "list[str]":
    """Return the names of a call without duplicates; one string may hold several, "a, b", as with Ansible."""
    names: "list[str]" = []
    for text in values:
        for name in text.split(","):
            if name.strip() not in names:
                names.append(name.strip())
    return names


def parse(text: "str") -> "Wanted":
    """Return what is meant by "name", "name=1", "name>=1", "pattern*" or "/a/file.deb"; raise ArgumentError."""
    if text.startswith(("/", "~")) and file_kind(text):
        return Wanted("", "", text)
    name, relation, version = split_version(text)
    if is_pattern(name):
        if relation:
            raise ArgumentError("a pattern of names cannot have a version: %r" % text)
        check_pattern(name)
        return Wanted(name)
    check_name(name, text)
    if relation and (not re.match(_VERSION, version) or (relation == AT_LEAST and is_pattern(version))):
        raise ArgumentError("%r cannot be a version (in %r)" % (version, text), hint='write "name=version"')
    return Wanted(name, relation + version if relation == AT_LEAST else version)


def split_version(text: "str") -> "tuple[str, str, str]":
    """Return ("name", "=" or ">=", "version") of what a call names; ("name", "", "") without a version."""
    name, relation, version = text.partition("=")
    return (name[:-1], AT_LEAST, version) if relation and name.endswith(">") else (name, relation, version)


def check_name(name: "str", text: "str" = "") -> "None":
    """Raise ArgumentError when `name` cannot be the name of a package; `text`: the argument that it is a part of."""
    if is_word(name) or re.match(_NAME, name):
        return
    hint = ""
    if "://" in name or name.startswith("@"):
        hint = "download the file first, with http.download" if "://" in name else "name the packages of the group"
    raise ArgumentError("%r cannot be the name of a package" % (text or name), hint=hint)


def check_pattern(text: "str") -> "None":
    """Raise ArgumentError when `text` is neither a name nor a pattern of names."""
    if not re.match(_PATTERN, text):
        check_name(text)


def is_pattern(text: "str") -> "bool":
    """Return whether `text` is a pattern, of names or of versions."""
    return any(char in text for char in "*?[")


def literal_prefix(pattern: "str") -> "str":
    """Return the characters of a pattern before its first wildcard."""
    return re.split(r"[*?\[]", pattern)[0]


def file_kind(path: "str") -> "str":
    """Return "deb", "rpm" or "pkg" when `path` has the name of a package file, else ""."""
    if path.endswith((".deb", ".rpm")):
        return path[-3:]
    return "pkg" if ".pkg.tar" in os.path.basename(path) else ""


def identity(names: "Iterable[str]") -> "str":
    """Return a stable id of the sorted names, shortened with a hash when it is long."""
    text = ",".join(sorted(names))
    if len(text) <= KEY:
        return text
    return "%s~%s" % (text[: KEY - 14], sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12])


def only(versions: "Attributes | None", wanted: "Iterable[str]") -> "Attributes | None":
    """Return the versions of `wanted` packages; None when none of them is installed."""
    found = dict((name, versions[name]) for name in wanted if name in versions) if versions is not None else {}
    return found if any(version is not None for version in found.values()) else None


def upcoming_names(given: "Mapping[str, Json]") -> "list[str]":
    """Return the package names among the unchecked arguments of a waiting call."""
    for key in ("name", *ALIASES):
        value = given.get(key)
        if value:
            values: "Sequence[Json]" = [value] if isinstance(value, str) else value
            names = split_list([item for item in values if isinstance(item, str)])
            return [name for name in names if is_word(name) or re.match(_NAME, name)]
    return []
