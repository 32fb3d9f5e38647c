"""pkg.install: packages are there, at any version, at a certain one, or at the latest."""

from sloth.payload.kernel.resource import Args, ArgumentError, Change, Failed, Field, Resource
from sloth.payload.modules.pkg import names
from sloth.payload.modules.pkg.backend import choose
from sloth.payload.modules.pkg.names import Version, is_pattern


class Install(Resource):
    """Make sure that packages are installed; all that are missing come in one transaction.

    Each may be "name", "name=version" (also a pattern, "name=1.2*"), or the path of a package file on the host. A name
    that only other packages provide counts as installed when one of them is. With state "latest" the newest version
    that the index offers is wanted, with a pattern of versions the newest that fits it. `update_cache` refreshes the
    index before something is installed, unless it is younger than `cache_valid_time` and knows all the names; with
    "latest" also before looking, in a check, too (no package is touched). A refresh alone is no change.
    """

    name = "pkg.install"
    alone = "name"
    fields = (
        Field(
            "name",
            "list",
            aliases=names.NAME.aliases,
            help='a package or a list: "name", "name=version", or the path of a .deb, .rpm or .pkg.tar.* on the host',
        ),
        Field("deb", "path", help="the path of a package file on the host, instead of name"),
        Field("state", default="present", choices=("present", "latest"), help="present: any version will do"),
        Field("update_cache", "bool", False, how=True, aliases=("update-cache",), help="refresh the index first"),
        names.CACHE_VALID_TIME,
        Field("allow_downgrade", "bool", False, how=True, aliases=("allow-downgrade",), help="to an earlier version"),
        Field(
            "install_recommends", "bool", how=True, aliases=("install-recommends",),
            help="also what is only recommended; as the host is set up when not given",
        ),
        Field("default_release", how=True, aliases=("default-release",), help="apt's -t: the release to prefer"),
        names.LOCK_TIMEOUT,
        names.USE,
    )  # fmt: skip
    returns = (
        Field("versions", "dict", help="the version of each package that was asked for"),
        names.TRANSACTION,
    )
    example = """task({name = "web server", become = true, run = function()
    pkg.install({name = {"nginx", "curl"}, update_cache = true, cache_valid_time = 3600})
end})"""

    @classmethod
    def check_together(cls, values):
        if values["cache_valid_time"]:  # as Ansible has it: who says how old the index may be wants it refreshed
            values["update_cache"] = True
        if (values["name"] is None) == (values["deb"] is None):
            raise ArgumentError("%s needs name or deb, and not both" % cls.name)
        given = [values["deb"]] if values["deb"] else names.words(values["name"])
        if not given:
            raise ArgumentError("%s: the list of names is empty" % cls.name)
        seen = set()
        for text in given:
            package = names.parse(text, path=True)
            if values["deb"] and not package.path:
                raise ArgumentError("%s: deb must be the path of a package file: %s" % (cls.name, text))
            if package.version and values["state"] == "latest":
                raise ArgumentError("%s: %s cannot be the latest and a certain version" % (cls.name, text))
            if package.name and package.name in seen:
                raise ArgumentError("%s: %s is named twice" % (cls.name, package.name))
            seen.add(package.name)

    def __init__(self, args, host, assets=()):
        Resource.__init__(self, args, host, assets)
        self._given = [names.parse(text, path=True) for text in ([args.deb] if args.deb else names.words(args.name))]
        self._backend = None
        self._packages = None  # the Wanted that are asked for, files read
        self._offers = {}  # what observe() learned of the index: name -> version
        self._refreshed = False
        self._stale = False

    @property
    def backend(self):
        if self._backend is None:
            self._backend = choose(self.host, self.args.use)
        return self._backend

    def identity(self):
        return names.identity(package.name or self.host.expand(package.path) for package in self._given)

    def claims(self) -> "list[str]":
        return ["package:" + package.name for package in self._wanted()]

    def parts(self) -> "list[Resource]":
        if len(self._given) == 1:
            return [self]
        return [_part(self, text, package) for text, package in zip(names.words(self.args.name), self._wanted())]

    def part_change(self, part: "Resource", change: "Change") -> "Change":
        assert isinstance(part, Install)
        wanted = [package.name for package in part._wanted()]
        return Change(names.only(change.before, wanted), names.only(change.after, wanted))

    def _wanted(self):
        if self._packages is None:
            self._packages = [self.backend.from_file(one.path) if one.path else one for one in self._given]
        return self._packages

    def observe(self):
        # A survey asks nobody and refreshes nothing: any version will do, and what is not installed is missing.
        asks = not self.host.offline
        latest = asks and self.args.state == "latest"
        refresh = asks and self.args.update_cache and not self._refreshed and not self.backend.is_fresh(self.args)
        if latest and refresh:
            self._refresh()
            refresh = False
        wanted = self._wanted()
        now = dict((package.name, self.backend.version(package)) for package in wanted)
        ask = [
            p.name for p in wanted
            if not p.path and (latest or is_pattern(p.version) or not self._is_met(p, now[p.name]))
        ]  # fmt: skip
        # An index that apply() will refresh has nothing to say yet.
        if ask and asks and not refresh:
            self._offers = self.backend.offers(ask)
            unknown = [name for name in ask if name not in self._offers and now[name] is None]
            # A fresh index that lacks the name may be older than the sources that now have it: apply() refreshes it.
            self._stale = bool(unknown) and self.args.update_cache and not self._refreshed
            if unknown and not self._stale:
                raise self.backend.unknown(unknown)
        return now if any(version is not None for version in now.values()) else None

    def desired(self, now):
        return dict((package.name, self._wish(package, (now or {}).get(package.name))) for package in self._wanted())

    def _wish(self, package, now):
        name = package.name
        if package.version:
            met = self._is_met(package, now)
            return now if met else Version(package.version, lambda found: self._is_met(package, found))
        if self.args.state == "latest":
            if self._is_latest(name, now):
                return now
            return Version(self._offers.get(name) or "latest", lambda found: self._is_latest(name, found))
        return now if _whole(now) else Version(self._offers.get(name) or "installed", _whole)

    def _is_met(self, package, version):
        """Whether the installed `version` is one that the Wanted `package` asks for."""
        if not _whole(version) or not package.version:
            return _whole(version)
        return self.backend.fits(version, package.version) and not self._is_outdone(package, version)

    def _is_outdone(self, package, version):
        """Whether the index offers something newer that a pattern fits, too: Ansible takes the best that fits."""
        offer = self._offers.get(package.name)
        if not offer or not is_pattern(package.version):
            return False
        better = offer != version and not self.backend.newer(version, offer)
        return better and self.backend.fits(offer, package.version)

    def _is_latest(self, name, version):
        """By the index as it was when observe() last looked."""
        offer = self._offers.get(name)
        return _whole(version) and (not offer or version == offer or self.backend.newer(version, offer))

    def apply(self, change):
        backend = self.backend
        before = backend.database()
        if self.args.update_cache and not self._refreshed and (self._stale or not backend.is_fresh(self.args)):
            self._refresh()
        packages = [package for package in self._wanted() if package.name in change]
        latest = self.args.state == "latest"
        for package in packages:
            package.offer = self._offers.get(package.name, "") if latest or is_pattern(package.version) else ""
        if not self.args.allow_downgrade:
            for package in packages:
                self._refuse_downgrade(package, (change.before or {}).get(package.name))
        backend.run(backend.install_commands(packages, self.args), self.args)
        return {"packages": names.transaction(before, backend.database())}

    def removal(self, before):
        names = sorted(package.name for package in self._wanted() if (before or {}).get(package.name) is None)
        return ("pkg.remove", {"name": names}) if names else None

    def way_back(self, before, after):
        changed = [name for name in after if (before or {}).get(name) != after[name]]
        kept = sorted(name for name in changed if (before or {}).get(name) is not None)
        if kept:
            raise Failed("%s was another version before, and that is not brought back" % ", ".join(kept))
        return "pkg.remove", {"name": sorted(changed)}

    def _refresh(self):
        self.backend.refresh(self.args)
        self._refreshed = True

    def _refuse_downgrade(self, package, now):
        if (
            package.version
            and _whole(now)
            and not is_pattern(package.version)
            and self.backend.newer(now, package.version)
        ):
            raise Failed(
                "%s %s is installed, which is later than %s" % (package.name, now, package.version),
                hint="set allow_downgrade = true",
            )

    def result(self, now):
        return {"versions": dict((name, str(version)) for name, version in (now or {}).items() if version)}


def _whole(version):
    """Whether it is installed, and not half: "1.2 half-configured" is."""
    return version is not None and " " not in version


def _part(call: "Install", text: "str", package: "names.Wanted") -> "Resource":
    """Return the call that installs one package of several."""
    part = Install(Args(dict(vars(call.args), name=[text])), call.host)
    part._backend, part._packages = call.backend, [package]
    return part
