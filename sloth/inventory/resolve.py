"""Resolves hosts: merges what defaults, groups, files of variables and the host itself set, when a host is used."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sloth.errors import InventoryError, SlothError
from sloth.inventory.groups import EVERY, GroupDraft
from sloth.inventory.model import Host
from sloth.inventory.settings import Deferred, Settings
from sloth.inventory.templated import Templated

if TYPE_CHECKING:
    from sloth.inventory.host_sources import HostSource
    from sloth.inventory.vars_files import VarsFiles
    from sloth.payload.kernel.values import Json, JsonObject

# Returns the value of a variable with Jinja in it, given all variables of the host. Raises SlothError.
Evaluate = Callable[[Templated, "JsonObject"], "Json"]
_SAME_IN_HOST = (
    "port", "user", "identity_files", "python", "become_method", "become_password_command", "host_keys", "known_hosts",
    "proxy_jump", "ssh_config", "connect_timeout", "connection", "password_env", "tags",
)  # fmt: skip


_ATTRIBUTES = (*_SAME_IN_HOST, "address", "become", "become_user")


class Hosts(Mapping[str, Host]):
    """The hosts of an inventory by name, each resolved when it is used first: a run may need few of very many."""

    def __init__(
        self,
        drafts: Mapping[str, Sequence[HostSource]],
        groups: Sequence[GroupDraft],
        defaults: Sequence[Settings],
        files: VarsFiles | None,
        evaluate: Evaluate | None,
        warn: Callable[[str], None],
    ) -> None:
        """groups: by precedence. evaluate: for connection settings with Jinja in them."""
        self._drafts = drafts
        self._defaults = list(defaults)
        self._files = files
        self._evaluate = evaluate
        self._warn = warn
        self._resolved: dict[str, Host] = {}
        self._shared: dict[tuple[int, ...], Settings] = {}  # of the defaults and some groups
        self._of_file: dict[int, Settings] = {}
        self._groups = groups
        self._override: Settings | None = None
        self._extra: JsonObject = {}
        self._names_of_groups: dict[str, list[str]] = {}
        self._groups_of: dict[str, list[int]] = {name: [] for name in drafts}
        for number, group in enumerate(groups):
            for name in group.members:
                self._groups_of[name].append(number)

    def __getitem__(self, name: str) -> Host:
        host = self._resolved.get(name)
        if host is None:
            host = self._resolved[name] = self._resolve(name, self._drafts[name])
        return host

    def __contains__(self, name: object) -> bool:
        return name in self._drafts

    def __iter__(self) -> Iterator[str]:
        return iter(self._drafts)

    def __len__(self) -> int:
        return len(self._drafts)

    def override(self, settings: Settings, variables: JsonObject) -> None:
        """Let settings win over all others, for every host, and variables over those that settings are made of.

        Hosts that were used before stay as they are.
        """
        self._override = settings
        self._extra = variables

    def tagged(self) -> dict[str, frozenset[str]]:
        """Return the hosts of each tag."""
        found: dict[str, set[str]] = {}
        for name in self._drafts:
            merged = reduce(Settings.overridden_by, self._own(name), self._of_groups(name))
            if isinstance(merged.tags, tuple):
                for tag in merged.tags:
                    found.setdefault(tag, set()).add(name)
        return {tag: frozenset(names) for tag, names in found.items()}

    def layers(self, name: str) -> list[Settings]:
        """Return all that is set for a host, in order: later ones win."""
        return [*self._group_layers(tuple(self._groups_of[name])), *self._own(name)]

    def _group_layers(self, numbers: tuple[int, ...]) -> list[Settings]:
        groups = [self._groups[number] for number in numbers]
        found = [*self._defaults, *(layer for group in groups for layer in group.layers)]
        if self._files is not None:
            names = sorted((group.name for group in groups), key=lambda name: name != EVERY)
            rest = [name for name in names if name != EVERY]
            every = [[EVERY]]  # group_vars/all counts for hosts without any group, too
            for entities in (*every, rest):
                for directory in self._files.directories("group_vars"):
                    for name in entities:
                        found += self._of_files(directory, "group_vars", name, f"group {name}")
        return found

    def _of_files(self, directory: Path, kind: str, name: str, source: str) -> list[Settings]:
        from sloth.inventory.variable_settings import settings_of_file

        assert self._files is not None
        found = []
        for file in self._files.within(directory, kind, name):
            if id(file) not in self._of_file:
                self._of_file[id(file)] = settings_of_file(file, source, self._warn)
            found.append(self._of_file[id(file)])
        return found

    def _of_groups(self, name: str) -> Settings:
        """Return what the defaults and the groups of a host set."""
        key = tuple(self._groups_of[name])
        merged = self._shared.get(key)
        if merged is None:
            merged = self._shared[key] = reduce(Settings.overridden_by, self._group_layers(key), Settings())
        return merged

    def _own(self, name: str) -> list[Settings]:
        own = [source.settings(name) for source in self._drafts[name]]
        if self._files is not None:
            for directory in self._files.directories("host_vars"):
                own += self._of_files(directory, "host_vars", name, "host")
        return own if self._override is None else [*own, self._override]

    def _sealed(self, name: str, groups: Sequence[str]) -> tuple[str, ...]:
        if self._files is None:
            return ()
        files = [file for group in (EVERY, *groups) for file in self._files.of("group_vars", group)]
        files += self._files.of("host_vars", name)
        return tuple(dict.fromkeys(file.path for file in files if file.is_sealed))

    def _resolve(self, name: str, sources: Sequence[HostSource]) -> Host:
        merged = reduce(Settings.overridden_by, self._own(name), self._of_groups(name))
        drafts = (self._groups[number] for number in self._groups_of[name])
        groups = sorted(group.name for group in drafts if not group.is_every)
        merged = self._evaluated(name, merged, groups)
        values: dict[str, Any] = {  # typed in Settings as in Host, but for None: there it means "not set"
            attribute: value for attribute in _SAME_IN_HOST if (value := getattr(merged, attribute)) is not None
        }
        return Host(
            name=name,
            address=merged.address or name,
            become=merged.account(),
            vars=merged.vars,
            groups=tuple(groups),
            sealed=self._sealed(name, groups),
            source=sources[0].file,
            origins={"name": ", ".join(source.where(name) for source in sources), **_origins(merged)},
            **values,
        )

    def variables(self, name: str) -> JsonObject:
        """Return the variables of a host, without resolving its connection, which may depend on other hosts."""
        drafts = (self._groups[number] for number in self._groups_of[name])
        groups = sorted(group.name for group in drafts if not group.is_every)
        merged = reduce(Settings.overridden_by, self._own(name), self._of_groups(name))
        return self._seen(name, merged, groups)

    def _seen(self, name: str, merged: Settings, groups: Sequence[str]) -> JsonObject:
        """Return what Jinja in the connection variables of a host sees."""
        if not self._names_of_groups:
            order = {host: number for number, host in enumerate(self._drafts)}
            for group in self._groups:
                self._names_of_groups[group.name] = sorted(group.members, key=order.__getitem__)
        magical = magic(name, groups, self._drafts[name][0].file)
        return {**merged.vars, **self._extra, **magical, "groups": self._names_of_groups}

    def _evaluated(self, name: str, merged: Settings, groups: Sequence[str]) -> Settings:
        """Return the settings with those evaluated that variables with Jinja in them give."""
        deferred = {
            attribute: value for attribute in _ATTRIBUTES if isinstance(value := getattr(merged, attribute), Deferred)
        }
        if not deferred:
            return merged
        from sloth.inventory.connection import interpret

        variables = self._seen(name, merged, groups)
        changes: dict[str, Any] = dict.fromkeys(deferred)
        for one in {id(each): each for each in deferred.values()}.values():
            if self._evaluate is None:
                raise InventoryError(f"{one.variable} is a template, which nothing evaluates", where=one.value.where)
            try:
                value = self._evaluate(one.value, {**variables, "hostvars": HostVariables(self)})
                found = interpret(one.variable, value)[0]
            except (SlothError, ValueError) as error:
                text, hint = (error.message, error.hint) if isinstance(error, SlothError) else (str(error), "")
                where = one.value.where
                raise InventoryError(f"{one.variable} of {name}: {text}", where=where, hint=hint) from None
            for attribute, setting in found.items():
                if attribute in deferred or getattr(merged, attribute) is None:
                    changes[attribute] = setting
        return replace(merged, **changes)


class HostVariables(Mapping[str, "JsonObject"]):
    """The variables of every host, as the `hostvars` of Ansible."""

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts

    def __getitem__(self, name: str) -> JsonObject:
        if name not in self._hosts:
            raise KeyError(name)
        return self._hosts.variables(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._hosts)

    def __len__(self) -> int:
        return len(self._hosts)


def magic(name: str, groups: Sequence[str], source: str | None) -> JsonObject:
    """Return the variables that Ansible gives every host; source: the file that defines it first, if it is one."""
    file = {} if source is None else {"inventory_file": os.path.abspath(source)}
    return {
        **file,
        "inventory_hostname": name,
        "inventory_hostname_short": name if name.replace(".", "").isdigit() else name.partition(".")[0],
        "group_names": list(groups),
        "ansible_playbook_python": sys.executable,
        "inventory_dir": os.getcwd() if source is None else os.path.dirname(os.path.abspath(source)),
    }


def _origins(merged: Settings) -> dict[str, str]:
    origins = dict(merged.origins)
    if merged.become_user is not None and merged.account() is not None:
        origins["become"] = origins["become_user"]
    return origins
