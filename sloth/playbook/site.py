"""The site file and what it declares: tasks and handlers, every option checked."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sloth.errors import SiteError


@dataclass(frozen=True)
class Site:
    """A site file. path: as the user wrote it; directory: where its files and templates are looked for."""

    path: str
    source: bytes
    directory: Path
    adhoc: bool = False  # made of one call: it owns what it makes, but is never all there is to say about a host

    @classmethod
    def read(cls, path: str) -> Site:
        """Read a site file. Raises SiteError."""
        try:
            source = Path(path).read_bytes()
        except FileNotFoundError:
            raise SiteError(f"there is no site {path}") from None
        except OSError as error:
            raise SiteError(f"the site {path} cannot be read: {error.strerror}") from error
        if b"\0" in source:
            raise SiteError(f"the site {path} is not text")
        return cls(path, source.removeprefix(b"\xef\xbb\xbf"), Path(path).resolve().parent)

    @property
    def identity(self) -> str:
        """The name under which hosts remember what this site owns, the same wherever it is checked out.

        In a git working copy with a remote it is the remote's address (without user and password) and the path below
        the working copy's root, such as "git.example.com/ops/web:site.sloth"; otherwise the absolute path.
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


def _remote(config: Path) -> str | None:
    """The address of a working copy's remote (origin, else the first one): host and path, nothing secret."""
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


@dataclass(frozen=True)
class Task:
    """One task or handler as declared. delay, timeout: seconds; where: "site.sloth:4"."""

    name: str
    where: str
    index: int
    handler: bool = False
    hosts: tuple[str, ...] | None = None
    tags: tuple[str, ...] = ()
    depends_on: tuple[str, ...] = ()
    serial: int | str | None = None
    retries: int = 0
    delay: float = 5.0
    timeout: float | None = None
    become: bool | str | None = None
    notify: tuple[str, ...] = ()
    run_once: bool = False
    ignore_errors: bool = False
    on_failure: str | None = None
    has_when: bool = False


def _names(value: Any) -> Any:
    values = [value] if isinstance(value, str) else value
    good = isinstance(values, list) and all(isinstance(item, str) and item for item in values)
    return tuple(values) if good else None


def _count(value: Any) -> Any:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _seconds(value: Any) -> Any:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0 else None


def _bool(value: Any) -> Any:
    return value if isinstance(value, bool) else None


def _serial(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.endswith("%") and value[:-1].isdigit() and 0 < int(value[:-1]) <= 100 else None
    return value if _count(value) else None


def _become(value: Any) -> Any:
    return value if isinstance(value, bool) or (isinstance(value, str) and value) else None


def _on_failure(value: Any) -> Any:
    return value if value == "rollback" else None


_OPTIONS = {
    "hosts": (_names, "a host pattern or a list of them"),
    "tags": (_names, "a tag or a list of tags"),
    "depends_on": (_names, "a task's name or a list of them"),
    "serial": (_serial, 'a number of hosts, or a part of them such as "25%"'),
    "retries": (_count, "a whole number"),
    "delay": (_seconds, "a number of seconds"),
    "timeout": (_seconds, "a number of seconds"),
    "become": (_become, "true, false, or an account's name"),
    "notify": (_names, "a handler's name or a list of them"),
    "run_once": (_bool, "true or false"),
    "ignore_errors": (_bool, "true or false"),
    "on_failure": (_on_failure, '"rollback"'),
}
_HANDLER_OPTIONS = ("become", "timeout", "retries", "delay", "ignore_errors")


def declared(what: str, options: Mapping[str, Any], functions: Mapping[str, Any], where: str, index: int) -> Task:
    """Return the Task of `task{...}` or `handler{...}`; raise SiteError for anything that is wrong with it."""
    known = ["name", "run", *(_OPTIONS if what == "task" else _HANDLER_OPTIONS)] + (["when"] if what == "task" else [])
    for option in [*options, *functions]:
        if option not in known:
            raise SiteError(f"{what} has no option '{option}'", hint=_near(option, known), where=where)
    name = options.get("name")
    if not isinstance(name, str) or not name.strip():
        raise SiteError(f'{what} needs a name, such as name = "setup"', where=where)
    if "run" not in functions:
        raise SiteError(f"{what} {name} needs run = function() ... end", where=where)
    for option in functions:
        if option not in ("run", "when"):
            raise SiteError(f"{what} {name}: {option} must not be a function", where=where)
    values: dict[str, Any] = {}
    for option, value in options.items():
        if option in _OPTIONS:
            check, wanted = _OPTIONS[option]
            # An empty Lua table is an empty list.
            values[option] = check(value)
            if values[option] is None:
                raise SiteError(f"{what} {name}: {option} must be {wanted}", where=where)
    has_when = "when" in functions or "when" in options
    return Task(name=name, where=where, index=index, handler=what == "handler", has_when=has_when, **values)


def check_names(tasks: list[Task], handlers: list[Task]) -> None:
    """Raise SiteError when a task depends on, or notifies, what was not declared."""
    known = {"depends_on": [task.name for task in tasks], "notify": [handler.name for handler in handlers]}
    for task in tasks:
        for option, names in known.items():
            for name in getattr(task, option):
                if name not in names:
                    word = "task" if option == "depends_on" else "handler"
                    raise SiteError(
                        f"task {task.name}: {option} names the {word} {name}, and there is none",
                        hint=_near(name, names),
                        where=task.where,
                    )


def _near(word: str, known: list[str]) -> str:
    found = difflib.get_close_matches(word, known, 1, 0.5)
    return f'did you mean "{found[0]}"?' if found else "known are: " + ", ".join(known) if known else ""
