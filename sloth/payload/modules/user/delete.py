"""user.delete: an account that is not there."""

from sloth.payload.kernel.resource import Field
from sloth.payload.modules.user.account import NAME, User


class Delete(User):
    """Make sure that a user is not there. Its files stay, unless `remove` is set."""

    name = "user.delete"
    removes = True
    fields = (
        NAME,
        Field("remove", "bool", False, how=True, help="remove its home directory and mail spool, too"),
        Field("force", "bool", False, how=True, help="even when it is logged in, or others use its home"),
    )
    example = """task({name = "gone", become = true, run = function()
    user.delete({name = "old-user", remove = true})
    state.delete("user:create:old-user")
end})"""

    def desired(self, now):
        return None

    def apply(self, change):
        if not self.host.has_tool("userdel") and self.host.has_tool("deluser"):
            argv = ["deluser"] + (["--remove-home"] if self.args.remove else [])
        else:
            argv = ["userdel"] + (["-r"] if self.args.remove else []) + (["-f"] if self.args.force else [])
        self.host.tool(argv + [self.args.name])
