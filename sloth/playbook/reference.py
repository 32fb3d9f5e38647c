"""The reference of sites: the options of tasks and handlers, and the globals of Lua, from their declarations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sloth.playbook.lua_globals import GROUPS, Global
from sloth.playbook.task_options import OPTIONS

if TYPE_CHECKING:
    from sloth.payload.kernel.values import JsonObject


def task_document() -> list[JsonObject]:
    """Return the options of tasks and handlers as plain data."""
    return [
        {
            "name": name,
            "value": option.expected,
            "default": option.default,
            "required": option.is_required,
            "task": option.of_tasks,
            "handler": option.of_handlers,
            "help": option.help,
        }
        for name, option in OPTIONS.items()
    ]


def task_rows() -> list[tuple[str, str]]:
    """Return the options, each with its explanation."""
    rows = []
    for name, option in OPTIONS.items():
        default = f" [{option.default}]" if option.default else ""
        rows.append((name + ("*" if option.is_required else ""), f"{option.help} ({option.expected}){default}"))
    return rows


def handler_sentence() -> str:
    """Return a sentence that names the options of handlers."""
    names = ", ".join(name for name, option in OPTIONS.items() if option.of_handlers and option.of_tasks)
    alone = ", ".join(name for name, option in OPTIONS.items() if not option.of_tasks)
    return f"Handlers have these: {names}; and they alone have {alone}."


def task_markdown() -> str:
    """Return the options of tasks and handlers as Markdown."""
    lines = ["## Options of tasks and handlers", "", "Those with a star are required.", ""]
    lines += ["| option | value | default | of | |", "|---|---|---|---|---|"]
    for name, option in OPTIONS.items():
        star = "*" if option.is_required else ""
        owners = ", ".join(what for what, has in (("task", option.of_tasks), ("handler", option.of_handlers)) if has)
        cells = (f"`{name}`{star}", option.expected, option.default, owners, option.help)
        lines.append(f"| {' | '.join(map(_cell, cells))} |")
    return "\n".join(lines) + "\n"


def lua_document() -> list[JsonObject]:
    """Return the globals of Lua as plain data."""
    return [
        {"title": group.title, "text": group.text, "globals": [global_document(one) for one in group.globals]}
        for group in GROUPS
    ]


def global_names() -> list[str]:
    """Return the names of all globals, such as "state.cas"."""
    return [one.name for group in GROUPS for one in group.globals]


def global_document(one: Global) -> JsonObject:
    """Return a global of Lua as plain data."""
    return {
        "name": one.name,
        "signature": one.signature,
        "parameters": None if one.parameters is None else [_parameter(*each) for each in one.parameters],
        "type": one.type,
        "top_level": one.is_top,
        "help": one.help,
        "example": one.example,
    }


def _parameter(name: str, type: str) -> JsonObject:
    return {"name": name.removesuffix("?"), "type": type, "required": not name.endswith("?") and name != "..."}


def lua_markdown() -> str:
    """Return the globals of Lua as Markdown."""
    lines = ["## Globals of Lua", "", "What a site may use besides modules. A `?` marks what may be left out.", ""]
    for group in GROUPS:
        lines += [f"### {group.title}", "", *([group.text, ""] if group.text else ())]
        lines += ["| | | example |", "|---|---|---|"]
        for one in group.globals:
            cells = (f"`{one.signature}`", one.help, f"`{one.example}`")
            lines.append(f"| {' | '.join(map(_cell, cells))} |")
        lines.append("")
    return "\n".join([*lines, "### Lua's own", "", STANDARD, ""])


STANDARD = (
    "Lua 5.4 with `string`, `table`, `math`, `utf8`, `load`, `pcall` and so on; of `os`, `time`, `date`, `clock`, "
    "`difftime` and `getenv`. `io`, `debug`, `coroutine`, `package` and `require` are not available."
)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
