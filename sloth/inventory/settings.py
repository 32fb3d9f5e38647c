"""The settings that a host, a group or the defaults may have: their types, and the check of every key."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from sloth.errors import InventoryError


class Place(Protocol):
    """What can say where a key stands."""

    path: Path

    def where(self, *path: str) -> str: ...

    def error(self, message: str, *path: str, hint: str = "") -> InventoryError: ...


@dataclass(frozen=True)
class Settings:
    """One table's settings (by Host attribute), its vars, and where each was written."""

    values: Mapping[str, Any]
    vars: Mapping[str, Any]
    origins: Mapping[str, str]

    def with_address(self, address: str) -> Settings:
        return replace(self, values={**self.values, "address": address})


def _string(value: Any, _: Path) -> Any:
    return value if isinstance(value, str) and value else None


def _port(value: Any, _: Path) -> Any:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 65536 else None


def _seconds(value: Any, _: Path) -> Any:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0 else None


def _file(value: Any, base: Path) -> Any:
    return str(base / Path(value).expanduser()) if isinstance(value, str) and value else None


def _files(value: Any, base: Path) -> Any:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(item, str) and item for item in values):
        return None
    return tuple(_file(item, base) for item in values)


def _become(value: Any, _: Path) -> Any:
    return value if isinstance(value, bool) or (isinstance(value, str) and value) else None


def _config(value: Any, base: Path) -> Any:
    return False if value is False else _file(value, base)


def _one_of(*choices: str) -> Callable[[Any, Path], Any]:
    return lambda value, _: value if value in choices else None


# Key in the file -> (attribute of Host, check, what it must be)
HOST_SETTINGS: dict[str, tuple[str, Callable[[Any, Path], Any], str]] = {
    "address": ("address", _string, "a host name or address"),
    "port": ("port", _port, "a port number"),
    "user": ("user", _string, "an account's name"),
    "identity_file": ("identity_files", _files, "a file name or a list of them"),
    "python": ("python", _string, "the path of a Python on the host"),
    "become": ("become", _become, "true, false, or an account's name"),
    "become_user": ("become_user", _string, "an account's name"),
    "become_method": ("become_method", _one_of("sudo"), '"sudo" (su and doas are not supported yet)'),
    "host_keys": ("host_keys", _one_of("strict", "accept-new"), '"strict" or "accept-new"'),
    "known_hosts": ("known_hosts", _file, "a file name"),
    "proxy_jump": ("proxy_jump", _string, '"user@host:port", or several with commas'),
    "ssh_config": ("ssh_config", _config, "a file name, or false"),
    "connect_timeout": ("connect_timeout", _seconds, "a number of seconds"),
    "connection": ("connection", _one_of("ssh", "local"), '"ssh" or "local"'),
    "password_env": ("password_env", _string, "the name of an environment variable"),
}


def settings_of(
    place: Place, table: Mapping[str, Any], path: tuple[str, ...], source: str, extra: Iterable[str] = ()
) -> Settings:
    """Check every key of `table`, which stands at `path`; raise InventoryError with the nearest right key."""
    values: dict[str, Any] = {}
    variables: dict[str, Any] = {}
    origins: dict[str, str] = {}
    base = place.path.resolve().parent
    for key, value in table.items():
        if key == "vars":
            if not isinstance(value, dict):
                raise place.error("vars must be a table", *path, key)
            variables = value
            origins.update({f"vars.{name}": f"{place.where(*path, key, name)} ({source})" for name in value})
            continue
        if key not in HOST_SETTINGS:
            known = [*HOST_SETTINGS, "vars", *extra]
            hint = near(key, known) or f"a variable belongs below vars; settings are {', '.join(sorted(known))}"
            raise place.error(f"unknown key '{key}'", *path, key, hint=hint)
        attribute, check, wanted = HOST_SETTINGS[key]
        good = check(value, base)
        if good is None:
            raise place.error(f"{key} must be {wanted}, not {value!r}", *path, key)
        values[attribute] = good
        origins[attribute] = f"{place.where(*path, key)} ({source})"
    return Settings(values, variables, origins)


def near(word: str, known: Iterable[str]) -> str:
    """'did you mean "x"?' for the nearest known word, or ''."""
    found = difflib.get_close_matches(word, list(known), 1, 0.6)
    return f'did you mean "{found[0]}"?' if found else ""
