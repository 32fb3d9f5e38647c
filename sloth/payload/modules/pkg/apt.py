"""Debian's apt and dpkg. What is installed is read from dpkg's own file, without a command."""

import os
import re

from sloth.payload.modules.pkg.backend import Backend, look
from sloth.payload.modules.pkg.names import Database

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.resource import Args

TOOL = 120  # seconds for a simulation

STATUS = "/var/lib/dpkg/status"
LISTS = "/var/lib/apt/lists"
_INSTALLED = ("installed", "triggers-awaited", "triggers-pending")


class Packages(object):
    """The packages of dpkg's status file (str): one is read when it is asked for, all when more is asked than that.

    It is to Database.packages what a dict would be. Most runs ask for a few packages, and hosts have thousands. One
    that waits for a trigger counts as installed, one that is unpacked or half configured as broken.
    """

    def __init__(self, text):
        self._text = "\n\n%s\n\n" % text
        self._known = {}
        self._provides = None

    def get(self, name, default=None):
        if name not in self._known and self._provides is None:
            self._known[name] = list(self._find(name))
        return self._known.get(name) or default

    def _find(self, name):
        label = "\nPackage: %s\n" % name
        at = self._text.find(label)
        while at >= 0:
            end = self._text.find("\n\n", at)
            entry = _entry(self._text[self._text.rfind("\n\n", 0, at + 1) + 1 : end])
            if entry:
                yield entry
            at = self._text.find(label, end)

    def provides(self):
        """Virtual name -> names of the installed packages that provide it."""
        if self._provides is None:
            self._known, self._provides = {}, {}
            for paragraph in self._text.split("\n\n"):
                paragraph = "\n" + paragraph
                entry = _entry(paragraph)
                if not entry:
                    continue
                name = _field(paragraph, "\nPackage: ")
                self._known.setdefault(name, []).append(entry)
                provided = "" if entry[2] else _field(paragraph, "\nProvides: ")
                for virtual in provided.split(",") if provided else ():
                    self._provides.setdefault(virtual.partition("(")[0].strip(), []).append(name)
        return self._provides

    def __contains__(self, name):
        return self.get(name) is not None

    def __getitem__(self, name):
        return self.get(name, [])

    def __iter__(self):
        self.provides()
        return iter(self._known)

    def __len__(self):
        self.provides()
        return len(self._known)


class _Status(Database):
    """What the status file (str) tells of."""

    def __init__(self, text):
        self.packages = Packages(text)
        own = [architecture for _, architecture, state in self.packages["dpkg"] if not state]
        self.native = own[-1] if own else ""

    @property
    def provides(self):
        return self.packages.provides()


def _entry(paragraph):
    """(version, architecture, "" or what is wrong with it) of a paragraph; None of one that is not installed."""
    state = _field(paragraph, "\nStatus: ").rpartition(" ")[2]
    if state in ("", "not-installed"):
        return None
    good = state in _INSTALLED
    return _field(paragraph, "\nVersion: "), _field(paragraph, "\nArchitecture: "), "" if good else state


def _field(paragraph, label):
    start = paragraph.find(label)
    if start < 0:
        return ""
    start += len(label)
    end = paragraph.find("\n", start)
    return (paragraph[start:] if end < 0 else paragraph[start:end]).strip()


def parse_policy(text):
    """Return a dict name -> candidate version ("": none, it is only virtual) from what `apt-cache policy` prints."""
    found, name = {}, ""
    for line in text.splitlines():
        if line and not line.startswith(" ") and line.endswith(":"):
            name = line[:-1]
            found[name] = ""
        elif line.startswith("  Candidate: ") and name:
            version = line[len("  Candidate: ") :].strip()
            found[name] = "" if version == "(none)" else version
    return found


class Apt(Backend):
    """apt-get, always unattended; a changed configuration file of the user's is kept."""

    name = "apt"
    tool = "apt-get"
    kind = "deb"
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
    nowhere = (
        r"^E: Unable to locate package (\S+)",
        r"^E: Package '?(\S+?)'? has no installation candidate",
        r"^E: Couldn't find any package by (?:glob|regex) '(\S+)'",
    )
    errors = (
        (r"^dpkg: error processing .*", "its own script failed: see the output; `dpkg --configure -a` tries again"),
        (r"^E: dpkg was interrupted.*", "run `dpkg --configure -a` on the host, say with exec.run"),
        (r"^E: Unmet dependencies\..*", "run `apt-get --fix-broken install` on the host"),
        (r"^E: Version '[^']*' for '[^']*' was not found", "run pkg.update first, or look at `apt-cache madison`"),
        (r"^E: (Packages were downgraded|The following packages will be DOWNGRADED).*", "set allow_downgrade = true"),
        (r"^E: Held packages were changed.*", "release the hold with `apt-mark unhold`"),
        (r"^E: Essential packages were removed.*", "apt holds it for essential, and we do not force it"),
        (r"^E: There were unauthenticated packages.*", "install the repository's key"),
        (r"^E: You don't have enough free space.*", "free some space on the host"),
        (r"^(E|W): Failed to fetch.*", "can the host reach its mirror? Or is its index old: pkg.update"),
    )
    busy = (
        r"^E: (?:Could not get lock|Unable to lock directory) (?P<path>[^\s.]+)[^\n]*?"
        r"(?:held by process (?P<pid>[0-9]+)[^\n]*)?$"
    )

    def stamp(self):
        return look(self.path(STATUS))

    def read(self):
        try:
            with open(self.path(STATUS), encoding="utf-8", errors="surrogateescape") as file:
                database = _Status(file.read())
        except FileNotFoundError:
            return Database({})
        if not database.native and database.packages:
            database.native = self.ask(["dpkg", "--print-architecture"]).strip()
        return database

    def split(self, name, database):
        bare, _, architecture = name.partition(":")
        return bare, database.native if architecture == "native" else architecture

    def label(self, name, architecture, database):
        return name if architecture in ("all", database.native) else "%s:%s" % (name, architecture)

    def version(self, package):
        found = Backend.version(self, package)
        if found is not None or package.version:
            return found
        provider = self.providers(package.name)
        # A name that is both a package's own and provided by another means the package itself, as with Ansible.
        if provider is None or self.offers([package.name]).get(package.name):
            return None
        return "%s=%s" % provider

    def look_up(self, names):
        return parse_policy(self.ask(["apt-cache"] + self.options + ["policy", "--"] + names))

    def near(self, name):
        return self.ask(["apt-cache"] + self.options + ["pkgnames", name[:2]]).split()

    def file_argv(self, path):
        return ["dpkg-deb", "--show", "--showformat=${Package} ${Version} ${Architecture}", path]

    def index_files(self):
        try:
            names = os.listdir(self.path(LISTS))
        except FileNotFoundError:
            return []
        unwanted = ("lock", "partial", "auxfiles")
        return [self.path(LISTS) + "/" + name for name in names if name[0] != "." and name not in unwanted]

    def _argv(self, args):
        return [self.tool] + self.options + [
            "-y", "-q",
            "-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold",
            "-o", "Dpkg::Use-Pty=0", "-o", "DPkg::Lock::Timeout=%d" % args.lock_timeout,
        ]  # fmt: skip

    def install_commands(self, packages, args):
        argv = self._argv(args)
        if args.install_recommends is not None:
            argv += ["-o", "APT::Install-Recommends=%s" % ("yes" if args.install_recommends else "no")]
        if args.default_release:
            argv += ["-t", args.default_release]
        if args.allow_downgrade:
            argv.append("--allow-downgrades")
        return [argv + ["install", "--"] + [self._word(package) for package in packages]]

    def remove_commands(self, names, args):
        argv = self._argv(args) + (["--auto-remove"] if args.autoremove else [])
        return [argv + ["purge" if args.purge else "remove", "--"] + names]

    def removed_with(self, names: "list[str]", args: "Args") -> "list[str]":
        argv = ["apt-get", "-s"] + (["--auto-remove"] if args.autoremove else []) + ["remove", "--"] + names
        done = self.host.run(argv, env={"LC_ALL": "C"}, timeout=TOOL)
        text = done.stdout.decode("utf-8", "replace")
        return sorted(set(re.findall(r"^(?:Remv|Purg) (\S+)", text, re.MULTILINE)))

    def refresh_commands(self, args):
        return [self._argv(args) + ["-o", "APT::Update::Error-Mode=any", "update"]]

    def complaint(self, text):
        """An apt before 2.1 calls it success when a repository cannot be read."""
        found = re.search(r"^W: Failed to fetch .*", text, re.MULTILINE)
        return found.group(0) if found else ""

    def upgrade_commands(self, how, args):
        argv = self._argv(args) + (["--auto-remove"] if args.autoremove else [])
        return [argv + (["dist-upgrade"] if how == "dist" else ["--with-new-pkgs", "upgrade"])]


BACKEND = Apt
