"""Alpine's apk. What is installed is read from its own file, without a command."""

import glob
import re

from sloth.payload.modules.pkg.backend import Backend, look
from sloth.payload.modules.pkg.names import Database

INSTALLED = "/lib/apk/db/installed"
LOCK = "/lib/apk/db/lock"
CACHE = "/var/cache/apk"


def parse_installed(text):
    """Return the Database of apk's file of installed packages (str)."""
    packages, provides = {}, {}
    for paragraph in text.split("\n\n"):
        fields = {}
        for line in paragraph.splitlines():
            if line[1:2] == ":" and line[0] in "PVAp":
                fields.setdefault(line[0], line[2:])
        if "P" not in fields:
            continue
        packages.setdefault(fields["P"], []).append((fields.get("V", ""), fields.get("A", ""), ""))
        for virtual in fields.get("p", "").split():
            provides.setdefault(re.split("[<>=~]", virtual)[0], []).append(fields["P"])
    return Database(packages, provides)


def parse_search(text, names):
    """Return a dict name -> version from `apk search --exact`, which prints "name-version"."""
    found = {}
    for line in text.split():
        match = re.match(r"^(.*)-([^-]+-r[0-9]+)$", line)
        if match and match.group(1) in names:
            found[match.group(1)] = match.group(2)
    return found


class Apk(Backend):
    """apk waits for the lock itself, as long as --wait says."""

    name = "apk"
    tool = "apk"
    index = CACHE
    nowhere = (r"^\s+(\S+) \(no such package\):",)
    errors = (
        (r"^ERROR: Unable to lock database.*", "somebody else holds %s; give a longer lock_timeout" % LOCK),
        (r"^ERROR: unable to select packages.*", "see the output for what stands against it"),
        (r"^(?:ERROR|WARNING): .*(?:temporary error|network error).*", "can the host reach its mirror?"),
    )

    def stamp(self):
        return look(self.path(INSTALLED))

    def read(self):
        try:
            with open(self.path(INSTALLED), encoding="utf-8", errors="surrogateescape") as file:
                return parse_installed(file.read())
        except FileNotFoundError:
            return Database({})

    def version(self, package):
        found = Backend.version(self, package)
        if found is None and not package.version:
            provider = self.providers(package.name)
            return "%s=%s" % provider if provider else None
        return found

    def newer(self, one, other):
        return self.ask([self.tool, "version", "-t", one, other]).strip() == ">"

    def look_up(self, names):
        found = parse_search(self.ask([self.tool] + self.options + ["search", "--exact"] + names), names)
        for name in names:
            if name not in found and self.ask([self.tool] + self.options + ["search", "--exact", name]).strip():
                found[name] = ""  # by another name: it is provided
        return found

    def near(self, name):
        lines = self.ask([self.tool] + self.options + ["search", name[:2] + "*"]).split()
        return [re.sub(r"-[^-]+-r[0-9]+$", "", line) for line in lines]

    def index_files(self):
        return glob.glob(self.path(CACHE) + "/APKINDEX.*")

    def _argv(self, verb, args, *words):
        return (
            [self.tool]
            + self.options
            + ["--no-progress", "--wait", "%d" % max(1, args.lock_timeout), verb]
            + list(words)
        )

    def install_commands(self, packages, args):
        names = [self._word(package) for package in packages]
        upgrade = ["--upgrade"] if any(package.offer for package in packages) else []
        return [self._argv("add", args, *(upgrade + names))]

    def remove_commands(self, names, args):
        return [self._argv("del", args, *((["--purge"] if args.purge else []) + names))]

    def refresh_commands(self, args):
        return [self._argv("update", args)]

    def upgrade_commands(self, how, args):
        return [self._argv("upgrade", args, *(["--available"] if how == "dist" else []))]


BACKEND = Apk
