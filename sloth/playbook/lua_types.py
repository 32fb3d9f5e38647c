"""The types of what a site may use besides modules, for Lua language servers (LuaCATS annotations)."""

from __future__ import annotations

from collections.abc import Iterator

from sloth.playbook.lua_globals import FLAGS, GROUPS, HOST_FIELDS, PROMPT_FIELDS, Global
from sloth.playbook.task_options import HANDLER_OPTIONS, OPTIONS, TASK_OPTIONS


def lua_types() -> str:
    """Return the definitions. Those of modules, to which some of them refer, are in sloth.report.documentation."""
    lines = []
    for what, names in (("Task", TASK_OPTIONS), ("Handler", HANDLER_OPTIONS)):
        lines.append(f"---@class (exact) sloth.{what}")
        for name in names:
            option = OPTIONS[name]
            default = f" (default: {option.default})" if option.default else ""
            lines.append(f"---@field {name}{'' if option.is_required else '?'} {option.lua} {option.help}{default}")
        lines.append("")
    lines += ["---@class sloth.Host", *(f"---@field {name} {type}" for name, type in HOST_FIELDS), ""]
    lines += [
        "---@class (exact) sloth.Prompt",
        *(f"---@field {name}? {type} {text}" for name, type, text in PROMPT_FIELDS),
        "",
    ]
    lines += [
        "---@class sloth.Match : { [integer]: string } [0]: all of it, [1]: the first group",
        "---@field first integer the position of its first byte",
        "---@field last integer the position of its last byte",
        "---@field named table<string, string> the groups with names",
        "",
    ]
    tables: set[str] = set()
    for group in GROUPS:
        for one in group.globals:
            table, dot, _ = one.name.partition(".")
            if dot and table not in tables:
                tables.add(table)
                lines += [f"{table} = {{}}", *(_flags() if table == "re" else ()), ""]
            if not one.is_standard and one.name != "facts":  # facts: see documentation.lua_types
                lines += [*_definition(one), ""]
    return "\n".join(lines)


def _flags() -> Iterator[str]:
    for name, value in FLAGS.items():
        yield "---@type integer"
        yield f"re.{name} = {value}"


def _definition(one: Global) -> Iterator[str]:
    yield f"---{one.help}"
    if one.parameters is None:
        yield f"---@type {one.type}"
        yield f"{one.name} = {'false' if one.type == 'boolean' else '{}'}"
        return
    for name, type in one.parameters:
        yield f"---@param {name} {type}"
    if one.type:
        yield f"---@return {one.type}"
    yield f"function {one.name}({', '.join(name.removesuffix('?') for name, _ in one.parameters)}) end"
