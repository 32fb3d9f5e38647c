"""The reference of inventories, from the declarations that files are checked with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sloth.frozen import frozen
from sloth.inventory.backend import KEYS as BACKEND_KEYS
from sloth.inventory.connection import NAMES
from sloth.inventory.engine import KEYS as ENGINE_KEYS
from sloth.inventory.groups import GROUP_KEYS
from sloth.inventory.settings import HOST_SETTINGS

if TYPE_CHECKING:
    from sloth.payload.kernel.values import JsonObject


@frozen
class Entry:
    """A key: what its value must be, what it is when it is not set, and what it means."""

    name: str
    value: str
    default: str
    help: str


@frozen
class Section:
    """Some keys that belong together."""

    title: str
    text: str
    entries: tuple[Entry, ...]


def reference() -> tuple[Section, ...]:
    """Return the whole reference."""
    settings = [Entry(name, setting.expected, setting.default, setting.help) for name, setting in HOST_SETTINGS.items()]
    settings.append(
        Entry("vars", "a table", "", "Variables, which sites and templates see as `vars.NAME`. Any value of TOML.")
    )
    groups = [Entry(key.name, key.value, key.default, key.help) for key in GROUP_KEYS]
    backend = [Entry(name, key.expected, key.default, key.help) for name, key in BACKEND_KEYS.items()]
    engine = [Entry(name, key.expected, key.default, key.help) for name, key in ENGINE_KEYS.items()]
    ours: dict[str, list[str]] = {}
    for name, key in NAMES.items():
        ours.setdefault(key, []).append(name)
    ansible = [Entry(", ".join(names), key, "", "") for key, names in ours.items()]
    return (
        Section(
            "Settings",
            "Keys of [defaults], of a host ([hosts.NAME]) and of a group ([groups.NAME]).",
            tuple(settings),
        ),
        Section("Keys of a group", "Besides the settings above, a group ([groups.NAME]) has these.", tuple(groups)),
        Section(
            "Keys of the backend",
            "The table [backend] says where controllers keep what they share; see docs/backends.md.",
            tuple(backend),
        ),
        Section(
            "Keys of the engine",
            "The table [engine] says which processes work on the hosts; see docs/scale.md.",
            tuple(engine),
        ),
        Section("Variables of Ansible", "In inventories of Ansible these variables set our settings.", tuple(ansible)),
    )


def document() -> list[JsonObject]:
    """Return the reference as plain data."""
    return [
        {
            "title": section.title,
            "text": section.text,
            "keys": [
                {"name": entry.name, "value": entry.value, "default": entry.default, "help": entry.help}
                for entry in section.entries
            ],
        }
        for section in reference()
    ]


def markdown() -> str:
    """Return the reference as Markdown."""
    lines: list[str] = []
    for section in reference():
        lines += [f"### {section.title}", "", section.text, ""]
        if any(entry.help for entry in section.entries):
            lines += ["| key | value | default | |", "|---|---|---|---|"]
            lines += [
                f"| `{entry.name}` | {_cell(entry.value)} | {_cell(entry.default)} | {_cell(entry.help)} |"
                for entry in section.entries
            ]
        else:
            lines += ["| variables | setting |", "|---|---|"]
            lines += [
                f"| {', '.join(f'`{name}`' for name in entry.name.split(', '))} | `{entry.value}` |"
                for entry in section.entries
            ]
        lines.append("")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
