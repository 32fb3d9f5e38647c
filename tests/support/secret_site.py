"""A site with a secret in every argument of every call, by registry, and what shows a piece of it."""

from __future__ import annotations

import base64
import io
import json
import shlex
import sqlite3
import tarfile
import urllib.parse
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from sloth.payload.kernel.registry import registry
from sloth.payload.kernel.resource import Call, Field
from sloth.playbook.adhoc import literal
from tests.contract.cases import CASES

PIECE = 12  # characters of a secret that must not be found anywhere
# How the secret is given to an argument, by the argument's type. "@" stands for it, "%" where it is part of a URL.
SHAPES: Mapping[str, tuple[object, ...]] = {
    "str": ("@", "a @ b"),
    "any": ("@", ["@"]),
    "file": ("@",),
    "path": ("/srv/@", "/srv/@/below"),
    "mode": ("@",),
    "bool": ("@",),
    "int": ("@",),
    "float": ("@",),
    "list": (["@", "x@"],),
    "argv": ("true @", ["true", "@"]),
    "dict": ({"x": "@"}, {"@": "@"}),
}
# Names of arguments that are a URL get it as a password, too: that must not become anybody's argument.
LOGINS = ("repo", "url")
_ACCOUNT = frozenset({"name", "group", "groups", "shell", "home", "comment", "skeleton", "umask", "expires"})
# What every account of the host can see in any case, in /etc/passwd, fstab, unit names or the tools' own arguments, so
# that tools get it as arguments, too. These calls get the other secret, P: it may be in process lists, nowhere else.
PUBLIC: Mapping[str, frozenset[str]] = {
    "exec.run": frozenset({"cmd", "unless", "only_if", "executable", "removes", "creates"}),
    "git.clone": frozenset({"repo", "dest", "version", "remote"}),
    "host.reboot": frozenset({"test_command", "reboot_command"}),
    "host.wait": frozenset({"test_command"}),
    "hostname.set": frozenset({"name"}),
    "timezone.set": frozenset({"name"}),
    "mount.present": frozenset({"path", "src", "fstype", "opts", "fstab"}),
    "mount.absent": frozenset({"path", "src", "fstab"}),
    "pkg.install": frozenset({"name", "deb", "default_release", "dpkg_options"}),
    "pkg.remove": frozenset({"name"}),
    **{f"group.{verb}": frozenset({"name"}) for verb in ("create", "delete")},
    **{f"user.{verb}": _ACCOUNT for verb in ("create", "modify", "delete")},
    **{cls.name: frozenset({"name", "user"}) for cls in registry() if cls.name.startswith("systemd.")},
    **{cls.name: frozenset({"validate"}) for cls in registry() if cls.name.startswith("file.")},
}  # fmt: skip
# Other arguments of calls that wait: for a host that has not rebooted, or is not there.
IMPATIENT: Mapping[str, Mapping[str, object]] = {
    "host.reboot": {"reboot_command": "true", "timeout": 1, "connect_timeout": 1},
    "host.wait": {"timeout": 1, "connect_timeout": 1},
}
NEEDED = {"path": "/srv/needed", "file": "/srv/needed", "list": ["needed"], "argv": "true", "dict": {}, "mode": "0600"}


def calls(shapes: int = 1) -> Iterator[tuple[str, str, str]]:
    """Yield (call, argument, Lua) for every argument of every call; shapes: how many of SHAPES each is given in."""
    for cls in registry():
        for field in _fields(cls):
            given = SHAPES[field.type][:shapes]
            if field.name in LOGINS:
                given = (*given, "http://u:%@127.0.1.1:1/x")
            for shape in given:
                args = {**_base(cls), field.name: shape}
                for other in [name for name in args if name != field.name and _excludes(cls, args, name)]:
                    del args[other]
                is_public = field.name in PUBLIC.get(cls.name, ()) and "%" not in str(shape)
                yield cls.name, field.name, f"{cls.name}({_lua(args, 'P' if is_public else 'S')})"


def site(shapes: int = 1) -> str:
    """Return the site: S and P are secrets, see PUBLIC; each call has a task of its own, which may fail."""
    lines = [
        'local S, P = secret("s"), secret("p")',
        'handler({name = "handler " .. S, run = function() exec.run({cmd = {"true", P}}) end})',
        'task({name = "first " .. S, tags = {S}, notify = {"handler " .. S}, run = function()',
        '    file.copy({content = "MARK " .. S, dest = "/srv/first"}) end})',
    ]
    for number, (call, argument, lua) in enumerate(calls(shapes)):
        name = f"{number} {call} {argument} MARK"
        lines.append(
            f"task({{name = {literal(name)}, ignore_errors = true, timeout = 60, run = function() {lua} end}})"
        )
    return "\n".join(lines) + "\n"


def _fields(cls: type[Call]) -> list[Field]:
    return [field for field in cls.fields if not field.name.startswith("_")]


def _base(cls: type[Call]) -> dict[str, object]:
    """Return arguments with which the call does something."""
    if cls.name in CASES:
        return dict(CASES[cls.name].args)
    needed = {field.name: NEEDED.get(field.type, "needed") for field in _fields(cls) if field.required}
    return {**needed, **IMPATIENT.get(cls.name, {})}


def _excludes(cls: type[Call], args: Mapping[str, object], name: str) -> bool:
    """Return whether the call is refused with this argument, and not without it."""

    def is_refused(given: Mapping[str, object]) -> bool:
        try:
            cls.check(given)
        except Exception:
            return True
        return False

    return is_refused(args) and not is_refused({key: value for key, value in args.items() if key != name})


def _lua(value: object, variable: str) -> str:
    """Return a Lua expression; "@" in a text, or "%" in a URL, is the variable."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"[{_lua(key, variable)}] = {_lua(item, variable)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "{" + ", ".join(_lua(item, variable) for item in value) + "}"
    mark = "%" if isinstance(value, str) and "://u:" in value else "@"
    if isinstance(value, str) and mark in value and "ssh-" not in value:
        return "(" + f" .. {variable} .. ".join(literal(part) for part in value.split(mark)) + ")"
    return literal(value)


# Searching


class Search:
    """Finds pieces of a secret: as it is, and as it may be quoted or encoded."""

    def __init__(self, secret: str) -> None:
        raw = secret.encode()
        forms = [secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], urllib.parse.quote(secret)]
        forms += [base64.b64encode(b"u:"[:pad] + raw).decode()[4:-4] for pad in range(3)]
        forms += [urllib.parse.quote_plus(secret), shlex.quote(secret)]
        pieces = {form[at : at + PIECE] for form in forms for at in range(max(1, len(form) - PIECE + 1))}
        # What would be found in any text: runs of one character, or words of an escape.
        self._pieces = frozenset(piece.encode() for piece in pieces if len(set(piece)) > min(4, len(secret) - 1))
        self._sizes = sorted({len(piece) for piece in self._pieces})

    def __call__(self, data: bytes | str) -> str:
        """Return what stands around a piece of it, "" when there is none."""
        text = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
        for size in self._sizes:
            for at in range(len(text) - size + 1):
                if text[at : at + size] in self._pieces:
                    return text[max(0, at - 120) : at + 60].decode("utf-8", "replace")
        return ""


def stored(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the files below a directory with their names, and what is packed in the databases among them."""
    for file in sorted(path.rglob("*")):
        yield f"name of {file}", str(file.relative_to(path)).encode("utf-8", "surrogateescape")
        if file.is_file() and not file.is_symlink():
            yield str(file), file.read_bytes()
            if file.suffix == ".db":
                yield f"pieces in {file}", _pieces(file)


def packed(archive: bytes, scratch: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the same of what is in a tar archive."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            yield f"name of {member.name}", (member.name + member.linkname).encode("utf-8", "surrogateescape")
            file = tar.extractfile(member) if member.isreg() else None
            if file is not None:
                data = file.read()
                yield member.name, data
                if data.startswith(b"SQLite"):
                    scratch.write_bytes(data)
                    yield f"pieces in {member.name}", _pieces(scratch)


def _pieces(path: Path) -> bytes:
    """Return the contents that a state file keeps, unpacked."""
    database = sqlite3.connect(path)
    try:
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name='pieces'").fetchone():
            return b""
        return b"\n".join(zlib.decompress(row[0]) for row in database.execute("SELECT data FROM pieces"))
    finally:
        database.close()
