"""The site's files: their source, and the name under which hosts remember the site."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

from sloth.errors import SiteError
from sloth.frozen import frozen
from sloth.playbook.roles import Roles
from sloth.reading import read_file


@frozen
class Site:
    """A site file, and those that follow it.

    Attributes:
        path: as the user wrote it.
        source: Lua.
        directory: where its files and templates are.
        adhoc: made from one call of the command line. It owns what it creates, but does not describe the rest of a
            host: what it does not mention is not to be removed.
        more: further files, which are loaded after this one, into the same Lua runtime: together they are one site.
        roles_path: directories of roles, besides `roles` beside each of its files.
        name: its identity, where the user gives it one.
        remembered: its identity, where its files are elsewhere: of the site of a saved plan.
    """

    path: str
    source: bytes
    directory: Path
    adhoc: bool = False
    more: tuple[Site, ...] = ()
    remembered: str = ""
    roles_path: tuple[Path, ...] = ()
    name: str = ""

    @classmethod
    def read(cls, *paths: str, roles_path: Sequence[Path] = (), name: str = "") -> Site:
        """Read the files of a site, in this order. Raises SiteError."""
        first, *more = (cls._read_file(path) for path in paths)
        site = dataclasses.replace(first, more=tuple(more), roles_path=tuple(roles_path), name=name)
        seen: dict[Path, str] = {}
        for file in site.files:
            path = Path(file.path).resolve()
            if path in seen:
                raise SiteError(f"the site {file.path} was named twice", hint="name each file once")
            seen[path] = file.path
        return site

    @classmethod
    def _read_file(cls, path: str) -> Site:
        try:
            source = read_file(path, pipes=True)
        except FileNotFoundError:
            raise SiteError(f"site {path} not found") from None
        except OSError as error:
            raise SiteError(f"cannot read the site {path}: {error.strerror}") from error
        return cls(path, lua_source(source, path), Path(path).resolve().parent)

    @property
    def files(self) -> tuple[Site, ...]:
        """This file and those that follow it."""
        return (self, *self.more)

    @property
    def title(self) -> str:
        """The paths of all files, for people."""
        return ", ".join(file.path for file in self.files)

    @property
    def directories(self) -> tuple[Path, ...]:
        """The directories of all files, each once."""
        return tuple(dict.fromkeys(file.directory for file in self.files))

    @property
    def roles(self) -> Roles:
        """Where its roles are looked for."""
        beside = (self.directory if file.adhoc else Path(file.path).parent for file in self.files)
        return Roles((*dict.fromkeys(directory / "roles" for directory in beside), *self.roles_path))

    @property
    def role_modules(self) -> tuple[Path, ...]:
        """The directories of the modules of its roles; not all of them need exist."""
        return self.roles.module_directories([file.source for file in self.files if b"role" in file.source])

    @property
    def identity(self) -> str:
        """The name under which hosts remember what this site owns: that of its file; of several, all in sorted order.

        So a site of several files is one of its own: what it owns is not pruned by a run of one of the files.
        """
        if self.remembered or self.name:
            return self.remembered or self.name
        return " + ".join(sorted(file._own_identity for file in self.files))

    @property
    def is_portable(self) -> bool:
        """Whether other controllers know the site by the same identity: it is not made of paths of this machine."""
        return not any(part.startswith("/") for part in self.identity.split(" + "))

    @property
    def _own_identity(self) -> str:
        """The name of one file.

        In a git working copy with a remote it is the remote's address (without user and password) and the path below
        the working copy's root, such as "git.example.com/ops/web:site.sloth", so that it is the same in every working
        copy. Otherwise it is the absolute path.
        """
        if self.adhoc:
            return self.path
        path = self.directory / Path(self.path).name
        for root in path.parents:
            remote = _remote(root / ".git" / "config") if (root / ".git").is_dir() else None
            if remote:
                return f"{remote}:{path.relative_to(root)}"
            if (root / ".git").exists():
                break
        return str(path)


# A task may have the option `until = function(r) ... end`, but `until` is a keyword of Lua. Nowhere in Lua does "="
# follow it, so that this is no other program's meaning. Comments and strings are matched to be left alone.
_KEYWORD_OPTION = re.compile(
    rb"""--\[(?P<comment>=*)\[.*?\](?P=comment)\]|--[^\n]*|\[(?P<long>=*)\[.*?\](?P=long)\]
    |"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|(?P<option>\buntil)(?=\s*=(?!=))""",
    re.VERBOSE | re.DOTALL,
)


def lua_source(data: bytes, path: str, where: str = "") -> bytes:
    """Return the contents of a file as source that Lua compiles: without a byte order mark and the text of a #! line.

    `until =` becomes `["until"] =`. Line numbers stay. Raises SiteError, at `where`, for a file that is not text.
    """
    if b"\0" in data:
        raise SiteError(f"{path} is not a text file", where=where)
    data = data.removeprefix(b"\xef\xbb\xbf")
    if data.startswith(b"#!"):
        _, newline, rest = data.partition(b"\n")
        data = newline + rest
    if b"until" in data:
        data = _KEYWORD_OPTION.sub(lambda found: b'["until"]' if found["option"] else found[0], data)
    return data


def _remote(config: Path) -> str | None:
    """Return host and path of a working copy's remote: origin, else the first one. User and password are left out."""
    try:
        lines = config.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    found: dict[str, str] = {}
    name = None
    for line in lines:
        section = re.match(r'\s*\[\s*remote\s+"(.*)"\s*\]', line)
        if section or line.strip().startswith("["):
            name = section[1] if section else None
        value = re.match(r"\s*url\s*=\s*(\S+)", line)
        if name is not None and value:
            found.setdefault(name, value[1])
    url = found.get("origin") or next(iter(found.values()), None)
    if url is None:
        return None
    scheme, separator, rest = url.rpartition("://")
    rest = rest.rpartition("@")[2] if "@" in rest.partition("/")[0] else rest
    if not separator and ":" in rest:
        rest = rest.replace(":", "/", 1)  # git@host:path
    return rest.removesuffix("/").removesuffix(".git") if scheme != "file" else f"file:{rest}"
