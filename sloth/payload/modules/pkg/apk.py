"""Alpine's apk. What is installed is read from its own file, without a command."""

from sloth.payload.lib.regex import re
from sloth.payload.modules.pkg import index
from sloth.payload.modules.pkg.backend import Backend
from sloth.payload.modules.pkg.database import Database, Installed, Offer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Collection, Iterable, Mapping, Sequence

    from sloth.payload.modules.pkg.backend import Command
    from sloth.payload.modules.pkg.names import Wanted
    from sloth.payload.modules.pkg.options import Options

INSTALLED = "/lib/apk/db/installed"
WORLD = "/etc/apk/world"
LOCK = "/lib/apk/db/lock"
CACHE = "/var/cache/apk"


def parse_installed(text: "str") -> "Database":
    """Return the database from the text of apk's file of installed packages."""
    packages: "dict[str, list[Installed]]" = {}
    provides: "dict[str, list[str]]" = {}
    for paragraph in text.split("\n\n"):
        fields: "dict[str, str]" = {}
        for line in paragraph.splitlines():
            if line[1:2] == ":" and line[0] in "PVAp":
                fields.setdefault(line[0], line[2:])
        if "P" not in fields:
            continue
        packages.setdefault(fields["P"], []).append(Installed(fields.get("V", ""), fields.get("A", "")))
        for virtual in fields.get("p", "").split():
            provides.setdefault(re.split("[<>=~]", virtual)[0], []).append(fields["P"])
    return Database(packages, provides)


def parse_search(text: "str", names: "Collection[str]") -> "dict[str, Offer]":
    """Return name -> Offer from the output of `apk search --exact`, lines "name-version"."""
    found: "dict[str, list[str]]" = {}
    for line in text.split():
        match = re.match(r"^(.*)-([^-]+-r[0-9]+)$", line)
        if match and match.group(1) in names:
            found.setdefault(match.group(1), []).append(match.group(2))
    return dict((name, Offer(versions[-1], versions[::-1])) for name, versions in found.items())


class Apk(Backend):
    """apk waits for the lock itself, for as long as --wait allows. It removes what nothing needs by itself."""

    name = "apk"
    tool = "apk"
    valid_name = r"([a-z0-9.]+:)?[A-Za-z0-9_][A-Za-z0-9+._-]*|/[A-Za-z0-9+._/-]+"
    index = CACHE
    sources = ("/etc/apk/repositories", "/etc/apk/repositories.d", "/etc/apk/repositories.d/*")
    unknown_names = (r"^\s+(\S+) \(no such package\):",)
    errors = (
        (r"^ERROR: Unable to lock database.*", "another process has locked %s; give a longer lock_timeout" % LOCK),
        (r"^ERROR: unable to select packages.*", "see the output for what prevents it"),
        (r"^(?:ERROR|WARNING): .*(?:temporary error|network error).*", "can the host reach its mirror?"),
    )

    def stamp(self) -> "object":
        return index.signature(self.path(INSTALLED))

    def read(self) -> "Database":
        try:
            with open(self.path(INSTALLED), encoding="utf-8", errors="surrogateescape") as file:
                return parse_installed(file.read())
        except FileNotFoundError:
            return Database({})

    def version(self, package: "Wanted") -> "str | None":
        found = Backend.version(self, package)
        return self.database().provider(package.name) if found is None and not package.version else found

    def newer(self, one: "str", other: "str") -> "bool":
        return self._query("version", "-t", one, other).strip() == ">"

    def is_automatic(self, name: "str") -> "bool":
        stamp = index.signature(self.path(WORLD))
        wanted: "Collection[str]" = self.host.once("pkg.world %s" % self.root, self._read_world, stamp)
        return bool(wanted) and name not in wanted

    def _read_world(self) -> "Collection[str]":
        try:
            with open(self.path(WORLD), encoding="utf-8", errors="replace") as file:
                return set(re.split("[<>=~@]", word)[0] for word in file.read().split())
        except FileNotFoundError:
            return ()

    def mark_commands(self, names: "Sequence[str]", automatic: "bool", options: "Options") -> "Sequence[Command]":
        return [self._argv("del" if automatic else "add", options, *names)]

    def removed_with(self, names: "Sequence[str]") -> "Iterable[str]":
        return re.findall(r"^\([0-9]+/[0-9]+\) Purging (\S+) ", self._query("del", "--simulate", *names), re.MULTILINE)

    def _query(self, *words: "str") -> "str":
        return self.query([self.tool, *self.options, *words])

    def look_up(self, names: "Sequence[str]", release: "str") -> "Mapping[str, Offer]":
        found = parse_search(self._query("search", "--exact", *names), names)
        for name in names:
            if name not in found and self._query("search", "--exact", name).strip():
                found[name] = Offer()  # under another name: a package provides it
        return found

    def names_like(self, prefix: "str") -> "Iterable[str]":
        return [re.sub(r"-[^-]+-r[0-9]+$", "", line) for line in self._query("search", prefix + "*").split()]

    def index_files(self) -> "Sequence[str]":
        from glob import glob

        return glob(self.path(CACHE) + "/APKINDEX.*")

    def _argv(self, verb: "str", options: "Options", *words: "str") -> "list[str]":
        wait = "%d" % max(1, options.lock_timeout)
        return [self.tool, *self.options, "--no-progress", "--wait", wait, verb, *words]

    def install_commands(self, packages: "Sequence[Wanted]", options: "Options") -> "Sequence[Command]":
        upgrade = ["--upgrade"] if any(package.target and not package.version for package in packages) else []
        return [self._argv("add", options, *upgrade, *(self.word(package) for package in packages))]

    def remove_commands(self, names: "Sequence[str]", options: "Options") -> "Sequence[Command]":
        return [self._argv("del", options, *(["--purge"] if options.purge else []), *names)]

    def autoremove_commands(self, names: "Sequence[str]", options: "Options") -> "Sequence[Command]":
        return []

    def refresh_commands(self, options: "Options") -> "Sequence[Command]":
        return [self._argv("update", options)]

    def upgrade_commands(self, how: "str", options: "Options") -> "Sequence[Command]":
        return [self._argv("upgrade", options, *(["--available"] if how == "dist" else []))]


BACKEND = Apk
