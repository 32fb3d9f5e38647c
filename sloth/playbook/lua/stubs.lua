-- What a site calls: the modules, `facts`, `state`, `task` and the rest. Each is a stub that asks Python.

local room = ...

local format, sub, find, gmatch = string.format, string.sub, string.find, string.gmatch
local pack, unpack = table.pack, table.unpack
local type, tostring, pairs, ipairs, next, select = type, tostring, pairs, ipairs, next, select
local setmetatable, isyieldable, error = setmetatable, coroutine.isyieldable, error
local rawget, rawset = rawget, rawset
local caller, fail, ask, refuse_colon = room.caller, room.fail, room.ask, room.refuse_colon
local data, data_list, text_of = room.data, room.data_list, room.text_of
local config, env, results = room.config, room.env, room.results

-- Results. A call returns at once with a proxy of its result, before the host has replied, so that what a run costs in
-- round trips does not grow with its calls. Reading a field of the proxy is what waits. Where the reply is a failure,
-- that is where the error is raised, with the position of the call.

function room.fetch(proxy, field)
    local state = results[proxy]
    -- In a check the result of an action that was not run has few fields; Python decides for each other one.
    if state.fields == nil or (state.fields._unknown and state.fields[field] == nil) then
        state.fields = ask("a result", "fetch", state.id, field, caller())
    end
    return state.fields
end
local fetch = room.fetch

local result_meta = {
    __index = function(proxy, field) return fetch(proxy, tostring(field))[field] end,
    __newindex = function() error("the result of a call cannot be changed", 2) end,
    __pairs = function(proxy)
        local fields, visible = fetch(proxy, "changed"), {}
        for name, value in pairs(fields) do if sub(name, 1, 1) ~= "_" then visible[name] = value end end
        return next, visible, nil
    end,
    -- Must not wait: C code calls it, in string.format for one. print and log fetch the fields before.
    __tostring = function(proxy)
        local state = results[proxy]
        local fields = state.fields
        if fields == nil then return "<result of " .. state.name .. " at " .. state.where .. ">" end
        return format("%s %s", fields.status or "?", fields.key or state.name)
    end,
    __metatable = "the result of a call",
}

-- Namespaces: tables of functions in which an unknown name is an error with the nearest one.

-- The functions of a module are made when they are read first: a run has a program for each host, which calls a few.
local names_of = {} -- namespace -> its name
local unread = {} -- namespace -> the names of its functions, with a space before and after each, unless all are made
local stub

local function read_functions(functions)
    for verb in gmatch(unread[functions] or "", "%S+") do
        if rawget(functions, verb) == nil then rawset(functions, verb, stub(names_of[functions], verb, functions)) end
    end
    unread[functions] = nil
end

local namespace_meta = { -- one for all: each of its functions would be there for each namespace
    __index = function(functions, key)
        local name, verbs = names_of[functions], unread[functions]
        if verbs and type(key) == "string" and not find(key, " ", 1, true) and find(verbs, " " .. key .. " ", 1, true) then
            local f = stub(name, key, functions)
            rawset(functions, key, f)
            return f
        end
        local where, names = caller(), {}
        if isyieldable() then
            read_functions(functions)
            for known in next, functions do names[#names + 1] = known end
            ask(name, "unknown", name, tostring(key), data("names", names), where) -- Python raises the error
        end
        fail(where, "there is no " .. name .. "." .. tostring(key))
    end,
    __newindex = function(functions, key, value)
        read_functions(functions)
        rawset(functions, key, value)
    end,
    __pairs = function(functions)
        read_functions(functions)
        return next, functions, nil
    end,
    __metatable = "module",
}

local function namespace(name, functions, verbs)
    names_of[functions], unread[functions] = name, verbs
    if verbs then room.fill[functions] = read_functions end
    return setmetatable(functions, namespace_meta)
end
room.namespace = namespace

-- Options of calls that are functions stay here: Python gets a mark in their place (FUNCTION in kernel/options.py).
local judges = { ["until"] = true, changed_when = true, failed_when = true }
local MARK = { ["function"] = true }

-- Make a call that may be tried again, or of which the site decides what became of it: the reply is awaited, the
-- functions are called with the result, and Python decides by what they return.
local function judged(name, args, where)
    local plain, functions = {}, {}
    for key, value in next, args do
        local is_judge = judges[key] and type(value) == "function"
        functions[key] = is_judge and value or nil
        plain[key] = is_judge and MARK or value
    end
    local attempt = 1
    while true do
        local call = ask(name, "invoke", name, data(name, plain), where, room.depth > 0, room.rescues > 0, attempt)
        local proxy, answers = setmetatable({}, result_meta), {}
        results[proxy] = { id = call.id, name = name, where = where, fields = call.fields }
        if call.judge then
            local ok, problem = room.finally(function()
                for key, f in next, functions do answers[key] = f(proxy) and true or false end
            end)
            if not ok then answers.error = room.message_of(problem) end
        end
        if not ask(name, "judge", call.id, data(name, answers), where) then
            results[proxy].fields = nil
            return proxy
        end
        attempt = attempt + 1
    end
end

-- Return the arguments with what a function as `delegate_to` returns in its place.
local function delegated(name, args, where)
    local copy, target = {}, args.delegate_to(env.host)
    for key, value in next, args do copy[key] = value end
    if target ~= nil and type(target) ~= "string" then
        fail(where, name .. ": delegate_to must return the name of a host, not a " .. type(target))
    end
    copy.delegate_to = target
    return copy
end

function stub(space, verb, owner)
    local name = space .. "." .. verb
    return function(args, ...)
        refuse_colon(owner, args, space, verb)
        local where = caller()
        if type(args) == "string" or (type(args) == "table" and args[1] ~= nil) then
            local mixed = false
            for key in next, type(args) == "table" and args or {} do mixed = mixed or type(key) == "string" end
            if mixed then
                fail(where, name .. " takes a table with names, such as " .. name .. "({name = value})")
            end
            args = { [""] = args } -- the module declares which argument may be given alone
        elseif args == nil then
            args = {}
        elseif type(args) ~= "table" then
            fail(where, name .. " takes a table, not a " .. type(args))
        end
        if select("#", ...) > 0 then fail(where, name .. " takes one table") end
        room.unanswered = room.unanswered or room.depth == 0
        if type(args.delegate_to) == "function" then args = delegated(name, args, where) end
        if args["until"] ~= nil or args.retries ~= nil or args.changed_when ~= nil or args.failed_when ~= nil then
            return judged(name, args, where)
        end
        local id = ask(name, "invoke", name, data(name, args), where, room.depth > 0, room.rescues > 0, 0)
        local proxy = setmetatable({}, result_meta)
        results[proxy] = { id = id, name = name, where = where }
        return proxy
    end
end

local of_host = {} -- the functions of `host`, which is a table of values, too
for space, verbs in pairs(config.modules) do
    if space == "host" then
        for verb in gmatch(verbs, "%S+") do of_host[verb] = stub(space, verb, config.host) end
    else
        env[space] = namespace(space, {}, verbs)
    end
end
config.modules.host = nil -- a variable called `host` is most often no module
env.wait_for = of_host.wait_for

-- Output

local log = {}
local function output(level, name)
    return function(...)
        refuse_colon(log, (...), "log", level)
        ask(name, "output", level, text_of(...), caller())
    end
end
for _, level in ipairs({ "debug", "info", "warn", "error" }) do log[level] = output(level, "log." .. level) end
env.log = namespace("log", log)
env.print = output("print", "print")

-- Values of the host

env.vars, env.check = config.vars, config.check

-- Groups may have a hundred thousand names, in a runtime for each host: each comes when it is read first. They come from
-- a function of Python that returns nothing but text, and not by a request, since a callback of table.sort may read them.
local lines_of, groups, sizes = room.names_of, {}, config.groups
local function read_group(name)
    local size = sizes[name]
    if not size then return nil end
    if not room.has_room(size) then fail(caller(), config.too_large .. ": the group " .. name) end
    sizes[name] = nil
    local names = {}
    for host in gmatch(lines_of(name), "[^\n]+") do names[#names + 1] = host end
    rawset(groups, name, names)
    return names
end
local function read_groups()
    for name in next, sizes do read_group(name) end
end
env.groups = setmetatable(groups, {
    __index = function(_, name) return read_group(name) end,
    __newindex = function(_, name, value)
        sizes[name] = nil
        rawset(groups, name, value)
    end,
    __pairs = function()
        read_groups()
        return next, groups, nil
    end,
    __metatable = "groups",
})
room.fill[groups] = read_groups

-- Variables with Jinja in them are evaluated when they are read first: some need facts, and many are never read.
local lazy = config.lazy or {}
if next(lazy) then
    setmetatable(env.vars, {
        __index = function(variables, name)
            if not lazy[name] then return nil end
            rawset(variables, name, ask("vars", "variable", name, caller()))
            lazy[name] = nil
            return rawget(variables, name)
        end,
        __pairs = function(variables)
            room.fill[variables]()
            return next, variables, nil
        end,
    })
    room.fill[env.vars] = function()
        local names = {}
        for name in next, lazy do names[#names + 1] = name end
        for _, name in ipairs(names) do local _ = env.vars[name] end
    end
end
-- What looks past metatables must find all of these, too.
local function filled(f)
    return function(object, ...)
        local fill = room.fill[object]
        if fill then fill(object) end
        return f(object, ...)
    end
end
env.next, env.rawget = filled(next), filled(rawget)
-- A misspelt setting of the host must not be nil either; nil is left for those that have no value.
env.host = setmetatable(config.host, {
    __index = function(_, key)
        if of_host[key] then return of_host[key] end
        if not config.host_names[key] and isyieldable() then
            local names = {}
            for known in next, of_host do names[#names + 1] = known end
            for known in next, config.host_names do names[#names + 1] = known end
            ask("host", "unknown", "host", tostring(key), data("names", names), caller()) -- Python raises the error
        end
    end,
})

local facts = nil
local function gather()
    if facts == nil then facts = ask("facts", "facts", caller()) end
    return facts
end
env.facts = setmetatable({}, {
    __index = function(_, field)
        local value = gather()[field]
        -- A misspelt fact must not be nil: a `when` that tests it would be false on every host, silently. nil is left
        -- for facts that exist and have no value; Python knows their names.
        if value == nil and isyieldable() then ask("facts", "missing_fact", tostring(field), caller()) end
        return value
    end,
    __pairs = function() return next, gather(), nil end,
    __newindex = function() error("facts cannot be changed", 2) end,
    __metatable = "facts",
})

env.secret = function(name)
    if type(name) ~= "string" or name == "" then fail(caller(), "secret takes the name of a secret") end
    return ask("secret", "secret", name, caller())
end

env.template = function(path, variables)
    return ask("template", "render", tostring(path), data("template", variables or {}), caller())
end

local function loaded(what, name, source, ...)
    local outcome = pack(room.compile(source, name)(...))
    ask(what, "included") -- Python keeps the files that are being included, to refuse a cycle
    return unpack(outcome, 1, outcome.n)
end

-- What follows the path is what `...` is in the file.
env.include = function(path, ...)
    local where = caller()
    local name, source = unpack(ask("include", "include", tostring(path), where))
    -- What would be lost without a word is mostly meant for all tasks of the file, as in other tools.
    if select("#", ...) > 0 and not find(source, "...", 1, true) then
        fail(where, tostring(path) .. " takes no values: it does not use `...`. Give tags and other options to each task")
    end
    return loaded("include", name, source, ...)
end

env.role = function(name, arguments, options)
    local where = caller()
    if type(name) ~= "string" then fail(where, 'role takes a name, such as role("nginx", { port = 80 })') end
    if arguments ~= nil and type(arguments) ~= "table" then fail(where, "role " .. name .. " takes a table with names") end
    local label = ""
    if options ~= nil then
        if type(options) ~= "table" or type(options.as) ~= "string" or next(options, next(options)) ~= nil then
            fail(where, 'the options of role are { as = "another name" }')
        end
        label = options.as
    end
    local path, source, values = unpack(ask("role", "role", name, data("role", arguments or {}), label, where))
    return loaded("role", path, source, values)
end

-- Other hosts

local others = {}
env.hostvars = setmetatable({}, {
    __index = function(_, name)
        name = tostring(name)
        if others[name] == nil then
            others[name] = setmetatable(ask("hostvars", "hostvars", name, caller()), {
                __index = function(variables, key)
                    if key ~= "facts" then return nil end
                    local gathered = ask("hostvars", "hostfacts", name, caller())
                    variables.facts = gathered
                    return gathered
                end,
                __metatable = "hostvars",
            })
        end
        return others[name]
    end,
    __newindex = function() error("hostvars cannot be changed", 2) end,
    __metatable = "hostvars",
})

-- Time, failures and JSON

env.sleep = function(seconds)
    if type(seconds) ~= "number" or not (seconds >= 0 and seconds < 1e7) then
        fail(caller(), "sleep takes a number of seconds")
    end
    ask("sleep", "sleep", seconds, caller())
end

env.fail = function(what)
    local message = type(what) == "table" and what.msg or what
    fail(caller(), message == nil and "failed" or type(message) == "string" and message or text_of(message))
end

-- assert(value, message), as in Lua, with the position; assert{that = value or list, msg = ...}, as in Ansible.
env.assert = function(value, ...)
    local message = (...)
    local holds = value
    if type(value) == "table" and not results[value] and next(value) ~= nil and value.that ~= nil then
        message, holds = value.msg or value.fail_msg, value.that
        if type(holds) == "table" and not results[holds] then
            for _, one in next, value.that do holds = holds and one end
        end
    end
    if holds then return value, ... end
    if type(message) == "table" then error(message, 0) end
    fail(caller(), message == nil and "assertion failed!" or tostring(message))
end

local json = {}
json.encode = function(value) return data("json.encode", value) end
json.decode = function(text)
    if type(text) ~= "string" then fail(caller(), "json.decode takes a string, not a " .. type(text)) end
    return ask("json.decode", "json", text, caller())
end
env.json = namespace("json", json)

-- Shared values and locks

local state = {}
local function shared(op, args, where)
    return ask("state." .. op, "shared", op, args, where or caller())
end
for _, op in ipairs({ "get", "set", "cas", "delete", "list", "incr", "lock", "unlock", "try_lock" }) do
    state[op] = function(...)
        refuse_colon(state, (...), "state", op)
        return shared(op, data_list("state." .. op, ...))
    end
end
state.with_lock = function(name, f, options)
    local where = caller()
    refuse_colon(state, name, "state", "with_lock")
    options = options == nil and {} or options
    if type(f) ~= "function" or type(options) ~= "table" then
        fail(where, "state.with_lock takes a name, a function, and a table such as {ttl = 60, wait = 10}")
    end
    local holder = options.holder or shared("holder", "[]", where)
    local number = shared("hold", data_list("state.with_lock", name, holder, options.ttl or 300, options.wait or 0), where)
    -- Whatever becomes of f, the lock is released.
    local outcome = pack(room.finally(function() return f(number) end))
    shared("release", data_list("state.with_lock", name, holder, outcome[1]), where)
    if not outcome[1] then error(outcome[2], 0) end
    return unpack(outcome, 2, outcome.n)
end
env.state = namespace("state", state)

-- Declarations

-- index of a task or handler -> its functions, which never leave the VM, and a `when` that is none; `value` is what `run`
-- has returned last
room.functions = {}

local function declare(what)
    return function(options)
        local where, periods = caller(), room.periods
        if room.running then fail(where, what .. " must stand at the top level, not inside a task") end
        if type(options) ~= "table" then fail(where, what .. " takes a table") end
        local plain, names, functions = {}, {}, { when = options.when }
        for name, value in next, options do
            if type(value) == "function" then
                names[#names + 1], functions[name] = name, value
            else
                plain[name] = value
            end
        end
        room.functions[ask(what, "declare", what, data(what, plain), data(what, names), where)] = functions
        room.periods = periods -- a site may declare many: their number is limited, not what it costs here
    end
end
env.task, env.handler = declare("task"), declare("handler")
env.flush_handlers = function(...)
    local where = caller()
    if select("#", ...) > 0 then fail(where, "flush_handlers takes nothing") end
    if room.running then fail(where, "flush_handlers must stand at the top level, between two tasks") end
    room.functions[ask("flush_handlers", "declare", "flush", "{}", "[]", where)] = {}
end
