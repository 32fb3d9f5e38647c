"""The files of a site for a worker on another machine, which keeps them in memory only."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sloth.engine.workers.messages import SiteFiles
from sloth.errors import UsageError
from sloth.reading import read_file
from sloth.state.vault import FILE as VAULT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sloth.engine.context import RunContext

LARGEST = 64 * 1024 * 1024  # bytes of all files
MOST = 10_000  # files
_LEFT_OUT = frozenset((VAULT, "__pycache__", "group_vars", "host_vars", "node_modules"))
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
        self._seen: set[Path] = set()
        self._files: dict[str, tuple[int, bytes | None]] = {}
        self._size = 0
        for directory in (*site.directories, *(path.resolve() for path in site.roles.path)):
            if directory.is_dir():
                self._add(directory, directory)

    def message(self) -> SiteFiles:
        """Return them as a message."""
        return SiteFiles(self._files)

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

    def _add(self, path: Path, root: Path) -> None:
        """Take a file or a directory with what is in it."""
        real = path.resolve()
        if real in self._left_out or real in self._seen or not path.exists():
            return
        info = path.stat()
        if stat.S_ISDIR(info.st_mode):
            self._seen.add(real)
            self._files[str(path)] = stat.S_IMODE(info.st_mode), None
            for name in sorted(os.listdir(path)):
                if name not in _LEFT_OUT and not name.startswith("."):
                    self._add(path / name, root)
        elif stat.S_ISREG(info.st_mode):
            self._size += info.st_size
            if self._size > LARGEST or len(self._files) > MOST:
                raise UsageError(
                    f"{root} has more than {LARGEST // 1024 // 1024} MB or {MOST} files, and would go to workers on "
                    "other machines",
                    hint="give the site a directory of its own",
                )
            try:
                self._files[str(path)] = stat.S_IMODE(info.st_mode), read_file(path, LARGEST)
            except OSError:
                return  # it is reported where it is used


def place(files: SiteFiles, root: Path) -> None:
    """Write the files below a directory in memory. Raises OSError."""
    modes: list[tuple[Path, int]] = []
    for name, (mode, data) in files.files.items():
        path = root / name.lstrip("/")
        if ".." in path.parts:
            raise OSError(f"{name} is not below the directory")
        (path if data is None else path.parent).mkdir(parents=True, exist_ok=True)
        if data is not None:
            path.write_bytes(data)
        modes.append((path, mode))
    for path, mode in modes:
        path.chmod(mode)


def below(root: Path, path: Path) -> Path:
    """Return the path of this machine that stands for one of the run's."""
    return root / str(path).lstrip("/")


def at_home(paths: Sequence[str], home: str) -> tuple[str, ...]:
    """Return paths below the home of the run's user as those below that of this user."""
    own = os.path.expanduser("~")
    return tuple(own + path[len(home) :] if path.startswith(home + "/") else path for path in paths)
