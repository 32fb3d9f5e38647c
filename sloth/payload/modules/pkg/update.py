"""Refresh the index of what can be installed and, if wanted, upgrade everything."""

from sloth.payload.kernel.resource import Action, ArgumentError, Field
from sloth.payload.modules.pkg import execution, index, names
from sloth.payload.modules.pkg.choice import choose
from sloth.payload.modules.pkg.database import transaction
from sloth.payload.modules.pkg.options import Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.values import Arguments, Attributes
    from sloth.payload.modules.pkg.backend import Backend

_UPGRADES = {
    "false": "", "no": "", "true": "safe", "yes": "safe", "safe": "safe", "dist": "dist", "full": "dist",
}  # fmt: skip


class Update(Action):
    """Refresh the package index; with `upgrade`, also bring every installed package to the latest version it has.

    It is a change when the index differs from before, or a package was changed. With `cache_valid_time` an index that
    was refreshed within so many seconds is not refreshed again, unless its sources have changed since.
    `upgrade` = true never removes a package; "dist" may, to resolve dependencies (apt-get dist-upgrade, dnf
    distro-sync, zypper dist-upgrade, apk upgrade --available; pacman knows one way only). `autoremove` removes packages
    that were dependencies and are not needed any more, also without `upgrade`.

    Other than Ansible: a refresh that brings nothing new is not a change.
    """

    name = "pkg.update"
    fields = (
        names.CACHE_VALID_TIME,
        Field(
            "upgrade", "any", False, help='true (or "safe") upgrades all packages; "dist" (or "full") may remove some'
        ),
        Field("autoremove", "bool", False, how=True, help="also remove packages that nothing needs any more"),
        names.LOCK_TIMEOUT,
        names.USE,
    )
    returns = (
        Field("index_changed", "bool", help="whether the index differs from before"),
        names.TRANSACTION,
    )
    example = """task({name = "up to date", become = true, run = function()
    pkg.update({cache_valid_time = 3600, upgrade = true})
end})"""

    @classmethod
    def check_together(cls, values: "Arguments") -> "None":
        if str(values["upgrade"]).lower() not in _UPGRADES:
            raise ArgumentError('%s: upgrade must be true, false, "safe", "dist" or "full"' % cls.name)

    @property
    def backend(self) -> "Backend":
        return choose(self.host, self.args.use)

    @property
    def _how(self) -> "str":
        return _UPGRADES[str(self.args.upgrade).lower()]

    def identity(self) -> "str":
        return self._how or "index"

    def _is_fresh(self) -> "bool":
        return index.is_fresh(self.backend, self.args.cache_valid_time)

    def guard(self) -> "str":
        if not self._how and not self.args.autoremove and self._is_fresh():
            return "the index was refreshed %d seconds ago" % (index.age(self.backend) or 0)
        return ""

    def unrun(self, why: "str") -> "Attributes":
        return {"index_changed": False, "packages": []}

    def run(self) -> "Attributes":
        backend = self.backend
        options = Options.of(self.args)
        has_changed = False if self._is_fresh() else index.refresh(backend, options)
        before = backend.database()
        if self._how:
            execution.execute(backend, backend.upgrade_commands(self._how, options), options)
        elif self.args.autoremove:
            unneeded = list(backend.unneeded())
            if unneeded:
                execution.execute(backend, backend.autoremove_commands(unneeded, options), options)
        changes = transaction(before, backend.database())
        return {"changed": has_changed or bool(changes), "index_changed": has_changed, "packages": changes}
