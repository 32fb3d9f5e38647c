-- The functions of Lua's library whose cost a site chooses by a number or a pattern. Lua stops a loop of its own by a
-- hook, and a C function by nothing, so each of these checks before it begins that it will end soon.

local room = ...

local clock = os.clock
local count_memory = collectgarbage
local type, select, pairs, tostring = type, select, pairs, tostring
local raw, raw_table = {}, {}
for name, f in pairs(string) do raw[name] = f end
for name, f in pairs(table) do raw_table[name] = f end
local raw_find, raw_gsub, raw_rep, sub = raw.find, raw.gsub, raw.rep, raw.sub
local caller, fail, env = room.caller, room.fail, room.env
local string, table, utf8 = env.string, env.table, env.utf8

local LONG = 16384        -- bytes from which on a string is worth a look at the clock
local MOST = 10000000     -- elements of one operation on a table
local STEPS = 5000000     -- of a pattern on a string, in C: a twentieth of a second
local LABELS = 20000      -- "::" in a source: Lua's parser compares each with all others

-- Time

function room.check_time()
    if clock() - room.since > room.config.seconds then
        room.trip("more than " .. room.config.seconds .. " seconds without a call: an endless loop, or too much data?")
    end
end
local check_time = room.check_time

-- Return f as a function that looks at the clock after it had a long string.
local function timed(f)
    return function(text, ...)
        if type(text) == "string" and #text > LONG then check_time() end
        return f(text, ...)
    end
end
for _, name in pairs({ "byte", "lower", "upper", "reverse", "unpack", "packsize" }) do string[name] = timed(raw[name]) end
for _, name in pairs({ "len", "codes", "codepoint", "offset" }) do utf8[name] = timed(utf8[name]) end
env.tonumber, env.os.date = timed(env.tonumber), timed(env.os.date)
string.format = function(...)
    local text = raw.format(...)
    if #text > LONG then check_time() end
    return text
end
string.pack = function(form, ...)
    if type(form) == "string" and #form > LONG then check_time() end
    local text = raw.pack(form, ...)
    if #text > LONG then check_time() end
    return text
end

-- Sizes

local function has_room(size)
    return size + count_memory("count") * 1024 < room.config.memory
end
room.has_room = has_room

string.rep = function(text, times, separator)
    local kind = type(text)
    local count = math.tointeger(times) -- also of a text, as Lua's own does
    if (kind ~= "string" and kind ~= "number") or not count then return raw_rep(text, times, separator) end
    text = tostring(text)
    if count < 1 then return "" end
    local gap = separator == nil and "" or separator
    if type(gap) ~= "string" then return raw_rep(text, times, separator) end
    if #text + #gap == 0 then return "" end -- Lua's own would count to the end
    local size = (#text + #gap) * (count + 0.0)
    if size > LONG then
        check_time()
        if not has_room(size) then
            fail(caller(), room.config.too_large .. ": string.rep would return " .. raw.format("%.0f", size)
                .. " bytes")
        end
    end
    return raw_rep(text, count, gap)
end

local function check_range(name, first, last)
    first, last = math.tointeger(first), math.tointeger(last)
    if not first or not last then return end -- Lua's own function raises the error
    local size = last - (first + 0.0) + 1
    if size > MOST then
        fail(caller(), "table." .. name .. " over " .. raw.format("%.0f", size) .. " elements; the most is " .. MOST)
    end
    if size > 1000 then check_time() end
end

local function is_plain(value) return type(value) == "table" end

table.concat = function(list, separator, first, last)
    if is_plain(list) then check_range("concat", first or 1, last or #list) end
    return raw_table.concat(list, separator, first, last)
end
table.unpack = function(list, first, last)
    if is_plain(list) then check_range("unpack", first or 1, last or #list) end
    return raw_table.unpack(list, first, last)
end
table.move = function(list, first, last, ...)
    check_range("move", first, last)
    return raw_table.move(list, first, last, ...)
end
table.sort = function(list, compare)
    if is_plain(list) then check_range("sort", 1, #list) end
    -- What is compared in C is compared without the hook, so a comparison that is not Lua's own is made Lua's own.
    if type(compare) == "function" then
        local f = compare
        compare = function(a, b) return f(a, b) end
    elseif compare == nil then
        compare = function(a, b) return a < b end
    end
    return raw_table.sort(list, compare)
end
table.insert = function(list, ...)
    if select("#", ...) > 1 and is_plain(list) then check_range("insert", (...), #list) end
    return raw_table.insert(list, ...)
end
table.remove = function(list, ...)
    if select("#", ...) > 0 and is_plain(list) then check_range("remove", (...), #list) end
    return raw_table.remove(list, ...)
end

-- Compiling: pieces from a function are collected here, where the hook counts, and not by the parser.
local function source_of(chunk)
    if type(chunk) ~= "function" then return chunk end
    local parts = {}
    while true do
        local piece = chunk()
        if piece == nil or piece == "" then return raw_table.concat(parts) end
        if type(piece) ~= "string" then return nil, "reader function must return a string" end
        parts[#parts + 1] = piece
    end
end
local load = room.load
env.load = function(chunk, name, _, ...)
    local source, problem = source_of(chunk)
    if problem then return nil, problem end
    if type(source) == "string" and #source > LONG then
        check_time()
        local _, labels = raw_gsub(source, "::", "")
        if labels > LABELS then return nil, "the source has more than " .. LABELS .. ' "::"' end
    end
    local scope = env
    if select("#", ...) > 0 then scope = (...) end
    return load(source, name or "=(load)", "t", scope) -- "t": bytecode could crash the VM
end

-- Patterns. In the worst case Lua's matcher takes about (length of the string) ^ (quantifiers + 1) steps. Where that
-- is little it is used; all else is matched by patterns.lua, whose steps the hook counts.

local longest, cached = {}, 0 -- pattern -> length of a string up to which C may match it

local function analyse(pattern)
    local _, quantifiers = raw_gsub(pattern, "[%*%+%-%?]", "")
    local _, scans = raw_gsub(pattern, "%%[b%d]", "")
    local limit = (STEPS / (#pattern + 1)) ^ (1 / (quantifiers + scans + 1))
    if cached > 1000 then longest, cached = {}, 0 end
    longest[pattern], cached = limit, cached + 1
    return limit
end

local function is_cheap(text, pattern)
    return #text <= (longest[pattern] or analyse(pattern))
end

local matcher -- this file is loaded by the few sites that need it: there is a runtime for each host
local function match_slowly(name, ...)
    matcher = matcher or load(room.later("patterns"), "=(sloth/patterns.lua)", "b")(room)
    return matcher[name](...)
end

-- Look for a text. Lua's own compares it at each position; where both are long that is done in pieces.
local function find_text(text, what, start)
    if #text * #what <= 100000000 then return raw_find(text, what, start, true) end
    start = start and math.tointeger(start) or 1
    if start < 0 then start = math.max(1, #text + start + 1) elseif start == 0 then start = 1 end
    local step = 100000000 // #what + 1
    while start + #what - 1 <= #text do
        check_time()
        local first = raw_find(sub(text, start, start + #what - 1 + step), what, 1, true)
        if first then return start + first - 1, start + first + #what - 2 end
        start = start + step + 1
    end
    return nil
end

local function is_text(value)
    local kind = type(value)
    return kind == "string" or kind == "number"
end

string.find = function(text, pattern, start, plain)
    if not (is_text(text) and is_text(pattern)) then return raw_find(text, pattern, start, plain) end
    text, pattern = tostring(text), tostring(pattern)
    if plain or not raw_find(pattern, "[%^%$%*%+%?%.%(%[%%%-]") then return find_text(text, pattern, start) end
    if is_cheap(text, pattern) then return raw_find(text, pattern, start) end
    return match_slowly("find", text, pattern, start)
end
for _, name in pairs({ "match", "gmatch" }) do
    local own = raw[name]
    string[name] = function(text, pattern, start)
        if not (is_text(text) and is_text(pattern)) then return own(text, pattern, start) end
        text, pattern = tostring(text), tostring(pattern)
        if is_cheap(text, pattern) then return own(text, pattern, start) end
        return match_slowly(name, text, pattern, start)
    end
end
string.gsub = function(text, pattern, replacement, most)
    -- A function that is called from here, and not from C, may make calls and wait for their results.
    if is_text(text) and is_text(pattern) then
        text, pattern = tostring(text), tostring(pattern)
        if type(replacement) == "function" then return match_slowly("gsub", text, pattern, replacement, most) end
        if is_cheap(text, pattern) then
            if #text > LONG then check_time() end
            return raw_gsub(text, pattern, replacement, most)
        end
        if is_text(replacement) or type(replacement) == "table" then
            return match_slowly("gsub", text, pattern, replacement, most)
        end
    end
    return raw_gsub(text, pattern, replacement, most)
end
