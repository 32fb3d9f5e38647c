"""file.fetch: a file from the host to the controller."""

import os

from sloth.payload.kernel.resource import REQUIRED, DriftBy, Failed, Field, Resource


class Fetch(Resource):
    """Copy a file from the host to the controller, below dest/HOST/ by its full path; with flat to dest itself."""

    name = "file.fetch"
    subject = "src"
    fetches = True
    drift_by = DriftBy.NOTHING  # what it keeps is on the controller
    fields = (
        Field("src", "path", REQUIRED, help="the file on the host"),
        Field("dest", "str", REQUIRED, help="where it goes on the controller; relative: beside the site"),
        Field("flat", "bool", False, help="dest is the file itself, or with a final / its directory"),
        Field("fail_on_missing", "bool", True, how=True, help="false: a missing file is no failure"),
        Field("_local", "any", how=True, help="what the controller has: its own"),
    )
    example = """task({name = "keys", run = function()
    file.fetch({src = "/etc/hostname", dest = "fetched"})
end})"""

    def __init__(self, args, host, assets=()):
        Resource.__init__(self, args, host, assets)
        self._stored = (args._local or {}).get("sha256")

    @property
    def path(self):
        return self.host.expand(self.args.src)

    def identity(self):
        return self.path

    def observe(self):
        return {"content": self._stored}

    def desired(self, now):
        if not os.path.isfile(self.path):
            if not self.args.fail_on_missing and not os.path.exists(self.path):
                return now
            raise Failed("there is no file %s to fetch" % self.path)
        return {"content": self.host.content(self.path).sha256}

    def way_back(self, before, after):
        raise Failed("what was fetched stays on the controller")

    def apply(self, change):
        content = self.host.content(self.path)
        self.host.give(content)
        self._stored = content.sha256
