"""The names that a site finds defined: Lua's own (as far as the sandbox has them) and sloth-runner's."""

from __future__ import annotations

# See env in lua/stubs.lua; lua_globals.py documents them.
SITE = (
    *("task", "handler", "role", "include", "secret", "template", "host", "hostvars", "groups", "vars", "facts"),
    *("log", "state", "check", "json", "sleep", "fail", "wait_for", "flush_handlers", "re", "jinja", "prompt"),
)
# See env in lua/sandbox.lua. Those that it refuses belong to it, too: no module may have their names.
LUA = (
    *("assert", "coroutine", "debug", "error", "getmetatable", "io", "ipairs", "load", "math", "next", "os", "package"),
    *("pairs", "pcall", "print", "rawequal", "rawget", "rawlen", "rawset", "require", "select", "setmetatable"),
    *("string", "table", "tonumber", "tostring", "type", "utf8", "xpcall", "_G", "_VERSION"),
)
