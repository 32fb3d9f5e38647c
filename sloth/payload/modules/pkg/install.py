"""Install packages, at any version, at a certain one, or at the latest."""

from sloth.payload.kernel.resource import Args, ArgumentError, Change, Failed, Field, Resource
from sloth.payload.modules.pkg import execution, index, names
from sloth.payload.modules.pkg.choice import choose
from sloth.payload.modules.pkg.database import transaction
from sloth.payload.modules.pkg.names import Version, Wanted, is_pattern
from sloth.payload.modules.pkg.options import Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Sequence

    from sloth.payload.kernel.record import Asset
    from sloth.payload.kernel.values import Arguments, Attributes
    from sloth.payload.lib.host import Host
    from sloth.payload.modules.pkg.backend import Backend
    from sloth.payload.modules.pkg.database import Offer


AUTOMATIC = " (dependency)"  # follows the version of a package that nobody has asked for by name


class Install(Resource):
    """Ensure that packages are installed; all that are missing are installed in one transaction.

    Each may be "name", "name=version" (also a pattern of versions, "name=1.2*", of which the latest counts),
    "name>=version" (any later version counts, too; with `state = "latest"` the latest), a pattern of names ("php8.2-*":
    all that the index has), or the path of a package file on the host. With apt, a name may end with an architecture
    ("libc6:i386", ":native" and ":any"), with dnf and zypper too ("glibc.i686"). A name that only other packages
    provide counts as installed when one of them is.

    With `state = "latest"` the latest version that the index has is desired; "name=version" still means that version.
    With `only_upgrade` a package that is not installed is left alone, and a pattern means installed packages: `{name =
    "php*", state = "latest", only_upgrade = true}` upgrades those; `{name = "*", state = "latest"}` upgrades all.

    `update_cache` refreshes the index before something is installed, unless it is younger than `cache_valid_time` and
    has all the names; with "latest" or a pattern it does so before comparing, in a check, too (no package is touched).
    A refresh alone is not a change.

    Other than Ansible: "name>=version" fails when the index has no such version (Ansible installs an earlier one), and
    two packages that conflict fail (Ansible installs each in turn, run by run).
    Other than Ansible: a version is always "name=version", with every package manager; dnf's "name-version" is not.
    Other than Ansible: groups ("@web"), modules, releases ("name/sid"), other version ranges and URLs are not names.
    Other than Ansible: a name is looked up in the index first, so apt's "name-" never removes a package.
    Other than Ansible: a `default_release` that does not exist is an error only when the index is asked.
    Other than Ansible: an index that was refreshed before one of its sources changed is never fresh.
    Other than Ansible: with only_upgrade, a pattern that matches no installed package is not a failure.
    Other than Ansible: a package that waits for a trigger is installed; one that is half configured is installed again.
    Other than Ansible: a package that was there as a dependency only is marked as wanted, so that nothing removes it
    with the package that needed it; that is a change (apt, apk, pacman).
    Other than Ansible: signatures are always verified; there is no `force` and no `allow_unauthenticated`.
    """

    name = "pkg.install"
    alone = "name"
    fields = (
        Field(
            "name",
            "list",
            aliases=names.ALIASES,
            help='a package or a list: "name", "name=version", a pattern of names, or the path of a .deb, .rpm or '
            ".pkg.tar.* file on the host",
        ),
        Field("deb", "path", help="the path of a package file on the host, instead of name"),
        Field(
            "state", default="present", choices=("present", "latest"), help="present: any version will do"
        ),
        Field(
            "only_upgrade", "bool", False, aliases=("only-upgrade", "update_only"),
            help="leave packages alone that are not installed",
        ),
        Field("update_cache", "bool", False, how=True, aliases=("update-cache",), help="refresh the index first"),
        names.CACHE_VALID_TIME,
        Field(
            "allow_downgrade", "bool", False, how=True, aliases=("allow-downgrade",),
            help="replace a later version by the given one",
        ),
        Field(
            "install_recommends", "bool", how=True, aliases=("install-recommends",),
            help="also install recommended packages; by default as the host is configured",
        ),
        Field("default_release", how=True, aliases=("default-release",), help="apt's -t: the release to prefer"),
        Field(
            "allow_change_held_packages", "bool", False, how=True, help="with apt: also change packages that are held"
        ),
        names.DPKG_OPTIONS,
        names.LOCK_TIMEOUT,
        names.USE,
    )  # fmt: skip
    returns = (
        Field("versions", "dict", help="the installed version of each package that was given"),
        names.TRANSACTION,
    )
    example = """task({name = "web server", become = true, run = function()
    pkg.install({name = {"nginx", "curl"}, update_cache = true, cache_valid_time = 3600})
end})"""

    @classmethod
    def check_together(cls, values: "Arguments") -> "None":
        if values["cache_valid_time"]:  # as with Ansible: who limits the age of the index wants it refreshed
            values["update_cache"] = True
        if (values["name"] is None) == (values["deb"] is None):
            raise ArgumentError("%s needs either name or deb" % cls.name)
        given = [values["deb"]] if values["deb"] else names.split_list(values["name"])
        if not given:
            raise ArgumentError("%s: the list of names is empty" % cls.name)
        seen = set()
        for text in given:
            package = names.parse(text)
            if values["deb"] and not package.path:
                raise ArgumentError("%s: deb must be the path of a package file, not %s" % (cls.name, text))
            if package.name == "*" and not (values["only_upgrade"] or values["state"] == "latest"):
                raise ArgumentError(
                    '%s: "*" would install every package there is' % cls.name, hint='state = "latest" upgrades all'
                )
            if package.name and package.name in seen:
                raise ArgumentError("%s: %s is given twice" % (cls.name, package.name))
            seen.add(package.name)

    def __init__(self, args: "Args", host: "Host", assets: "Sequence[Asset]" = ()) -> "None":
        Resource.__init__(self, args, host, assets)
        self._given = [names.parse(text) for text in ([args.deb] if args.deb else names.split_list(args.name))]
        self._options = Options.of(args)
        self._is_latest_wanted = args.state == "latest"
        self._backend: "Backend | None" = None
        self._packages: "list[Wanted] | None" = None  # what is given, with files read and patterns expanded
        self._groups: "list[list[Wanted]]" = []  # the same, for each that is given
        self._offers: "dict[str, Offer]" = {}  # what observe() learned of the index
        self._is_refreshed = False
        self._is_stale = False  # the index lacks a name, and may be older than the sources that have it

    @property
    def backend(self) -> "Backend":
        if self._backend is None:
            self._backend = choose(self.host, self.args.use)
        return self._backend

    def identity(self) -> "str":
        return names.identity(package.name or self.host.expand(package.path) for package in self._given)

    def claims(self) -> "list[str]":
        return ["package:" + self.backend.canonical(package.name) for package in self._wanted()]

    def parts(self) -> "list[Resource]":
        if len(self._given) == 1:
            return [self]
        self._wanted()
        texts = names.split_list(self.args.name)
        return [_part(self, text, packages) for text, packages in zip(texts, self._groups)]

    def part_change(self, part: "Resource", change: "Change") -> "Change":
        assert isinstance(part, Install)
        wanted = [package.name for package in part._wanted()]
        return Change(names.only(change.before, wanted), names.only(change.after, wanted))

    def _wanted(self) -> "list[Wanted]":
        if self._packages is None:
            self._groups = [self._read(given) for given in self._given]
            self._packages = [package for group in self._groups for package in group]
        return self._packages

    def _read(self, given: "Wanted") -> "list[Wanted]":
        """Return the packages that one element of `name` means."""
        if given.path:
            return [self.backend.from_file(given.path)]
        if not is_pattern(given.name):
            self.backend.check_name(given.name)
            return [given]
        is_installed = self.args.only_upgrade or given.name == "*" or self.host.offline
        found = self.backend.expand(given.name, is_installed)
        is_known = found or given.name == "*" or self.host.offline
        if not is_known and not (is_installed and self.backend.expand(given.name, False)):
            raise self.backend.unknown([given.name])
        explicit = [package.name for package in self._given]
        return [Wanted(name) for name in found if name not in explicit]

    def observe(self) -> "Attributes | None":
        # A look for drift neither queries nor refreshes the index: any version will do, what is missing is missing.
        has_index = not self.host.offline
        latest = has_index and self._is_latest_wanted
        has_pattern = any(is_pattern(package.name + package.version) for package in self._given)
        refresh = has_index and self.args.update_cache and not self._is_refreshed and not self._is_fresh()
        if refresh and (latest or has_pattern):
            self._refresh()
            refresh = False
        wanted = self._wanted()
        now = dict((package.name, self._installed_version(package)) for package in wanted)
        ask = [
            p.name for p in wanted
            if not p.path and (latest or is_pattern(p.version) or not self._is_met(p, _without_mark(now[p.name])))
        ]  # fmt: skip
        # An index that apply() will refresh does not count yet.
        if ask and has_index and not refresh:
            self._offers = self.backend.offers(ask, self._options.default_release)
            error = self._unavailable(wanted, now)
            # A fresh index that lacks the name may be older than the sources that now have it: apply() refreshes it.
            self._is_stale = error is not None and self.args.update_cache and not self._is_refreshed
            if error is not None and not self._is_stale:
                raise error
        if self.args.only_upgrade:
            now = dict((name, version) for name, version in now.items() if version is not None)
        return now if any(version is not None for version in now.values()) else None

    def _installed_version(self, package: "Wanted") -> "str | None":
        """Return the installed version, with a word behind it for a package that is there as a dependency only."""
        version = self.backend.version(package)
        if not _is_whole(version) or package.name not in [given.name for given in self._given]:
            return version
        is_dependency = not self.args.only_upgrade and self.backend.is_automatic(self.backend.canonical(package.name))
        return "%s%s" % (version, AUTOMATIC) if is_dependency else version

    def _unavailable(self, wanted: "Sequence[Wanted]", now: "Attributes") -> "Failed | None":
        """Return the error for what has to be installed and is not in the index, None when all of it is."""
        named = [package for package in wanted if not package.path]
        unknown = [p.name for p in named if p.name not in self._offers and now[p.name] is None]
        if unknown:
            return self.backend.unknown(unknown)
        for package in named:
            offer = self._offers.get(package.name)
            if offer and package.version and not self.backend.best(package, offer):
                if not self._is_met(package, _without_mark(now[package.name])):
                    return self.backend.no_version(package, offer)
        return None

    def desired(self, now: "Attributes | None") -> "Attributes | None":
        wanted = self._wanted()
        if self.args.only_upgrade:
            wanted = [package for package in wanted if package.name in (now or {})]
        if not wanted:
            return now
        return dict((package.name, self._desired_version(package, (now or {}).get(package.name))) for package in wanted)

    def _desired_version(self, package: "Wanted", now: "str | None") -> "str | None":
        offer = self._offers.get(package.name)
        now = _without_mark(now)
        if package.version:
            met = self._is_met(package, now)
            return now if met else Version(package.version, lambda found: self._is_met(package, found))
        text = offer.version if offer else ""
        if self._is_latest_wanted and not package.path:
            if self._is_latest(package.name, now):
                return now
            return Version(text or "latest", lambda found: self._is_latest(package.name, found))
        return now if _is_whole(now) else Version(text or "installed", _is_whole)

    def _is_met(self, package: "Wanted", version: "str | None") -> "bool":
        """Return whether the installed `version` is one that `package` asks for."""
        if version is None or not _is_whole(version) or not package.version:
            return _is_whole(version)
        return self.backend.meets(version, package.version) and not self._is_outdone(package, version)

    def _is_outdone(self, package: "Wanted", version: "str") -> "bool":
        """Return whether the index has a later version that fits, too: with Ansible that one counts for a pattern."""
        offer = self._offers.get(package.name)
        is_open = package.version.startswith(names.AT_LEAST) and self._is_latest_wanted
        if not offer or not (is_open or is_pattern(package.version)):
            return False
        best = self.backend.best(package, offer)
        return bool(best) and best != version and not self.backend.newer(version, best)

    def _is_latest(self, name: "str", version: "str | None") -> "bool":
        """Return whether `version` is the latest by the index as it was when observe() last read it."""
        offer = self._offers.get(name)
        if version is None or not _is_whole(version):
            return False
        return offer is None or offer.version in ("", version) or self.backend.newer(version, offer.version)

    def apply(self, change: "Change") -> "Attributes | None":
        backend = self.backend
        before = backend.database()
        if self.args.update_cache and not self._is_refreshed and (self._is_stale or not self._is_fresh()):
            self._refresh()
        packages = self._mark([package for package in self._wanted() if package.name in change], change)
        if not packages:
            return {"packages": []}
        backend.resolve(packages, self._is_latest_wanted, self._options.default_release)
        if not self.args.allow_downgrade:
            for package in packages:
                self._refuse_downgrade(package, (change.before or {}).get(package.name))
        execution.execute(backend, backend.install_commands(packages, self._options), self._options)
        return {"packages": transaction(before, backend.database())}

    def _mark(self, packages: "list[Wanted]", change: "Change") -> "list[Wanted]":
        """Mark the packages of which only that differs whether they are dependencies; return the others."""
        rest, wanted, automatic = [], [], []
        for package in packages:
            before, after = [(versions or {}).get(package.name) for versions in (change.before, change.after)]
            if before is not None and before.endswith(AUTOMATIC) and after == _without_mark(before):
                wanted.append(self.backend.canonical(package.name))
            elif after is not None and str(after) == "%s%s" % (before, AUTOMATIC):
                automatic.append(self.backend.canonical(package.name))
            else:
                rest.append(package)
        for marked, is_automatic in ((wanted, False), (automatic, True)):
            if marked:
                commands = self.backend.mark_commands(marked, is_automatic, self._options)
                execution.execute(self.backend, commands, self._options)
        return rest

    def removal(self, before: "Attributes | None") -> "tuple[str, Arguments] | None":
        added = sorted(package.name for package in self._wanted() if (before or {}).get(package.name) is None)
        return ("pkg.remove", {"name": added}) if added and not self.args.only_upgrade else None

    def way_back(self, before: "Attributes | None", after: "Attributes | None") -> "tuple[str, Arguments] | Attributes":
        after = after or {}
        changed = [name for name in after if (before or {}).get(name) != after[name]]
        marked = [name for name in changed if (before or {}).get(name) == after[name] + AUTOMATIC]
        if marked and marked == changed:
            return before or {}
        kept = sorted(name for name in changed if (before or {}).get(name) is not None)
        if kept:
            raise Failed("%s had another version before, which cannot be restored" % ", ".join(kept))
        return "pkg.remove", {"name": sorted(changed)}

    def _is_fresh(self) -> "bool":
        return index.is_fresh(self.backend, self.args.cache_valid_time)

    def _refresh(self) -> "None":
        index.refresh(self.backend, self._options)
        self._is_refreshed = True

    def _refuse_downgrade(self, package: "Wanted", now: "str | None") -> "None":
        version = package.target or package.version
        now = _without_mark(now)
        if package.version and now is not None and _is_whole(now) and self.backend.newer(now, version):
            raise Failed(
                "%s %s is installed, which is later than %s" % (package.name, now, version),
                hint="set allow_downgrade = true",
            )

    def result(self, now: "Attributes | None") -> "Attributes":
        return {"versions": dict((name, str(version)) for name, version in (now or {}).items() if version)}


def _is_whole(version: "str | None") -> "bool":
    """Return whether a package is installed and not broken: "1.2 half-configured" is."""
    return version is not None and " " not in version


def _without_mark(version: "str | None") -> "str | None":
    return version[: -len(AUTOMATIC)] if version is not None and version.endswith(AUTOMATIC) else version


def _part(call: "Install", text: "str", packages: "list[Wanted]") -> "Resource":
    """Return the call that installs one of several that are given."""
    part = Install(Args(dict(vars(call.args), name=[text])), call.host)
    part._backend, part._packages, part._groups = call.backend, packages, [packages]
    return part
