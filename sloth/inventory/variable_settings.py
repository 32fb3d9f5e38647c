"""The settings of variables as Ansible has them: connection variables are settings, and all are variables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sloth.errors import UsageError
from sloth.inventory.connection import NAMES, examine, interpret
from sloth.inventory.settings import Deferred, Settings
from sloth.inventory.templated import Encrypted, Templated, mark

if TYPE_CHECKING:
    from sloth.inventory.content import Variables
    from sloth.inventory.vars_files import VarsFile
    from sloth.payload.kernel.values import Json, JsonObject

_ATTRIBUTES = {"identity_file": "identity_files"}


def settings_of(variables: Variables, where: Callable[[int], str], source: str) -> Settings:
    """Return the settings of the variables that a source gives a host or group; their values have been examined."""
    values: dict[str, Any] = {}  # attributes of Settings, as interpret() types them
    marked: dict[str, Json] = {}
    origins: dict[str, str] = {}
    for name, (value, line) in variables.items():
        position = where(line)
        origin = f"{position} ({source})"
        marked[name] = mark(value, position)
        origins[f"vars.{name}"] = origin
        if name in NAMES:
            found = _attributes(name, marked[name])
            values.update(found)
            origins.update(dict.fromkeys(found, origin))
    return Settings(**values, vars=marked, origins=origins)


def settings_of_options(variables: JsonObject) -> tuple[Settings, list[str]]:
    """Return the settings that variables of the command line give, and why some give none. Raises UsageError."""
    found: Variables = {}
    warnings = []
    for name, value in variables.items():
        try:
            warnings.append(examine(name, value) if name.startswith(("ansible_", "sloth_")) else "")
        except ValueError as error:
            raise UsageError(f"-e {error}") from error
        if name in NAMES:
            found[name] = (value, 0)
    settings = settings_of(found, lambda line: "-e", "command line")
    return replace(settings, vars={}), [f"-e {warning}" for warning in warnings if warning]


def _attributes(name: str, value: Json) -> Mapping[str, object]:
    if isinstance(value, (Templated, Encrypted)):
        value = value if isinstance(value, Templated) else Templated(value, value.where)
        attribute = NAMES[name]
        found: dict[str, object] = {_ATTRIBUTES.get(attribute, attribute): Deferred(name, value)}
        return {**found, "become_unless_set": False} if attribute == "become_user" else found
    return interpret(name, value)[0]


def settings_of_file(file: VarsFile, source: str, warn: Callable[[str], None]) -> Settings:
    """Return the settings of a file of variables. Raises InventoryError for an invalid connection variable."""
    from sloth.inventory.content import Content

    if file.is_plain:
        origins = {f"vars.{name}": f"{file.where(name)} ({source})" for name in file.variables}
        return Settings(vars=file.variables, origins=origins)
    content = Content(file.path, None)
    variables: Variables = {}
    for name, value in file.variables.items():
        content.set(variables, name, value, file.lines.get(name, 0))
    for warning in content.warnings:
        warn(warning)
    return settings_of(variables, content.where, source)
