"""user.modify: changes attributes of an account that exists."""

from sloth.payload.kernel.resource import Field
from sloth.payload.lib import accounts
from sloth.payload.modules.user.account import ATTRIBUTES, NAME, RETURNS, Present

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.resource import Change
    from sloth.payload.kernel.values import Attributes


class Modify(Present):
    """Change attributes of an existing user; it is an error when the user does not exist.

    Other than Ansible, this is a call of its own: it never creates an account, so `system` has no effect. A missing
    home is created only if `home` or `create_home` is given, with `umask` (which Ansible ignores there). What
    user.create's documentation says of passwords, `expires` and `move_home` holds here, too.
    """

    name = "user.modify"
    fields = (
        NAME,
        *ATTRIBUTES,
        Field(
            "create_home",
            "bool",
            aliases=("createhome",),
            help="create the home directory if it is missing; by default if home is given",
        ),
    )
    returns = RETURNS
    example = """task({name = "lock the intern", become = true, run = function()
    user.create({name = "intern"})
    user.modify({name = "intern", shell = "/usr/sbin/nologin", expires = "2027-01-31"})
end})"""

    def observe(self) -> "Attributes | None":
        now = Present.observe(self)
        if now is None:
            raise accounts.missing_user(self.args.name)
        return now

    def apply(self, change: "Change") -> "Attributes | None":
        self._modify(change)
        self._set_password(change)
        return None
