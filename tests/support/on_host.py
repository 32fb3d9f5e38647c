"""Runs on a host, with the payload it keeps: is desired() pure, and what do commands show to everybody?

python3 on_host.py PAYLOAD NAME ARGUMENTS ASSETS prints {"pure": why not or "", "argv": [[...], ...], "left": [...]};
ARGUMENTS and ASSETS are JSON.
"""

import copy
import json
import os
import subprocess
import sys

payload, name, arguments, assets = sys.argv[1:]
sys.path.insert(0, payload)

from sloth.payload import loader  # noqa: E402  the payload's place is an argument

loader.install(payload.rstrip("/"))

from sloth.payload.kernel.content import Content  # noqa: E402
from sloth.payload.kernel.record import Asset  # noqa: E402
from sloth.payload.kernel.registry import find  # noqa: E402
from sloth.payload.kernel.resource import Args, Change, difference  # noqa: E402
from sloth.payload.lib.host import Host  # noqa: E402

seen = []
real_popen = subprocess.Popen


class Channel:
    """Nobody is at the other end."""

    def cancelled(self, epoch=None):
        return False

    def output(self, stream, data):
        pass


def main():
    given = json.loads(assets)
    host = Host(Channel())
    host.asset = lambda call, index: Content.of_bytes(given[index]["text"].encode())
    cls = find(name)
    call = cls(Args(cls.check(json.loads(arguments))), host, [Asset.read(asset) for asset in given])
    before = call.observe()
    kept = copy.deepcopy(before)
    why = ""
    try:
        with Guard():
            desired, second = call.desired(before), call.desired(before)
    except Impure as error:
        desired = second = call.desired(before)
        why = str(error)
    if difference(desired, second) or difference(second, desired):
        why = f"asked twice it answers {desired!r} and {second!r}"
    if difference(before, kept) or difference(kept, before):
        why = "it changed what it was given"
    change = Change(before, desired)
    left = []
    if change.names:
        call.apply(change)
        host.changed()
        left = difference(call.observe(), desired)
    print(json.dumps({"pure": why, "argv": seen, "changed": change.names, "left": left}))


class Impure(Exception):
    pass


class Guard:
    """While it is entered, nothing may be written and no command run."""

    def __enter__(self):
        verbs = ("rename", "unlink", "mkdir", "chmod", "chown", "symlink")
        self.kept = {verb: getattr(os, verb) for verb in verbs}
        for verb in self.kept:
            setattr(os, verb, self.refuse(verb))
        self.open = os.open
        os.open = self.guarded
        self.popen = subprocess.Popen
        subprocess.Popen = self.refuse("a command")

    def refuse(self, what):
        def refused(*args, **more):
            raise Impure(f"desired() does {what} {args!r}")

        return refused

    def guarded(self, path, flags, *more, **named):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise Impure(f"desired() writes {path!r}")
        return self.open(path, flags, *more, **named)

    def __exit__(self, *exc):
        for verb, function in self.kept.items():
            setattr(os, verb, function)
        os.open = self.open
        subprocess.Popen = self.popen


class Recording(real_popen):
    """A command, written down with its environment."""

    def __init__(self, argv, *more, **named):
        words = [argv] if isinstance(argv, (str, bytes)) else list(argv)
        environment = named.get("env") or {}
        seen.append([os.fsdecode(word) for word in words] + [f"{name}={value}" for name, value in environment.items()])
        real_popen.__init__(self, argv, *more, **named)


subprocess.Popen = Recording
main()
