"""The settings that a host, a group or the defaults may have, and the check of each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sloth.frozen import field_names, frozen
from sloth.inventory.document import Document
from sloth.inventory.model import BecomeMethod, ConnectionType, HostKeyPolicy
from sloth.inventory.templated import Templated
from sloth.suggest import did_you_mean

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json


TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\Z")


@frozen
class Settings:
    """The settings of one table, or of several merged. None: not set.

    `become` and `become_user` are as written; only when all tables are merged is it clear which account they give.
    `become_unless_set` counts as `become` where nothing else sets it. A setting of Ansible's that has Jinja in it is
    Deferred.
    """

    address: str | None = None
    port: int | None = None
    user: str | None = None
    identity_files: tuple[str, ...] | None = None
    python: str | None = None
    become: bool | str | None = None
    become_user: str | None = None
    become_method: BecomeMethod | None = None
    become_password_command: str | None = None
    host_keys: HostKeyPolicy | None = None
    known_hosts: str | None = None
    proxy_jump: str | None = None
    ssh_config: str | Literal[False] | None = None
    connect_timeout: float | None = None
    connection: ConnectionType | None = None
    password_env: str | None = None
    tags: tuple[str, ...] | None = None
    become_unless_set: bool | None = None
    vars: Mapping[str, Json] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)

    def with_address(self, address: str) -> Settings:
        return replace(self, address=address)

    def overridden_by(self, other: Settings) -> Settings:
        """Return these settings with all that `other` sets."""
        values = {name: value for name in _NAMES if (value := getattr(other, name)) is not None}
        if isinstance(other.become, str) and other.become_user is None:
            values["become_user"] = None  # the account that a table names replaces whatever others called it
        if self.tags and other.tags:
            values["tags"] = tuple(dict.fromkeys((*self.tags, *other.tags)))
        return replace(self, **values, vars={**self.vars, **other.vars}, origins={**self.origins, **other.origins})

    def account(self) -> str | None:
        """Return the account to become; None for that of the login."""
        become = self.become_unless_set if self.become is None else self.become
        if self.become_user is not None:
            return self.become_user if become is not False else None
        return "root" if become is True else become or None


_NAMES = tuple(name for name in field_names(Settings) if name not in ("vars", "origins"))

# A check takes a value of the file and the directory of the file; it returns the value to use, None for an invalid one.
Check = Callable[["Json", Path], object]


@frozen
class Deferred:
    """A setting that a variable of Ansible with Jinja in it gives, once all variables of the host are known."""

    variable: str
    value: Templated


@frozen
class Setting:
    """A key of the file: the attribute it sets, its check, the end of "KEY must be ...", and its documentation."""

    attribute: str
    check: Check
    expected: str
    help: str
    default: str = ""


def _string(value: Json, _: Path) -> str | None:
    return value if isinstance(value, str) and value else None


def _port(value: Json, _: Path) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 65536 else None


def _seconds(value: Json, _: Path) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0 else None


def _file(value: Json, base: Path) -> str | None:
    return str(base / Path(value).expanduser()) if isinstance(value, str) and value else None


def _files(value: Json, base: Path) -> tuple[str, ...] | None:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list):
        return None
    files = [_file(item, base) for item in values]
    return tuple(file for file in files if file is not None) if None not in files else None


def _become(value: Json, _: Path) -> bool | str | None:
    return read_become(value)


def read_become(value: Json) -> bool | str | None:
    """Return what `become` means; None for an invalid value, such as YAML's "yes", which is meant as no account."""
    if isinstance(value, str):
        return value if value and value.lower() not in ("yes", "no", "true", "false", "on", "off") else None
    return value if isinstance(value, bool) else None


def _config(value: Json, base: Path) -> str | Literal[False] | None:
    return False if value is False else _file(value, base)


def _one_of(choices: type[StrEnum]) -> Check:
    words = {choice.value: choice for choice in choices}
    return lambda value, _: words.get(value) if isinstance(value, str) else None


def _words(choices: type[StrEnum]) -> str:
    *most, last = (f'"{choice.value}"' for choice in choices)
    return f"{', '.join(most)} or {last}"


def _tags(value: Json, _: Path) -> tuple[str, ...] | None:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(item, str) and TAG.match(item) for item in values):
        return None
    return tuple(values)


HOST_SETTINGS: Mapping[str, Setting] = {
    "address": Setting(
        "address", _string, "a host name or address",
        "Where the host is. `{name}` in it stands for the name of each host of a range.", "the host's name",
    ),
    "port": Setting("port", _port, "a port number", "The port of sshd.", "that of ssh_config, else 22"),
    "user": Setting(
        "user", _string, "an account's name", "The account to log in as.", "that of ssh_config, else yours"
    ),
    "identity_file": Setting(
        "identity_files", _files, "a file name or a list of them",
        "Private keys to log in with. A relative path begins at the inventory's directory.", "those of ssh_config",
    ),
    "python": Setting(
        "python", _string, "the path of a Python on the host", "The Python that runs the payload.", "it is looked for"
    ),
    "become": Setting(
        "become", _become, "true, false, or an account's name",
        "Run tasks as another account: true is root, a text the account's name.", "false",
    ),
    "become_user": Setting("become_user", _string, "an account's name", "The account that tasks run as.", "root"),
    "become_method": Setting(
        "become_method", _one_of(BecomeMethod), _words(BecomeMethod), "How to become that account.", '"sudo"'
    ),
    "become_password_command": Setting(
        "become_password_command", _string, "a command",
        "A command of this machine whose first line is the password for that.",
    ),
    "host_keys": Setting(
        "host_keys", _one_of(HostKeyPolicy), '"strict" or "accept-new"',
        "What to do about a host key that is not known: refuse the host, or remember the key.", '"strict"',
    ),
    "known_hosts": Setting(
        "known_hosts", _file, "a file name", "The file of host keys.", "those of ssh_config"
    ),
    "proxy_jump": Setting(
        "proxy_jump", _string, '"user@host:port", or several with commas',
        "The hosts through which the host is reached.", "that of ssh_config",
    ),
    "ssh_config": Setting(
        "ssh_config", _config, "a file name, or false",
        "The configuration file of ssh to obey; false: none.", "~/.ssh/config and /etc/ssh/ssh_config",
    ),
    "connect_timeout": Setting(
        "connect_timeout", _seconds, "a number of seconds", "How long connecting may take, in seconds.", "15"
    ),
    "connection": Setting(
        "connection", _one_of(ConnectionType), _words(ConnectionType),
        "How the host is reached: by SSH, as this machine, or as a container of this machine.", '"ssh"',
    ),
    "password_env": Setting(
        "password_env", _string, "the name of an environment variable",
        "The environment variable of this machine that has the SSH password.",
    ),
    "tags": Setting(
        "tags", _tags, "a list of words of letters, digits, '.', '_' and '-'",
        "Words that select hosts, as in `--limit tag:edge`. Those of the defaults, the groups and the host add up.",
    ),
}  # fmt: skip


def _of_ansible(key: str) -> str:
    """Return what a variable of Ansible is called here, as a hint."""
    if not key.startswith("ansible_"):
        return ""
    from sloth.inventory.connection import NAMES

    return f"here it is called {NAMES[key]}" if key in NAMES else "variables of Ansible have no effect here"


def check_settings(
    document: Document, table: Mapping[str, Json], path: tuple[str, ...], extra: Iterable[str] = ()
) -> dict[str, object]:
    """Return the attributes of Settings that `table` sets, which is at `path` in the document.

    extra: keys that the caller has read already. Raises InventoryError, with the nearest key, for one that is unknown,
    and for a value of the wrong kind.
    """
    values: dict[str, object] = {}
    for key, value in table.items():
        if key == "vars":
            document.table(value, *path, key)
            continue
        if key not in HOST_SETTINGS:
            known = [*HOST_SETTINGS, "vars", *extra]
            near = did_you_mean(key, known)
            hint = _of_ansible(key) or near or f"variables belong below vars; settings are {', '.join(sorted(known))}"
            raise document.error(f"unknown key '{key}'", *path, key, hint=hint)
        setting = HOST_SETTINGS[key]
        checked = setting.check(value, document.base)
        if checked is None:
            raise document.error(f"{key} must be {setting.expected}, not {value!r}", *path, key)
        values[setting.attribute] = checked
    return values


def read_settings(
    document: Document, table: Mapping[str, Json], path: tuple[str, ...], source: str, extra: Iterable[str] = ()
) -> Settings:
    """Return the settings of `table`, checked as check_settings() does it, with the origin of each.

    source: what the table belongs to, for the origins: "group web".
    """
    values: dict[str, Any] = check_settings(document, table, path, extra)  # typed by the checks
    variables: Mapping[str, Json] = table.get("vars", {})
    origins = {f"vars.{name}": f"{document.where(*path, 'vars', name)} ({source})" for name in variables}
    for key in table:
        if key != "vars":
            origins[HOST_SETTINGS[key].attribute] = f"{document.where(*path, key)} ({source})"
    return Settings(**values, vars=variables, origins=origins)
