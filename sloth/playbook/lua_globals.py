"""What a site may use besides modules: every global of Lua, declared for the reference and for editors.

names.py has the names alone, for whoever needs no more. Tests compare both with what Lua really has.
"""

from __future__ import annotations

from sloth.frozen import frozen


@frozen
class Global:
    """A function or value that a site finds defined.

    Attributes:
        name: its name, such as "state.cas".
        type: that of a value, or what a function returns: a type of Lua language servers; "" for nothing.
        example: Lua that uses it, which the tests run.
        parameters: those of a function as (name, type), where the name ends in "?" when it may be left out; None for
            a value.
        is_top: it must stand at the top level of a site, not inside a task.
        is_standard: it is Lua's own, and differs.
    """

    name: str
    type: str
    help: str
    example: str
    parameters: tuple[tuple[str, str], ...] | None = None
    is_top: bool = False
    is_standard: bool = False

    @property
    def signature(self) -> str:
        """Return how it is used, such as "state.get(name, default?)"."""
        if self.parameters is None:
            return self.name
        return f"{self.name}({', '.join(name for name, _ in self.parameters)})"


@frozen
class Group:
    """Some globals that belong together."""

    title: str
    text: str
    globals: tuple[Global, ...]


_TABLE = "table<string, any>"
_TTL = "{ ttl?: number }"
_NAME = ("name", "string")
_HOLDER = ("holder", "string")
_SECONDS = ("ttl?", "number")
_PATTERN = ("pattern", "string")
_TEXT = ("text", "string")
_FLAGS = ("flags?", "integer")
_MATCH = "sloth.Match?"

# fmt: off
GROUPS = (
    Group("Declarations", "They stand at the top level of a site or role, not inside a task.", (
        Global("task", "", "Declares a task; see its options above.",
            'task({ name = "hello", run = function() print("hello") end })', (("options", "sloth.Task"),), is_top=True),
        Global("handler", "",
            "Declares a handler: it runs at the end of a host's tasks when one that notifies it changed something.",
            'handler({ name = "restart app", run = function() print("restart") end })', (("options", "sloth.Handler"),),
            is_top=True),
        Global("flush_handlers", "", "Runs the handlers that were notified so far, between two tasks.",
            "flush_handlers()", (), is_top=True),
        Global("prompt", "string", "Asks the user, once and before anything is touched; `-e NAME=VALUE` answers, too.",
            'local version = prompt("version", "Which version?", { default = "1.2" })',
            (("name", "string|sloth.Prompt"), ("text?", "string|sloth.Prompt"), ("options?", "sloth.Prompt")),
            is_top=True),
    )),
    Group("Files and roles", "Paths are looked up beside the file that names them.", (
        Global("include", "any", "Runs another site file and returns what it returns; the values become its `...`.",
            'include("more.sloth", { port = 80 })', (("path", "string"), ("...", "any")), is_top=True),
        Global("role", "any", "Uses a role with these arguments; `as` names its tasks anew for a second use.",
            'role("web", { port = 80 }, { as = "front" })',
            (_NAME, ("arguments?", _TABLE), ("options?", "{ as: string }")), is_top=True),
        Global("template", "string", "Renders a Jinja template.",
            'local text = template("app.conf.j2", { port = 80 })', (("path", "string"), ("variables?", _TABLE))),
        Global("jinja", "any", "Evaluates a text of Jinja. One expression alone is returned as the value that it is.",
            'local sum = jinja("{{ a + 1 }}", { a = 1 })', (("source", "string"), ("variables?", _TABLE))),
        Global("secret", "string", "Returns a secret of the site. It is masked in every output.",
            'local token = secret("token")', (_NAME,)),
    )),
    Group("The host and its variables", "", (
        Global("host", "sloth.Host", "The host: `name`, `address`, `port`, `user`, `groups`; also the module `host`.",
            'if host.name == "web1" then print(host.address) end'),
        Global("vars", _TABLE, "The variables of the host.", "local port = vars.port or 80"),
        Global("facts", "sloth.Facts",
            "What is known about the host; gathered when it is first used. See `facts.gather` in the modules.",
            'if facts.memory_mb < 16 then fail("too little memory") end'),
        Global("groups", "table<string, string[]>", "The names of the hosts of each group.",
            'for _, name in ipairs(groups.web or {}) do print(name) end'),
        Global("hostvars", _TABLE, "By a host's name: its variables, its `host` and its `facts`.",
            "local port = hostvars[host.name].port"),
        Global("check", "boolean", "Whether this is a check, which changes nothing.",
            'if check then print("only a check") end'),
    )),
    Group("Time and failures", "", (
        Global("wait_for", "sloth.host.wait_for.Result", "Is `host.wait_for`: waits for a port, a path or a text.",
            'wait_for({ path = "/", timeout = 5 })', (("args", "sloth.host.wait_for.Arguments"),)),
        Global("sleep", "", "Waits for this many seconds; a check does not.", "sleep(0.1)", (("seconds", "number"),)),
        Global("fail", "", "Fails the task with this message.",
            'if vars.port == 0 then fail({ msg = "no port" }) end', (("what", "string|{ msg: string }"),)),
        Global("assert", "any", "As in Lua, or as in Ansible with a table of `that` (conditions) and `msg`.",
            'assert({ that = { host.name ~= "", true }, msg = "no name" })', (("value", "any"), ("...", "any")),
            is_standard=True),
    )),
    Group("Output", "Values of any kind, also results of calls, are shown in a readable form.", (
        Global("print", "", "Shows values in the report, with the name of the host.", 'print("a", 1)',
            (("...", "any"),), is_standard=True),
        Global("log.debug", "", "Shows them with `-v`.", 'log.debug("detail")', (("...", "any"),)),
        Global("log.info", "", "Shows them in the report.", 'log.info("done")', (("...", "any"),)),
        Global("log.warn", "", "Shows them as a warning.", 'log.warn("odd", 1)', (("...", "any"),)),
        Global("log.error", "", "Shows them as an error; the task goes on.", 'log.error("wrong")', (("...", "any"),)),
    )),
    Group("JSON", "", (
        Global("json.encode", "string", "Returns plain data as JSON.", "local text = json.encode({ a = 1 })",
            (("value", "any"),)),
        Global("json.decode", "any", "Returns the value of a JSON text. Names whose value is null are left out.",
            "local a = json.decode('{\"a\": 1}').a", (_TEXT,)),
    )),
    Group("Regular expressions",
        "Those of Python; `[[...]]` keeps backslashes. Flags are added with `|`: `re.I`, `re.M`, `re.S`, `re.X`, "
        "`re.A`, or by their long names `re.IGNORECASE`, `re.MULTILINE`, `re.DOTALL`, `re.VERBOSE`, `re.ASCII`. "
        "A match has `[0]` (all of it), `[1]` and so on (its groups), `named`, `first` and `last`.", (
        Global("re.search", _MATCH, "Returns the first match.", r"local m = re.search([[(\d+)]], 'port 80')",
            (_PATTERN, _TEXT, _FLAGS)),
        Global("re.match", _MATCH, "Returns the match at the beginning.", "local m = re.match('P', 'port', re.I)",
            (_PATTERN, _TEXT, _FLAGS)),
        Global("re.fullmatch", _MATCH, "Returns the match of the whole text.", "local m = re.fullmatch('p.*', 'port')",
            (_PATTERN, _TEXT, _FLAGS)),
        Global("re.findall", "(string|string[])[]", "Returns all matches; of an expression with groups, these.",
            r"local all = re.findall([[\d+]], '80 443')", (_PATTERN, _TEXT, _FLAGS)),
        Global("re.finditer", "fun(): sloth.Match?", "Goes through all matches.",
            r"for m in re.finditer([[\d+]], '80 443') do print(m[0]) end", (_PATTERN, _TEXT, _FLAGS)),
        Global("re.sub", "string",
            r"Replaces matches by a text, with `\1` or `\g<name>` for a group, or by what a function returns.",
            "local text = re.sub('a', 'b', 'aaa', { count = 1, flags = re.I })",
            (_PATTERN, ("replacement", "string|fun(match: sloth.Match): string?"), _TEXT, ("options?",
            "{ count?: integer, flags?: integer }"))),
        Global("re.split", "string[]", "Returns the parts between the matches.",
            "local parts = re.split(',', 'a,b,c', { maxsplit = 1 })",
            (_PATTERN, _TEXT, ("options?", "{ maxsplit?: integer, flags?: integer }"))),
        Global("re.escape", "string", "Returns an expression that matches this text.",
            "local pattern = re.escape('a.b')", (_TEXT,)),
    )),
    Group("Shared values and locks",
            "All runs of this controller see the same ones, and with a backend those of all controllers. Values are "
        "plain data; `ttl` is the number of seconds after which one expires.", (
        Global("state.get", "any", "Returns a value, or else the default.",
            'local version = state.get("version", "none")',
            (_NAME, ("default?", "any"))),
        Global("state.set", "any", "Sets a value and returns it; nil deletes it.",
            'state.set("version", "1.2", { ttl = 60 })',
            (_NAME, ("value", "any"), ("options?", _TTL))),
        Global("state.cas", "boolean",
            "Sets a value if it equals what is expected (nil: there is none), atomically; returns whether it did.",
            'local is_leader = state.cas("leader", nil, host.name, { ttl = 60 })',
            (_NAME, ("expected", "any"), ("value", "any"), ("options?", _TTL))),
        Global("state.incr", "number", "Adds to a number (0 if there is none), atomically; returns the sum.",
            'local runs = state.incr("runs", 1)',
            (_NAME, ("by?", "number"))),
        Global("state.delete", "boolean",
            "Deletes a value, or the host's record with this key; returns whether there was one.",
            'state.delete("version")', (_NAME,)),
        Global("state.list", "string[]", "Returns the names that begin with a prefix.",
            'local names = state.list("app:")', (("prefix?", "string"),)),
        Global("state.with_lock", "any",
            "Calls a function with the fencing number of a lock while it holds it; waits `wait` seconds (0) for the "
            "lock. Returns what that returns. Once the lock is lost, the next call of the function fails.",
            'state.with_lock("deploy", function() print("alone") end, { ttl = 60, wait = 10 })',
            (_NAME, ("f", "fun(number: integer): any"),
                ("options?", "{ ttl?: number, wait?: number, holder?: string }"))),
        Global("state.lock", "integer",
            "Takes or renews a lock for `ttl` seconds (300); returns its fencing number, which is greater each time it "
            "is taken. It is an error if another holder has it.",
            'state.lock("app", "me", 60)', (_NAME, _HOLDER, _SECONDS)),
        Global("state.try_lock", "integer|false",
            "Takes or renews a lock; returns its fencing number, or false if another holder has it.",
            'local is_mine = state.try_lock("app", "me", 60)', (_NAME, _HOLDER, _SECONDS)),
        Global("state.unlock", "boolean", "Releases a lock; returns whether it was held.", 'state.unlock("app", "me")',
            (_NAME, _HOLDER)),
    )),
)
# fmt: on
HOST_FIELDS = (
    ("name", "string"),
    ("address", "string"),
    ("port", "integer"),
    ("user", "string"),
    ("groups", "string[]"),
)
PROMPT_FIELDS = (
    ("name", "string", "the variable that is set"),
    ("text", "string", "the question"),
    ("default", "string|number", "the answer to an empty line"),
    ("choices", "string[]", "what it must be one of"),
    ("secret", "boolean", "not shown, and hidden from then on"),
    ("confirm", "boolean", "asked for twice"),
)
FLAGS = {
    "I": 2,
    "M": 8,
    "S": 16,
    "X": 64,
    "A": 256,
    "IGNORECASE": 2,
    "MULTILINE": 8,
    "DOTALL": 16,
    "VERBOSE": 64,
    "ASCII": 256,
}
