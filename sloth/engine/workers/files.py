"""The files of a site for a worker on another machine, which keeps them in memory only."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sloth import reading
from sloth.engine.workers.messages import SiteFiles
from sloth.errors import UsageError
from sloth.reading import NOT_REGULAR, read_file
from sloth.state.vault import FILE as VAULT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sloth.engine.context import RunContext

LARGEST = 64 * 1024 * 1024  # bytes of all files
MOST = 10_000  # files
_LEFT_OUT = frozenset((VAULT, "__pycache__", "group_vars", "host_vars", "node_modules"))
_STAYS = "it does not go to workers on other machines (docs/scale.md says what does)"
_NAMED = re.compile(rb"getenv\s*\(?\s*[\"']([A-Za-z_][A-Za-z0-9_]*)[\"']")
_OTHERS = re.compile(rb"hostvars|delegate_to")


class SiteContents:
    """What a site may read: the files beside it and of its roles, but no vault, inventory, key or hidden file."""

    def __init__(self, context: RunContext) -> None:
        """Raises UsageError for more than is sent."""
        site = context.site
        self._left_out = {path.resolve() for path in context.inventory.paths}
        key = context.options.keys.key_file
        self._left_out |= {key.resolve()} if key is not None else set()
        self._files: dict[str, tuple[int, bytes | None]] = {}
        self._links: dict[str, str] = {}
        self._withheld: dict[str, str] = {}
        self._first: dict[str, str] = {}  # directory -> the name under which it goes; others become links to it
        self._size = 0
        for directory in (*site.directories, *map(absolute, site.roles.path)):
            if directory.is_dir() and directory.resolve() not in self._left_out:
                self._add(str(directory), directory)

    def message(self) -> SiteFiles:
        """Return them as a message."""
        return SiteFiles(self._files, self._links, self._withheld)

    def variables(self, environment: Mapping[str, str], wanted: Iterable[str]) -> dict[str, str]:
        """Return the variables of the environment that files name, and those that are wanted besides."""
        names = {name.decode() for data in self._texts() for name in _NAMED.findall(data)}
        return {name: environment[name] for name in (*sorted(names), *wanted) if name in environment}

    @property
    def needs_other_hosts(self) -> bool:
        """Whether a file may read variables of other hosts."""
        return any(_OTHERS.search(data) for data in self._texts())

    def _texts(self) -> Iterator[bytes]:
        return (data for _, data in self._files.values() if data is not None)

    def _add(self, path: str, root: Path) -> None:
        """Take a file or a directory with what is in it; what is not there as a file must not be missing silently."""
        real = os.path.realpath(path)
        try:
            info = os.stat(path)
            if Path(real) in self._left_out:
                self._withheld[path] = _STAYS
            elif stat.S_ISDIR(info.st_mode):
                self._add_directory(path, real, info.st_mode, root)
            elif stat.S_ISREG(info.st_mode):
                self._add_file(path, info, root)
            else:
                self._withheld[path] = NOT_REGULAR
        except OSError as error:
            if os.path.islink(path) and not os.path.exists(path):  # it leads nowhere, and will do so there
                self._links[path] = real
            elif os.path.lexists(path):
                self._withheld[path] = error.strerror or str(error)

    def _add_directory(self, path: str, real: str, mode: int, root: Path) -> None:
        """Raises OSError when it cannot be read."""
        first = self._first.setdefault(real, path)
        if first != path:
            self._links[path] = first
        elif path not in self._files:
            names = sorted(os.listdir(path))
            self._files[path] = stat.S_IMODE(mode), None
            for name in names:
                inside = os.path.join(path, name)
                if name in _LEFT_OUT or name.startswith("."):
                    self._withheld[inside] = _STAYS
                else:
                    self._add(inside, root)

    def _add_file(self, path: str, info: os.stat_result, root: Path) -> None:
        """Raises OSError when it cannot be read."""
        self._size += info.st_size
        if self._size > LARGEST or len(self._files) > MOST:
            raise UsageError(
                f"{root} has more than {LARGEST // 1024 // 1024} MB or {MOST} files, and would go to workers on "
                "other machines",
                hint="give the site a directory of its own",
            )
        self._files[path] = stat.S_IMODE(info.st_mode), read_file(path, LARGEST)


def place(files: SiteFiles, root: Path) -> None:
    """Write the files below a directory in memory. Raises OSError."""
    modes: list[tuple[Path, int]] = []
    for name, (mode, data) in files.files.items():
        path = _place_of(name, root)
        (path if data is None else path.parent).mkdir(parents=True, exist_ok=True)
        if data is not None:
            path.write_bytes(data)
        modes.append((path, mode))
    for name in files.withheld:  # a FIFO: nothing here reads one, or takes it for a file
        path = _place_of(name, root)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(path, 0o600)
    for name, target in files.links.items():
        path = _place_of(name, root)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(_place_of(target, root))
    for path, mode in reversed(modes):  # what is in a directory before the directory, which may become read-only
        path.chmod(mode)
    reading.withheld.update((str(_place_of(name, root)), why) for name, why in files.withheld.items())


def _place_of(name: str, root: Path) -> Path:
    path = below(root, Path(name))
    if ".." in path.parts:
        raise OSError(f"{name} is not below the directory")
    return path


def absolute(path: Path) -> Path:
    """Return a path without `..`, whose links are left as they are: files travel under the names that a site uses."""
    return Path(os.path.abspath(path))


def below(root: Path, path: Path) -> Path:
    """Return the path of this machine that stands for one of the run's."""
    return root / str(path).lstrip("/")


def at_home(paths: Sequence[str], home: str) -> tuple[str, ...]:
    """Return paths below the home of the run's user as those below that of this user."""
    own = os.path.expanduser("~")
    return tuple(own + path[len(home) :] if path.startswith(home + "/") else path for path in paths)
