"""Nothing goes round the redaction: sites that put a secret everywhere, and a search of all that leaves the engine."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from sloth.engine.events import CallOutput, Event, HostFinished, TaskFinished
from sloth.engine.options import Options
from sloth.engine.secrets import Secrets
from sloth.payload.kernel.redact import MASK
from sloth.payload.kernel.value import Value
from tests.support.running import run_local

PIECE = 12  # characters of a secret that must not be found anywhere
# Each is the body of a task; S is the secret, MARK something that must be found, so that the case proves something.
CASES = {
    "name of a task": "",
    "log": 'log.info("MARK " .. S); log.debug(S); log.warn(S .. S); print("a", S, {S})',
    "quoted in a log": 'print(string.format("MARK %q", S))',
    "error of Lua": 'error("MARK " .. S)',
    "error with a table": 'error({S, msg = "MARK " .. S})',
    "index of nil": "local t = {}; print(t[S].MARK)",
    "argument that is wrong": 'file.copy({dest = "HOME/MARK", content = "x", mode = S})',
    "argument with a wrong choice": 'file.directory({path = "HOME/MARK", state = S})',
    "argument with a wrong type": 'file.copy({dest = {MARK = S}, content = "x"})',
    "unknown argument": 'file.copy({dest = "HOME/MARK", [S] = "x"})',
    "unknown call": "file[S]({})",
    "argv": 'exec.run({cmd = {"echo", "MARK", S, S .. S}})',
    "shell": 'exec.run({cmd = "printf %s \\"$T\\"; echo MARK", env = {T = S}})',
    "failing command": 'exec.run({cmd = {"sh", "-c", '
    '"printf \\"MARK %s\\" \\"$1\\" >&2; printf %s \\"$1\\"; exit 3", "sh", S}})',
    "command not found": 'exec.run({cmd = {"/nowhere/MARK/" .. S}})',
    # Public reports: salt #69075 (a command that cannot start shows its environment and input), ansible #38214, #33912
    # (the item of a loop that fails), terraform-provider-shell #123 (output in base64), meraki #131 (the former value).
    "command not found with an environment": 'exec.run({cmd = {"/nowhere/MARK"}, env = {T = S}, stdin = S, cwd = "/"})',
    "directory not found": 'exec.run({cmd = "true MARK", env = {T = S}, stdin = S, cwd = "/nowhere/" .. S})',
    "item of a loop": 'for _, i in ipairs({{name = "MARK", password = S}}) do '
    'exec.run({cmd = {"sh", "-c", "exit 3"}, env = {P = i.password}, stdin = i.name .. i.password}) end',
    "output in base64": 'print("MARK", exec.run({cmd = [[printf "user:%s" "$T" | base64]], env = {T = S}}).stdout)',
    "guard that fails": 'exec.run({cmd = "true MARK", only_if = {"sh", "-c", [[echo "$1"; exit 1]], "sh", S}})',
    "former target": 'file.link({path = "HOME/l", src = "/MARK/" .. S, force = true})\n'
    'file.link({path = "HOME/l", src = "/MARK/x", force = true})',
    "stdin": 'exec.run({cmd = "cat; echo MARK", stdin = S .. "\\n" .. S})',
    "output in pieces": (
        'exec.run({cmd = {"python3", "-uc", "import os,time\\nT = os.environb[b\'T\']\\nn = max(1, len(T) // 7)\\n'
        'for i in range(0, len(T), n):\\n    os.write(1, T[i:i+n]); time.sleep(0.02)\\nos.write(1, b\'MARK\')"},'
        " env = {T = S}})"
    ),
    "content": 'file.copy({dest = "HOME/MARK", content = "a\\n" .. S .. "\\nb\\n"})',
    "line": 'if string.find(S, "\\n") then return end '
    'file.lineinfile({path = "HOME/MARK", line = "x=" .. S, create = true})',
    "key": 'file.copy({dest = "HOME/MARK" .. S, content = "x"})',
    "long key": 'exec.run({cmd = {"echo", string.rep("MARK ", 1 + utf8.len(S) // 20), S}})',
    "value of a switch": 'file.copy({dest = "HOME/MARK", content = "x", force = S})',
    "value of a number": 'exec.run({cmd = "MARK", timeout = S})',
    "key of a host": 'ssh.known_hosts({path = "HOME/MARK", name = "MARK", key = S})',
    "path that is missing": 'file.copy({dest = "HOME/MARK/" .. S .. "/x", content = "x"})',
    "source that is missing": 'file.copy({dest = "HOME/x", src = "MARK" .. S})',
    "template": 'file.template({dest = "HOME/MARK", src = "good.j2", vars = {v = S}})',
    "template that fails": 'file.template({dest = "HOME/MARK", src = "bad.j2", vars = {v = S}})',
    "rendered": 'print("MARK " .. template("good.j2", {v = S}))',
    "rendering that fails": 'template("bad.j2", {v = S})',
    "template that is missing": 'template("MARK" .. S, {})',
    "include": 'include("MARK" .. S)',
    "secret of a secret": 'secret("MARK" .. S)',
    "shared values": 'state.set("MARK" .. S, S); print("MARK " .. state.get("MARK" .. S))',
    "lock that is held": 'state.lock("MARK" .. S, "other", 60); state.lock("MARK" .. S, S, 60)',
    "lock with a wrong time": 'state.lock("MARK", "x", S)',
    "require": 'print("MARK"); require(S)',
    "pcall": 'local ok, e = pcall(function() file.copy({dest = "/proc/MARK/" .. S, content = S}) end); print(e)',
}  # fmt: skip
SECRETS = {
    "short": "a1-b2",
    "quotes": 'it\'s "quoted" \\ and `more` $HOME ${x} {{ y }} {% z %}',
    "lines": "-----BEGIN X-----\nshort\nfirstline0123456789\nsecond'line\"9876543210\n-----END X-----\n",
    "non-ASCII": "pässwörd-ключ-密码-\U0001f511 and more of it",
    "line ends": "first line of it\r\nsecond line of it\r\tthird",
    "long": "".join(random.Random(7).choices("abcdefghijklmnopqrstuvwxyzABCDEFGH0123456789+-'\" ", k=900)),
    "very long": "".join(random.Random(8).choices("abcdefghijklmnopqrstuvwxyz0123456789äß\"'\\ \n", k=5000)),
}


def texts(value: object) -> Iterator[str]:
    """Yield every string in an event or a row, however deep it is."""
    if isinstance(value, str):
        yield str(value)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from texts(key)
            yield from texts(item)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from texts(item)
    elif isinstance(value, Value):
        for name in type(value).fields:
            yield from texts(getattr(value, name))
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from texts(getattr(value, field.name))


def leaked(text: str, secret: str) -> str:
    """Return a piece of the secret that stands in `text`, "" when none does."""
    size = min(PIECE, len(secret))
    pieces = (secret[at : at + size] for at in range(len(secret) - size + 1))
    return next((piece for piece in pieces if piece.strip("abc \n") and piece in text), "")


def everything(events: list[Event], controller: Path) -> Iterator[str]:
    """Yield what left the engine: events, what a command printed as one text, the rows of run records."""
    for event in events:
        yield from texts(event)
    for stream in ("stdout", "stderr"):
        yield "".join(event.data for event in events if isinstance(event, CallOutput) and event.stream == stream)
    with sqlite3.connect(controller / "controller.db") as database:
        for table in ("runs", "told", "results"):
            if database.execute("SELECT 1 FROM sqlite_master WHERE name=?", (table,)).fetchone():
                yield from texts(database.execute(f"SELECT * FROM {table}").fetchall())
    database.close()


def site(cases: dict[str, str], home: Path) -> str:
    head = 'local S = secret("s")\ntask({name = "first " .. S, run = function() end})\n'
    tasks = (
        f'task({{name = "{name} MARK", ignore_errors = true, run = function()\n{body}\nend}})\n'
        for name, body in cases.items()
    )
    return (head + "".join(tasks)).replace("HOME", str(home))


def run(secret: str, home: Path, options: Options) -> list[Event]:
    """Run all cases with this secret."""
    directory = home / ".sloth-runner"
    directory.mkdir()
    (directory / "good.j2").write_text("MARK {{ v }}\n")
    (directory / "bad.j2").write_text("MARK {{ v }}{{ {}[v].x }}\n")
    with mock.patch.dict(os.environ, {"SLOTH_SECRET_S": secret}):
        events = asyncio.run(run_local(site(CASES, home), home, options))
    ended = [event.task for event in events if isinstance(event, TaskFinished)]
    assert len(ended) == len(CASES) + 1, [event.error for event in events if isinstance(event, HostFinished)]
    return events


def leaks(events: list[Event], home: Path, secret: str) -> dict[str, str]:
    """Return the texts that have a piece of the secret in them, with the piece."""
    found = {text: leaked(text, secret) for text in everything(events, home / ".sloth-runner" / "controller")}
    return {text[:400]: piece for text, piece in found.items() if piece}


@pytest.mark.parametrize("check", [False, True], ids=["run", "check"])
@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
def test_a_secret_is_nowhere_in_what_leaves_the_engine(secret: str, check: bool, tmp_path: Path) -> None:
    events = run(secret, tmp_path, Options(check=check))
    assert leaks(events, tmp_path, secret) == {}
    # What the host shows is redacted there, too, so only some of it proves that the events were.
    assert any(MASK in text for text in everything(events, tmp_path / ".sloth-runner" / "controller"))


def test_the_search_would_find_it(tmp_path: Path) -> None:
    with mock.patch.object(Secrets, "events", lambda self, event: [event]):
        events = run(SECRETS["lines"], tmp_path, Options())
    found = leaks(events, tmp_path, SECRETS["lines"])
    kinds = {type(event).__name__ for event in events if any(text[:400] in found for text in texts(event))}
    assert {"CallFinished", "CallOutput", "Log", "TaskFinished"} <= kinds
    assert len(found) > 15
