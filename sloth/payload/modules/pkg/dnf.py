"""Fedora's and Red Hat's dnf, and yum on hosts that have no dnf yet."""

import os

from sloth.payload.kernel.resource import Failed
from sloth.payload.lib.regex import re
from sloth.payload.modules.pkg import locks
from sloth.payload.modules.pkg.database import Offer
from sloth.payload.modules.pkg.rpm import Rpm, latest_first

TYPE_CHECKING = False
if TYPE_CHECKING:
    from re import Match
    from typing import Iterable, Mapping, Sequence

    from sloth.payload.modules.pkg.backend import Command
    from sloth.payload.modules.pkg.names import Wanted
    from sloth.payload.modules.pkg.options import Options

CACHE = "/var/cache/dnf"
_LOCKS = {
    "RPMDB": "/var/lib/dnf/rpmdb_lock.pid",
    "Metadata": CACHE + "/metadata_lock.pid",
    "Download": CACHE + "/download_lock.pid",
}
_OFFER = "%{name} %{epoch}:%{version}-%{release} %{arch}\\n"


def parse_offers(text: "str") -> "dict[str, Offer]":
    """Return name (and name.arch) -> Offer from lines "name epoch:version-release arch"."""
    found: "dict[str, list[str]]" = {}
    for line in text.splitlines():
        fields = line.split()
        if len(fields) != 3:
            continue
        name, version, architecture = fields
        version = version[2:] if version.startswith("0:") else version
        for key in (name, "%s.%s" % (name, architecture)):
            found.setdefault(key, []).append(version)
    return _offers(found)


def parse_list(text: "str") -> "dict[str, Offer]":
    """Return the same from the output of `yum list available`: name.arch, version, repository, wrapped or not."""
    found: "dict[str, list[str]]" = {}
    parts = text.partition("Available Packages")[2].split()
    for label, version in zip(parts[0::3], parts[1::3]):
        for key in (label, label.rpartition(".")[0]):
            found.setdefault(key, []).append(version)
    return _offers(found)


def _offers(found: "Mapping[str, Sequence[str]]") -> "dict[str, Offer]":
    ordered = dict((name, latest_first(versions)) for name, versions in found.items())
    return dict((name, Offer(versions[0], versions)) for name, versions in ordered.items())


class Dnf(Rpm):
    """dnf, dnf5 or yum. Each would wait without end for a lock, so it is told to exit, and is tried again."""

    name = "dnf"
    tool = "dnf"
    index = CACHE
    sources = ("/etc/yum.repos.d", "/etc/yum.repos.d/*", "/etc/dnf/dnf.conf", "/etc/yum.conf")
    unknown_names = (
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

    def lock_in(self, found: "Match[str]") -> "tuple[str, str]":
        path = found.group("path") or self.path(_LOCKS.get(found.group("what"), found.group("what") or ""))
        return path, locks.process(int(found.group("pid") or found.group("number")))

    def _is_dnf5(self) -> "bool":
        from shutil import which

        return os.path.basename(os.path.realpath(which(self.tool) or self.tool)) == "dnf5"

    def _argv(self) -> "list[str]":
        argv = [self.tool, "-y", *self.options]
        return argv if self._is_dnf5() else [*argv, "--setopt=exit_on_lock=1"]  # which dnf 5 does not know

    def _query(self, *words: "str") -> "str":
        return self.query([self.tool, "-q", *self.options, *words])

    def look_up(self, names: "Sequence[str]", release: "str") -> "Mapping[str, Offer]":
        if self.tool == "yum":
            return parse_list(self._query("list", "available", "--showduplicates", *names))
        found = parse_offers(self._query("repoquery", "--available", "--qf", _OFFER, *names))
        for name in names:
            if name not in found and self._query("repoquery", "--available", "--whatprovides", name).strip():
                found[name] = Offer()
        return found

    def names_like(self, prefix: "str") -> "Iterable[str]":
        if self.tool == "yum":
            return ()
        return self._query("-C", "repoquery", "--available", "--qf", "%{name}\\n", prefix + "*").split()

    def index_files(self) -> "Sequence[str]":
        from glob import glob

        root = "/var/cache/yum" if self.tool == "yum" else CACHE
        depth = "/*/*/*/repomd.xml" if self.tool == "yum" else "/*/repodata/repomd.xml"
        return glob(self.path(root) + depth) + glob("/var/cache/libdnf5/*/repodata/repomd.xml")

    def install_commands(self, packages: "Sequence[Wanted]", options: "Options") -> "Sequence[Command]":
        argv = self._argv()
        if options.install_recommends is not None:
            argv.append("--setopt=install_weak_deps=%d" % options.install_recommends)
        return [[*argv, "install", *(self.word(package) for package in packages)]]

    def word(self, package: "Wanted") -> "str":
        # dnf leaves an installed package as it is unless it is given the version to reach.
        return package.path or ("%s-%s" % (package.name, package.target) if package.target else package.name)

    def remove_commands(self, names: "Sequence[str]", options: "Options") -> "Sequence[Command]":
        return [[*self._argv(), "--setopt=clean_requirements_on_remove=%d" % options.autoremove, "remove", *names]]

    def unneeded(self) -> "Iterable[str]":
        if self.tool == "yum":
            raise Failed("yum cannot list the packages that are not needed")
        return self._query("repoquery", "--unneeded", "--qf", "%{name}\\n").split()

    def autoremove_commands(self, names: "Sequence[str]", options: "Options") -> "Sequence[Command]":
        return [[*self._argv(), "autoremove"]]

    def refresh_commands(self, options: "Options") -> "Sequence[Command]":
        return [[*self._argv(), *([] if self.tool == "yum" else ["--refresh"]), "makecache"]]

    def upgrade_commands(self, how: "str", options: "Options") -> "Sequence[Command]":
        commands = [[*self._argv(), "distro-sync" if how == "dist" else "upgrade"]]
        return commands + ([[*self._argv(), "autoremove"]] if options.autoremove else [])

    def cause(self, output: "str") -> "str":
        # The problem's own line only says "conflicting requests"; the reasons follow it.
        found = re.search(r"^ *Problem(?: [0-9]+)?: ([^\n]*)((?:\n +- [^\n]*)*)", output, re.MULTILINE)
        if not found:
            return ""
        reasons: "list[str]" = re.findall(r"- (.*)", found.group(2)) or [found.group(1)]
        return next((line for line in reasons if "nothing provides" in line), reasons[-1])


BACKEND = Dnf
