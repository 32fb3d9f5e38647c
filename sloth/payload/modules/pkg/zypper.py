"""SUSE's zypper."""

import glob
import re

from sloth.payload.modules.pkg import locks
from sloth.payload.modules.pkg.rpm import Rpm, newer

RAW = "/var/cache/zypp/raw"
LOCK = "/run/zypp.pid"
LOCKED = 7  # ZYPPER_EXIT_ZYPP_LOCKED


def parse_search(text):
    """Return a dict name -> newest version in any repository, from the XML of `zypper search -s`."""
    found = {}
    for tag in re.findall(r"<solvable ([^>]*)/?>", text):
        values = dict(re.findall(r'(\S+)="([^"]*)"', tag))
        name, version = values.get("name"), values.get("edition", "")
        if name and not values.get("repository", "").startswith("(System"):
            if name not in found or newer(version, found[name]):
                found[name] = version
    return found


def parse_updates(text):
    """Return a dict name -> version, from the XML of `zypper list-updates`: what zypper itself would go to."""
    tags = [dict(re.findall(r'(\S+)="([^"]*)"', tag)) for tag in re.findall(r"<update ([^>]*)>", text)]
    return dict((values["name"], values["edition"]) for values in tags if "name" in values and "edition" in values)


class Zypper(Rpm):
    """zypper waits for the lock itself, as long as ZYPP_LOCK_TIMEOUT says."""

    name = "zypper"
    tool = "zypper"
    environment = {"ZYPP_READONLY_HACK": "1"}  # of commands that only look: they need no lock
    index = RAW
    good_codes = (0, 100, 101, 102, 103)  # beyond 99: done, and there is something to know (say, a reboot is needed)
    nowhere = (
        r"^No provider of '([^'= ]+)[^']*' found",
        r"^'(\S+)' not found in package names",
        r"^Package '(\S+)' not found",
    )
    errors = (
        (r"^Problem: .*", "see the output for what zypper proposes"),
        (r"^Signature verification failed.*", "import the repository's key"),
        (r".*requires root privileges.*", "set become = true on the task or the host"),
    )

    def _argv(self, *words):
        return [self.tool, "--non-interactive"] + list(words) + self.options

    def start(self, argv, args):
        done = self.host.run(
            argv, env={"LC_ALL": "C", "ZYPP_LOCK_TIMEOUT": "%d" % max(1, args.lock_timeout)}, stream=True
        )
        if done.exit_code == LOCKED:
            text = (done.stdout + done.stderr).decode("utf-8", "replace")
            found = re.search(r"with pid ([0-9]+)", text)
            who = locks.process(int(found.group(1))) if found else ""
            raise locks.locked(self.path(LOCK), who, args.lock_timeout)
        return done

    def look_up(self, names):
        look = self._argv("--xmlout", "--no-refresh")
        installed = [name for name in names if name in self.database().packages]
        updates = parse_updates(self.ask(look + ["list-updates"])) if installed else {}
        found = dict((name, updates.get(name) or self.database().packages[name][-1][0]) for name in installed)
        rest = [name for name in names if name not in found]
        if rest:
            found.update(parse_search(self.ask(look + ["search", "-s", "--match-exact", "-t", "package"] + rest)))
        for name in rest:
            if name not in found and parse_search(
                self.ask(look + ["search", "-s", "--match-exact", "--provides", name])
            ):
                found[name] = ""
        return found

    def near(self, name):
        text = self.ask(self._argv("--xmlout", "--no-refresh") + ["search", "-s", "-t", "package", name[:2] + "*"])
        return list(parse_search(text))

    def index_files(self):
        pattern = self.path(RAW) + "/*/"
        return glob.glob(pattern + "repodata/repomd.xml") + glob.glob(pattern + "suse/setup/descr/packages*")

    def install_commands(self, packages, args):
        argv = self._argv() + ["install", "--auto-agree-with-licenses"]
        if args.install_recommends is not None:
            argv.append("--recommends" if args.install_recommends else "--no-recommends")
        if args.allow_downgrade:
            argv.append("--oldpackage")
        if any(package.path for package in packages):
            argv.append("--allow-unsigned-rpm")
        return [argv + ["--"] + [self._word(package) for package in packages]]

    def remove_commands(self, names, args):
        return [self._argv() + ["remove"] + (["--clean-deps"] if args.autoremove else []) + ["--"] + names]

    def refresh_commands(self, args):
        return [self._argv() + ["refresh"]]

    def upgrade_commands(self, how, args):
        return [self._argv() + ["dist-upgrade" if how == "dist" else "update", "--auto-agree-with-licenses"]]


BACKEND = Zypper
