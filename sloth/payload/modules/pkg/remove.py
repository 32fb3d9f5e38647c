"""pkg.remove: packages are not there."""

from sloth.payload.kernel.resource import Args, ArgumentError, Change, Field, Resource
from sloth.payload.modules.pkg import names
from sloth.payload.modules.pkg.backend import choose


class Remove(Resource):
    """Make sure that packages are not installed; what depends on them goes with them, all in one transaction.

    A name may be a pattern, such as "php7*", of installed packages. With `purge` their configuration goes, too, also
    that of packages that are removed already (apt, pacman, apk; rpm's packages have no such state).
    """

    name = "pkg.remove"
    removes = True
    fields = (
        names.NAME,
        Field("purge", "bool", False, help="also its configuration files"),
        Field(
            "autoremove", "bool", False, how=True, help="also what was only installed for it, and nothing else needs"
        ),
        names.LOCK_TIMEOUT,
        names.USE,
    )
    returns = (names.TRANSACTION,)
    example = """task({name = "no telnet", become = true, run = function()
    pkg.remove({name = {"telnet", "rsh-client"}, purge = true})
end})"""

    @classmethod
    def check_together(cls, values):
        wanted = names.words(values["name"])
        if not wanted:
            raise ArgumentError("%s: the list of names is empty" % cls.name)
        for name in wanted:
            names.check_glob(name)

    @property
    def backend(self):
        return choose(self.host, self.args.use)

    def identity(self):
        return names.identity(names.words(self.args.name))

    def claims(self) -> "list[str]":
        return ["package:" + name for name in names.words(self.args.name)]

    def parts(self) -> "list[Resource]":
        words = names.words(self.args.name)
        if len(words) == 1:
            return [self]
        return [Remove(Args(dict(vars(self.args), name=[name])), self.host) for name in words]

    def part_change(self, part: "Resource", change: "Change") -> "Change":
        return Change(part.observe(), None)

    def takes_along(self) -> "list[str]":
        wanted = names.words(self.args.name)
        return ["package:" + name for name in self.backend.removed_with(wanted, self.args) if name not in wanted]

    def observe(self):
        return self.backend.present(names.words(self.args.name), self.args.purge) or None

    def desired(self, now):
        return None

    def way_back(self, before, after):
        self.host.warn("packages come back without the data and configuration that went with them")
        return "pkg.install", {"name": sorted(before)}

    def apply(self, change):
        backend = self.backend
        before = backend.database()
        backend.run(backend.remove_commands(sorted(change.before), self.args), self.args)
        return {"packages": names.transaction(before, backend.database())}
