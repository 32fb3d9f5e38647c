"""pkg.update: the index of what can be installed is refreshed, and, if asked, everything upgraded."""

from sloth.payload.kernel.resource import Action, ArgumentError, Field
from sloth.payload.modules.pkg import names
from sloth.payload.modules.pkg.backend import choose

_UPGRADES = {
    "false": "", "no": "", "true": "safe", "yes": "safe", "safe": "safe", "dist": "dist", "full": "dist",
}  # fmt: skip


class Update(Action):
    """Refresh the package index; with `upgrade`, also bring every installed package to the newest version it offers.

    It is a change when the index says something else than before, or a package changed; a refresh that brings nothing
    new is none (Ansible's apt calls every refresh a change). With `cache_valid_time` an index that was refreshed so
    many seconds ago or less is not refreshed again.
    `upgrade` = true never removes a package; "dist" may, to resolve dependencies (apt-get dist-upgrade, dnf
    distro-sync, zypper dist-upgrade, apk upgrade --available; pacman knows one way only).
    """

    name = "pkg.update"
    fields = (
        names.CACHE_VALID_TIME,
        Field(
            "upgrade", "any", False, help='true (or "safe") upgrades all packages; "dist" (or "full") may remove some'
        ),
        Field("autoremove", "bool", False, how=True, help="with upgrade: remove what nothing needs any more"),
        names.LOCK_TIMEOUT,
        names.USE,
    )
    returns = (
        Field("index_changed", "bool", help="whether the index says something new"),
        names.TRANSACTION,
    )
    example = """task({name = "up to date", become = true, run = function()
    pkg.update({cache_valid_time = 3600, upgrade = true})
end})"""

    @classmethod
    def check_together(cls, values):
        if str(values["upgrade"]).lower() not in _UPGRADES:
            raise ArgumentError('%s: upgrade must be true, false, "safe", "dist" or "full"' % cls.name)

    @property
    def backend(self):
        return choose(self.host, self.args.use)

    @property
    def _how(self):
        return _UPGRADES[str(self.args.upgrade).lower()]

    def identity(self):
        return self._how or "index"

    def guard(self):
        if not self._how and self.backend.is_fresh(self.args):
            return "the index was refreshed %d seconds ago" % self.backend.age()
        return ""

    def unrun(self, why):
        return {"index_changed": False, "packages": []}

    def run(self):
        backend = self.backend
        new = False if backend.is_fresh(self.args) else backend.refresh(self.args)
        changes = []
        if self._how:
            before = backend.database()
            backend.run(backend.upgrade_commands(self._how, self.args), self.args)
            changes = names.transaction(before, backend.database())
        return {"changed": new or bool(changes), "index_changed": new, "packages": changes}
