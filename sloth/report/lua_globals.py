"""The types of what a site can use besides modules, for editors."""

GLOBALS = """
---@class (exact) sloth.Task
---@field name string
---@field run fun()
---@field hosts? string|string[] only on these hosts
---@field tags? string|string[]
---@field when? fun(): any only where it returns true
---@field depends_on? string|string[] tasks that come first, on all hosts
---@field serial? integer|string|(integer|string)[] hosts at a time, 2 or "25%"; a list: batches of these sizes
---@field throttle? integer hosts at a time
---@field max_fail? integer|string hosts on which it may fail before no other begins it: 1 or "10%"
---@field any_errors_fatal? boolean when it fails on a host, no host begins another task
---@field retries? integer
---@field until? fun(r: any): any tried again until it returns true for what `run` has returned
---@field delay? number seconds between tries
---@field timeout? number seconds
---@field become? boolean|string true: as root; a name: as that account
---@field notify? string|string[] handlers to run at the end when it changed something
---@field run_once? boolean on one host only
---@field ignore_errors? boolean
---@field on_failure? "rollback"|fun(why: string) what is done when it has failed
---@field confirm? number seconds: the host takes the changes back unless a new connection confirms them in time
---@field confirm_check? fun() must pass, over that connection, too
---@field always? fun() what is done at its end, whatever it was
---@field delegate_to? string|fun(host: table): string? the host on which its calls are made; "local": the controller
---@field environment? table<string, any> variables for what its calls run
---@field changed_when? boolean|fun(r: any): any whether it counts as a change
---@field failed_when? boolean|fun(r: any): any whether it counts as a failure

---@param options sloth.Task
function task(options) end

---@class (exact) sloth.Handler
---@field name string
---@field run fun()
---@field listen? string|string[] other names that notify it
---@field become? boolean|string

---Runs at the end of a host's tasks when a task that notifies it changed something.
---@param options sloth.Handler
function handler(options) end

---Runs the handlers that were notified so far, between two tasks.
function flush_handlers() end

---@type { name: string, address: string, port: integer, user: string, groups: string[] }
host = {}
---@type table<string, string[]>
groups = {}
---@type table<string, any>
vars = {}
---@type boolean
check = false

---@param name string
---@return string
function secret(name) end

---@param path string a Jinja template beside the site
---@param variables? table<string, any>
---@return string
function template(path, variables) end

---@param source string a text of Jinja; one expression alone is returned as the value that it is
---@param variables? table<string, any>
---@return any
function jinja(source, variables) end

---Asks the user, once and before anything is touched; `-e NAME=VALUE` answers it as well.
---@param name string|sloth.Prompt the variable that is set
---@param text? string|sloth.Prompt the question
---@param options? sloth.Prompt
---@return string
function prompt(name, text, options) end

---@class (exact) sloth.Prompt
---@field name? string
---@field text? string
---@field default? string|number the answer to an empty line
---@field choices? string[] what it must be one of
---@field secret? boolean not shown, and hidden from then on
---@field confirm? boolean asked for twice

---@class sloth.Match : { [integer]: string } [0]: all of it, [1]: the first group
---@field first integer the place of its first byte
---@field last integer the place of its last byte
---@field named table<string, string> the groups with names

re = {}
---@type integer
re.I, re.M, re.S, re.X, re.A = 2, 8, 16, 64, 256
---@type integer
re.IGNORECASE, re.MULTILINE, re.DOTALL, re.VERBOSE, re.ASCII = 2, 8, 16, 64, 256
---@param pattern string one of Python's regular expressions; [[...]] keeps its backslashes
---@param text string
---@param flags? integer re.I|re.M
---@return sloth.Match?
function re.search(pattern, text, flags) end
---@param pattern string
---@param text string
---@param flags? integer
---@return sloth.Match? at the beginning of the text
function re.match(pattern, text, flags) end
---@param pattern string
---@param text string
---@param flags? integer
---@return sloth.Match? of the whole text
function re.fullmatch(pattern, text, flags) end
---@param pattern string
---@param text string
---@param flags? integer
---@return (string|string[])[] the matches; of an expression with groups, these
function re.findall(pattern, text, flags) end
---@param pattern string
---@param text string
---@param flags? integer
---@return fun(): sloth.Match?
function re.finditer(pattern, text, flags) end
---@param pattern string
---@param replacement string|fun(match: sloth.Match): string? with \\1 or \\g<name> for a group
---@param text string
---@param options? { count?: integer, flags?: integer }
---@return string
function re.sub(pattern, replacement, text, options) end
---@param pattern string
---@param text string
---@param options? { maxsplit?: integer, flags?: integer }
---@return string[]
function re.split(pattern, text, options) end
---@param text string
---@return string
function re.escape(text) end

---@type table<string, any> by name: the variables of each host, its `host` and its `facts`
hostvars = {}

---Waits; a check does not.
---@param seconds number
function sleep(seconds) end

---@param what string|{ msg: string } why the task fails
function fail(what) end

json = {}
---@param value any plain data
---@return string
function json.encode(value) end
---@param text string
---@return any
function json.decode(text) end

---@param path string another site file, beside this one
function include(path) end

log = {}
---@param ... any
function log.debug(...) end
---@param ... any
function log.info(...) end
---@param ... any
function log.warn(...) end
---@param ... any
function log.error(...) end

state = {}
---@param name string
---@return any
function state.get(name) end
---@param name string
---@param value any
---@param ttl? number seconds
function state.set(name, value, ttl) end
---@param name string
---@return boolean
function state.delete(name) end
---@param name string
---@param holder string
---@param ttl? number seconds
function state.lock(name, holder, ttl) end
---@param name string
---@param holder string
function state.unlock(name, holder) end
---@param name string
---@param holder string
---@param ttl? number seconds
---@return boolean
function state.try_lock(name, holder, ttl) end
---@param name string
---@param f fun(): any
---@param options? { ttl?: number, wait?: number, holder?: string }
function state.with_lock(name, f, options) end
"""
