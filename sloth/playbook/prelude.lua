-- The Lua side of the playbook room: the sandbox, the stubs that yield what a site asks for, and result proxies.
-- It runs once in every fresh runtime, with `config` as its argument, and returns what the Python side drives.

local config = ...

local yield, isyieldable = coroutine.yield, coroutine.isyieldable
local getinfo, sethook, traceback = debug.getinfo, debug.sethook, debug.traceback
local getlocal, getupvalue = debug.getlocal, debug.getupvalue
local format, gsub, sub, rep, byte, find = string.format, string.gsub, string.sub, string.rep, string.byte, string.find
local concat, pack, unpack, sort = table.concat, table.pack, table.unpack, table.sort
local type, tostring, pairs, next, rawequal, select = type, tostring, pairs, next, rawequal, select
local setmetatable, getmetatable, raw_pcall, raw_xpcall, error, load = setmetatable, getmetatable, pcall, xpcall, error, load
local math_type, huge = math.type, math.huge

local PRELUDE = getinfo(1, "S").source
local depth = 0      -- how many pcall/xpcall we are inside of
local used = 0       -- hook periods since the last answer
local tripped = nil  -- the error of the instruction limit, once it was hit
local running = false
local fallback = ""  -- where the running function begins: a tail call leaves no other trace of its place
local functions = {} -- task index -> {run =, when =}
local results = setmetatable({}, { __mode = "k" }) -- proxy -> {id, name, where, fields}

-- Where the user's code is: the nearest line that is not of this file.
local function caller()
    for level = 3, 200 do
        local info = getinfo(level, "Sl")
        if not info then break end
        if info.currentline > 0 and info.source ~= PRELUDE and sub(info.source, 1, 1) == "@" then
            return sub(info.source, 2) .. ":" .. info.currentline
        end
    end
    return fallback
end

local function ask(...)
    local ok, value = yield(...)
    used = 0
    if not ok then error(value, 0) end
    return value
end

local function must_yield(what)
    if not isyieldable() then
        error(format("%s: %s cannot be used inside a callback of string.gsub, table.sort or a metamethod; "
            .. "collect the values first", caller(), what), 0)
    end
end

-- Plain data as JSON text: the only form in which a site's values leave the VM.

local escapes = setmetatable({ ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n" }, {
    __index = function(_, char) return format("\\u%04x", byte(char)) end,
})

local encode

local function encode_table(value, path, seen)
    if results[value] then
        error(path .. " is the result of a call; name one of its fields, such as .changed or .stdout", 0)
    end
    if seen[value] then error(path .. " contains itself", 0) end
    if #seen > 60 then error(path .. " is nested too deeply", 0) end
    seen[value] = true
    seen[#seen + 1] = value
    local parts, count, length = {}, 0, #value
    for _ in next, value do count = count + 1 end
    if count == length then
        for index = 1, length do parts[index] = encode(value[index], path .. "[" .. index .. "]", seen) end
    else
        for key, item in next, value do
            if type(key) ~= "string" then
                for other in next, value do
                    if type(other) == "string" then error(path .. " mixes a list with names", 0) end
                end
                if math_type(key) == "integer" then error(path .. " is a list with holes (nil in it)", 0) end
                error(path .. " has a " .. type(key) .. " as a name", 0)
            end
            parts[#parts + 1] = '"' .. gsub(key, '[%c"\\]', escapes) .. '":' .. encode(item, path .. "." .. key, seen)
        end
        sort(parts)
    end
    seen[#seen] = nil
    seen[value] = nil
    if count == length then return "[" .. concat(parts, ",") .. "]" end
    return "{" .. concat(parts, ",") .. "}"
end

function encode(value, path, seen)
    local kind = type(value)
    if kind == "string" then
        return '"' .. gsub(value, '[%c"\\]', escapes) .. '"'
    elseif kind == "number" then
        if math_type(value) == "integer" then return format("%d", value) end
        if value ~= value or value == huge or value == -huge then error(path .. " is not a finite number", 0) end
        local text = format("%.17g", value)
        if not find(text, "[.e]") then text = text .. ".0" end
        return text
    elseif kind == "boolean" then
        return value and "true" or "false"
    elseif kind == "nil" then
        return "null"
    elseif kind == "table" then
        return encode_table(value, path, seen)
    end
    error(path .. " is a " .. kind .. "; only plain data can be sent", 0)
end

local function data(what, value)
    local ok, text = raw_pcall(encode, value, what, {})
    if not ok then error(caller() .. ": " .. text, 0) end
    return text
end

local function data_list(what, ...)
    local parts = {}
    for index = 1, select("#", ...) do
        parts[index] = data(what .. ", argument " .. index, (select(index, ...)))
    end
    return "[" .. concat(parts, ",") .. "]"
end

-- Results

local function fetch(proxy, field)
    local state = results[proxy]
    if state.fields == nil or (state.fields._unknown and state.fields[field] == nil) then
        must_yield("a result")
        state.fields = ask("fetch", state.id, field, caller())
    end
    return state.fields
end

local result_meta = {
    __index = function(proxy, field) return fetch(proxy, tostring(field))[field] end,
    __newindex = function() error("the result of a call cannot be changed", 2) end,
    __pairs = function(proxy)
        local fields, seen = fetch(proxy, "changed"), {}
        for name, value in pairs(fields) do if sub(name, 1, 1) ~= "_" then seen[name] = value end end
        return next, seen, nil
    end,
    __tostring = function(proxy)
        local state = results[proxy]
        local fields = state.fields
        if fields == nil then return "<result of " .. state.name .. " at " .. state.where .. ">" end
        return format("%s %s", fields.status or "?", fields.key or state.name)
    end,
    __metatable = "the result of a call",
}

-- Lists of near words, for messages

local function distance(a, b)
    local row = {}
    for j = 0, #b do row[j] = j end
    for i = 1, #a do
        local last = row[0]
        row[0] = i
        for j = 1, #b do
            local cost = byte(a, i) == byte(b, j) and 0 or 1
            local best = last + cost
            if row[j] + 1 < best then best = row[j] + 1 end
            if row[j - 1] + 1 < best then best = row[j - 1] + 1 end
            last, row[j] = row[j], best
        end
    end
    return row[#b]
end

local function near(word, known)
    local best, least = nil, #word // 2 + 1
    for name in pairs(known) do
        local far = distance(word, name)
        if far < least or (far == least and best and name < best) then best, least = name, far end
    end
    return best and '; hint: did you mean "' .. best .. '"?' or ""
end

-- Modules

local function stub(name)
    return function(args, ...)
        must_yield(name)
        local where = caller()
        if type(args) == "string" or (type(args) == "table" and args[1] ~= nil) then
            local mixed = false
            for key in next, type(args) == "table" and args or {} do mixed = mixed or type(key) == "string" end
            if mixed then
                error(where .. ": " .. name .. " takes a table with names, such as " .. name .. "({name = value})", 0)
            end
            args = { [""] = args } -- the declaration says what may be given alone
        elseif args == nil then
            args = {}
        elseif type(args) ~= "table" then
            error(where .. ": " .. name .. " takes a table, not a " .. type(args), 0)
        end
        if select("#", ...) > 0 then error(where .. ": " .. name .. " takes one table", 0) end
        local id = ask("invoke", name, data(name, args), where, depth > 0)
        local proxy = setmetatable({}, result_meta)
        results[proxy] = { id = id, name = name, where = where }
        return proxy
    end
end

local function module(namespace, verbs)
    local known = {}
    for verb in pairs(verbs) do known[verb] = stub(namespace .. "." .. verb) end
    return setmetatable(known, {
        __index = function(_, verb)
            error(caller() .. ": there is no " .. namespace .. "." .. tostring(verb) .. near(tostring(verb), known), 0)
        end,
        __metatable = "module",
    })
end

-- What a site may use

local env = {}
for _, name in ipairs({ "assert", "error", "ipairs", "next", "pairs", "select", "tonumber", "tostring", "type",
    "rawequal", "rawget", "rawlen", "rawset", "_VERSION" }) do
    env[name] = _G[name]
end
string.dump = nil
for _, name in ipairs({ "string", "table", "math", "utf8" }) do
    env[name] = {}
    for key, value in pairs(_G[name]) do env[name][key] = value end
end

-- A loop such as `for _, user in ipairs({"alice"}) do user.create({name = user}) end` hides the module `user` behind a
-- string of that name. What a string does not have is therefore looked for in the module that it hides.
local function hidden(text)
    for level = 3, 4 do
        local info = getinfo(level, "f")
        if not info then return nil end
        local found
        for at = 1, 200 do
            local name, value = getlocal(level, at)
            if not name then break end
            if value == text and config.modules[name] then found = name end
        end
        for at = 1, 255 do
            local name, value = getupvalue(info.func, at)
            if not name then break end
            if not found and value == text and config.modules[name] then found = name end
        end
        if found then return found end
    end
end
getmetatable("").__index = function(text, key)
    local method = env.string[key]
    if method ~= nil or type(text) ~= "string" then return method end
    local namespace = hidden(text)
    return namespace and env[namespace][key] or nil
end
getmetatable("").__metatable = "string"
env.os = { time = os.time, date = os.date, clock = os.clock, difftime = os.difftime, getenv = os.getenv }
env._G = env

env.getmetatable = getmetatable
env.setmetatable = function(object, meta)
    if type(meta) == "table" and rawget(meta, "__gc") ~= nil then error("__gc is not available to a site", 2) end
    return setmetatable(object, meta)
end
env.load = function(chunk, name, _, scope)
    return load(chunk, name or "=(load)", "t", scope == nil and env or scope)
end
for _, name in ipairs({ "coroutine", "io", "debug", "package" }) do
    env[name] = setmetatable({}, {
        __index = function() error(caller() .. ": " .. name .. " is not available to a site", 0) end,
        __metatable = "none",
    })
end
env.require = function() error(caller() .. ': require is not available to a site; use include("file.sloth")', 0) end

local function guard(run)
    must_yield("pcall")
    ask("sync", caller())
    depth = depth + 1
    local outcome = pack(run())
    depth = depth - 1
    if tripped then error(tripped, 0) end
    return unpack(outcome, 1, outcome.n)
end

env.pcall = function(f, ...)
    local args = pack(...)
    return guard(function() return raw_pcall(f, unpack(args, 1, args.n)) end)
end
env.xpcall = function(f, handler, ...)
    local args = pack(...)
    return guard(function() return raw_xpcall(f, handler, unpack(args, 1, args.n)) end)
end

local function text_of(...)
    local parts = pack(...)
    for index = 1, parts.n do
        if type(parts[index]) == "table" and results[parts[index]] then fetch(parts[index], "changed") end
        parts[index] = tostring(parts[index])
    end
    return concat(parts, "\t")
end

local function output(level)
    return function(...)
        must_yield(level == "print" and "print" or "log." .. level)
        ask("output", level, text_of(...), caller())
    end
end

env.print = output("print")
env.log = { debug = output("debug"), info = output("info"), warn = output("warn"), error = output("error") }

env.host, env.groups, env.vars, env.check = config.host, config.groups, config.vars, config.check

local facts = nil
env.facts = setmetatable({}, {
    __index = function(_, field)
        if facts == nil then
            must_yield("facts")
            facts = ask("facts", caller())
        end
        return facts[field]
    end,
    __pairs = function(self)
        local _ = self.os_family
        return next, facts, nil
    end,
    __newindex = function() error("facts cannot be changed", 2) end,
    __metatable = "facts",
})

env.secret = function(name)
    must_yield("secret")
    if type(name) ~= "string" or name == "" then error(caller() .. ": secret takes the name of a secret", 0) end
    return ask("secret", tostring(name), caller())
end

env.template = function(path, variables)
    must_yield("template")
    return ask("render", tostring(path), data("template", variables or {}), caller())
end

env.include = function(path)
    must_yield("include")
    local name, source = unpack(ask("include", tostring(path), caller()))
    local chunk, message = load(source, "@" .. name, "t", env)
    if not chunk then error(message, 0) end
    local outcome = pack(chunk())
    ask("included", name)
    return unpack(outcome, 1, outcome.n)
end

-- Shared values and locks

env.state = {}
for _, op in ipairs({ "get", "set", "cas", "delete", "list", "incr", "lock", "unlock", "try_lock" }) do
    env.state[op] = function(...)
        must_yield("state." .. op)
        return ask("shared", op, data_list("state." .. op, ...), caller())
    end
end
env.state.with_lock = function(name, f, options)
    must_yield("state.with_lock")
    local where = caller()
    options = options == nil and {} or options
    if type(f) ~= "function" or type(options) ~= "table" then
        error(where .. ": state.with_lock takes a name, a function, and a table such as {ttl = 60, wait = 10}", 0)
    end
    local holder = options.holder or ask("shared", "holder", "[]", where)
    ask("shared", "hold", data_list("state.with_lock", name, holder, options.ttl or 300, options.wait or 0), where)
    local outcome = pack(env.pcall(f))
    ask("shared", "release", data_list("state.with_lock", name, holder), where)
    if not outcome[1] then error(outcome[2], 0) end
    return unpack(outcome, 2, outcome.n)
end

for namespace, verbs in pairs(config.modules) do env[namespace] = module(namespace, verbs) end

-- Declarations

local function declare(what)
    return function(options)
        local where = caller()
        if running then error(where .. ": " .. what .. " must stand at the top level, not inside a task", 0) end
        if type(options) ~= "table" then error(where .. ": " .. what .. " takes a table", 0) end
        local plain, kinds = {}, {}
        for name, value in next, options do
            if type(value) == "function" then kinds[name] = "function" else plain[name] = value end
        end
        local index = ask("declare", what, data(what, plain), data(what, kinds), where)
        functions[index] = { run = options.run, when = options.when }
    end
end
env.task, env.handler = declare("task"), declare("handler")

-- What Python drives

local function message_of(problem)
    if type(problem) == "string" then return problem end
    if type(problem) == "table" and not results[problem] then
        local meta = getmetatable(problem)
        if type(meta) == "table" and meta.__tostring then
            local ok, text = raw_pcall(tostring, problem)
            if ok then return text end
        end
        local ok, text = raw_pcall(encode, problem, "error", {})
        if ok then return text end
    end
    return "error object is a " .. type(problem)
end

local function hook()
    used = used + 1
    if used > config.periods then
        tripped = caller() .. ": more than " .. config.limit .. " instructions without a call: an endless loop?"
        error(tripped, 0)
    end
end

local function run(f, is_task)
    local info = getinfo(f, "S")
    fallback = sub(info.source, 1, 1) == "@" and sub(info.source, 2) .. ":" .. info.linedefined or ""
    sethook(hook, "", config.period)
    depth, used, tripped, running = 0, 0, nil, is_task
    local ok, value = raw_xpcall(f, function(problem)
        return { message_of(problem), traceback("", 2) }
    end)
    sethook()
    running = false
    if ok then return "done", value and true or false end
    if type(value) == "table" then return "error", value[1], value[2] end
    return "error", tostring(value), ""
end

return {
    load = function(source, name)
        return run(function()
            local chunk, message = load(source, "@" .. name, "t", env)
            if not chunk then error(message, 0) end
            chunk()
        end, false)
    end,
    start = function(index) return run(functions[index].run, true) end,
    when = function(index)
        local when = functions[index].when
        if type(when) ~= "function" then return "done", when and true or false end
        return run(when, true)
    end,
}
