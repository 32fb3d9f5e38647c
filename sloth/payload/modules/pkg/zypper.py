"""SUSE's zypper."""

from sloth.payload.lib.regex import re
from sloth.payload.modules.pkg import locks
from sloth.payload.modules.pkg.database import Offer
from sloth.payload.modules.pkg.rpm import Rpm, latest_first

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterable, Mapping, Sequence

    from sloth.payload.lib.command import Completed
    from sloth.payload.modules.pkg.backend import Command
    from sloth.payload.modules.pkg.names import Wanted
    from sloth.payload.modules.pkg.options import Options

RAW = "/var/cache/zypp/raw"
LOCK = "/run/zypp.pid"
LOCKED = 7  # ZYPPER_EXIT_ZYPP_LOCKED


def parse_search(text: "str") -> "dict[str, Offer]":
    """Return name -> Offer of all repositories, from the XML of `zypper search -s`."""
    found: "dict[str, list[str]]" = {}
    for tag in re.findall(r"<solvable ([^>]*)/?>", text):
        values = dict(re.findall(r'(\S+)="([^"]*)"', tag))
        if values.get("name") and not values.get("repository", "").startswith("(System"):
            found.setdefault(values["name"], []).append(values.get("edition", ""))
    ordered = dict((name, latest_first(versions)) for name, versions in found.items())
    return dict((name, Offer(versions[0], versions)) for name, versions in ordered.items())


def parse_updates(text: "str") -> "dict[str, str]":
    """Return name -> the version that zypper would update to, from the XML of `zypper list-updates`."""
    tags = [dict(re.findall(r'(\S+)="([^"]*)"', tag)) for tag in re.findall(r"<update ([^>]*)>", text)]
    return dict((values["name"], values["edition"]) for values in tags if "name" in values and "edition" in values)


def parse_table(text: "str") -> "list[str]":
    """Return the names in the table that `zypper packages` prints."""
    rows = [[cell.strip() for cell in line.split("|")] for line in text.splitlines() if line.count("|") >= 4]
    return [row[2] for row in rows if row[0].startswith("i")]


class Zypper(Rpm):
    """zypper waits for the lock itself, for as long as ZYPP_LOCK_TIMEOUT allows."""

    name = "zypper"
    tool = "zypper"
    environment = {"ZYPP_READONLY_HACK": "1"}  # for commands that change nothing: they need no lock
    index = RAW
    sources = ("/etc/zypp/repos.d", "/etc/zypp/repos.d/*")
    good_codes = (0, 100, 101, 102, 103)  # from 100: success, with something to know (a reboot is needed)
    unknown_names = (
        r"^No provider of '([^'= ]+)[^']*' found",
        r"^'(\S+)' not found in package names",
        r"^Package '(\S+)' not found",
    )
    errors = (
        (r"^Problem: .*", "see the output for the solutions that zypper proposes"),
        (r"^Signature verification failed.*", "import the repository's key"),
        (r".*requires root privileges.*", "set become = true on the task or the host"),
    )

    def _argv(self, *words: "str") -> "list[str]":
        return [self.tool, "--non-interactive", *words, *self.options]

    def _search(self, *words: "str") -> "dict[str, Offer]":
        argv = self._argv("--xmlout", "--no-refresh")
        return parse_search(self.query([*argv, "search", "-s", "-t", "package", *words]))

    def start(self, argv: "Command", options: "Options") -> "Completed":
        environment = {"LC_ALL": "C", "ZYPP_LOCK_TIMEOUT": "%d" % max(1, options.lock_timeout)}
        done = self.host.run(argv, env=environment, stream=True)
        if done.exit_code == LOCKED:
            text = (done.stdout + done.stderr).decode("utf-8", "replace")
            found = re.search(r"with pid ([0-9]+)", text)
            holder = locks.process(int(found.group(1))) if found else ""
            raise locks.locked(self.path(LOCK), holder, options.lock_timeout)
        return done

    def look_up(self, names: "Sequence[str]", release: "str") -> "Mapping[str, Offer]":
        found = self._search("--match-exact", "--", *names)
        installed = [name for name in names if name in self.database().packages]
        updates: "dict[str, str]" = {}
        if installed:
            updates = parse_updates(self.query([*self._argv("--xmlout", "--no-refresh"), "list-updates"]))
        for name in installed:
            # zypper leaves a package alone that comes from another vendor, whatever the repositories have.
            version = updates.get(name) or self.database().packages[name][-1].version
            found[name] = Offer(version, found[name].versions if name in found else [])
        for name in names:
            if name not in found and self._search("--match-exact", "--provides", "--", name):
                found[name] = Offer()
        return found

    def names_like(self, prefix: "str") -> "Iterable[str]":
        return self._search("--", prefix + "*")

    def index_files(self) -> "Sequence[str]":
        from glob import glob

        pattern = self.path(RAW) + "/*/"
        return glob(pattern + "repodata/repomd.xml") + glob(pattern + "suse/setup/descr/packages*")

    def install_commands(self, packages: "Sequence[Wanted]", options: "Options") -> "Sequence[Command]":
        argv = [*self._argv(), "install", "--auto-agree-with-licenses"]
        if options.install_recommends is not None:
            argv.append("--recommends" if options.install_recommends else "--no-recommends")
        if options.allow_downgrade:
            argv.append("--oldpackage")
        if any(package.path for package in packages):
            argv.append("--allow-unsigned-rpm")
        return [[*argv, "--", *(self.word(package) for package in packages)]]

    def remove_commands(self, names: "Sequence[str]", options: "Options") -> "Sequence[Command]":
        return [[*self._argv(), "remove", *(["--clean-deps"] if options.autoremove else []), "--", *names]]

    def unneeded(self) -> "Iterable[str]":
        return parse_table(self.query([*self._argv("--no-refresh"), "packages", "--unneeded"]))

    def autoremove_commands(self, names: "Sequence[str]", options: "Options") -> "Sequence[Command]":
        return [[*self._argv(), "remove", "--clean-deps", "--", *names]]

    def refresh_commands(self, options: "Options") -> "Sequence[Command]":
        return [[*self._argv(), "refresh"]]

    def upgrade_commands(self, how: "str", options: "Options") -> "Sequence[Command]":
        return [[*self._argv(), "dist-upgrade" if how == "dist" else "update", "--auto-agree-with-licenses"]]


BACKEND = Zypper
