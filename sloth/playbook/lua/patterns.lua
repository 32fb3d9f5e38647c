-- Lua's patterns, matched in Lua: the same results as string.find, match, gmatch and gsub, and the hook counts the steps.
--
-- A pattern is compiled to items. What has a fixed length, or is one run of a class, is matched by one call of C, which
-- never goes back; going back is what is done here. Loaded when a site needs it first.

local room = ...

local find, sub = string.find, string.sub
local concat, unpack = table.concat, table.unpack
local type, tostring, select, ipairs = type, tostring, select, ipairs
local tointeger, max = math.tointeger, math.max
local caller, check_time = room.caller, room.check_time

local PIECE = 32       -- single characters that one call of C matches
local MOST_ITEMS = 2000
local MOST_CAPTURES = 32
local UNFINISHED, POSITION = -1, -2

local function fail(message) room.fail(caller(), message) end

-- Compiling

-- Return the end of the set that begins at `at`, as lstrlib.c finds it.
local function end_of_set(pattern, at)
    at = at + 1
    if sub(pattern, at, at) == "^" then at = at + 1 end
    repeat
        if at > #pattern then fail("malformed pattern (missing ']')") end
        local char = sub(pattern, at, at)
        at = at + 1
        if char == "%" then
            if at > #pattern then fail("malformed pattern (missing ']')") end
            at = at + 1
        end
    until sub(pattern, at, at) == "]"
    return at
end

-- Return the single character or class at `at`, so written that it means the same anywhere, and where it ends.
local function single(pattern, at)
    local char = sub(pattern, at, at)
    if char == "%" then
        if at == #pattern then fail("malformed pattern (ends with '%')") end
        return sub(pattern, at, at + 1), at + 1
    elseif char == "[" then
        local last = end_of_set(pattern, at)
        return sub(pattern, at, last), last
    elseif char ~= "." and find(char, "^%p") then
        return "%" .. char, at
    end
    return char, at
end

local function compile(pattern)
    local items, at, open, captures = {}, 1, {}, 0
    local piece, length = {}, 0
    local function flush()
        if length > 0 then
            local text = concat(piece)
            items[#items + 1] = { kind = "seq", at = "^" .. text, search = text }
            piece, length = {}, 0
        end
    end
    local function add(item)
        flush()
        items[#items + 1] = item
    end
    local is_anchored = false
    if sub(pattern, 1, 1) == "^" then is_anchored, at = true, 2 end
    while at <= #pattern do
        local char, following = sub(pattern, at, at), sub(pattern, at + 1, at + 1)
        if char == "(" then
            captures = captures + 1
            if captures > MOST_CAPTURES then fail("too many captures") end
            if following == ")" then
                add({ kind = "position" })
                at = at + 1
            else
                add({ kind = "open" })
                open[#open + 1] = true
            end
            at = at + 1
        elseif char == ")" then
            if #open == 0 then fail("invalid pattern capture") end
            open[#open] = nil
            add({ kind = "close" })
            at = at + 1
        elseif char == "$" and at == #pattern then
            add({ kind = "end" })
            at = at + 1
        elseif char == "%" and following == "b" then
            if at + 3 > #pattern then fail("malformed pattern (missing arguments to '%b')") end
            add({ kind = "balance", at = "^" .. sub(pattern, at, at + 3) })
            at = at + 4
        elseif char == "%" and following == "f" then
            if sub(pattern, at + 2, at + 2) ~= "[" then fail("missing '[' after '%f' in pattern") end
            local last = end_of_set(pattern, at + 2)
            add({ kind = "frontier", at = "^" .. sub(pattern, at, last) })
            at = last + 1
        elseif char == "%" and find(following, "^%d") then
            add({ kind = "back", index = tointeger(following) })
            at = at + 2
        else
            local text, last = single(pattern, at)
            local quantifier = sub(pattern, last + 1, last + 1)
            at = last + 2
            if quantifier == "*" then
                add({ kind = "run", at = "^" .. text .. "*", least = 0 })
            elseif quantifier == "+" then
                add({ kind = "run", at = "^" .. text .. "*", least = 1, search = text })
            elseif quantifier == "-" then
                add({ kind = "lazy", at = "^" .. text, whole = "^" .. text .. "*$", any = text == "." })
            elseif quantifier == "?" then
                add({ kind = "opt", at = "^" .. text })
            else
                piece[#piece + 1], length = text, length + 1
                if length == PIECE then flush() end
                at = last + 1
            end
        end
        if #items > MOST_ITEMS then fail("pattern too complex") end
    end
    flush()
    if #open > 0 then fail("unfinished capture") end
    -- The first item that takes a character tells where a match may begin.
    local first = 1
    while items[first] and items[first].kind == "open" do first = first + 1 end
    return { items = items, is_anchored = is_anchored, search = items[first] and items[first].search }
end

local compiled, cached = {}, 0
local function compiled_pattern(pattern)
    local found = compiled[pattern]
    if not found then
        if cached > 200 then compiled, cached = {}, 0 end
        found = compile(pattern)
        compiled[pattern], cached = found, cached + 1
    end
    return found
end

-- Matching

-- Return a function that matches at a position; it returns where the match ends (the position after it), and the state
-- of the captures is in `starts` and `lengths`.
local function new_match(text, items)
    local starts, lengths, level = {}, {}, 0
    local is_long = #text > 100000
    local match

    local function back(item, pos)
        local length = lengths[item.index]
        if item.index == 0 or item.index > level or length == UNFINISHED then
            fail("invalid capture index %" .. item.index .. " in pattern")
        end
        if length == POSITION then return nil end -- Lua's own compares with a length that no text has
        local start = starts[item.index]
        if pos + length - 1 > #text then return nil end
        return sub(text, start, start + length - 1) == sub(text, pos, pos + length - 1) and pos + length or nil
    end

    -- As few characters as possible; what follows is searched for, where it is a text.
    local function lazy(item, index, pos)
        local following = items[index + 1]
        local search = following and following.kind == "seq" and following.search
        local checked = pos -- from pos to here, all characters are of the class
        while true do
            local target = checked
            if search then
                target = find(text, search, checked)
                if not target then return nil end
                if not item.any and not find(sub(text, checked, target - 1), item.whole) then return nil end
                if is_long then check_time() end
            end
            local found = match(index + 1, target)
            if found then return found end
            if not find(text, item.at, target) then return nil end
            checked = target + 1
        end
    end

    function match(index, pos)
        while true do
            local item = items[index]
            if item == nil then return pos end
            local kind = item.kind
            if kind == "seq" then
                local _, last = find(text, item.at, pos)
                if not last then return nil end
                pos = last + 1
            elseif kind == "run" then
                local _, last = find(text, item.at, pos)
                if is_long then check_time() end
                local least = pos + item.least
                if index == #items then -- nothing can fail after it
                    return last + 1 >= least and last + 1 or nil
                end
                for after = last + 1, least, -1 do
                    local found = match(index + 1, after)
                    if found then return found end
                end
                return nil
            elseif kind == "lazy" then
                return lazy(item, index, pos)
            elseif kind == "opt" then
                if find(text, item.at, pos) then
                    local found = match(index + 1, pos + 1)
                    if found then return found end
                end
            elseif kind == "open" or kind == "position" then
                level = level + 1
                starts[level], lengths[level] = pos, kind == "open" and UNFINISHED or POSITION
                local found = match(index + 1, pos)
                if not found then level = level - 1 end
                return found
            elseif kind == "close" then
                local at = level
                while lengths[at] ~= UNFINISHED do at = at - 1 end
                lengths[at] = pos - starts[at]
                local found = match(index + 1, pos)
                if not found then lengths[at] = UNFINISHED end
                return found
            elseif kind == "end" then
                return pos == #text + 1 and pos or nil
            elseif kind == "back" then
                pos = back(item, pos)
                if not pos then return nil end
            else -- balance, frontier
                if is_long then check_time() end
                local _, last = find(text, item.at, pos)
                if not last then return nil end
                pos = last + 1
            end
            index = index + 1
        end
    end

    return function(pos)
        level = 0
        return match(1, pos)
    end, function(index)
        local length = lengths[index]
        if length == POSITION then return starts[index] end
        return sub(text, starts[index], starts[index] + length - 1)
    end, function() return level end
end

-- Return an iterator over (start, end) from `pos` on; and the two functions for captures.
local function new_search(text, pattern, is_anchored)
    local match, capture, count = new_match(text, pattern.items)
    local search = not is_anchored and pattern.search
    return function(pos)
        while pos <= #text + 1 do
            if search then
                pos = find(text, search, pos)
                if not pos then return nil end
            end
            local after = match(pos)
            if after then return pos, after end
            if is_anchored then return nil end
            pos = pos + 1
        end
    end, capture, count
end

local function all_captures(text, start, after, capture, count, whole)
    local total = count()
    if total == 0 then
        if whole then return sub(text, start, after - 1) end
        return
    end
    local found = {}
    for index = 1, total do found[index] = capture(index) end
    return unpack(found, 1, total)
end

local function beginning(text, start)
    local at = 1
    if start ~= nil then
        at = tointeger(start) or fail("bad argument #3 (number has no integer representation)")
    end
    if at > 0 then return at end
    return at == 0 and 1 or max(1, #text + at + 1)
end

local functions = {}

-- Return where the first match begins and what follows it, and its captures; nothing when there is none.
local function first_match(text, pattern, start)
    local pos = beginning(text, start)
    if pos > #text + 1 then return nil end
    local form = compiled_pattern(pattern)
    local search, capture, count = new_search(text, form, form.is_anchored)
    local first, after = search(pos)
    return first, after, capture, count
end

function functions.find(text, pattern, start)
    local first, after, capture, count = first_match(text, pattern, start)
    if not first then return nil end
    return first, after - 1, all_captures(text, first, after, capture, count, false)
end

function functions.match(text, pattern, start)
    local first, after, capture, count = first_match(text, pattern, start)
    if not first then return nil end
    return all_captures(text, first, after, capture, count, true)
end

function functions.gmatch(text, pattern, start)
    local pos = beginning(text, start)
    -- In gmatch "^" is a character, as Lua's manual says: an anchor would make no sense.
    local form = compiled_pattern(sub(pattern, 1, 1) == "^" and "%" .. pattern or pattern)
    local search, capture, count = new_search(text, form, false)
    local last
    return function()
        while true do
            local first, after = search(pos)
            if not first then
                pos = #text + 2
                return nil
            end
            pos = after
            if after ~= last then
                last = after
                return all_captures(text, first, after, capture, count, true)
            end
            pos = first + 1
        end
    end
end

-- Return what a match is replaced with: the pieces of a text with its captures, or the value of a table or function.
local function new_replace(replacement)
    if type(replacement) == "function" then
        return function(whole, ...)
            if select("#", ...) == 0 then return replacement(whole) end
            return replacement(...)
        end
    elseif type(replacement) == "table" then
        return function(whole, ...)
            if select("#", ...) == 0 then return replacement[whole] end
            return replacement[(...)]
        end
    end
    local pieces, at = {}, 1
    while true do
        local percent = find(replacement, "%", at, true)
        pieces[#pieces + 1] = sub(replacement, at, (percent or 0) - 1)
        if not percent then break end
        local char = sub(replacement, percent + 1, percent + 1)
        if char == "%" then
            pieces[#pieces + 1] = "%"
        elseif find(char, "^%d") then
            pieces[#pieces + 1] = tointeger(char)
        else
            fail("invalid use of '%' in replacement string")
        end
        at = percent + 2
    end
    return function(whole, ...)
        local made = {}
        for index, piece in ipairs(pieces) do
            if piece == 0 or (piece == 1 and select("#", ...) == 0) then
                piece = whole
            elseif type(piece) == "number" then
                if piece > select("#", ...) then fail("invalid capture index %" .. piece .. " in replacement string") end
                piece = tostring((select(piece, ...)))
            end
            made[index] = piece
        end
        return concat(made)
    end
end

function functions.gsub(text, pattern, replacement, most)
    most = most == nil and #text + 1 or tointeger(most)
        or fail("bad argument #4 to 'gsub' (number has no integer representation)")
    if type(replacement) == "number" then replacement = tostring(replacement) end
    local form = compiled_pattern(pattern)
    local search, capture, count = new_search(text, form, form.is_anchored)
    local replace = new_replace(replacement)
    local parts, kept, pos, last, done = {}, 1, 1, nil, 0
    while done < most do
        local first, after = search(pos)
        if not first then break end
        if after == last then
            if form.is_anchored then break end
            pos = first + 1
        else
            local whole = sub(text, first, after - 1)
            local value = replace(whole, all_captures(text, first, after, capture, count, false))
            if not value then
                value = whole
            elseif type(value) ~= "string" and type(value) ~= "number" then
                fail("invalid replacement value (a " .. type(value) .. ")")
            end
            done = done + 1
            parts[#parts + 1] = sub(text, kept, first - 1)
            parts[#parts + 1] = value
            kept, pos, last = after, after, after
            if form.is_anchored then break end
        end
    end
    parts[#parts + 1] = sub(text, kept)
    return concat(parts), done
end

return functions
