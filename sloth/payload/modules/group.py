"""Groups of accounts."""

import grp

from sloth.payload.kernel.resource import REQUIRED, Failed, Field, Resource
from sloth.payload.lib import accounts, files

_NAME = Field("name", "str", REQUIRED, aliases=("group",), help="the group's name")


class _Group(Resource):
    merged = True

    @classmethod
    def check_together(cls, values):
        accounts.check_name(values, "group")

    def key(self):
        return "group:create:%s" % self.args.name

    def identity(self):
        return self.args.name

    def place(self):
        return "group:%s" % self.args.name

    def observe(self):
        try:
            return {"gid": grp.getgrnam(self.args.name).gr_gid}
        except KeyError:
            return None


class Create(_Group):
    """Make sure that a group is there."""

    name = "group.create"
    fields = (
        _NAME,
        Field("gid", "int", help="its number"),
        Field("system", "bool", False, how=True, help="a new group is a system group, its gid from their range"),
        Field("non_unique", "bool", False, how=True, help="its gid may be another group's, too"),
    )
    returns = (Field("gid", "int", help="its number"),)
    example = 'task({name = "group", become = true, run = function() group.create({name = "app", system = true}) end})'

    def desired(self, now):
        gid = self.args.gid
        if gid is None:
            return {}
        owner = files.group_name(gid)
        if owner not in (self.args.name, str(gid)) and not self.args.non_unique:
            raise Failed("the gid %d belongs to %s" % (gid, owner), hint="set non_unique = true to share it")
        return {"gid": gid}

    def apply(self, change):
        args = self.args
        number = [] if "gid" not in change.after else ["-g", str(change.after["gid"])]
        if not self.host.has_tool("groupadd") and self.host.has_tool("addgroup"):
            if change.before is not None:
                raise Failed("busybox has no tool that changes a group's gid", hint="install the package shadow")
            argv = ["addgroup"] + (["-S"] if args.system else []) + number
        elif change.before is None:
            argv = ["groupadd"] + (["-r"] if args.system else []) + number
        else:
            argv = ["groupmod"] + number
        if args.non_unique and number and argv[0] != "addgroup":
            argv.append("-o")
        self.host.tool(argv + [args.name])

    def removal(self, before):
        return ("group.delete", {"name": self.args.name}) if before is None else None

    def result(self, now):
        return {"gid": now["gid"]} if now and "gid" in now else {}


class Delete(_Group):
    """Make sure that a group is not there."""

    name = "group.delete"
    removes = True
    fields = (_NAME,)
    example = 'task({name = "gone", become = true, run = function() group.delete({name = "app"}) end})'

    def desired(self, now):
        return None

    def apply(self, change):
        busybox = not self.host.has_tool("groupdel") and self.host.has_tool("delgroup")
        self.host.tool(["delgroup" if busybox else "groupdel", self.args.name])

    def way_back(self, before, after):
        return "group.create", {"name": self.args.name, "gid": before["gid"]}
