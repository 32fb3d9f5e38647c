"""What install, remove and update need of a package manager; a class in a file of its own implements it for each."""

from sloth.payload.kernel.resource import ArgumentError, Failed, Missing
from sloth.payload.lib.regex import is_word, re
from sloth.payload.modules.pkg import execution, index, locks
from sloth.payload.modules.pkg.database import Database, Installed, Offer
from sloth.payload.modules.pkg.names import AT_LEAST, Wanted, file_kind, is_pattern, literal_prefix, upcoming_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from re import Match
    from typing import ClassVar, Iterable, Mapping, Sequence

    from sloth.payload.lib.command import Completed
    from sloth.payload.lib.host import Host
    from sloth.payload.modules.pkg.locks import Patience
    from sloth.payload.modules.pkg.options import Options

    Command = Sequence[str]


class Tool(object):
    """The part of a backend that is its own for each package manager."""

    name = ""
    tool = ""  # the command
    kind = ""  # of package files that it can install: see file_kind()
    valid_name = ""  # a regular expression: names that match have no meaning to the tool but that of a name
    environment: "ClassVar[Mapping[str, str]]" = {}
    good_codes: "ClassVar[Sequence[int]]" = (0,)
    lock_files: "ClassVar[Sequence[str]]" = ()  # POSIX locks that a change needs
    index_locks: "ClassVar[Sequence[str]]" = ()  # and those that a refresh needs
    index = ""  # the directory whose mtime is the time of the last refresh
    sources: "ClassVar[Sequence[str]]" = ()  # patterns of the paths that configure where the index comes from
    errors: "ClassVar[Sequence[tuple[str, str]]]" = ()  # (regular expression of the output, hint)
    unknown_names: "ClassVar[Sequence[str]]" = ()  # regular expressions: group 1 is a name that the tool does not know
    busy = ""  # a regular expression of a line: another process took the lock

    def __init__(self, host: "Host", root: "str" = "", options: "Sequence[str]" = (), tool: "str" = "") -> "None":
        """root: the directory that its files are below; options: more words for the command (tests use both)."""
        self.host = host
        self.root = root
        self.options = list(options)
        self.tool = tool or self.tool

    def stamp(self) -> "object":
        """Return a plain value that differs when the database does, None where nothing shows that."""
        raise NotImplementedError(self.name)

    def read(self) -> "Database":
        """Read the database."""
        raise NotImplementedError(self.name)

    def look_up(self, names: "Sequence[str]", release: "str") -> "Mapping[str, Offer]":
        """Return the offers of the index for those of `names` (as canonical() returns them) that it has."""
        raise NotImplementedError(self.name)

    def names_like(self, prefix: "str") -> "Iterable[str]":
        """Return the names in the index that begin with `prefix`, perhaps others too."""
        return ()

    def install_commands(self, packages: "Sequence[Wanted]", options: "Options") -> "Sequence[Command]":
        """Return the commands that install `packages`, which resolve() has accepted."""
        raise NotImplementedError(self.name)

    def remove_commands(self, names: "Sequence[str]", options: "Options") -> "Sequence[Command]":
        """Return the commands that remove `names`, which present() has returned."""
        raise NotImplementedError(self.name)

    def autoremove_commands(self, names: "Sequence[str]", options: "Options") -> "Sequence[Command]":
        """Return the commands that remove `names`, which unneeded() has returned."""
        raise NotImplementedError(self.name)

    def refresh_commands(self, options: "Options") -> "Sequence[Command]":
        """Return the commands that refresh the index."""
        raise NotImplementedError(self.name)

    def upgrade_commands(self, how: "str", options: "Options") -> "Sequence[Command]":
        """Return the commands that upgrade all packages. how: "safe" or "dist"."""
        raise NotImplementedError(self.name)

    def removed_with(self, names: "Sequence[str]") -> "Iterable[str]":
        """Return the packages that removing `names` removes, as far as this package manager can simulate it."""
        return ()

    def is_automatic(self, name: "str") -> "bool":
        """Return whether an installed package is there as a dependency only, where that is cheap to know."""
        return False

    def mark_commands(self, names: "Sequence[str]", automatic: "bool", options: "Options") -> "Sequence[Command]":
        """Return the commands that mark installed packages as dependencies only, or as wanted for themselves."""
        raise NotImplementedError(self.name)

    def unneeded(self) -> "Iterable[str]":
        """Return the installed packages that were dependencies and are needed by nothing any more."""
        return ()

    def file_argv(self, path: "str") -> "Command":
        """Return the command that prints "name version architecture" of a package file."""
        raise NotImplementedError(self.name)

    def index_files(self) -> "Sequence[str]":
        """Return the paths of the files that the index consists of."""
        raise NotImplementedError(self.name)

    def fits(self, version: "str", wanted: "str") -> "bool":
        """Return whether `version` is the exact version, or matches the pattern, that a call gives."""
        from fnmatch import fnmatchcase

        return version == wanted or fnmatchcase(version, wanted)

    def meets(self, version: "str", wanted: "str") -> "bool":
        """Return whether `version` is what a call gives: a version, a pattern, or ">=" and the earliest version."""
        is_earliest = wanted.startswith(AT_LEAST)
        return not self.newer(wanted[len(AT_LEAST) :], version) if is_earliest else self.fits(version, wanted)

    def newer(self, one: "str", other: "str") -> "bool":
        """Return whether version `one` is later than `other`; False where only the tool itself can tell."""
        return False

    def split(self, name: "str", database: "Database") -> "tuple[str, str]":
        """Return (name, architecture) of a name that may end with an architecture; "" where it does not."""
        return name, ""

    def label(self, name: "str", architecture: "str", database: "Database") -> "str":
        """Return the name by which to remove the installed package `name` of `architecture`."""
        return name

    def cause(self, output: "str") -> "str":
        """Return the part of a failed command's output that has the cause, where that is not its last error."""
        return ""

    def complaint(self, output: "str") -> "str":
        """Return the part of the output that means failure although the exit code does not, or ""."""
        return ""

    def start(self, argv: "Command", options: "Options") -> "Completed":
        """Run a command that changes something, and show its output."""
        environment = dict(self.environment, LC_ALL="C", LANGUAGE="C")
        return self.host.run(argv, env=environment, stream=True)

    def wait(self, patience: "Patience", lock_files: "Sequence[str]") -> "None":
        """Return when nobody has locked the database; raise Failed when that takes too long."""
        patience.wait([self.path(path) for path in lock_files])

    def lock_in(self, found: "Match[str]") -> "tuple[str, str]":
        """Return (lock, its holder) from the match of `busy`."""
        path = found.groupdict().get("path") or "the package database"
        pid = found.groupdict().get("pid")
        return path, locks.process(int(pid)) if pid else ""

    def path(self, path: "str") -> "str":
        """Return `path` below the root."""
        return self.root + path


class Backend(Tool):
    """One package manager of a host: queries of what is installed and of what can be."""

    def is_available(self) -> "bool":
        return self.host.has_tool(self.tool)

    def query(self, argv: "Command", must_succeed: "bool" = False) -> "str":
        """Run a command that changes nothing and return its output.

        When it fails, return "" or, if it `must_succeed` whether or not it finds anything, raise Failed.
        """
        try:
            done = self.host.run(argv, env=dict(self.environment, LC_ALL="C"), timeout=300)
        except FileNotFoundError:
            raise Missing("this host has no command %s" % argv[0])
        if must_succeed and done.exit_code != 0:
            raise execution.explain(self, done, (done.stdout + b"\n" + done.stderr).decode("utf-8", "replace"))
        output: "str" = done.stdout.decode("utf-8", "replace") if done.exit_code == 0 else ""
        return output

    def source_files(self) -> "list[str]":
        """Return the files and directories that configure where the index comes from."""
        from glob import glob

        return [path for pattern in self.sources for path in glob(self.path(pattern))]

    # What is installed

    def database(self) -> "Database":
        """Return the database; it is read once until it changes."""
        return self.host.once("pkg.%s%s" % (self.name, self.root), self.read, self.stamp())

    def entries(self, name: "str") -> "list[Installed]":
        """Return what is installed as `name`: of the architecture in the name, else of the native one."""
        database = self.database()
        bare, architecture = self.split(name, database)
        found = list(database.packages[bare])
        if architecture and not database.is_native(architecture):
            return [entry for entry in found if entry.architecture == architecture]
        if not database.native:
            return found
        return [entry for entry in found if database.is_native(entry.architecture)]

    def version(self, package: "Wanted") -> "str | None":
        """Return the installed version of `package`, "VERSION STATE" when it is broken, or None."""
        found = self.entries(package.name)
        whole = [entry.version for entry in found if not entry.state]
        for version in whole:
            if package.version and self.meets(version, package.version):
                return version
        if whole:
            best = whole[0]
            for version in whole[1:]:
                best = version if self.newer(version, best) else best
            return best
        return next((str(entry) for entry in found if entry.state != "config-files"), None)

    def present(self, names: "Iterable[str]", purge: "bool") -> "dict[str, str]":
        """Return what is installed of `names`, which may be patterns: the name to remove it by -> version and state.

        purge: also packages that are removed but have left their configuration.
        """
        database = self.database()
        found = {}
        for name in names:
            bare, architecture = self.split(name, database)
            for one in self._matching(bare, database.packages):
                for entry in database.packages[one]:
                    is_meant = architecture in ("", entry.architecture) or (
                        database.is_native(architecture) and database.is_native(entry.architecture)
                    )
                    if is_meant and (entry.state != "config-files" or purge):
                        found[self.label(one, entry.architecture, database)] = str(entry)
        return found

    def _matching(self, name: "str", names: "Iterable[str]") -> "list[str]":
        from fnmatch import fnmatchcase

        if not is_pattern(name):
            return [name]
        return sorted(set(one for one in names if fnmatchcase(one, name)))

    # What can be installed

    def is_valid(self, name: "str") -> "bool":
        """Return whether `name` means a package, and nothing else, to this package manager."""
        return is_word(name) or re.match(r"(?:%s)\Z" % self.valid_name, name) is not None

    def check_name(self, name: "str") -> "None":
        """Raise ArgumentError when `name` is not valid."""
        if not self.is_valid(name):
            raise ArgumentError("%r cannot be the name of a package of %s" % (name, self.name))

    def canonical(self, name: "str") -> "str":
        """Return the name by which the index and the tool know what the call names."""
        return name

    def offers(self, names: "Iterable[str]", release: "str" = "") -> "dict[str, Offer]":
        """Return the offers of the index for those of `names` that it has.

        The names of all waiting calls are queried at the same time. release: the one that is preferred, "" for none.
        """
        names = list(names)
        stamp = (self.stamp(), [index.signature(path) for path in self.index_files()])
        key = "pkg.offers %s%s %s" % (self.name, self.root, release)
        cached: "dict[str, Offer | None]" = self.host.once(key, dict, stamp)
        unseen = [name for name in names if name not in cached]
        if unseen:
            for call, given in self.host.upcoming():
                if call == "pkg.install" and given.get("state") == "latest":
                    unseen += [name for name in upcoming_names(given) if name not in cached and name not in unseen]
            for name in unseen:
                cached[name] = None
            valid = [name for name in unseen if self.is_valid(name)]
            answers = self.look_up(sorted(set(map(self.canonical, valid))), release) if valid else {}
            cached.update((name, answers.get(self.canonical(name))) for name in valid)
        found = ((name, cached[name]) for name in names)
        return dict((name, offer) for name, offer in found if offer is not None)

    def resolve(self, packages: "Iterable[Wanted]", latest: "bool" = False, release: "str" = "") -> "None":
        """Set the targets of packages, right before the tool is given them; raise Missing for one that is unknown.

        No name reaches the tool that the index does not have: it could be the tool's own syntax, such as apt's "-".
        """
        named = [package for package in packages if not package.path]
        for package in named:
            self.check_name(package.name)
        offers = self.offers([package.name for package in named], release) if named else {}
        unknown = [p.name for p in named if p.name not in offers and self.version(p) is None]
        if unknown:
            raise self.unknown(unknown)
        for package in named:
            offer = offers.get(package.name, Offer())
            package.target = self.best(package, offer) or (offer.version if latest else "")
            if package.version and not package.target:
                raise self.no_version(package, offer)

    def no_version(self, package: "Wanted", offer: "Offer") -> "Missing":
        """Return the error for a version that the index does not have."""
        versions = ", ".join(offer.versions[:5]) or "none"
        return Missing(
            "%s offers no version %s of %s, only %s" % (self.name, package.version, package.name, versions),
            hint="run pkg.update first, or set update_cache = true",
        )

    def best(self, package: "Wanted", offer: "Offer") -> "str":
        """Return the latest version of an offer that fits the version of `package`, or ""."""
        wanted = package.version
        versions = [offer.version, *offer.versions] if wanted.startswith(AT_LEAST) else offer.versions
        return next((version for version in versions if version and wanted and self.meets(version, wanted)), "")

    def expand(self, pattern: "str", is_installed: "bool") -> "list[str]":
        """Return the names that match `pattern`, of the index or (is_installed) of the database."""
        if is_installed:
            database = self.database()
            names = self._matching(pattern, database.packages)
            return [name for name in names if self.version(Wanted(name)) is not None]
        return self._matching(pattern, self.names_like(literal_prefix(pattern)))

    def from_file(self, path: "str") -> "Wanted":
        """Return the package that the file `path` holds; raise Missing when there is no file."""
        path = self.host.expand(path)
        if file_kind(path) != self.kind:
            raise Failed("%s cannot install %s" % (self.tool, path))
        state = index.signature(path)
        if state is None:
            raise Missing("%s does not exist on the host" % path, hint="copy it there first, with file.copy")
        text = self.host.once("pkg.file %s" % path, lambda: self.query(self.file_argv(path)), state)
        parts = text.split()
        if len(parts) < 2:
            raise Failed("%s is not a package that %s can read" % (path, self.tool))
        database = self.database()
        is_foreign = bool(database.native) and not database.is_native((parts + [""])[2])
        return Wanted("%s:%s" % (parts[0], parts[2]) if is_foreign else parts[0], parts[1], path)

    def word(self, package: "Wanted") -> "str":
        """Return how the tool's install command takes `package`."""
        name = self.canonical(package.name)
        return package.path or ("%s=%s" % (name, package.target) if package.version else name)

    def unknown(self, names: "Sequence[str]", detail: "str" = "") -> "Missing":
        """Return the error for names that the index does not have."""
        import difflib

        near: "list[str]" = []
        for name in names[:3]:
            others = [other for other in self.names_like(name[:2]) if other != name]
            near += difflib.get_close_matches(name, others, 1, 0.7)
        hint = "run pkg.update first, or set update_cache = true"
        if index.age(self) is not None and near:
            hint = "did you mean %s? Otherwise %s" % (", ".join('"%s"' % name for name in near), hint)
        noun = "package" if len(names) == 1 else "packages"
        return Missing("%s knows no %s %s" % (self.name, noun, ", ".join(names)), hint=hint, detail=detail)
