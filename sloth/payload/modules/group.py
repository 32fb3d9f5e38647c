"""Groups of accounts."""

import grp

from sloth.payload.kernel.resource import REQUIRED, Failed, Field, Resource
from sloth.payload.lib import accounts, files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sloth.payload.kernel.resource import Change
    from sloth.payload.kernel.values import Arguments, Attributes

_NAME = Field("name", "str", REQUIRED, aliases=("group",), help="name of the group")


class _Group(Resource):
    merged = True

    @classmethod
    def check_together(cls, values: "Arguments") -> "None":
        accounts.check_name(values, "group")

    def key(self) -> "str":
        return "group:create:%s" % self.args.name

    def identity(self) -> "str":
        return str(self.args.name)

    def place(self) -> "str | None":
        return "group:%s" % self.args.name

    def observe(self) -> "Attributes | None":
        try:
            return {"gid": grp.getgrnam(self.args.name).gr_gid}
        except KeyError:
            return None


class Create(_Group):
    """Make sure that a group exists.

    Other than Ansible, a gid that belongs to another group is refused before anything is changed.
    """

    name = "group.create"
    fields = (
        _NAME,
        Field("gid", "int", help="numeric group ID"),
        Field("system", "bool", False, how=True, help="create a system group, with a gid of their range"),
        Field("non_unique", "bool", False, how=True, help="allow a gid that another group has"),
    )
    returns = (Field("gid", "int", help="numeric group ID"),)
    example = 'task({name = "group", become = true, run = function() group.create({name = "app", system = true}) end})'

    def desired(self, now: "Attributes | None") -> "Attributes | None":
        gid = self.args.gid
        if gid is None:
            return {}
        owner = files.group_name(gid)
        if owner not in (self.args.name, str(gid)) and not self.args.non_unique:
            raise Failed("the gid %d belongs to %s" % (gid, owner), hint="set non_unique = true to share it")
        return {"gid": gid}

    def apply(self, change: "Change") -> "Attributes | None":
        args, after = self.args, change.after or {}
        number = [] if "gid" not in after else ["-g", str(after["gid"])]
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
        return None

    def removal(self, before: "Attributes | None") -> "tuple[str, Arguments] | None":
        return ("group.delete", {"name": self.args.name}) if before is None else None

    def result(self, now: "Attributes | None") -> "Attributes":
        return {"gid": now["gid"]} if now and "gid" in now else {}


class Delete(_Group):
    """Make sure that a group does not exist.

    Other than Ansible, this is a call of its own instead of `state = "absent"`.
    """

    name = "group.delete"
    removes = True
    fields = (_NAME,)
    example = 'task({name = "old", become = true, run = function() group.delete({name = "app"}) end})'

    def desired(self, now: "Attributes | None") -> "Attributes | None":
        return None

    def apply(self, change: "Change") -> "Attributes | None":
        is_busybox = not self.host.has_tool("groupdel") and self.host.has_tool("delgroup")
        self.host.tool(["delgroup" if is_busybox else "groupdel", self.args.name])
        return None

    def way_back(self, before: "Attributes | None", after: "Attributes | None") -> "tuple[str, Arguments] | Attributes":
        return "group.create", {"name": self.args.name, "gid": (before or {}).get("gid")}
