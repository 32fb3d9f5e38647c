"""Reads known_hosts files as ssh does: a line that is wrong does not spoil the others, and case does not count."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sloth.errors import HostKeyError

if TYPE_CHECKING:
    from asyncssh.known_hosts import SSHKnownHosts


def read_known_hosts(files: tuple[str, ...]) -> SSHKnownHosts:
    """Return the contents of those files that exist. Raises HostKeyError."""
    import asyncssh

    known = asyncssh.import_known_hosts("")
    for path in files:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                lines = file.readlines()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise HostKeyError(f"the known_hosts file {path} cannot be read: {error.strerror}") from error
        for line in lines:
            try:
                known.load(_lower(line))
            except ValueError:
                if line.lstrip().startswith("@revoked"):
                    raise HostKeyError(f"the known_hosts file {path} has a @revoked line that cannot be read") from None
    return known


def _lower(line: str) -> str:
    """Return the line with the names of its hosts in lower case; hashed ones are left as they are."""
    words = line.split(None, 2)
    at = 1 if line.lstrip().startswith("@") else 0
    if len(words) <= at or "|" in words[at] or words[at].islower():
        return line
    return line.replace(words[at], words[at].lower(), 1)
