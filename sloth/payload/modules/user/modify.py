"""user.modify: attributes of an account that must be there already."""

from sloth.payload.kernel.resource import Missing
from sloth.payload.modules.user.account import NAME, RETURNS, WISHES, Kept


class Modify(Kept):
    """Change attributes of a user that is there; it is an error when there is none."""

    name = "user.modify"
    fields = (NAME, *WISHES)
    returns = RETURNS
    example = """task({name = "lock the intern", become = true, run = function()
    user.create({name = "intern"})
    user.modify({name = "intern", shell = "/usr/sbin/nologin", expires = "2027-01-31"})
end})"""

    def observe(self):
        now = Kept.observe(self)
        if now is None:
            raise Missing("there is no user %s" % self.args.name, hint="make it first, with user.create")
        return now

    def apply(self, change):
        self._modify(change)
        self._set_password(change)
