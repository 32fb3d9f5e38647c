-- How a site's values leave the VM: as JSON, for Python; as a Lua literal, for people.

local room = ...

local format, gsub, byte, find, match = string.format, string.gsub, string.byte, string.find, string.match
local concat, pack, sort = table.concat, table.pack, table.sort
local type, tostring, pairs, next, select = type, tostring, pairs, next, select
local setmetatable, getmetatable, pcall, error, rawlen = setmetatable, getmetatable, pcall, error, rawlen
local math_type, huge = math.type, math.huge
local caller, fail = room.caller, room.fail

local DEEPEST = 60 -- levels of tables; far below what would overflow the C stack of either side
local MOST = 1000000 -- values in one request: each takes far more memory in Python
local UNIT = 2000 -- bytes of a request that weigh as much as a further one

-- Result proxy -> {id, name, where, fields}. Weak: a site that makes a million calls keeps only the results it uses.
local results = setmetatable({}, { __mode = "k" })
room.results = results

-- The empty tables that were objects of JSON, and are again where they are still empty. Weak, too.
room.objects = setmetatable({}, { __mode = "k" })

-- Table whose values come when they are read -> what reads all of them.
room.fill = {}

-- JSON. It is the only form in which values cross to Python: no object of one side is ever reachable from the other.

local escapes = setmetatable({ ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n" }, {
    __index = function(_, char) return format("\\u%04x", byte(char)) end,
})

local encode

local function encode_table(value, path, seen)
    if results[value] then
        error(path .. " is the result of a call; name one of its fields, such as .changed or .stdout", 0)
    end
    if room.fill[value] then room.fill[value](value) end
    if seen[value] then error(path .. " contains itself", 0) end
    if #seen > DEEPEST then error(path .. " is nested too deeply", 0) end
    seen[value] = true
    seen[#seen + 1] = value
    local parts, count, length = {}, 0, rawlen(value)
    for _ in next, value do count = count + 1 end
    seen.values = (seen.values or 0) + count
    if seen.values > MOST then error(path .. " has more than " .. MOST .. " values", 0) end
    if count == length then -- a list; an empty table, which could be both, too
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
        sort(parts) -- Lua's order of keys differs from run to run
    end
    seen[#seen] = nil
    seen[value] = nil
    if count ~= length or count == 0 and room.objects[value] then return "{" .. concat(parts, ",") .. "}" end
    return "[" .. concat(parts, ",") .. "]"
end

function encode(value, path, seen)
    local kind = type(value)
    if kind == "string" then
        return '"' .. gsub(value, '[%c"\\]', escapes) .. '"'
    elseif kind == "number" then
        if math_type(value) == "integer" then return format("%d", value) end
        if value ~= value or value == huge or value == -huge then error(path .. " is not a finite number", 0) end
        local text = format("%.17g", value)
        if not find(text, "[.e]") then text = text .. ".0" end -- 1.0 stays a float
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

-- Return a value as JSON, or raise an error that names the part of `what` that is not plain data.
function room.data(what, value)
    local ok, text = pcall(encode, value, what, {})
    if not ok then fail(caller(), text) end
    room.count_request(#text / UNIT)
    return text
end
local data = room.data

-- Return arguments as a JSON list, nil among them as null.
function room.data_list(what, ...)
    local parts = {}
    for index = 1, select("#", ...) do
        parts[index] = data(what .. ", argument " .. index, (select(index, ...)))
    end
    return "[" .. concat(parts, ",") .. "]"
end

-- Literals, for print and log

local names = { ["\n"] = "\\n", ["\t"] = "\\t", ["\r"] = "\\r", ['"'] = '\\"', ["\\"] = "\\\\" }
local quotes = setmetatable({}, {
    __index = function(_, char) return names[char] or format("\\%03d", byte(char)) end,
})

local literal

local function literal_key(key)
    if type(key) == "string" and match(key, "^[%a_][%w_]*$") then return key end
    return "[" .. literal(key, {}) .. "]"
end

local function literal_table(value, seen)
    if seen[value] then return "{...}" end
    if #seen > DEEPEST then return "{...}" end
    seen[value] = true
    seen[#seen + 1] = value
    local parts, named, length = {}, {}, rawlen(value)
    for index = 1, length do parts[index] = literal(value[index], seen) end
    for key, item in pairs(value) do -- pairs: `facts` has its fields by __pairs only
        if not (math_type(key) == "integer" and key >= 1 and key <= length) then
            named[#named + 1] = literal_key(key) .. " = " .. literal(item, seen)
        end
    end
    sort(named)
    for _, part in next, named do parts[#parts + 1] = part end
    seen[#seen] = nil
    seen[value] = nil
    return "{" .. concat(parts, ", ") .. "}"
end

function literal(value, seen)
    local kind = type(value)
    if kind == "string" then return '"' .. gsub(value, '[%c"\\]', quotes) .. '"' end
    if kind == "table" then
        if results[value] then room.fetch(value, "changed") end
        local meta = getmetatable(value)
        if results[value] or type(meta) == "table" and meta.__tostring then return tostring(value) end
        return literal_table(value, seen)
    end
    if kind == "number" or kind == "boolean" or kind == "nil" then return tostring(value) end
    return "<" .. kind .. ">" -- an address is useless, and differs on every host
end

-- Return what print(...) shows: tables by their contents, all else as Lua itself does.
function room.text_of(...)
    local parts = pack(...)
    for index = 1, parts.n do
        local value = parts[index]
        parts[index] = type(value) == "table" and literal(value, {}) or tostring(value)
    end
    local text = concat(parts, "\t")
    room.count_request(#text / UNIT)
    return text
end

-- Return what to show of an error value: any value can be thrown.
function room.message_of(problem)
    if type(problem) == "string" then return problem end
    if type(problem) == "table" and not results[problem] then
        local meta = getmetatable(problem)
        if type(meta) == "table" and meta.__tostring then
            local ok, text = pcall(tostring, problem)
            if ok then return text end
        end
        local ok, text = pcall(encode, problem, "error", {})
        if ok then return text end
    end
    return "error object is a " .. type(problem)
end
