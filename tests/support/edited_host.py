"""A host with a real payload of which single messages are changed on their way, as a test says.

`edited_host.py RULES HOME PYTHON ARG...` stands in place of the host's Python. RULES is a file of JSON rules
[match, change]: a message that has all that `match` says is changed. Of `match`, "session" is the number of the session
from 1. `change` is any of: "set", other values; "blob", a text that the host sends first as a piece of a file of this
call; "drop": it is not passed on; "end": the payload is killed instead.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sloth.inventory import Inventory
from tests.support.paths import ROOT

Rule = tuple[dict[str, Any], dict[str, Any]]


def edited_hosts(directory: Path, **rules: Sequence[Rule]) -> Inventory:
    """Return an inventory of hosts of these names, each with its rules and a home `directory`/NAME."""
    lines = []
    for name, of_host in rules.items():
        home = directory / name
        home.mkdir(exist_ok=True)
        (directory / f"{name}.rules").write_text(json.dumps(of_host))
        program = directory / f"{name}.python"
        command = f'"{sys.executable}" "{__file__}" "{directory}/{name}.rules" "{home}" "{sys.executable}"'
        program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec {command} "$@"\n')
        program.chmod(0o755)
        lines.append(f'[hosts.{name}]\nconnection = "local"\npython = "{program}"\n')
    (directory / "edited.toml").write_text("".join(lines))
    return Inventory.read(directory / "edited.toml")


def _frame(body: bytes, kind: int = 0) -> bytes:
    return struct.pack(">IB", len(body), kind) + body


def _edited(message: dict[str, Any], rules: Sequence[Rule], session: int) -> bytes:
    """Return the frames in place of a message. Exits where the payload is to be killed."""
    found = b""
    for match, change in rules:
        if not match.items() <= {**message, "session": session}.items():
            continue
        if change.get("end"):
            os._exit(1)
        if change.get("drop"):
            return found
        if "blob" in change:
            found += _frame(struct.pack(">IH", message["id"], 0) + change["blob"].encode(), 1)
        message = {**message, **change.get("set", {})}
    return found + _frame(json.dumps(message).encode("ascii"))


def _feed(target: int) -> None:
    """Pass on what the controller sends; the payload ends when it does."""
    while data := os.read(0, 1 << 16):
        os.write(target, data)
    os.close(target)


def main() -> None:
    rules_path, home, *command = sys.argv[1:]
    rules: list[Rule] = json.loads(Path(rules_path).read_text())
    with Path(rules_path + ".sessions").open("a+") as file:
        file.write(".")
        session = file.tell()
    environment = {**os.environ, "HOME": home}
    child = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    threading.Thread(target=_feed, args=(child.stdin.fileno(),), daemon=True).start()
    while line := child.stdout.readline():  # lines until the payload runs, then frames
        os.write(1, line)
        if line == b"OK\n":
            break
    while len(header := child.stdout.read(5)) == 5:
        size, kind = struct.unpack(">IB", header)
        body = child.stdout.read(size)
        os.write(1, _frame(body, kind) if kind else _edited(json.loads(body), rules, session))
    os._exit(child.wait())


if __name__ == "__main__":
    main()
