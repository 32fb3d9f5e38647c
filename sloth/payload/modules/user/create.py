"""user.create: an account that exists, as described."""

import os
import re

from sloth.payload.kernel.resource import ArgumentError, Field
from sloth.payload.lib import accounts
from sloth.payload.modules.user.account import ATTRIBUTES, NAME, RETURNS, Present

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pwd import struct_passwd

    from sloth.payload.kernel.resource import Change
    from sloth.payload.kernel.values import Arguments, Attributes


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

    Other than Ansible, there is no `generate_ssh_key`, no SELinux user, login class or profile; `state = "absent"` is
    user.delete.
    """

    name = "user.create"
    fields = (
        NAME,
        *ATTRIBUTES,
        Field("create_home", "bool", True, aliases=("createhome",), help="create the home directory if it is missing"),
        Field("skeleton", "path", how=True, help="directory that a new home is copied from"),
        Field("umask", how=True, help="umask of a new home directory, in octal, instead of that of /etc/login.defs"),
        Field("system", "bool", False, how=True, help="create a system account, with a uid of their range"),
    )
    returns = RETURNS
    example = """task({name = "users", become = true, run = function()
    user.create({name = "deploy", comment = "Deployments", shell = "/bin/sh", groups = {"staff"}, append = true})
end})"""

    @classmethod
    def check_together(cls, values: "Arguments") -> "None":
        super(Create, cls).check_together(values)
        if values["umask"] is not None and not re.match(r"^0*[0-7]{1,3}$", values["umask"]):
            raise ArgumentError("%s: umask must consist of octal digits: %s" % (cls.name, values["umask"]))

    def desired(self, now: "Attributes | None") -> "Attributes | None":
        desired = Present.desired(self, now)
        if self.args.create_home:
            desired = dict(desired or {}, home_exists=True)
        return desired

    def apply(self, change: "Change") -> "Attributes | None":
        if change.before is None:
            self._create(change)
        else:
            self._modify(change)
            if self.args.create_home:
                self._make_home()
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
            self._make_home()

    def _create_busybox(self, after: "Attributes") -> "None":
        argv = ["adduser", "-D"]
        for name, option in (("uid", "-u"), ("group", "-G"), ("comment", "-g"), ("home", "-h"), ("shell", "-s")):
            if name in after:
                argv += [option, str(after[name])]
        argv += (["-S"] if self.args.system else []) + ([] if self.args.create_home else ["-H"])
        self.host.tool(argv + [self.args.name])
        for name in after.get("groups", ()):
            self.host.tool(["addgroup", self.args.name, name])

    def _make_home(self) -> "None":
        skeleton = self.host.expand(self.args.skeleton or "/etc/skel")
        umask = int(self.args.umask, 8) if self.args.umask else _home_umask()
        make_home(accounts.get_account(self.host, self.args.name), skeleton, umask)


def make_home(entry: "struct_passwd", skeleton: "str", umask: "int") -> "None":
    """Create the home directory of `entry` from `skeleton`, as useradd does, when nothing exists at its path."""
    if os.path.lexists(entry.pw_dir):
        return
    import shutil

    os.makedirs(os.path.dirname(entry.pw_dir), exist_ok=True)
    # Created under another name and renamed when complete, so that a killed run leaves no partial home.
    temporary = "%s.sloth-%s" % (entry.pw_dir.rstrip("/"), os.urandom(6).hex())
    try:
        if os.path.isdir(skeleton):
            shutil.copytree(skeleton, temporary, symlinks=True)
        else:
            os.mkdir(temporary)
        for root, directories, names in os.walk(temporary):
            for name in directories + names:
                os.chown(os.path.join(root, name), entry.pw_uid, entry.pw_gid, follow_symlinks=False)
        os.chown(temporary, entry.pw_uid, entry.pw_gid)
        os.chmod(temporary, 0o777 & ~umask)
        os.rename(temporary, entry.pw_dir)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _home_umask() -> "int":
    """Return the umask of new homes from /etc/login.defs: HOME_MODE, else UMASK, else 022."""
    values: "dict[str, str]" = {}
    try:
        with open("/etc/login.defs", encoding="utf-8", errors="replace") as file:
            for line in file:
                words = line.split()
                if len(words) > 1:
                    values[words[0]] = words[1]
    except OSError:
        pass
    try:
        if "HOME_MODE" in values:
            return 0o777 & ~int(values["HOME_MODE"], 8)
        return int(values.get("UMASK", "022"), 8)
    except ValueError:
        return 0o022
