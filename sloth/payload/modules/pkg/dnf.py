"""Fedora's and Red Hat's dnf, and yum where there is no dnf yet."""

import glob
import os

from sloth.payload.modules.pkg import locks
from sloth.payload.modules.pkg.rpm import Rpm, newer

CACHE = "/var/cache/dnf"
_LOCKS = {
    "RPMDB": "/var/lib/dnf/rpmdb_lock.pid",
    "Metadata": CACHE + "/metadata_lock.pid",
    "Download": CACHE + "/download_lock.pid",
}
_OFFER = "%{name} %{epoch}:%{version}-%{release} %{arch}\\n"


def parse_offers(text):
    """Return a dict name (also name.arch) -> newest version, from lines "name epoch:version-release arch"."""
    found = {}
    for line in text.splitlines():
        fields = line.split()
        if len(fields) != 3:
            continue
        name, version, architecture = fields
        version = version[2:] if version.startswith("0:") else version
        for key in (name, "%s.%s" % (name, architecture)):
            if key not in found or newer(version, found[key]):
                found[key] = version
    return found


def parse_list(text):
    """The same from what `yum list available` prints: triples of name.arch, version, repository, wrapped or not."""
    found = {}
    parts = text.partition("Available Packages")[2].split()
    for label, version in zip(parts[0::3], parts[1::3]):
        found[label] = version
        found[label.rpartition(".")[0]] = version
    return found


class Dnf(Rpm):
    """dnf, dnf5 or yum; each waits for ever for another's lock, so they are told not to, and are tried again."""

    name = "dnf"
    tool = "dnf"
    index = CACHE
    nowhere = (
        r"^(?:Error: )?Unable to find a match: (\S+)",
        r"^No match for argument: (\S+)",
        r"^No package (\S+) available",
    )
    errors = (
        (r"^Error: Failed to download metadata for repo.*", "can the host reach its mirror?"),
        (r"^Error: GPG check FAILED.*", "import the repository's key"),
        (r"^Public key for \S+ is not installed.*", "import the repository's key"),
        (r"^Error: The operation would result in removing the following protected packages.*", ""),
    )
    busy = r"^(?P<what>\w+) already locked by (?P<pid>[0-9]+)|^Existing lock (?P<path>\S+): .*as pid (?P<number>[0-9]+)"

    def lock_in(self, found):
        path = found.group("path") or self.path(_LOCKS.get(found.group("what"), found.group("what") or ""))
        return path, locks.process(int(found.group("pid") or found.group("number")))

    def _new(self):
        """Whether it is dnf 5, which knows no exit_on_lock."""
        from shutil import which

        return os.path.basename(os.path.realpath(which(self.tool) or self.tool)) == "dnf5"

    def _argv(self):
        argv = [self.tool, "-y"] + self.options
        return argv if self._new() else argv + ["--setopt=exit_on_lock=1"]

    def look_up(self, names):
        if self.tool == "yum":
            return parse_list(self.ask(["yum", "-q"] + self.options + ["list", "available"] + names))
        query = [self.tool, "-q"] + self.options + ["repoquery", "--available", "--latest-limit=1", "--qf", _OFFER]
        found = parse_offers(self.ask(query + names))
        for name in names:
            if name not in found and self.ask(query + ["--whatprovides", name]).strip():
                found[name] = ""
        return found

    def near(self, name):
        argv = [self.tool, "-q"] + self.options + ["-C", "repoquery", "--available", "--qf", "%{name}\\n"]
        return [] if self.tool == "yum" else self.ask(argv + [name[:2] + "*"]).split()

    def index_files(self):
        place = "/var/cache/yum" if self.tool == "yum" else CACHE
        depth = "/*/*/*/repomd.xml" if self.tool == "yum" else "/*/repodata/repomd.xml"
        return glob.glob(self.path(place) + depth) + glob.glob("/var/cache/libdnf5/*/repodata/repomd.xml")

    def install_commands(self, packages, args):
        argv = self._argv()
        if args.install_recommends is not None:
            argv.append("--setopt=install_weak_deps=%d" % args.install_recommends)
        return [argv + ["install"] + [self._word(package) for package in packages]]

    def _word(self, package):
        # dnf leaves what is installed as it is, unless it is given the version to come to.
        version = package.version or package.offer
        return package.path or ("%s-%s" % (package.name, version) if version else package.name)

    def remove_commands(self, names, args):
        return [self._argv() + ["--setopt=clean_requirements_on_remove=%d" % args.autoremove, "remove"] + names]

    def refresh_commands(self, args):
        argv = self._argv()
        return [argv + ["makecache"]] if self.tool == "yum" else [argv + ["--refresh", "makecache"]]

    def upgrade_commands(self, how, args):
        commands = [self._argv() + ["distro-sync" if how == "dist" else "upgrade"]]
        return commands + ([self._argv() + ["autoremove"]] if args.autoremove else [])


BACKEND = Dnf
