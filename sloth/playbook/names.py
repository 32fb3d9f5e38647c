"""The names that a site finds defined: Lua's own (as far as the sandbox has them) and sloth-runner's."""

from __future__ import annotations

# See env in lua/stubs.lua.
SITE = (
    *("task", "handler", "role", "include", "secret", "template", "host", "hostvars", "groups", "vars", "facts"),
    *("log", "state", "check", "json", "sleep", "fail", "wait_for", "flush_handlers", "re", "jinja", "prompt"),
)
# See env in lua/sandbox.lua. Those that it refuses belong to it, too: no module may have their names.
LUA = (
    *("assert", "coroutine", "debug", "error", "io", "ipairs", "load", "math", "next", "os", "package", "pairs"),
    *("pcall", "print", "require", "select", "string", "table", "tonumber", "tostring", "type", "utf8", "xpcall"),
)
