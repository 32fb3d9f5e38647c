"""The modules' documentation, made from their declarations: for the terminal, as Markdown, for Lua language servers."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from sloth.payload.kernel.resource import Action, Call, Field, Query

if TYPE_CHECKING:
    from sloth.payload.kernel.values import JsonObject

Classes = Sequence[type[Call]]

_LUA = {
    "str": "string",
    "path": "string",
    "file": "string",
    "mode": "string",
    "bool": "boolean",
    "int": "integer",
    "float": "number",
    "list": "string|string[]",
    "argv": "string|string[]",
    "dict": "table<string, any>",
    "any": "any",
}
COMMON = (
    Field("changed", "bool", help="whether it changed something"),
    Field("failed", "bool", help="always false: a failure raises an error"),
    Field("status", help="changed, unchanged, or skipped"),
    Field("reason", help="why: new, adopted, updated, drift; run for an action"),
    Field("msg", help="what there is to say about it"),
    Field("key", help="its state key"),
    Field("diff", "dict", help="what changed: a table of attributes with before and after"),
    Field("before", "dict", help="the attributes as they were found"),
    Field("after", "dict", help="the attributes as they are now"),
)


def by_namespace(classes: Classes) -> dict[str, list[type[Call]]]:
    """The classes under the Lua namespace they belong to."""
    found: dict[str, list[type[Call]]] = {}
    for cls in classes:
        found.setdefault(cls.name.partition(".")[0], []).append(cls)
    return found


def paragraphs(cls: type[Call]) -> list[str]:
    """The docstring's paragraphs, each a line."""
    text = inspect.cleandoc(cls.__doc__ or "")
    return [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]


def summary(cls: type[Call]) -> str:
    """The first sentence of the docstring."""
    first = (paragraphs(cls) or [""])[0]
    head, dot, _ = first.partition(". ")
    return head + "." if dot else first


def kind(cls: type[Call]) -> str:
    """What sort of call it is, in a sentence."""
    if issubclass(cls, Action):
        return "Action: done every time it is reached, unless a guard stops it."
    if issubclass(cls, Query):
        return "Query: only looks, also in a check."
    return "Resource: changes only what differs, and tells drift."


def fields(declared: Iterable[Field]) -> list[Field]:
    """The fields, the required ones first."""
    return sorted(declared, key=lambda field: not field.required)


def default(field: Field) -> str:
    """The default as Lua would write it; "required" when there must be a value."""
    if field.required:
        return "required"
    if field.default is None:
        return ""
    if field.default == []:
        return "{}"
    if isinstance(field.default, list):
        return "{" + ", ".join(json.dumps(item) for item in field.default) + "}"
    return json.dumps(field.default)


def explanation(field: Field) -> str:
    """The help, with choices and aliases."""
    text: str = field.help
    if field.choices:
        text += " (" + ", ".join(json.dumps(choice) for choice in field.choices) + ")"
    if field.secret:
        text += " (secret: never shown or stored)"
    if field.aliases:
        text += "; also called " + ", ".join(field.aliases)
    return text


# Machines


def document(classes: Classes) -> list[JsonObject]:
    """The declarations as plain data."""
    return [
        {
            "name": cls.name,
            "kind": "action" if issubclass(cls, Action) else "query" if issubclass(cls, Query) else "resource",
            "summary": summary(cls),
            "text": paragraphs(cls),
            "positional": cls.positional(),
            "arguments": [_plain(field) for field in fields(cls.fields)],
            "returns": [_plain(field) for field in fields(cls.returns)],
            "example": cls.example,
        }
        for cls in classes
    ]


def _plain(field: Field) -> JsonObject:
    return {
        "name": field.name,
        "type": field.type,
        "required": field.required,
        "default": None if field.required else field.default,
        "choices": list(field.choices) if field.choices else None,
        "secret": field.secret,
        "aliases": list(field.aliases),
        "help": field.help,
    }


# Markdown


def markdown(classes: Classes) -> str:
    """The whole reference."""
    lines = [
        "# Modules",
        "",
        "Made from the modules' declarations by `sloth-runner doc --markdown`: do not edit it here.",
        "",
        "A call takes one table, and returns a result at once; reading a field of the result waits for the host.",
        'Where a call has exactly one required argument, that may stand alone: `systemd.restart("nginx")`. A failure',
        "is a Lua error; `pcall` catches it.",
        "",
        "Every result has these fields, besides those of its own:",
        "",
        *_table(("Field", "Type", "Meaning"), ((f.name, f.type, f.help) for f in COMMON)),
        "",
    ]
    groups = by_namespace(classes)
    for namespace, members in groups.items():
        links = ", ".join(f"[{cls.name}](#{cls.name.replace('.', '').lower()})" for cls in members)
        lines.append(f"- **{namespace}**: {links}")
    for namespace, members in groups.items():
        lines += ["", f"## {namespace}"]
        for cls in members:
            lines += ["", *_section(cls)]
    return "\n".join(lines) + "\n"


def _section(cls: type[Call]) -> list[str]:
    lines = [f"### {cls.name}", ""]
    for text in paragraphs(cls):
        lines += [text, ""]
    lines += [kind(cls), ""]
    if cls.fields:
        rows = ((f"`{f.name}`", f.type, default(f), explanation(f)) for f in fields(cls.fields))
        lines += [*_table(("Argument", "Type", "Default", "Meaning"), rows), ""]
    if cls.returns:
        rows = ((f"`{f.name}`", f.type, "", f.help) for f in fields(cls.returns))
        lines += [*_table(("Result", "Type", "Meaning"), ((a, b, d) for a, b, _, d in rows)), ""]
    lines += ["```lua", cls.example, "```"]
    return lines


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows]
    return lines


# Lua language servers


def lua_types(classes: Classes) -> str:
    """A definition file (LuaCATS annotations, as lua-language-server reads them) of everything a site may use."""
    lines = ["---@meta", "", "-- Made by `sloth-runner doc --lua-types`.", "", "---@class sloth.Result"]
    lines += [f"---@field {f.name} {_lua(f)} {f.help}" for f in COMMON]
    lines += ["", _GLOBALS.strip(), ""]
    for namespace, members in by_namespace(classes).items():
        if namespace == "facts":
            lines += ["", "---@class sloth.Facts", *_fields(members[0].returns), "---@type sloth.Facts", "facts = {}"]
            continue
        lines += ["", f"{namespace} = {{}}"]
        for cls in members:
            lines += ["", *_function(cls)]
    return "\n".join(lines) + "\n"


def _function(cls: type[Call]) -> list[str]:
    base = "sloth." + cls.name
    lines = [f"---@class (exact) {base}.Arguments", *_fields(fields(cls.fields), optional=True)]
    lines += ["", f"---@class {base}.Result : sloth.Result", *_fields(cls.returns), ""]
    lines += [f"---{text}" for text in paragraphs(cls)]
    required = [field for field in fields(cls.fields) if field.required]
    alone = f"|{_lua(required[0])}" if len(required) == 1 else ""
    mark = "" if required else "?"
    lines += [f"---@param args{mark} {base}.Arguments{alone}", f"---@return {base}.Result"]
    return [*lines, f"function {cls.name}(args) end"]


def _fields(declared: Iterable[Field], optional: bool = False) -> list[str]:
    lines = []
    for field in declared:
        mark = "?" if optional and not field.required else ""
        value = default(field)
        more = f" (default {value})" if optional and value not in ("", "required") else ""
        lines.append(f"---@field {field.name}{mark} {_lua(field)} {field.help}{more}")
        for alias in field.aliases if optional else ():
            lines.append(f"---@field {alias}? {_lua(field)} the same as {field.name}")
    return lines


def _lua(field: Field) -> str:
    if field.choices:
        return "|".join(json.dumps(choice) if isinstance(choice, str) else str(choice) for choice in field.choices)
    return _LUA[field.type]


_GLOBALS = """
---@class (exact) sloth.Task
---@field name string
---@field run fun()
---@field hosts? string|string[] only on these hosts
---@field tags? string|string[]
---@field when? fun(): any only where it returns true
---@field depends_on? string|string[] tasks that come first, on all hosts
---@field serial? integer|string hosts at a time: 2 or "25%"
---@field retries? integer
---@field delay? number seconds between tries
---@field timeout? number seconds
---@field become? boolean|string true: as root; a name: as that account
---@field notify? string|string[] handlers to run at the end when it changed something
---@field run_once? boolean on one host only
---@field ignore_errors? boolean

---@param options sloth.Task
function task(options) end

---@class (exact) sloth.Handler
---@field name string
---@field run fun()
---@field become? boolean|string

---Runs at the end of a host's tasks when a task that notifies it changed something.
---@param options sloth.Handler
function handler(options) end

---@type { name: string, address: string, port: integer, user: string, groups: string[] }
host = {}
---@type table<string, string[]>
groups = {}
---@type table<string, any>
vars = {}
---@type boolean
check = false

---@param name string
---@return string
function secret(name) end

---@param path string a Jinja template beside the site
---@param variables? table<string, any>
---@return string
function template(path, variables) end

---@param path string another site file, beside this one
function include(path) end

log = {}
---@param ... any
function log.debug(...) end
---@param ... any
function log.info(...) end
---@param ... any
function log.warn(...) end
---@param ... any
function log.error(...) end

state = {}
---@param name string
---@return any
function state.get(name) end
---@param name string
---@param value any
---@param ttl? number seconds
function state.set(name, value, ttl) end
---@param name string
---@return boolean
function state.delete(name) end
---@param name string
---@param holder string
---@param ttl? number seconds
function state.lock(name, holder, ttl) end
---@param name string
---@param holder string
function state.unlock(name, holder) end
---@param name string
---@param holder string
---@param ttl? number seconds
---@return boolean
function state.try_lock(name, holder, ttl) end
---@param name string
---@param f fun(): any
---@param options? { ttl?: number, wait?: number, holder?: string }
function state.with_lock(name, f, options) end
"""
