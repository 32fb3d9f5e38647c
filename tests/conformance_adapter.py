#!/usr/bin/env python3
"""Answers conformance requests, a JSON object a line, by running the module through the payload's own kernel.

What a call ships (src, content, a template) is resolved by the controller's own code, with the request's "dir" as the
site's directory and its "vars" as the host's variables. That needs the controller's Python; all else runs under every
Python that the payload supports.
"""

import json
import os
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from sloth.payload.kernel.content import Content
from sloth.payload.kernel.converge import execute
from sloth.payload.kernel.record import Asset
from sloth.payload.kernel.registry import find
from sloth.payload.kernel.resource import Args, Failed
from sloth.payload.lib.host import Host
from sloth.payload.state.store import Store


class NoChannel(object):
    """There is no controller: nothing is cancelled, what commands print is dropped."""

    def cancelled(self):
        return False

    def output(self, stream, data):
        pass


class AssetHost(Host):
    """This machine, with the assets of one call."""

    shipped = ()

    def asset(self, call, index):
        asset = self.shipped[index]
        return Content(asset.sha256, asset.size, asset.open)


def ship(cls, values, request):
    """Return the arguments and assets of a call as the controller would send them."""
    if not cls.ships or values.get("remote_src"):
        return values, []
    import asyncio
    from pathlib import Path

    from sloth.engine.assets import Shipper

    async def variables(facts):
        return request.get("vars") or {}

    directory = Path(request.get("dir") or ".")
    return asyncio.run(Shipper(NoMemory()).prepare(cls, values, variables, (directory,)))


class NoMemory(object):
    """Hashes of large files are not remembered."""

    def hash_of(self, path, info):
        return None

    def keep_hash(self, path, info, sha256):
        pass


def answer(request, store, home):
    try:
        cls = find(request["module"])
        values, shipped = ship(cls, cls.check(request["args"]), request)
        host = AssetHost(NoChannel(), home=home)
        host.shipped = shipped
        assets = [Asset(name=one.name, sha256=one.sha256, size=one.size, mode=one.mode, dir=one.dir) for one in shipped]
        outcome = execute(cls(Args(values), host, assets), store)
    except Failed as error:
        return {"changed": False, "failed": True, "msg": error.message}
    except controller_errors() as error:
        return {"changed": False, "failed": True, "msg": str(error)}
    except OSError as error:
        return {"changed": False, "failed": True, "msg": str(error)}
    return {"changed": outcome.status == "changed", "failed": False, "msg": outcome.msg}


def controller_errors():
    """Return the controller's own errors; a Python that it does not run under has none."""
    try:
        from sloth.errors import SlothError
    except (ImportError, SyntaxError):
        return ()
    return (SlothError,)


def main():
    with tempfile.TemporaryDirectory() as home:
        store = make_store(home)
        for line in sys.stdin:
            if line.strip():
                sys.stdout.write(json.dumps(answer(json.loads(line), store, home)) + "\n")
                sys.stdout.flush()


def make_store(home):
    return Store(os.path.join(home, "conformance.db"))


if __name__ == "__main__":
    main()
