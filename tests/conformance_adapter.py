#!/usr/bin/env python3
"""Answers conformance requests, a JSON object a line, by running the module through the payload's own kernel."""

import json
import os
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from sloth.payload.kernel.converge import execute
from sloth.payload.kernel.registry import find
from sloth.payload.kernel.resource import Failed
from sloth.payload.lib.host import Host
from sloth.payload.state.store import Store


class NoChannel(object):
    """There is no controller: nothing is cancelled, what commands print is dropped."""

    def cancelled(self):
        return False

    def output(self, stream, data):
        pass


def answer(request, store, home):
    try:
        cls = find(request["module"])
        values = cls.check(request["args"])
        from sloth.payload.kernel.resource import Args

        call = cls(Args(values), Host(NoChannel(), home=home))
        outcome = execute(call, store)
    except Failed as error:
        return {"changed": False, "failed": True, "msg": error.message}
    except OSError as error:
        return {"changed": False, "failed": True, "msg": str(error)}
    return {"changed": outcome.status == "changed", "failed": False, "msg": outcome.msg}


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
