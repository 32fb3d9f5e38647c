"""user.create: an account that is there, as described."""

import os
import re

from sloth.payload.kernel.resource import ArgumentError, Field
from sloth.payload.modules.user.account import NAME, RETURNS, WISHES, Kept


class Create(Kept):
    """Make sure that a user is there and is as described.

    Only what is named is compared and changed. `groups` are all the further groups the user is in, unless `append` is
    set. The password never stands on a command line.
    """

    name = "user.create"
    fields = (
        NAME,
        *WISHES,
        Field("create_home", "bool", True, aliases=("createhome",), help="its home directory is there"),
        Field("skeleton", "path", how=True, help="the directory that a new home is copied from"),
        Field("umask", how=True, help="the umask of a new home directory, in octal; not that of /etc/login.defs"),
        Field("system", "bool", False, how=True, help="a new account is a system account, its uid from their range"),
    )
    returns = RETURNS
    example = """task({name = "users", become = true, run = function()
    user.create({name = "deploy", comment = "Deployments", shell = "/bin/sh", groups = {"staff"}, append = true})
end})"""

    @classmethod
    def check_together(cls, values):
        super(Create, cls).check_together(values)
        if values["umask"] is not None and not re.match(r"^0*[0-7]{1,3}$", values["umask"]):
            raise ArgumentError("%s: umask must be octal digits: %s" % (cls.name, values["umask"]))

    def desired(self, now):
        wish = Kept.desired(self, now)
        if self.args.create_home:
            wish["home_exists"] = True
        return wish

    def apply(self, change):
        if change.before is None:
            self._create(change)
        else:
            self._modify(change)
            if self.args.create_home:
                self._make_home()
        self._set_password(change)

    def _create(self, change):
        args, after = self.args, change.after
        if not self.host.has_tool("useradd") and self.host.has_tool("adduser"):
            return self._create_busybox(after)
        argv = ["useradd", "-m" if args.create_home else "-M"]
        if args.system:
            argv.append("-r")
        if args.skeleton and args.create_home:
            argv += ["-k", self.host.expand(args.skeleton)]
        if args.umask:
            argv += ["-K", "UMASK=" + args.umask]
        if "group" not in after and self.host.has_group(args.name):
            argv.append("-N")  # useradd would want to make the user's own group, and fail
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
        if args.create_home:  # useradd makes none below a directory that is not there
            self._make_home()

    def _create_busybox(self, after):
        argv = ["adduser", "-D"]
        for name, option in (("uid", "-u"), ("group", "-G"), ("comment", "-g"), ("home", "-h"), ("shell", "-s")):
            if name in after:
                argv += [option, str(after[name])]
        argv += (["-S"] if self.args.system else []) + ([] if self.args.create_home else ["-H"])
        self.host.tool(argv + [self.args.name])
        for name in after.get("groups", ()):
            self.host.tool(["addgroup", self.args.name, name])

    def _make_home(self):
        skeleton = self.host.expand(self.args.skeleton or "/etc/skel")
        umask = int(self.args.umask, 8) if self.args.umask else _home_umask()
        make_home(self.host.account(self.args.name), skeleton, umask)


def make_home(entry, skeleton, umask):
    """Make the home directory of `entry` from `skeleton`, as useradd does, when there is nothing at its path."""
    if os.path.lexists(entry.pw_dir):
        return
    import shutil

    os.makedirs(os.path.dirname(entry.pw_dir), exist_ok=True)
    # Made beside its place and put there when it is whole and the user's, so that a killed run leaves no half of one.
    making = "%s.sloth-%s" % (entry.pw_dir.rstrip("/"), os.urandom(6).hex())
    try:
        if os.path.isdir(skeleton):
            shutil.copytree(skeleton, making, symlinks=True)
        else:
            os.mkdir(making)
        for root, directories, names in os.walk(making):
            for name in directories + names:
                os.chown(os.path.join(root, name), entry.pw_uid, entry.pw_gid, follow_symlinks=False)
        os.chown(making, entry.pw_uid, entry.pw_gid)
        os.chmod(making, 0o777 & ~umask)
        os.rename(making, entry.pw_dir)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise


def _home_umask():
    """The umask that /etc/login.defs gives new homes: HOME_MODE, else UMASK, else 022."""
    values = {}
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
