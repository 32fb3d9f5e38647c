"""The sources of an inventory: files of several formats, directories of them, programs, standard input, host lists."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sloth.errors import InventoryError
from sloth.frozen import frozen
from sloth.inventory.document import Document, parse_toml
from sloth.reading import LIMIT, read_file

if TYPE_CHECKING:
    from sloth.inventory.content import Content

TABLES = ("defaults", "hosts", "groups")
STDIN = "-"
# What Ansible ignores in a directory of inventories, and the files that people keep beside them.
_IGNORED_ENDINGS = (
    ".pyc", ".pyo", ".swp", ".bak", "~", ".rpm", ".md", ".txt", ".rst", ".orig", ".cfg", ".retry",
    ".sloth", ".lua", ".j2",
)  # fmt: skip
_IGNORED_NAMES = ("host_vars", "group_vars", "vars_plugins")
_PAPERS = re.compile(r"(readme|license|licence|copying|changelog|makefile|dockerfile|vagrantfile)\b", re.IGNORECASE)
_OURS = re.compile(r"^\s*\[+\s*(defaults|hosts|groups)\s*(\.[^\]]*)?\]", re.MULTILINE)
_YAML = re.compile(r"(---|%YAML|\{|[\w\"'][^\s=\[]*:(\s|$))")


@frozen
class Sources:
    """The sources in their order, and the directories beside them in which host_vars and group_vars may be."""

    parts: tuple[Document | Content, ...]
    directories: tuple[Path, ...]


def is_host_list(name: str) -> bool:
    """Return whether a source is a list of hosts: `web1,web2`, or `web1,`."""
    return "," in name and not os.path.exists(name)


def read_sources(names: Sequence[str | Path]) -> Sources:
    """Read sources of whatever kind. Raises InventoryError."""
    reader = _Reader()
    for name in names:
        reader.read(str(name))
    # Of a directory that counts twice, the last time decides.
    directories = list(dict.fromkeys(reversed(reader.directories)))
    return Sources(tuple(reader.parts), tuple(reversed(directories)))


class _Reader:
    def __init__(self) -> None:
        self.parts: list[Document | Content] = []
        self.directories: list[Path] = []
        self._paths: list[Path] = []  # of the sources of Ansible so far

    def read(self, name: str) -> None:
        """Read one source, as the command line names it."""
        path = Path(name)
        if name == STDIN:
            text = _decode(_read_stdin(), "(stdin)")
            self._text(Path("(stdin)"), text, None)
        elif is_host_list(name):
            self._host_list(name)
        elif path.is_dir():
            self.directories.append(path)
            self._directory(path)
        else:
            self.directories.append(path.parent)
            self._file(path)

    def _directory(self, path: Path) -> None:
        for name in sorted(os.listdir(path)):
            if name.startswith(".") or name in _IGNORED_NAMES or name.endswith(_IGNORED_ENDINGS):
                continue
            inner = path / name
            if inner.is_dir():
                self._directory(inner)
            elif not _PAPERS.match(name):
                try:
                    self._file(inner)
                except InventoryError as error:
                    more = (
                        f"every file of the directory {path} is read, but those that end in .md, .txt, .cfg, .bak ..."
                    )
                    error.hint = f"{error.hint}; {more}" if error.hint else more
                    raise

    def _file(self, path: Path) -> None:
        if path.suffix != ".toml":
            from sloth.inventory.script import is_program, read_script

            if is_program(path):
                self._add(path, path.parent, lambda content: read_script(path, content))
                return
        try:
            data = read_file(path, pipes=True)
        except OSError as error:
            raise InventoryError(f"cannot read the inventory {path}: {error.strerror}") from error
        self._text(path, _decode(data, str(path)), path.parent)

    def _text(self, path: Path, text: str, directory: Path | None) -> None:
        """Read a text of the format that its name, or else its beginning, has."""
        if path.suffix == ".toml" or (path.suffix not in (".yml", ".yaml", ".json", ".ini") and _is_ours(path, text)):
            self.parts.append(Document(path, text))
        elif path.suffix in (".yml", ".yaml", ".json") or (path.suffix != ".ini" and _YAML.match(_first_line(text))):
            self._add(path, directory, lambda content: self._yaml(path, text, content))
        else:
            from sloth.inventory.ini import read_ini

            self._add(path, directory, lambda content: read_ini(text, content))

    def _add(self, path: Path, directory: Path | None, read: Callable[[Content], None]) -> None:
        from sloth.inventory.content import Content

        content = Content(str(path), directory, list(self._contents()))
        read(content)
        self.parts.append(content)
        if directory is not None:
            self._paths.append(path)

    def _contents(self) -> Iterator[Content]:
        return (part for part in self.parts if not isinstance(part, Document))

    def _yaml(self, path: Path, text: str, content: Content) -> None:
        from sloth.inventory.script import read_plugin
        from sloth.inventory.vars_files import refuse_vault
        from sloth.inventory.yaml_inventory import is_listing, read_groups, read_listing
        from sloth.inventory.yaml_text import load_data

        refuse_vault(text, str(path))
        data = load_data(text, str(path), content.warnings.append)
        if data is None:
            return
        if isinstance(data, dict) and isinstance(data.get("plugin"), str):
            plugin = data["plugin"]
            earlier = self._paths if plugin.endswith("constructed") else ()
            read_plugin(path, plugin, earlier, content)
        elif isinstance(data, dict) and ("_meta" in data or (text.lstrip().startswith("{") and is_listing(data))):
            read_listing(data, content)
        else:
            if isinstance(data, dict) and _has_our_keys(data):
                hint = "our own inventories are TOML: give it the extension .toml; or put the groups below all:"
                raise content.error("this is neither an inventory of ours nor one of Ansible", 1, hint)
            read_groups(data, content)

    def _host_list(self, text: str) -> None:
        from sloth.inventory.content import Content
        from sloth.inventory.host_names import read_host

        content = Content("the host list of --inventory", None, list(self._contents()))
        for word in text.split(","):
            if not word.strip():
                continue
            try:
                names, port = read_host(word.strip())
            except ValueError as error:
                raise InventoryError(str(error), where=f"-i {text}") from None
            for name in names:
                content.add_host(name, "ungrouped", 0, port)
        self.parts.append(content)


def _has_our_keys(data: dict[str, object]) -> bool:
    """Return whether YAML has the tables of our own format at its top."""
    tables = [table for table in data.values() if isinstance(table, dict)]
    if not data or not set(data) <= set(TABLES) or len(tables) < len(data):
        return False
    return "defaults" in data or not any({"hosts", "children", "vars"} & set(table) for table in tables)


def _is_ours(path: Path, text: str) -> bool:
    """Return whether the text of a file is TOML of ours, if with a mistake."""
    found = _OURS.search(text)
    if not found and not re.search(r"^\s*(defaults|hosts|groups)\s*[.=]", text, re.MULTILINE):
        return not text.strip() and path.suffix == ""
    try:
        data = parse_toml(text, str(path))
    except InventoryError as error:
        # A header with a dot in it, or of the defaults, is nothing that an INI inventory has.
        if not found or not (found[2] or found[1] == "defaults"):
            return False
        if "Ansible" in error.hint:
            line = text.count("\n", 0, found.start(1)) + 1
            error.hint = f"line {line} is TOML of ours, this one is Ansible's INI: use two files, and name both with -i"
        raise
    return set(data) <= {*TABLES, "backend", "engine"}


def _first_line(text: str) -> str:
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            return line
    return ""


def _read_stdin() -> bytes:
    data = sys.stdin.buffer.read(LIMIT + 1)
    if len(data) > LIMIT:
        raise InventoryError(f"standard input has more than {LIMIT // 1024 // 1024} MB")
    return data


def _decode(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        hint = "convert it: iconv -f latin1 -t utf-8"
        raise InventoryError(
            f"the inventory is not UTF-8 (byte {error.start})", where=f"{name}:{line}", hint=hint
        ) from None
