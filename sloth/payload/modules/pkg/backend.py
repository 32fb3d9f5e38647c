"""What install, remove and update ask of any package manager; its own class in a file of its own answers."""

import importlib
import os
import re
import time

from sloth.payload.kernel.hashing import sha256
from sloth.payload.kernel.resource import Failed, Missing
from sloth.payload.lib.os_release import os_release
from sloth.payload.modules.pkg import locks
from sloth.payload.modules.pkg.names import MANAGERS, Wanted, file_kind, is_pattern, plain_names

FAMILY = {
    "debian": "apt", "ubuntu": "apt", "fedora": "dnf", "rhel": "dnf", "centos": "dnf", "amzn": "dnf",
    "suse": "zypper", "opensuse": "zypper", "sles": "zypper", "arch": "pacman", "alpine": "apk",
}  # fmt: skip
SMALL = 1024 * 1024  # bytes; an index file up to this size is compared by content
SHOWN = 4000  # characters of a command's output in an error


def choose(host, use=None):
    """Return the host's Backend: `use`, or what fits /etc/os-release and is there; raise Failed when none is."""
    return host.once("pkg.backend %s" % use, lambda: _choose(host, use), "for good")


def _choose(host, use):
    release = os_release()
    likely = [FAMILY[word] for word in [release.get("ID", "")] + release.get("ID_LIKE", "").split() if word in FAMILY]
    for name in [use] if use else likely + list(MANAGERS):
        backend = create(name, host)
        if backend.is_there():
            return backend
    if use:
        raise Missing("this host has no %s" % create(use, host).tool, hint="leave out use, or name another")
    raise Failed("this host has none of the package managers %s" % ", ".join(MANAGERS))


def create(name, host, **given):
    """Return the Backend called `name` ("apt"); given: its further arguments."""
    file = "dnf" if name == "yum" else name
    cls = importlib.import_module("sloth.payload.modules.pkg.%s" % file).BACKEND
    return cls(host, tool="yum", **given) if name == "yum" else cls(host, **given)


class Backend(object):
    """One package manager. root: where its files are below; options: words put behind the tool's name (both: tests)."""

    name = ""
    tool = ""
    kind = ""  # of package files that it can install: see file_kind()
    environment = {}
    good_codes = (0,)
    lock_files = ()  # POSIX locks that a change needs
    index_locks = ()  # and those that a refresh needs
    index = ""  # the directory whose mtime says when the index was last refreshed
    errors = ()  # (regular expression of what it prints, hint)
    nowhere = ()  # regular expressions: group 1 is the package that it does not know
    busy = ""  # a regular expression (of lines): it prints this when the lock was taken from under our eyes

    def __init__(self, host, root="", options=(), tool=""):
        self.host = host
        self.root = root
        self.options = list(options)
        self.tool = tool or self.tool

    # What a backend says

    def stamp(self):
        """A plain value that differs when the database does."""
        raise NotImplementedError(self.name)

    def read(self):
        """Return the Database."""
        raise NotImplementedError(self.name)

    def look_up(self, names):
        """Ask the index: return a dict of those of `names` that can be installed -> the version (str, "" unknown)."""
        raise NotImplementedError(self.name)

    def install_commands(self, packages, args):
        """The argv lists that install `packages` (list of Wanted); args: of pkg.install."""
        raise NotImplementedError(self.name)

    def remove_commands(self, names, args):
        raise NotImplementedError(self.name)

    def refresh_commands(self, args):
        raise NotImplementedError(self.name)

    def upgrade_commands(self, how, args):
        """how: "safe" or "dist"."""
        raise NotImplementedError(self.name)

    def file_argv(self, path):
        """The command that prints "name version architecture" of a package file."""
        raise NotImplementedError(self.name)

    def index_files(self):
        """Paths of the files of which the index consists."""
        raise NotImplementedError(self.name)

    def near(self, name):
        """Names of the index that may be meant by `name`."""
        return []

    def providers(self, name):
        """(provider, version) of an installed package that provides the virtual `name`, or None."""
        database = self.database()
        for provider in database.provides.get(name, ()):
            for version, _, state in database.packages.get(provider, ()):
                if not state:
                    return provider, version
        return None

    def fits(self, version, wish):
        """Whether the installed `version` is what `wish` (an exact version, or a pattern such as 1.2*) asks for."""
        from fnmatch import fnmatchcase

        return version == wish or fnmatchcase(version, wish)

    def newer(self, one, other):
        """Whether version `one` is later than `other`."""
        return False

    # What all share

    def path(self, path):
        return self.root + path

    def is_there(self):
        return self.host.has_tool(self.tool)

    def database(self):
        return self.host.once("pkg.%s%s" % (self.name, self.root), self.read, self.stamp())

    def split(self, name, database):
        """(name, architecture or "") of a name that may end with an architecture."""
        return name, ""

    def entries(self, name):
        """The entries of the database for `name`: those of its architecture, else of the native one."""
        database = self.database()
        bare, architecture = self.split(name, database)
        found = database.packages.get(bare, [])
        if architecture:
            return [entry for entry in found if entry[1] == architecture]
        native = [entry for entry in found if entry[1] in ("all", "noarch", database.native)]
        return native if database.native else found

    def version(self, package):
        """What is installed of the Wanted: its version, "VERSION broken" when half, or None."""
        found = self.entries(package.name)
        whole = [version for version, _, state in found if not state]
        for version in whole:
            if package.version and self.fits(version, package.version):
                return version
        if whole:
            best = whole[0]
            for version in whole[1:]:
                best = version if self.newer(version, best) else best
            return best
        for version, _, state in found:
            if state != "config-files":
                return "%s %s" % (version, state)
        return None

    def removed_with(self, names, args):
        """Return the packages that removing `names` would remove, as far as this package manager can tell."""
        return []

    def present(self, names, purge):
        """What is installed of `names` (patterns, too), even half: {name to remove it by: version and state}.

        purge: also what is removed, but has left its configuration.
        """
        from fnmatch import fnmatchcase

        database = self.database()
        found = {}
        for name in names:
            bare, architecture = self.split(name, database)
            known = [bare] if bare in database.packages else []
            if any(char in bare for char in "*?["):
                known = [one for one in database.packages if fnmatchcase(one, bare)]
            for one in known:
                for version, its, state in database.packages[one]:
                    if architecture in ("", its) and (state != "config-files" or purge):
                        found[self.label(one, its, database)] = ("%s %s" % (version, state)).strip()
        return found

    def label(self, name, architecture, database):
        """What to call the installed package `name` of `architecture` when it is to be removed."""
        return name

    def offers(self, names):
        """look_up(), asked once for all the names of this call and of those that wait behind it."""
        seen = (self.stamp(), [_look(path) for path in self.index_files()])
        known = self.host.once("pkg.offers %s%s" % (self.name, self.root), dict, seen)
        if any(name not in known for name in names):
            ask = [name for name in names if name not in known]
            for call, given in self.host.upcoming():
                if call == "pkg.install" and given.get("state") == "latest":
                    ask += [name for name in plain_names(given) if name not in known and name not in ask]
            answers = self.look_up(ask)
            known.update((name, answers.get(name)) for name in ask)
        return dict((name, known[name]) for name in names if known[name] is not None)

    def from_file(self, path):
        """Return the Wanted that the package file `path` holds; raise Missing when it is not there."""
        path = self.host.expand(path)
        if file_kind(path) != self.kind:
            raise Failed("%s cannot install %s" % (self.tool, path))
        seen = _look(path)
        if seen is None:
            raise Missing("there is no file %s on the host" % path, hint="copy it there first, with file.copy")
        text = self.host.once("pkg.file %s" % path, lambda: self.ask(self.file_argv(path)), seen)
        parts = text.split()
        if len(parts) < 2:
            raise Failed("%s is no package that %s can read" % (path, self.tool))
        return Wanted(parts[0], parts[1], path)

    def fingerprint(self):
        """A plain value that differs when what the index says does."""
        found = []
        for path in sorted(self.index_files()):
            seen = _look(path)
            if seen is not None and seen[1] <= SMALL:
                with open(path, "rb") as file:
                    seen = sha256(file.read()).hexdigest()
            found.append([path, seen])
        return found

    def age(self):
        """Seconds since the index was refreshed, or None when there is none."""
        last = locks.newest([self.path(self.index)])
        return max(0.0, time.time() - last) if last and self.index_files() else None

    def is_fresh(self, args):
        age = self.age()
        return bool(args.cache_valid_time and age is not None and age <= args.cache_valid_time)

    def _word(self, package):
        """How the tool's install command takes the Wanted `package`; most know no patterns of versions."""
        version = package.version
        if is_pattern(version) and package.offer and self.fits(package.offer, version):
            version = package.offer
        return package.path or ("%s=%s" % (package.name, version) if version else package.name)

    def ask(self, argv):
        """Run a command that only looks; return its output (str), "" when it fails."""
        try:
            done = self.host.run(argv, env=dict(self.environment, LC_ALL="C"), timeout=300)
        except FileNotFoundError:
            raise Missing("this host has no %s" % argv[0])
        return done.stdout.decode("utf-8", "replace") if done.exit_code == 0 else ""

    def refresh(self, args):
        """Refresh the index; return whether what it says has changed."""
        before = self.fingerprint()
        self.run(self.refresh_commands(args), args, self.index_locks)
        try:
            os.utime(self.path(self.index), None)  # when nothing is new the tools leave no trace of having looked
        except OSError:
            pass
        return self.fingerprint() != before

    def run(self, commands, args, lock_files=None):
        """Run commands that change something, each once nobody else has the database; raise Failed."""
        if self.host.uid != 0:
            raise Failed("only root may change packages", hint="set become = true on the task or the host")
        for argv in commands:
            patience = locks.Patience(self.host, args.lock_timeout)
            while True:
                self.wait(patience, self.lock_files if lock_files is None else lock_files)
                done = self.start(argv, args)
                text = (done.stdout + b"\n" + done.stderr).decode("utf-8", "replace")
                if done.exit_code in self.good_codes and not done.ended and not self.complaint(text):
                    break
                found = re.search(self.busy, text, re.MULTILINE) if self.busy else None
                if not found or done.ended:
                    raise self.explain(argv, done, text)
                patience.pause(*self.lock_in(found))

    def wait(self, patience, lock_files):
        patience.wait([self.path(path) for path in lock_files])

    def lock_in(self, found):
        """(lock, who holds it) from the match of `busy`."""
        path = found.groupdict().get("path") or "the package database"
        pid = found.groupdict().get("pid")
        return path, locks.process(int(pid)) if pid else ""

    def start(self, argv, args):
        environment = dict(self.environment, LC_ALL="C", LANGUAGE="C")
        try:
            return self.host.run(argv, env=environment, stream=True)
        except FileNotFoundError:
            raise Missing("this host has no %s" % argv[0])

    def complaint(self, text):
        """What it prints that means failure though its exit code does not (str), or ""."""
        return ""

    def explain(self, argv, done, text):
        """The Failed for a command that did not succeed."""
        detail = text.strip()[-SHOWN:]
        if done.ended:
            return Failed("%s was ended: the run was %s" % (self.tool, done.ended), detail=detail)
        for expression in self.nowhere:
            found = re.search(expression, text, re.MULTILINE)
            if found:
                return self.unknown([found.group(1)], detail)
        for expression, hint in self.errors:
            found = re.search(expression, text, re.MULTILINE)
            if found:
                return Failed("%s: %s" % (self.tool, found.group(0).strip()), hint=hint, detail=detail)
        said = [line for line in text.splitlines() if re.match(r"(E|error|Error|ERROR)\b", line.strip())]
        lines = said or [line for line in text.splitlines() if line.strip()] or [""]
        return Failed("%s: exit code %d: %s" % (self.tool, done.exit_code, lines[-1].strip()), detail=detail)

    def unknown(self, names, detail=""):
        """The Missing for packages that the index does not know."""
        import difflib

        near = []
        for name in names[:3]:
            near += difflib.get_close_matches(name, self.near(name), 1, 0.7)
        hint = "run pkg.update first, or set update_cache = true"
        if self.age() is not None and near:
            hint = "did you mean %s? Otherwise %s" % (", ".join('"%s"' % name for name in near), hint)
        one = "package" if len(names) == 1 else "packages"
        return Missing("%s knows no %s %s" % (self.name, one, ", ".join(names)), hint=hint, detail=detail)


def _look(path):
    """What tells that a file is another: (inode, size, mtime in ns), or None when there is none."""
    try:
        info = os.stat(path)
    except OSError:
        return None
    return [info.st_ino, info.st_size, info.st_mtime_ns]


def look(*paths):
    """_look() of several files, as a stamp."""
    return [_look(path) for path in paths]
