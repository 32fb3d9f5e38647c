"""file.fetch: copies a file from the host to the controller."""

import os

from sloth.payload.kernel.resource import REQUIRED, DriftBy, Failed, Field, Missing, Resource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Sequence

    from sloth.payload.kernel.record import Asset
    from sloth.payload.kernel.resource import Args, Change
    from sloth.payload.kernel.values import Attributes
    from sloth.payload.lib.host import Host


class Fetch(Resource):
    """Copy a file from the host to the controller, to dest/HOST/FULL/PATH, or with `flat` to dest itself."""

    name = "file.fetch"
    subject = "src"
    fetches = True
    drift_by = DriftBy.NOTHING  # the copy is on the controller
    fields = (
        Field("src", "path", REQUIRED, help="the file on the host"),
        Field("dest", "file", REQUIRED, help="a path on the controller; a relative one is below the site's directory"),
        Field("flat", "bool", False, help="dest is the path of the file, or with a final / its directory"),
        Field("fail_on_missing", "bool", True, how=True, help="false: a missing file is not an error"),
        Field("_local", "any", how=True, help="set by the controller: the copy that it already has"),
    )
    example = """task({name = "keys", run = function()
    file.fetch({src = "/etc/hostname", dest = "fetched"})
end})"""

    def __init__(self, args: "Args", host: "Host", assets: "Sequence[Asset]" = ()) -> "None":
        Resource.__init__(self, args, host, assets)
        self._stored = (args._local or {}).get("sha256")

    @property
    def path(self) -> "str":
        return self.host.expand(self.args.src)

    def claims(self) -> "list[str]":
        return []  # what it keeps is on the controller

    def identity(self) -> "str":
        return self.path

    def observe(self) -> "Attributes | None":
        return {"content": self._stored}

    def desired(self, now: "Attributes | None") -> "Attributes | None":
        if not os.path.isfile(self.path):
            if not self.args.fail_on_missing and not os.path.exists(self.path):
                return now
            if os.path.exists(self.path):
                raise Failed("%s is not a regular file" % self.path)
            raise Missing("there is no file %s to fetch" % self.path)
        return {"content": self.host.content(self.path).sha256}

    def way_back(self, before: "Attributes | None", after: "Attributes | None") -> "Attributes":
        raise Failed("a fetched file stays on the controller")

    def apply(self, change: "Change") -> "None":
        content = self.host.content(self.path)
        self.host.give(content)
        self._stored = content.sha256
