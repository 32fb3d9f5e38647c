"""Debian's apt and dpkg. What is installed is read from dpkg's own file, without a command."""

import os

from sloth.payload.lib.regex import re
from sloth.payload.modules.pkg import index
from sloth.payload.modules.pkg.backend import Backend
from sloth.payload.modules.pkg.database import Database, Offer
from sloth.payload.modules.pkg.dpkg import EXTENDED, STATUS, Automatic, Status, newer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterable, Mapping, Sequence

    from sloth.payload.modules.pkg.backend import Command
    from sloth.payload.modules.pkg.names import Wanted
    from sloth.payload.modules.pkg.options import Options

LISTS = "/var/lib/apt/lists"


def parse_policy(text: "str") -> "dict[str, Offer]":
    """Return name -> Offer from the output of `apt-cache policy`; a name that is only virtual has no version."""
    found: "dict[str, Offer]" = {}
    offer = Offer()
    for line in text.splitlines():
        version = re.match(r" (?:\*\*\*|   ) (\S+) +-?[0-9]+(?: \(phased [0-9]+%\))?$", line)
        if line and not line.startswith(" ") and line.endswith(":"):
            offer = found[line[:-1]] = Offer()
        elif line.startswith("  Candidate: "):
            candidate = line[len("  Candidate: ") :].strip()
            offer.version = "" if candidate == "(none)" else candidate
        elif version:
            offer.versions.append(version.group(1))
    return found


def unmet(text: "str") -> "str":
    """Return the dependency for which apt cannot install what it was given, from its output, or "".

    apt lists all packages that are affected; at the root is one whose dependency does not exist, or is of another
    version, rather than one whose dependency "is not going to be installed".
    """
    listed = re.search(
        r"^(?:The following packages have unmet dependencies|Unsatisfied dependencies):\n((?: .*\n?)+)", text, re.M
    )
    if not listed:
        return ""
    lines, package = [], ""
    for line in re.sub(r" or\n +", " or ", listed.group(1)).splitlines():
        name, colon, relation = line.partition(" : ")
        package = name.strip() if colon else package
        lines.append("%s: %s" % (package, (relation if colon else line).strip()))
    roots = [line for line in lines if "not installable" in line or "is to be installed" in line] or lines
    return roots[0]


def script_failure(text: "str") -> "str":
    """Return which package dpkg could not process, and why, from its output, or ""."""
    found = re.search(r"^dpkg: error processing (?:package|archive) (\S+)[^\n]*:\n +(\S[^\n]*)", text, re.M)
    return "%s: %s" % found.groups() if found else ""


def choices(text: "str") -> "str":
    """Return which packages provide a virtual one of which apt wants one to be chosen, from its output, or ""."""
    found = re.search(r"^Package (\S+) is a virtual package provided by:\n((?:  .*\n)+)", text, re.M)
    if not found:
        return ""
    providers = sorted(set(line.split()[0] for line in found.group(2).splitlines()))
    return "%s is provided by several packages, name one of them: %s" % (found.group(1), ", ".join(providers))


def unreadable(text: "str") -> "str":
    """Return which line of the sources or the configuration apt cannot read, from its output, or "".

    It is the first error; the last one only says that something could not be read.
    """
    found = re.search(
        r"^E(?:rror)?: ((?:Malformed|Type '|Syntax error|The value '|Conflicting values|Invalid record).*)", text, re.M
    )
    return found.group(1) if found else ""


class Apt(Backend):
    """apt-get, never interactive; a configuration file that was edited is kept."""

    name = "apt"
    tool = "apt-get"
    kind = "deb"
    valid_name = r"[A-Za-z0-9][A-Za-z0-9+._-]*(:[a-z0-9-]+)?"
    environment = {
        "DEBIAN_FRONTEND": "noninteractive",
        "DEBIAN_PRIORITY": "critical",
        "NEEDRESTART_MODE": "l",
        "APT_LISTCHANGES_FRONTEND": "none",
        "APT_LISTBUGS_FRONTEND": "none",
        "UCF_FORCE_CONFFOLD": "1",
    }
    lock_files = ("/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/cache/apt/archives/lock")
    index_locks = (LISTS + "/lock",)
    index = LISTS
    sources = ("/etc/apt/sources.list", "/etc/apt/sources.list.d", "/etc/apt/sources.list.d/*")
    unknown_names = (
        r"^E(?:rror)?: Unable to locate package (\S+)",
        r"^E(?:rror)?: Package '?(\S+?)'? has no installation candidate",
        r"^E(?:rror)?: Couldn't find any package by (?:glob|regex) '(\S+)'",
    )
    errors = (
        (
            r"^dpkg: error processing package .*",
            "its own script failed, see the output; `dpkg --configure -a` tries again",
        ),
        (r"^E(?:rror)?: dpkg was interrupted.*", "run `dpkg --configure -a` on the host, say with exec.run"),
        (r"^E(?:rror)?: Unmet dependencies\..*", "run `apt-get --fix-broken install` on the host"),
        (
            r"^E(?:rror)?: Version '[^']*' for '[^']*' was not found",
            "run pkg.update first, or look at `apt-cache madison`",
        ),
        (
            r"^E(?:rror)?: (Packages were downgraded|The following packages will be DOWNGRADED).*",
            "set allow_downgrade = true",
        ),
        (
            r"^E(?:rror)?: Held packages were changed.*",
            "release the hold with `apt-mark unhold`, or set allow_change_held_packages = true",
        ),
        (r"^E(?:rror)?: Essential packages were removed.*", "apt considers it essential; it is not removed by force"),
        (r"^E(?:rror)?: There were unauthenticated packages.*", "install the repository's key"),
        (r"^E(?:rror)?: You don't have enough free space.*", "free some space on the host"),
        (
            r"^(?:E|W|Error|Warning): Failed to fetch.*",
            "can the host reach its mirror? Or is its index old: pkg.update",
        ),
    )
    busy = (
        r"^E(?:rror)?: (?:Could not get lock|Unable to lock directory) (?P<path>[^\s.]+)[^\n]*?"
        r"(?:held by process (?P<pid>[0-9]+)[^\n]*)?$"
    )

    def stamp(self) -> "object":
        return index.signature(self.path(STATUS))

    def read(self) -> "Database":
        try:
            with open(self.path(STATUS), "rb") as file:
                database = Status(file.read())
        except FileNotFoundError:
            return Database({})
        if not database.native and len(database.packages):
            database.native = self.query(["dpkg", "--print-architecture"]).strip()
        return database

    def split(self, name: "str", database: "Database") -> "tuple[str, str]":
        bare, _, architecture = name.partition(":")
        return bare, database.native if architecture in ("native", "any", "all") else architecture

    def canonical(self, name: "str") -> "str":
        database = self.database()
        bare, architecture = self.split(name, database)
        if not architecture:
            return bare
        # Where dpkg itself is not installed, in an empty root, no package shows the architecture.
        native = database.native or self.host.once("pkg.apt native", self._own_architecture, "for good")
        return bare if architecture == native else "%s:%s" % (bare, architecture)

    def _own_architecture(self) -> "str":
        return self.query(["dpkg", "--print-architecture"]).strip()

    def label(self, name: "str", architecture: "str", database: "Database") -> "str":
        return name if database.is_native(architecture) else "%s:%s" % (name, architecture)

    def version(self, package: "Wanted") -> "str | None":
        found = Backend.version(self, package)
        if found is not None or package.version:
            return found
        provider = self.database().provider(package.name)
        if provider is None:
            return None
        # A name that is both a package's own and provided by another means the package itself, as with Ansible.
        own = self.offers([package.name]).get(package.name)
        return None if own and own.version else provider

    def look_up(self, names: "Sequence[str]", release: "str") -> "Mapping[str, Offer]":
        options = ["-o", "APT::Default-Release=%s" % release] if release else []
        found = parse_policy(self.query(["apt-cache", *self.options, *options, "policy", "--", *names], True))
        # Only of a package that exists apt does not take these ends for its own syntax: "remove", "install".
        return dict((name, offer) for name, offer in found.items() if offer.versions or name[-1] not in "+-")

    def newer(self, one: "str", other: "str") -> "bool":
        return newer(one, other)

    def names_like(self, prefix: "str") -> "Iterable[str]":
        return self.query(["apt-cache", *self.options, "pkgnames", *([prefix] if prefix else [])]).split()

    def file_argv(self, path: "str") -> "Command":
        return ["dpkg-deb", "--show", "--showformat=${Package} ${Version} ${Architecture}", path]

    def index_files(self) -> "Sequence[str]":
        try:
            names = os.listdir(self.path(LISTS))
        except FileNotFoundError:
            return []
        unwanted = ("lock", "partial", "auxfiles")
        return [self.path(LISTS) + "/" + name for name in names if name[0] != "." and name not in unwanted]

    def removed_with(self, names: "Sequence[str]") -> "Iterable[str]":
        text = self.query([self.tool, *self.options, "--simulate", "-q", "remove", "--", *names])
        return re.findall(r"^(?:Remv|Purg) (\S+)", text, re.MULTILINE)

    def unneeded(self) -> "Iterable[str]":
        text = self.query([self.tool, *self.options, "--simulate", "-q", "autoremove"])
        return re.findall(r"^(?:Remv|Purg) (\S+)", text, re.MULTILINE)

    def is_automatic(self, name: "str") -> "bool":
        stamp = index.signature(self.path(EXTENDED))
        marked: "Automatic" = self.host.once(
            "pkg.automatic %s%s" % (self.name, self.root), self._read_automatic, stamp or "none"
        )
        database = self.database()
        bare, architecture = self.split(name, database)
        return marked.has(bare, architecture or database.native)

    def _read_automatic(self) -> "Automatic":
        try:
            with open(self.path(EXTENDED), "rb") as file:
                return Automatic(file.read())
        except FileNotFoundError:
            return Automatic(b"")

    def mark_commands(self, names: "Sequence[str]", automatic: "bool", options: "Options") -> "Sequence[Command]":
        return [["apt-mark", *self.options, "auto" if automatic else "manual", "--", *names]]

    def _argv(self, options: "Options") -> "list[str]":
        given = [option for text in options.dpkg_options for option in text.split(",") if option]
        dpkg = [word for option in given for word in ("-o", "Dpkg::Options::=--" + option)]
        return [self.tool, *self.options, "-y", "-q", *dpkg,
            "-o", "Dpkg::Use-Pty=0", "-o", "DPkg::Lock::Timeout=%d" % options.lock_timeout,
        ]  # fmt: skip

    def install_commands(self, packages: "Sequence[Wanted]", options: "Options") -> "Sequence[Command]":
        argv = self._argv(options)
        if options.install_recommends is not None:
            argv += ["-o", "APT::Install-Recommends=%s" % ("yes" if options.install_recommends else "no")]
        if options.default_release:
            argv += ["-t", options.default_release]
        if options.allow_downgrade:
            argv.append("--allow-downgrades")
        if options.allow_change_held_packages:
            argv.append("--allow-change-held-packages")
        return [[*argv, "install", "--", *(self.word(package) for package in packages)]]

    def remove_commands(self, names: "Sequence[str]", options: "Options") -> "Sequence[Command]":
        argv = self._argv(options) + (["--auto-remove"] if options.autoremove else [])
        return [[*argv, "purge" if options.purge else "remove", "--", *names]]

    def autoremove_commands(self, names: "Sequence[str]", options: "Options") -> "Sequence[Command]":
        return [[*self._argv(options), *(["--purge"] if options.purge else []), "autoremove"]]

    def refresh_commands(self, options: "Options") -> "Sequence[Command]":
        return [[*self._argv(options), "-o", "APT::Update::Error-Mode=any", "update"]]

    def cause(self, output: "str") -> "str":
        return unmet(output) or script_failure(output) or choices(output) or unreadable(output)

    def complaint(self, output: "str") -> "str":
        # apt before 2.1 counts it as success when a repository cannot be read.
        found = re.search(r"^W(?:arning)?: Failed to fetch .*", output, re.MULTILINE)
        return found.group(0) if found else ""

    def upgrade_commands(self, how: "str", options: "Options") -> "Sequence[Command]":
        argv = self._argv(options) + (["--auto-remove"] if options.autoremove else [])
        return [argv + (["dist-upgrade"] if how == "dist" else ["--with-new-pkgs", "upgrade"])]


BACKEND = Apt
