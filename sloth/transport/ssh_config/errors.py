"""The errors of reading and evaluating ssh_config files."""

from __future__ import annotations

from sloth.errors import ConnectError


class ConfigError(ConnectError):
    """An ssh_config file is wrong, or says what we cannot do. `where` is the file and line."""


class Undecided(Exception):
    """Only the ssh program can evaluate this, such as `CanonicalizeHostname yes`. `where` is the file and line."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
