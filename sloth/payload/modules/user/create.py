"""user.create: an account that exists, as described."""

from sloth.payload.kernel.resource import Field
from sloth.payload.modules.user.account import ATTRIBUTES, NAME, RETURNS, Present

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.resource import Change
    from sloth.payload.kernel.values import Attributes


class Create(Present):
    """Make sure that a user exists and is as described.

    Only the attributes that are given are compared and changed. `groups` are all the supplementary groups of the user,
    unless `append` is set. The password never appears on a command line.

    Other than Ansible, an empty password is refused, since anybody could log in with it; ask for an account without a
    password with `empty_password = true`. Unlocking an account that has no password is refused, too.

    Other than Ansible, `expires` may be a date, and `home` is compared without a slash at the end.

    Other than Ansible, `move_home` creates the missing parents of the new home, and fails before it changes anything
    when the new home already exists.

    Other than Ansible, a home directory that is missing is created again, with its owner, mode and content, and a run
    that is killed leaves no half of one. A uid that belongs to another account is refused before anything is changed.

    Other than Ansible, a run in which nothing differs is unchanged with `password_expire_account_disable`, too.

    Other than Ansible, there is no `generate_ssh_key`, no SELinux user, login class or profile, and no `local`;
    `state = "absent"`, with `remove` and `force`, is user.delete.
    """

    name = "user.create"
    fields = (
        NAME,
        *ATTRIBUTES,
        Field("create_home", "bool", True, aliases=("createhome",), help="create the home directory if it is missing"),
        Field("uid_min", "int", how=True, help="the first uid to choose from for a new account, instead of UID_MIN"),
        Field("uid_max", "int", how=True, help="the last uid to choose from for a new account, instead of UID_MAX"),
    )
    returns = RETURNS
    example = """task({name = "users", become = true, run = function()
    user.create({name = "deploy", comment = "Deployments", shell = "/bin/sh", groups = {"staff"}, append = true})
end})"""

    def apply(self, change: "Change") -> "Attributes | None":
        if change.before is None:
            self._create(change)
        else:
            self._modify(change)
        self._set_password(change)
        return None

    def _create(self, change: "Change") -> "None":
        args, after = self.args, change.after or {}
        if not self.host.has_tool("useradd") and self.host.has_tool("adduser"):
            self._create_busybox(after)
            return
        argv = ["useradd", "-m" if args.create_home else "-M"]
        if args.system:
            argv.append("-r")
        if args.skeleton and args.create_home:
            argv += ["-k", self.host.expand(args.skeleton)]
        if args.umask:
            argv += ["-K", "UMASK=" + args.umask]
        for name in ("uid_min", "uid_max"):
            if getattr(args, name) is not None:
                argv += ["-K", "%s=%d" % (name.upper(), getattr(args, name))]
        if "group" not in after and self.host.has_group(args.name):
            argv.append("-N")  # useradd would try to create the user's own group, and fail
        for name, option in (("uid", "-u"), ("group", "-g"), ("comment", "-c"), ("home", "-d"), ("shell", "-s")):
            if name in after:
                argv += [option, str(after[name])]
        if "uid" in after and args.non_unique:
            argv.append("-o")
        if after.get("groups"):
            argv += ["-G", ",".join(after["groups"])]
        if after.get("expires"):
            argv += ["-e", after["expires"]]
        self.host.tool(argv + [args.name])
        if args.create_home:  # useradd creates none below a directory that does not exist
            self.make_home()

    def _create_busybox(self, after: "Attributes") -> "None":
        argv = ["adduser", "-D"]
        for name, option in (("uid", "-u"), ("group", "-G"), ("comment", "-g"), ("home", "-h"), ("shell", "-s")):
            if name in after:
                argv += [option, str(after[name])]
        argv += (["-S"] if self.args.system else []) + ([] if self.args.create_home else ["-H"])
        self.host.tool(argv + [self.args.name])
        for name in after.get("groups", ()):
            self.host.tool(["addgroup", self.args.name, name])
