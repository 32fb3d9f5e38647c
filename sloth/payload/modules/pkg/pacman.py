"""Arch's pacman. What is installed is read from the names of its database's directories."""

import glob
import os
import re

from sloth.payload.modules.pkg import locks
from sloth.payload.modules.pkg.backend import Backend, look
from sloth.payload.modules.pkg.names import Database
from sloth.payload.modules.pkg.rpm import fits

LOCAL = "/var/lib/pacman/local"
SYNC = "/var/lib/pacman/sync"
LOCK = "/var/lib/pacman/db.lck"


def parse_names(names):
    """Return the Database of directory names such as "bash-completion-2.11-3"."""
    packages = {}
    for name in names:
        parts = name.rsplit("-", 2)
        if len(parts) == 3:
            packages.setdefault(parts[0], []).append(("%s-%s" % (parts[1], parts[2]), "", ""))
    return Database(packages)


def parse_provides(text):
    """The names that a package provides, from its desc file."""
    section = text.partition("%PROVIDES%\n")[2].partition("\n\n")[0]
    return [re.split("[<>=]", line)[0] for line in section.splitlines() if line]


def parse_list(text):
    """Return a dict name -> version from `pacman -Sl`; the first of two repositories counts, as with pacman."""
    found = {}
    for line in text.splitlines():
        fields = line.split()
        if len(fields) > 2:
            found.setdefault(fields[1], fields[2])
    return found


class Pacman(Backend):
    """pacman; versions that its repositories do not hold (any but the newest) it can only take from a file."""

    name = "pacman"
    tool = "pacman"
    kind = "pkg"
    index = SYNC
    nowhere = (r"^error: target not found: (\S+)",)
    errors = (
        (r"^error: failed to commit transaction \(conflicting files\).*", "a file is in the way; see the output"),
        (r"^error: failed retrieving file.*", "can the host reach its mirror? Or is its index old: pkg.update"),
        (r"^error: failed to prepare transaction.*", "see the output for what stands against it"),
        (r"^error: .*(?:signature|PGP).*", "look at the keyring: pacman-key"),
    )
    busy = r"^error: .*unable to lock database"

    def stamp(self):
        return look(self.path(LOCAL))

    def read(self):
        try:
            return parse_names(os.listdir(self.path(LOCAL)))
        except FileNotFoundError:
            return Database({})

    def version(self, package):
        found = Backend.version(self, package)
        if found is None and not package.version and not package.path:
            name = "pkg.provides %s%s" % (self.name, self.root)
            provided = self.host.once(name, self._provided, self.stamp())
            return provided.get(package.name)
        return found

    def _provided(self):
        """Virtual name -> "provider=version" of all installed packages; read when a name is no package's own."""
        found = {}
        for name, entries in self.database().packages.items():
            try:
                path = "%s/%s-%s/desc" % (self.path(LOCAL), name, entries[0][0])
                with open(path, encoding="utf-8", errors="replace") as file:
                    for virtual in parse_provides(file.read()):
                        found[virtual] = "%s=%s" % (name, entries[0][0])
            except OSError:
                continue
        return found

    def fits(self, version, wish):
        return fits(version, wish)

    def newer(self, one, other):
        return self.ask(["vercmp", one, other]).strip() == "1"

    def look_up(self, names):
        known = parse_list(self.ask([self.tool] + self.options + ["-Sl"]))
        found = dict((name, known[name]) for name in names if name in known)
        for name in names:
            if name not in found:
                argv = [self.tool] + self.options + ["-Sp", "-dd", "--noconfirm", "--print-format", "%n", "--", name]
                told = self.ask(argv).split()
                if len(told) == 1:  # more: a group, which is no package
                    found[name] = ""
        return found

    def near(self, name):
        return list(parse_list(self.ask([self.tool] + self.options + ["-Sl"])))

    def file_argv(self, path):
        return [self.tool, "-Qp", path]

    def index_files(self):
        return glob.glob(self.path(SYNC) + "/*.db")

    def wait(self, patience, lock_files):
        patience.wait([self.path(LOCK)], exists=True)

    def lock_in(self, found):
        pid = locks.opener(self.path(LOCK))
        return self.path(LOCK), locks.process(pid) if pid else ""

    def _argv(self, *words):
        return [self.tool] + self.options + list(words) + ["--noconfirm", "--noprogressbar", "--color", "never"]

    def install_commands(self, packages, args):
        files = [package.path for package in packages if package.path]
        names = [self._word(package) for package in packages if not package.path]
        commands = [self._argv("-S") + ["--"] + names] if names else []
        return commands + ([self._argv("-U") + ["--"] + files] if files else [])

    def remove_commands(self, names, args):
        return [self._argv("-R" + ("s" if args.autoremove else "") + ("n" if args.purge else "")) + ["--"] + names]

    def refresh_commands(self, args):
        return [self._argv("-Sy")]

    def upgrade_commands(self, how, args):
        return [self._argv("-Su")]


BACKEND = Pacman
