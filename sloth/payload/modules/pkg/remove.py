"""Remove packages."""

from sloth.payload.kernel.resource import Args, ArgumentError, Change, Field, Resource
from sloth.payload.modules.pkg import execution, index, names
from sloth.payload.modules.pkg.choice import choose
from sloth.payload.modules.pkg.database import transaction
from sloth.payload.modules.pkg.options import Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.values import Arguments, Attributes
    from sloth.payload.modules.pkg.backend import Backend


class Remove(Resource):
    """Ensure that packages are not installed; what depends on them is removed too, all in one transaction.

    A name may be a pattern of installed packages, such as "php7*". With `purge` their configuration is also removed,
    that of packages that were removed before included (apt, pacman, apk; rpm's packages have no such state).
    `autoremove` alone, without a name, removes all packages that were dependencies and are not needed any more.

    A "name=version" (also a pattern of versions, or "name>=version") is removed if such a version is installed.

    Other than Ansible: a virtual name does not remove the packages that provide it.
    Other than Ansible: without purge, packages that left their configuration are unchanged, also with autoremove.
    """

    name = "pkg.remove"
    alone = "name"
    removes = True
    fields = (
        Field(
            "name", "list", aliases=names.ALIASES, help="a package or a list; patterns match installed packages"
        ),
        Field("purge", "bool", False, help="also remove the configuration files"),
        Field(
            "autoremove", "bool", False, how=True,
            help="also remove its dependencies that nothing else needs; without name, all that nothing needs",
        ),
        Field(
            "update_cache", "bool", False, how=True, aliases=("update-cache",),
            help="refresh the index before something is removed",
        ),
        names.LOCK_TIMEOUT,
        names.USE,
    )  # fmt: skip
    returns = (names.TRANSACTION,)
    example = """task({name = "no telnet", become = true, run = function()
    pkg.remove({name = {"telnet", "rsh-client"}, purge = true})
end})"""

    @classmethod
    def check_together(cls, values: "Arguments") -> "None":
        if values["name"] is None:
            if not values["autoremove"]:
                raise ArgumentError("%s needs name, or autoremove" % cls.name)
            return
        given = names.split_list(values["name"])
        if not given:
            raise ArgumentError("%s: the list of names is empty" % cls.name)
        for name in given:
            names.parse(name)

    @property
    def backend(self) -> "Backend":
        return choose(self.host, self.args.use)

    def identity(self) -> "str":
        # No package manager has a name with parentheses around it.
        return "(unneeded)" if self.args.name is None else names.identity(names.split_list(self.args.name))

    def _names(self) -> "list[str]":
        return (
            []
            if self.args.name is None
            else [names.split_version(name)[0] for name in names.split_list(self.args.name)]
        )

    def claims(self) -> "list[str]":
        return ["package:" + self._canonical(name) for name in self._names()]

    def _canonical(self, name: "str") -> "str":
        # Only a name with an architecture may be another name of the same package.
        return self.backend.canonical(name) if ":" in name else name

    def parts(self) -> "list[Resource]":
        given = [] if self.args.name is None else names.split_list(self.args.name)
        if len(given) < 2:
            return [self]
        return [Remove(Args(dict(vars(self.args), name=[name])), self.host) for name in given]

    def part_change(self, part: "Resource", change: "Change") -> "Change":
        return Change(part.observe(), None)

    def takes_along(self) -> "list[str]":
        wanted = [self._canonical(name) for name in self._names()]
        return ["package:" + name for name in self.backend.removed_with(wanted) if name not in wanted]

    def observe(self) -> "Attributes | None":
        if self.args.name is None:
            return self.backend.present(self.backend.unneeded(), False) or None
        present = {}
        for text in names.split_list(self.args.name):
            package = names.parse(text)
            for label, installed in self.backend.present([package.name], self.args.purge).items():
                if not package.version or self.backend.meets(installed.partition(" ")[0], package.version):
                    present[label] = installed
        return present or None

    def desired(self, now: "Attributes | None") -> "Attributes | None":
        return None

    def way_back(self, before: "Attributes | None", after: "Attributes | None") -> "tuple[str, Arguments] | Attributes":
        self.host.warn("packages are installed again without the data and configuration that was removed with them")
        return "pkg.install", {"name": sorted(before or {})}

    def apply(self, change: "Change") -> "Attributes | None":
        backend = self.backend
        options = Options.of(self.args)
        before = backend.database()
        if self.args.update_cache:
            index.refresh(backend, options)
        commands = backend.autoremove_commands if self.args.name is None else backend.remove_commands
        execution.execute(backend, commands(sorted(change.before or {}), options), options)
        return {"packages": transaction(before, backend.database())}
