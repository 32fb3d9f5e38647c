-- Regular expressions, Jinja expressions and questions to the user, which Python answers.

local room = ...

local sub, concat = string.sub, table.concat
local type, tostring, select, ipairs, next = type, tostring, select, ipairs, next
local mathtype = math.type
local caller, fail, ask, refuse_colon = room.caller, room.fail, room.ask, room.refuse_colon
local data, namespace, env, results = room.data, room.namespace, room.env, room.results

-- Regular expressions

local re = {
    A = 256, I = 2, M = 8, S = 16, X = 64,
    ASCII = 256, IGNORECASE = 2, MULTILINE = 8, DOTALL = 16, VERBOSE = 64,
}

local function is_text(value)
    return type(value) == "string" or mathtype(value) ~= nil
end

local WEIGHT = 5 -- requests that a millisecond of matching counts as

-- Ask for what Python's function returns. options: the flags, or a table of them and of a count.
local function evaluate(op, form, count_name, pattern, replacement, text, options)
    for at = 1, 3 do
        local value = select(at, pattern, replacement, text)
        if not is_text(value) then
            local what = type(value)
            if results[value] then what = "result of a call; name one of its fields, such as .stdout" end
            fail(caller(), "re." .. op .. " takes " .. form .. ", not a " .. what)
        end
    end
    local flags, most = 0, 0
    if mathtype(options) == "integer" and count_name == nil then
        flags = options
    elseif type(options) == "table" then
        for name, value in next, options do
            if name == "flags" and mathtype(value) == "integer" then
                flags = value
            elseif name == count_name and mathtype(value) == "integer" and value >= 0 then
                most = value
            else
                fail(caller(), "re." .. op .. ": " .. tostring(name) .. " = " .. tostring(value) .. " is not valid")
            end
        end
    elseif options ~= nil then
        -- Python's functions take a count here, and many who call them give flags.
        fail(caller(), "re." .. op .. " takes " .. form .. " and " .. (count_name
            and "a table such as {" .. count_name .. " = 1, flags = re.I}" or "flags such as re.I"))
    end
    local answer = ask("re." .. op, "re", op, tostring(pattern), tostring(text), tostring(replacement), most, flags,
        caller())
    if answer.late then room.trip(answer.late) end
    room.count_request(answer.cost * WEIGHT)
    return answer.value
end

-- A match: [0] is all of it, [1] and so on are its groups, `named` those with names; `first` and `last` are its place.
local function new_match(found)
    if found == nil then return nil end
    local match = { first = found.first, last = found.last, named = found.named }
    for index, text in ipairs(found.groups) do match[index - 1] = text or nil end
    return match
end

for _, op in ipairs({ "match", "search", "fullmatch" }) do
    re[op] = function(pattern, text, flags)
        refuse_colon(re, pattern, "re", op)
        return new_match(evaluate(op, "an expression and a text", nil, pattern, "", text, flags))
    end
end

re.findall = function(pattern, text, flags)
    refuse_colon(re, pattern, "re", "findall")
    return evaluate("findall", "an expression and a text", nil, pattern, "", text, flags) or {}
end

re.finditer = function(pattern, text, flags)
    refuse_colon(re, pattern, "re", "finditer")
    local found = evaluate("finditer", "an expression and a text", nil, pattern, "", text, flags) or {}
    local at = 0
    return function()
        at = at + 1
        return new_match(found[at])
    end
end

re.split = function(pattern, text, options)
    refuse_colon(re, pattern, "re", "split")
    return evaluate("split", "an expression and a text", "maxsplit", pattern, "", text, options) or {}
end

re.sub = function(pattern, replacement, text, options)
    refuse_colon(re, pattern, "re", "sub")
    local form = "an expression, a replacement and a text"
    if type(replacement) ~= "function" then
        return evaluate("sub", form, "count", pattern, replacement, text, options) or ""
    end
    local found = evaluate("finditer", form, "count", pattern, "", text, options) or {}
    local parts, from = {}, 1
    text = tostring(text)
    for _, one in ipairs(found) do
        local match = new_match(one)
        local new = replacement(match)
        if not new then new = match[0] end -- as string.gsub does
        if not is_text(new) then fail(caller(), "re.sub: the function returned a " .. type(new) .. ", not a text") end
        parts[#parts + 1] = sub(text, from, match.first - 1)
        parts[#parts + 1] = tostring(new)
        from = match.last + 1
    end
    parts[#parts + 1] = sub(text, from)
    return concat(parts)
end

re.escape = function(text)
    refuse_colon(re, text, "re", "escape")
    return evaluate("escape", "a text", nil, "", "", text)
end

env.re = namespace("re", re)

-- Jinja

env.jinja = function(source, variables)
    if type(source) ~= "string" then fail(caller(), "jinja takes a text such as \"{{ a + b }}\"") end
    return ask("jinja", "evaluate", source, data("jinja", variables or {}), caller()).value
end

-- Questions

env.prompt = function(name, text, options)
    local where, settings = caller(), {}
    if room.running then
        fail(where, "prompt must stand at the top level, not inside a task: it is asked before anything is touched")
    end
    for at, kind in ipairs({ "name", "text", "options" }) do
        local value = select(at, name, text, options)
        if type(value) == "table" then
            for key, setting in next, value do settings[key] = setting end
        elseif value ~= nil and kind == "options" then
            fail(where, 'prompt takes a name, a question and a table, such as prompt("version", "Which?", {default = "1"})')
        elseif value ~= nil then
            settings[kind] = value
        end
    end
    return ask("prompt", "prompt", data("prompt", settings), where)
end
