"""user.delete: removes an account."""

from sloth.payload.kernel.resource import Field
from sloth.payload.modules.user.account import NAME, User

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.resource import Change
    from sloth.payload.kernel.values import Attributes


class Delete(User):
    """Make sure that a user does not exist. Its files are kept, unless `remove` is set.

    Other than Ansible, this is a call of its own instead of `state = "absent"`.
    """

    name = "user.delete"
    removes = True
    fields = (
        NAME,
        Field("remove", "bool", False, how=True, help="remove its home directory and mail spool, too"),
        Field("force", "bool", False, how=True, help="remove it even while it is logged in, or others use its home"),
    )
    example = """task({name = "remove old accounts", become = true, run = function()
    user.delete({name = "old-user", remove = true})
    state.delete("user:create:old-user")
end})"""

    def desired(self, now: "Attributes | None") -> "Attributes | None":
        return None

    def apply(self, change: "Change") -> "Attributes | None":
        if not self.host.has_tool("userdel") and self.host.has_tool("deluser"):
            argv = ["deluser"] + (["--remove-home"] if self.args.remove else [])
        else:
            argv = ["userdel"] + (["-r"] if self.args.remove else []) + (["-f"] if self.args.force else [])
        self.host.tool(argv + [self.args.name])
        return None
