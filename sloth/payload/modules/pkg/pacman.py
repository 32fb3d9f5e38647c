"""Arch's pacman. What is installed is read from the names of its database's directories."""

import os

from sloth.payload.kernel.resource import Failed
from sloth.payload.lib.regex import re
from sloth.payload.modules.pkg import index, locks
from sloth.payload.modules.pkg.backend import Backend
from sloth.payload.modules.pkg.database import Database, Installed, Offer
from sloth.payload.modules.pkg.rpm import fits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from re import Match
    from typing import Iterable, Mapping, Sequence

    from sloth.payload.modules.pkg.backend import Command
    from sloth.payload.modules.pkg.locks import Patience
    from sloth.payload.modules.pkg.names import Wanted
    from sloth.payload.modules.pkg.options import Options

LOCAL = "/var/lib/pacman/local"
SYNC = "/var/lib/pacman/sync"
LOCK = "/var/lib/pacman/db.lck"


def parse_names(names: "Iterable[str]") -> "Database":
    """Return the database from directory names such as "bash-completion-2.11-3"."""
    packages: "dict[str, list[Installed]]" = {}
    for name in names:
        parts = name.rsplit("-", 2)
        if len(parts) == 3:
            packages.setdefault(parts[0], []).append(Installed("%s-%s" % (parts[1], parts[2])))
    return Database(packages)


def parse_provides(text: "str") -> "list[str]":
    """Return the names that a package provides, from its desc file."""
    section = text.partition("%PROVIDES%\n")[2].partition("\n\n")[0]
    return [re.split("[<>=]", line)[0] for line in section.splitlines() if line]


def parse_list(text: "str") -> "dict[str, Offer]":
    """Return name -> Offer from `pacman -Sl`; as with pacman, the first of several repositories counts."""
    found: "dict[str, Offer]" = {}
    for line in text.splitlines():
        fields = line.split()
        if len(fields) > 2:
            found.setdefault(fields[1], Offer(fields[2]))
    return found


class Pacman(Backend):
    """pacman. It can install versions that its repositories do not have (all but the latest) only from a file."""

    name = "pacman"
    tool = "pacman"
    kind = "pkg"
    valid_name = r"[A-Za-z0-9_][A-Za-z0-9+._-]*"
    index = SYNC
    sources = ("/etc/pacman.conf", "/etc/pacman.d", "/etc/pacman.d/*")
    unknown_names = (r"^error: target not found: (\S+)",)
    errors = (
        (r"^error: failed to commit transaction \(conflicting files\).*", "a file is in the way; see the output"),
        (r"^error: failed retrieving file.*", "can the host reach its mirror? Or is its index old: pkg.update"),
        (r"^error: failed to prepare transaction.*", "see the output for what prevents it"),
        (r"^error: .*(?:signature|PGP).*", "check the keyring, with pacman-key"),
    )
    busy = r"^error: .*unable to lock database"

    def stamp(self) -> "object":
        return index.signature(self.path(LOCAL))

    def read(self) -> "Database":
        try:
            return parse_names(os.listdir(self.path(LOCAL)))
        except FileNotFoundError:
            return Database({})

    def version(self, package: "Wanted") -> "str | None":
        found = Backend.version(self, package)
        if found is None and not package.version and not package.path:
            key = "pkg.provides %s%s" % (self.name, self.root)
            return self.host.once(key, self._provided, self.stamp()).get(package.name)
        return found

    def _provided(self) -> "dict[str, str]":
        """Return virtual name -> "PROVIDER=VERSION" of all installed packages."""
        found = {}
        packages = self.database().packages
        for name in packages:
            version = packages[name][0].version
            try:
                path = "%s/%s-%s/desc" % (self.path(LOCAL), name, version)
                with open(path, encoding="utf-8", errors="replace") as file:
                    for virtual in parse_provides(file.read()):
                        found[virtual] = "%s=%s" % (name, version)
            except OSError:
                continue
        return found

    def fits(self, version: "str", wanted: "str") -> "bool":
        return fits(version, wanted)

    def newer(self, one: "str", other: "str") -> "bool":
        return self.query(["vercmp", one, other]).strip() == "1"

    def _query(self, *words: "str") -> "str":
        return self.query([self.tool, *self.options, *words])

    def look_up(self, names: "Sequence[str]", release: "str") -> "Mapping[str, Offer]":
        available = parse_list(self._query("-Sl"))
        found = dict((name, available[name]) for name in names if name in available)
        rest = [name for name in names if name not in found]
        groups = self._query("-Sgq").split() if rest else []
        for name in rest:
            if name in groups:
                raise Failed("%s is a group of packages" % name, hint="name the packages that you want of it")
            argv = ("-Sp", "-dd", "--noconfirm", "--print-format", "%n", "--", name)
            if len(self._query(*argv).split()) == 1:
                found[name] = Offer()
        return found

    def names_like(self, prefix: "str") -> "Iterable[str]":
        return parse_list(self._query("-Sl"))

    def file_argv(self, path: "str") -> "Command":
        return [self.tool, "-Qp", path]

    def index_files(self) -> "Sequence[str]":
        from glob import glob

        return glob(self.path(SYNC) + "/*.db")

    def wait(self, patience: "Patience", lock_files: "Sequence[str]") -> "None":
        patience.wait([self.path(LOCK)], exists=True)

    def lock_in(self, found: "Match[str]") -> "tuple[str, str]":
        pid = locks.opener(self.path(LOCK))
        return self.path(LOCK), locks.process(pid) if pid else ""

    def _argv(self, *words: "str") -> "list[str]":
        return [self.tool, *self.options, *words, "--noconfirm", "--noprogressbar", "--color", "never"]

    def install_commands(self, packages: "Sequence[Wanted]", options: "Options") -> "Sequence[Command]":
        files = [package.path for package in packages if package.path]
        names = [self.word(package) for package in packages if not package.path]
        commands = [[*self._argv("-S"), "--", *names]] if names else []
        return commands + ([[*self._argv("-U"), "--", *files]] if files else [])

    def remove_commands(self, names: "Sequence[str]", options: "Options") -> "Sequence[Command]":
        verb = "-R" + ("s" if options.autoremove else "") + ("n" if options.purge else "")
        return [[*self._argv(verb), "--", *names]]

    def is_automatic(self, name: "str") -> "bool":
        for entry in self.database().packages[name]:
            try:
                path = "%s/%s-%s/desc" % (self.path(LOCAL), name, entry.version)
                with open(path, encoding="utf-8", errors="replace") as file:
                    return "\n%REASON%\n1\n" in file.read()
            except OSError:
                continue
        return False

    def mark_commands(self, names: "Sequence[str]", automatic: "bool", options: "Options") -> "Sequence[Command]":
        return [[self.tool, *self.options, "-D", "--asdeps" if automatic else "--asexplicit", "--", *names]]

    def removed_with(self, names: "Sequence[str]") -> "Iterable[str]":
        # -R itself does not remove what depends on them, and fails.
        return self._query("-Rc", "--print", "--print-format", "%n", "--", *names).split()

    def unneeded(self) -> "Iterable[str]":
        return self._query("-Qdtq").split()

    def autoremove_commands(self, names: "Sequence[str]", options: "Options") -> "Sequence[Command]":
        return [[*self._argv("-Rsn" if options.purge else "-Rs"), "--", *names]]

    def refresh_commands(self, options: "Options") -> "Sequence[Command]":
        return [self._argv("-Sy")]

    def upgrade_commands(self, how: "str", options: "Options") -> "Sequence[Command]":
        return [self._argv("-Su")]

    def cause(self, output: "str") -> "str":
        # What follows "failed to prepare transaction (could not satisfy dependencies)".
        found = re.search(r"^:: (unable to satisfy dependency .*|.*breaks dependency .*)", output, re.MULTILINE)
        return found.group(1) if found else ""


BACKEND = Pacman
