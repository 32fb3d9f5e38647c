-- What Python drives: it loads a site and runs its tasks, each in a coroutine, and reports how they end.

local room = ...

local getinfo, sethook, traceback = debug.getinfo, debug.sethook, debug.traceback
local sub, clock, count_memory = string.sub, os.clock, collectgarbage
local type, tostring, xpcall, error, rawequal = type, tostring, xpcall, error, rawequal
local min, unpack = math.min, table.unpack
local caller, config = room.caller, room.config

-- The hook is called after every `config.period` instructions. It is the only way to stop `while true do end`: Lua hands
-- control to nobody. It counts instructions, so that a slow machine gets no other result; the time is a second limit,
-- for instructions on long strings, and where there can be such strings it looks more often.
local function period_for(kilobytes)
    return kilobytes < 4096 and config.period or kilobytes < 20480 and min(250, config.period) or min(100, config.period)
end
local period, near_at, run = config.period, 0, nil

local function hook()
    if room.tripped then
        if getinfo(2, "f").func == run then return end
        error(room.tripped, 0)
    end
    room.periods = room.periods + period / config.period
    if room.periods > config.periods then
        room.trip("more than " .. config.limit .. " instructions without a call: an endless loop?")
    end
    room.check_time()
    local used = count_memory("count")
    if used > near_at then -- seldom: what this allocates is collected again, at great cost where memory is short
        room.near, near_at = caller(), used + config.memory / 20480
    end
    local wanted = period_for(used)
    if wanted ~= period then
        period = wanted
        sethook(hook, "", period)
    end
end

function room.stop()
    sethook(hook, "", 1)
end

-- Return the parts of an error's text: where, message. "" for `where` when they are not known.
local function parts_of(text)
    local raised = room.raised
    if text == raised.text then return raised.where, raised.message end
    -- Lua itself puts the position before the message, as the frame's short_src: a long path is shortened there.
    for level = 3, 200 do
        local info = getinfo(level, "Sl")
        if not info then break end
        if info.currentline > 0 and sub(info.source, 1, 1) == "@" then
            local prefix = info.short_src .. ":" .. info.currentline .. ": "
            if sub(text, 1, #prefix) == prefix then
                return sub(info.source, 2) .. ":" .. info.currentline, sub(text, #prefix + 1)
            end
        end
    end
    return "", text
end

-- Run a function of the site to its end; kind: "site", "task" or "hook". Return "done" and whether its value is true;
-- "refused" and a message when a task returns false, or nil with a message; "error", the text, where, message, traceback
-- and the line that raised it; or "memory" and a line. What it returns is kept as `value` in the table `keep`.
function run(f, kind, argument, keep)
    local info = getinfo(f, "S")
    room.fallback = sub(info.source, 1, 1) == "@" and sub(info.source, 2) .. ":" .. info.linedefined or ""
    period, near_at = config.period, config.memory / 4096
    sethook(hook, "", period)
    room.depth, room.rescues, room.tripped, room.running = 0, 0, nil, kind ~= "site"
    room.periods, room.requests, room.since, room.near, room.unanswered = 0, 0, clock(), nil, false
    local handled, report = false, nil
    local ok, value, reason = xpcall(f, function(problem)
        handled = true
        -- What is closed on the way out fails as well, perhaps often; and this function itself where the stack is full.
        if report and (room.tripped or rawequal(problem, report)) then return report end
        local text = room.message_of(room.relocate(problem))
        local where, message = parts_of(text)
        report = { text, where, message, traceback("", 2), caller() }
        return report
    end, argument)
    sethook()
    room.running = false
    if ok and kind == "task" and (value == false or value == nil and type(reason) == "string") then
        return "refused", reason == nil and "" or type(reason) == "string" and reason or room.text_of(reason)
    end
    if ok then
        if keep then keep.value = value end
        return "done", value and true or false, type(value) == "string" and value or nil
    end
    if type(value) == "table" then return "error", unpack(value, 1, 5) end
    -- Lua calls the message handler for every error but two: when memory is exhausted, and when the handler fails
    -- itself, as it may after a stack overflow. (And error("not enough memory", 0), with Lua's own text and no position,
    -- is no error but exhausted memory to Lua itself: see lua_error in its lapi.c.)
    if not handled then return "memory", room.near or room.fallback end
    return "error", tostring(value), "", tostring(value), "", room.fallback
end

return {
    objects = room.objects,
    load = function(source, path)
        return run(function() room.compile(source, path)() end, "site")
    end,
    start = function(index)
        local functions = room.functions[index]
        functions.value = nil
        return run(functions.run, "task", nil, functions)
    end,
    hook = function(index, name, argument)
        local functions = room.functions[index]
        local f = functions[name]
        if type(f) ~= "function" then return "done", f and true or false end -- a `when` may be a plain value
        if name == "until" or name == "changed_when" or name == "failed_when" then argument = functions.value end
        if name == "delegate_to" then argument = room.env.host end
        return run(f, name == "confirm_check" and "task" or "hook", argument) -- what returns false has not passed
    end,
}
