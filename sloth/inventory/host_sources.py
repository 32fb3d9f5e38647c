"""The hosts of one source: their names at once, and what is set for each when it is resolved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

from sloth.errors import InventoryError
from sloth.inventory.document import Document
from sloth.inventory.patterns import expand
from sloth.inventory.settings import Settings, check_settings, read_settings

if TYPE_CHECKING:
    from sloth.inventory.content import Content


class HostSource(Protocol):
    """What a source says of its hosts."""

    def __iter__(self) -> Iterator[str]: ...

    def settings(self, name: str) -> Settings:
        """Return what the source sets for a host alone."""

    def where(self, name: str) -> str:
        """Return where the source defines a host."""

    @property
    def file(self) -> str | None:
        """The path of the source; None when it is no file."""


class TomlHosts:
    """The hosts of a file of ours, ranges expanded. Everything is checked at once, and kept as it is written."""

    def __init__(self, document: Document) -> None:
        """Raises InventoryError."""
        self._document = document
        self._hosts: dict[str, tuple[str, str | None]] = {}  # name -> its key in the file, its address in a range
        self._tables: Mapping[str, object] = document.table(document.data.get("hosts", {}), "hosts")
        self._read: dict[str, Settings] = {}
        for key, value in self._tables.items():
            self._add(key, value)

    def __iter__(self) -> Iterator[str]:
        return iter(self._hosts)

    def settings(self, name: str) -> Settings:
        key, address = self._hosts[name]
        if address is None:
            return self._settings(key)
        if key not in self._read:
            self._read[key] = self._settings(key)
        return self._read[key].with_address(address)

    def where(self, name: str) -> str:
        return self._document.where("hosts", self._hosts[name][0])

    @property
    def file(self) -> str | None:
        return self._document.name

    def _settings(self, key: str) -> Settings:
        return read_settings(self._document, self._table(key, self._tables[key]), ("hosts", key), "host")

    def _table(self, key: str, value: object) -> Mapping[str, object]:
        return {"address": value} if isinstance(value, str) else self._document.table(value, "hosts", key)

    def _add(self, key: str, value: object) -> None:
        document, path = self._document, ("hosts", key)
        if not (isinstance(value, str) and value):
            check_settings(document, self._table(key, value), path)
        names = [key]
        if "[" in key:
            try:
                names = expand(key)
            except InventoryError as error:
                raise document.error(error.message, *path, hint=error.hint) from None
        addresses = self._addresses(key, value, names) if len(names) > 1 or "[" in key else (None,)
        for name, address in zip(names, addresses, strict=True):
            document.check_name(name, "host", *path)
            if name in self._hosts:
                raise document.error(f"the host {name} is defined twice", *path)
            if name == "all":
                raise document.error("a host cannot be named 'all', which selects all hosts", *path)
            if address is None and isinstance(value, str) and "{name}" in value:
                address = value.replace("{name}", name)
            self._hosts[name] = (key, address)

    def _addresses(self, key: str, value: object, names: list[str]) -> Iterable[str | None]:
        """Return an address for each of `names`, which one table defines together."""
        address = self._table(key, value).get("address")
        if not isinstance(address, str):
            return [None] * len(names)
        if len(names) == 1 or "{name}" in address:
            return [address.replace("{name}", name) for name in names]
        addresses = expand(address)
        if len(addresses) != len(names):
            raise self._document.error(
                f"{len(names)} hosts, but {len(addresses)} addresses", "hosts", key, "address",
                hint='use the same range in the address, or "{name}"',
            )  # fmt: skip
        return addresses


class AnsibleHosts:
    """The hosts of a source of Ansible, whose variables have been examined."""

    def __init__(self, content: Content) -> None:
        self._content = content

    def __iter__(self) -> Iterator[str]:
        return iter(self._content.hosts)

    def settings(self, name: str) -> Settings:
        from sloth.inventory.variable_settings import settings_of

        return settings_of(self._content.hosts[name], self._content.where, "host")

    def where(self, name: str) -> str:
        return self._content.where(self._content.lines[name])

    @property
    def file(self) -> str | None:
        return None if self._content.directory is None else self._content.name
