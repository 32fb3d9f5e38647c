-- The sandbox: what a site may use of Lua, how it suspends until Python has answered, and how its errors are raised.
--
-- sandbox, limits, encode, stubs and driver run in this order, once in every fresh runtime, each with the same table `room`.
-- Through it they share what a site must never get hold of; whatever a site may use is in `room.env`, its globals.
-- Their chunks are named "=(sloth/FILE.lua)", those of a site "@PATH": the first character shows whether a stack frame
-- is the site's.

local room = ...

local yield, isyieldable = coroutine.yield, coroutine.isyieldable
local getinfo, getlocal, getupvalue = debug.getinfo, debug.getlocal, debug.getupvalue
local format, sub, match = string.format, string.sub, string.match
local clock = os.clock
local pack, unpack = table.pack, table.unpack
local type, pairs, ipairs, rawget, rawequal = type, pairs, ipairs, rawget, rawequal
local setmetatable, getmetatable = setmetatable, getmetatable
local raw_xpcall, error, load = xpcall, error, load
room.load = load

room.depth = 0      -- how many pcall and xpcall the running code is inside of
room.rescues = 0    -- those of them that a site has written itself: a failure in them is rescued
room.unanswered = false -- whether calls were made whose replies nobody has waited for
room.periods = 0    -- periods of the instruction hook since the last call
room.requests = 0   -- requests since the last call
room.since = 0      -- the processor's time when Python last answered
room.tripped = nil  -- the text of the error of a limit, once it was reached
room.near = nil     -- a position at which the site used much memory
room.fallback = ""  -- the position of the running function, for a tail call: it leaves no frame of the site

-- Return the position "site.sloth:4" of the innermost frame of the site.
local function caller()
    for level = 2, 200 do
        local info = getinfo(level, "Sl")
        if not info then break end
        if info.currentline > 0 and sub(info.source, 1, 1) == "@" then
            return sub(info.source, 2) .. ":" .. info.currentline
        end
    end
    return room.fallback
end
room.caller = caller

-- Raise an error at a position. Lua code that catches it sees one string, as with every error of Lua; its parts are
-- kept beside it, so that nobody has to take the string apart when it reaches the driver.
local raised = {}
function room.fail(where, message)
    raised.text, raised.where, raised.message = where .. ": " .. message, where, message
    error(raised.text, 0)
end
room.raised = raised
local fail = room.fail

-- Suspend the site with a request, until Python resumes it with true and the answer, or false and an error's text.
-- `what` names the request for people. Lua cannot suspend a function that C code called: a callback, a metamethod.
function room.ask(what, kind, ...)
    if not isyieldable() then
        fail(caller(), what .. " cannot be used inside a callback of table.sort or a metamethod; "
            .. "collect the values first")
    end
    local ok, value = yield(kind, ...)
    room.since = clock()
    if kind == "invoke" or kind == "fetch" then
        room.periods, room.requests, room.near = 0, 0, nil -- a long site that makes calls may run for hours
    elseif kind ~= "declare" then
        room.count_request(1)
    end
    if not ok then error(value, 0) end
    return value
end
local ask = room.ask

-- Count requests: those that are answered at once can be repeated without end. A large one counts more than once.
function room.count_request(weight)
    room.requests = room.requests + weight
    if room.requests > room.config.requests then
        room.trip("more than " .. room.config.requests .. " requests without a call: an endless loop?")
    end
end

-- Stop the site for good. The hook is called before every instruction from now on, so that nothing that the site has
-- prepared for its end (a pcall, __close, a message handler) goes on.
function room.trip(message)
    local where = caller()
    room.tripped = where .. ": " .. message
    raised.text, raised.where, raised.message = room.tripped, where, message
    room.stop()
    error(room.tripped, 0)
end

-- Refuse `owner:name(...)`, which passes the owner as first argument: it comes from languages that have methods.
function room.refuse_colon(owner, first, namespace, name)
    if rawequal(first, owner) then
        fail(caller(), format("%s:%s must be written with a dot: %s.%s(...)", namespace, name, namespace, name))
    end
end

-- Compile Lua source under the path of its file.
function room.compile(source, path)
    local chunk, message = load(source, "@" .. path, "t", room.env)
    if chunk then return chunk end
    -- Lua puts the position before the message, but shortens a long path: take the line only.
    local short = getinfo(load("", "@" .. path), "S").short_src
    local line, rest = match(sub(message, #short + 1), "^:(%d+): (.*)$")
    fail(path .. ":" .. (line or "1"), rest or message)
end

-- The globals of a site

local env = {}
room.env = env
for _, name in ipairs({ "assert", "error", "ipairs", "next", "pairs", "select", "tonumber", "tostring", "type",
    "rawequal", "rawget", "rawlen", "rawset", "_VERSION" }) do
    env[name] = _G[name]
end
string.dump = nil -- with the loading of bytecode, it leads out of the sandbox
for _, name in ipairs({ "string", "table", "math", "utf8" }) do
    env[name] = {} -- a copy: a site cannot change the functions that these files use
    for key, value in pairs(_G[name]) do env[name][key] = value end
end
env.os = { time = os.time, date = os.date, clock = os.clock, difftime = os.difftime, getenv = os.getenv }
env._G = env

env.getmetatable = getmetatable
env.setmetatable = function(object, meta)
    -- A finalizer runs whenever memory is collected, outside of any task.
    if type(meta) == "table" and rawget(meta, "__gc") ~= nil then error("__gc is not available to a site", 2) end
    return setmetatable(object, meta)
end
for _, name in ipairs({ "coroutine", "io", "debug", "package" }) do
    env[name] = setmetatable({}, {
        __index = function() fail(caller(), name .. " is not available to a site") end,
        __metatable = "none",
    })
end
env.require = function() fail(caller(), 'require is not available to a site; use include("file.sloth")') end

-- Strings

-- A loop such as `for _, user in ipairs({"alice"}) do user.create({name = user}) end` hides the module `user` behind a
-- string of that name. What a string does not have is therefore looked up in the module that it hides: the debug
-- library has the names under which the calling function, or the one around it, knows this very string.
local function hidden_module(text)
    local modules = room.config.modules
    for level = 3, 4 do -- 1 is this function, 2 the metamethod
        local info = getinfo(level, "f")
        if not info then return nil end
        local found
        for at = 1, 200 do
            local name, value = getlocal(level, at)
            if not name then break end
            if value == text and modules[name] then found = name end -- the last one of that name is the one in scope
        end
        for at = 1, 255 do
            local name, value = getupvalue(info.func, at)
            if not name then break end
            if not found and value == text and modules[name] then found = name end
        end
        if found then return found end
    end
end
local string_meta = getmetatable("")
string_meta.__index = function(text, key)
    local method = env.string[key]
    if method ~= nil or type(text) ~= "string" then return method end
    local namespace = hidden_module(text)
    return namespace and env[namespace][key] or nil
end
string_meta.__metatable = "string" -- all strings share this metatable, the controller's too: a site must not get it

-- Protected calls

-- Inside pcall a call waits for its reply (the stub passes on that `depth` is above 0), so that the site can catch its
-- failure. Calls before the pcall must not fail inside it, so their replies are awaited first; those inside have been
-- answered when it ends.
local function guard(run, rescues)
    if room.unanswered then ask("pcall", "sync", caller()) end
    room.unanswered = false
    room.depth, room.rescues = room.depth + 1, room.rescues + rescues
    local outcome = pack(run())
    room.depth, room.rescues = room.depth - 1, room.rescues - rescues
    return unpack(outcome, 1, outcome.n)
end

-- Return an error that a function of C has raised, called by these files, with the position of the site instead.
function room.relocate(problem)
    if type(problem) ~= "string" or sub(problem, 1, 7) ~= "(sloth/" then return problem end
    local message = match(problem, "^%(sloth/%w+%.lua%):%d+: (.*)$")
    if not message then return problem end
    local where = caller()
    raised.text, raised.where, raised.message = where .. ": " .. message, where, message
    return raised.text
end
local relocate = room.relocate

-- Run f, and return what pcall returns; the caller raises the error again.
function room.finally(f)
    return guard(function() return raw_xpcall(f, relocate) end, 0)
end

env.pcall = function(f, ...)
    local args = pack(...)
    return guard(function() return raw_xpcall(f, relocate, unpack(args, 1, args.n)) end, 1)
end
env.xpcall = function(f, handler, ...)
    local args = pack(...)
    -- The hook raises its error with the hook off: a handler of the site would have no limit there.
    local function handle(problem)
        if room.tripped then return problem end
        return handler(relocate(problem))
    end
    return guard(function() return raw_xpcall(f, handle, unpack(args, 1, args.n)) end, 1)
end
