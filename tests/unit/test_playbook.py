"""Sites: what they may do, what they may not, and the position of their errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sloth.errors import CallError, SiteError
from sloth.playbook import (
    Done,
    Error,
    Facts,
    Fetch,
    Hook,
    Invoke,
    Limits,
    OnFailure,
    Output,
    Program,
    Raise,
    Request,
    Share,
    Site,
    Sync,
    check_syntax,
)
from sloth.playbook.site import lua_source
from sloth.playbook.template import Renderer

MODULES = {"file": ["copy", "absent"], "exec": ["run"]}


def program(source: str, **more: Any) -> Program:
    site = Site("site.sloth", source.encode("utf-8", "surrogateescape"), Path())
    return Program(site, host={"name": "web1"}, groups={}, vars=more.pop("vars", {}), modules=MODULES, **more)


def drive(source: str, answer: Any = None, **more: Any) -> tuple[list[Request], Done | Error]:
    """Run the top level, then every task; return all requests and the last Done or Error."""
    loaded = program(source, **more)
    asked: list[Request] = []
    numbers = iter(range(1, 10_000))

    def to_end(request: Request) -> Done | Error:
        while not isinstance(request, (Done, Error)):
            asked.append(request)
            given_answer = answer(request) if answer else None
            if given_answer is None and isinstance(request, Invoke):
                given_answer = next(numbers)
            if given_answer is None and isinstance(request, Fetch):
                given_answer = {"changed": True, "stdout": "out", "status": "changed"}
            request = loaded.resume(given_answer)
        return request

    end = to_end(loaded.load())
    for task in loaded.tasks if isinstance(end, Done) else ():
        end = to_end(loaded.start(task))
    loaded.close()
    return asked, end


def task(body: str) -> str:
    return f'task({{ name = "t", run = function()\n{body}\nend }})'


def error(source: str, **more: Any) -> Error:
    end = drive(source, **more)[1]
    assert isinstance(end, Error), end
    return end


def test_a_call_does_not_wait_until_its_result_is_read() -> None:
    asked, _ = drive(
        task('local r = file.copy({dest = "/a"})\nfile.copy({dest = "/b"})\nprint(r.changed)\nprint(r.stdout)')
    )
    assert [type(request) for request in asked] == [Invoke, Invoke, Fetch, Output, Output]
    assert [request.where for request in asked[:3]] == ["site.sloth:2", "site.sloth:3", "site.sloth:4"]  # type: ignore[union-attr]


def test_inside_pcall_calls_are_protected() -> None:
    protected = 'pcall(function() file.copy({dest = "/a"}) end)\n'
    asked, _ = drive(task(f'{protected}file.copy({{dest = "/b"}})\n{protected}'))
    assert [type(request) for request in asked] == [Invoke, Invoke, Sync, Invoke]  # nothing to wait for at first
    assert [request.protected for request in asked if isinstance(request, Invoke)] == [True, False, True]


def test_a_raised_error_comes_back_as_itself_and_pcall_sees_its_text() -> None:
    failure = CallError("no", call="file.copy /a", host="web1", where="site.sloth:2")

    def answer(request: Request) -> Any:
        return Raise(failure) if isinstance(request, Invoke) else None

    end = drive(task('file.copy({dest = "/a"})'), answer)[1]
    assert isinstance(end, Error)
    assert end.cause is failure
    asked, end = drive(task('local ok, e = pcall(function() file.copy({dest = "/a"}) end)\nprint(e)'), answer)
    assert isinstance(end, Done)
    assert [request.text for request in asked if isinstance(request, Output)] == [str(failure)]


@pytest.mark.parametrize(
    ("body", "expected", "line"),
    [
        ("fiel.copy({})", 'did you mean "file"?', 2),
        ("file.cpoy({})", 'did you mean "copy"?', 2),
        ("\nlocal x = nil\nx.y = 1", "attempt to index a nil value (local 'x')", 4),
        ('error("by hand")', "by hand", 2),
        ("error({code = 3})", '{"code":3}', None),
        ("while true do end", "endless loop", 2),
        ("while true do pcall(function() while true do end end) end", "endless loop", 2),
        ('string.rep("x", 1e9)', "uses more than", 2),
        ("local t = {} while true do t[#t + 1] = {} end", "", None),
        ("local function f() return 1 + f() end f()", "", None),
        ('table.sort({1, 2}, function() file.copy({dest = "/a"}) end)', "inside a callback", 2),
        ("file.copy({dest = file.copy({dest = '/a'})})", "is the result of a call", 2),
        ("file.copy({dest = print})", "is a function", 2),
        ("file.copy({1, x = 2})", "takes a table with names", 2),
        ("local t = {} t.t = t file.copy(t)", "contains itself", 2),
        ("file.copy({dest = 0/0})", "not a finite number", 2),
        ("file.copy({dest = {1, nil, 3}})", "holes", 2),
        ("io.open('/etc/passwd')", "not available to a site", 2),
        ("os.execute('true')", "nil value (field 'execute')", 2),
        ("coroutine.wrap(print)()", "not available to a site", 2),
        ("require('x')", "not available to a site", 2),
        ("setmetatable({}, {__gc = print})", "__gc is not available", 2),
        ("local r = file.copy({dest = '/a'}) r.changed = 1", "cannot be changed", 2),
        ("task({name = 'inner', run = print})", "not inside a task", 2),
        ("file:copy({dest = '/a'})", "file:copy must be written with a dot: file.copy(...)", 2),
        ("log:info('x')", "log:info must be written with a dot", 2),
        ("state:get('x')", "state:get must be written with a dot", 2),
        ("log.wran('x')", 'there is no log.wran; hint: did you mean "warn"?', 2),
        ("state.gte('x')", 'there is no state.gte; hint: did you mean "get"?', 2),
        ("local ok, e = pcall(function() file.cpoy({}) end) error(e, 0)", 'hint: did you mean "copy"?', 2),
        ('string.gsub("a", "a", function() file.cpoy({}) end)', "there is no file.cpoy", 2),
    ],
)
def test_errors_point_at_the_line(body: str, expected: str, line: int | None) -> None:
    end = error(task(body), limits=Limits(instructions=2_000_000))
    assert expected in f"{end.message}; hint: {end.hint}"
    if line is not None:
        assert end.where == f"site.sloth:{line}"


@pytest.mark.parametrize(
    "body",
    [
        "return python ~= nil",
        "return string.dump ~= nil",
        'return load("\\27Lua", "x", "b") ~= nil',
        'return type(getmetatable("")) == "table"',
        'return (load("return io")()).open ~= nil',
        "return debug.getinfo ~= nil",
        "return package.loaded ~= nil",
        "return _G.collectgarbage ~= nil or _G.dofile ~= nil or _G.loadfile ~= nil",
    ],
)
def test_nothing_leads_out_of_the_sandbox(body: str) -> None:
    end = drive(task(f"if (function() {body} end)() then error('escaped') end"))[1]
    assert isinstance(end, Done) or "escaped" not in end.message


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("nmae = 1", "has no option 'nmae'; hint: did you mean \"name\"?"),
        ("serial = 0", "serial must be"),
        ("retries = 'x'", "retries must be"),
        ("depends_on = 'b'", "depends_on names the task b"),
        ("notify = 'h'", "notify names the handler h"),
        ("become = 3", "become must be"),
        ("become = 'yes'", "become must be"),
        ("hosts = {}", "hosts must be a host pattern or a list of them"),
    ],
)
def test_task_options_are_checked(options: str, expected: str) -> None:
    end = error(f'\ntask({{ name = "a", {options}, run = function() end }})')
    assert expected in f"{end.message}; hint: {end.hint}"
    assert end.where == "site.sloth:2"


_plain = st.recursive(
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.binary(max_size=20).map(lambda data: data.decode("utf-8", "surrogateescape")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1, max_size=5), inner, min_size=1, max_size=3)
    ),
    max_leaves=10,
)


@settings(deadline=None, max_examples=60)
@given(_plain)
def test_plain_data_survives_the_way_in_and_out(value: Any) -> None:
    asked, _ = drive(task("file.copy({ value = vars.value })"), vars={"value": value})
    assert isinstance(asked[0], Invoke)
    assert asked[0].args == {"value": value}


def test_includes_run_beside_their_file(tmp_path: Path) -> None:
    (tmp_path / "inner.sloth").write_text('file.copy({dest = "/in"})\nreturn 42\n')
    (tmp_path / "loop.sloth").write_text('include("loop.sloth")\n')
    site = tmp_path / "site.sloth"
    site.write_text('print(include("inner.sloth"))')
    loaded = Program(Site.read(str(site)), host={}, groups={}, vars={}, modules=MODULES)
    request = loaded.load()
    assert isinstance(request, Invoke)
    assert request.where == f"{tmp_path}/inner.sloth:1"
    request = loaded.resume(1)
    assert isinstance(request, Output)
    assert request.text == "42"
    site.write_text('include("loop.sloth")')
    end = Program(Site.read(str(site)), host={}, groups={}, vars={}, modules=MODULES).load()
    assert isinstance(end, Error)
    assert "includes itself" in end.message


@pytest.mark.parametrize(
    "text",
    [
        'for _, file in ipairs({ "a" }) do file.absent({ path = file }) end',
        'for _, file in ipairs({ "a" }) do (function() file.absent({ path = file }) end)() end',
    ],
)
def test_a_string_that_hides_a_module_still_finds_it(text: str) -> None:
    first = program(text).load()
    assert isinstance(first, Invoke)
    assert (first.name, first.args) == ("file.absent", {"path": "a"})


def test_a_string_has_no_module_s_functions_otherwise() -> None:
    end = program('local word = "a"; word.absent({})').load()
    assert isinstance(end, Error)
    assert "nil value" in end.message


def output(source: str, answer: Any = None) -> list[str]:
    """Return what print() and log.* show."""
    asked, end = drive(source, answer)
    assert isinstance(end, Done), end
    return [request.text for request in asked if isinstance(request, Output)]


@pytest.mark.parametrize(
    ("body", "memory"),
    [
        ('assert(false, "not enough memory")', False),
        ('error("not enough memory")', False),
        ('pcall(error, "not enough memory") assert(false, "not enough memory")', False),
        ("setmetatable(vars, {__index = function(t, k) return t[k + 1] end}) print(vars[1])", False),
        ('local t = setmetatable({}, {__tostring = function() error("x") end}) error(t)', False),
        ('string.rep("x", 1e9)', True),
        ("local t = {} while true do t[#t + 1] = {} end", True),
    ],
)
def test_memory_is_exhausted_when_lua_says_so_and_not_when_a_text_does(body: str, memory: bool) -> None:
    end = error(task(body), limits=Limits(memory=16 * 1024 * 1024))
    assert end.message.startswith("the site uses more than 16 MB") == memory, end
    if "not enough memory" in body:
        assert end.message == "not enough memory"


def test_an_answer_that_does_not_fit_is_an_error_too() -> None:
    loaded = program("print(secret('x'))", limits=Limits(memory=4 * 1024 * 1024))
    loaded.load()
    end = loaded.resume("x" * 8_000_000)
    assert isinstance(end, Error)
    assert "uses more than 4 MB" in end.message
    with pytest.raises(SiteError, match="uses more than 4 MB"):
        program("", limits=Limits(memory=4 * 1024 * 1024), vars={"x": ["x" * 1000] * 8000})


@pytest.mark.parametrize(
    ("expression", "shown"),
    [
        ('"text"', "text"),
        ("nil, true, 1.5", "nil\ttrue\t1.5"),
        ("{}", "{}"),
        ('{"a", 2, x = true}', '{"a", 2, x = true}'),
        ('{["two words"] = 1, b = {c = {1, 2}}, [7] = "x"}', '{["two words"] = 1, [7] = "x", b = {c = {1, 2}}}'),
        ('{"a\\n\\"\\1"}', r'{"a\n\"\001"}'),
        ("{print}", "{<function>}"),
        ('setmetatable({}, {__tostring = function() return "mine" end})', "mine"),
        ("(function() local t = {1} t.t = t return t end)()", "{1, t = {...}}"),
        ("vars", "{list = {1, 2}}"),
        ("{file.copy({dest = '/a'})}", "{changed file.copy}"),
        ("facts", '{os_family = "debian"}'),
    ],
)
def test_print_shows_what_a_table_holds(expression: str, shown: str) -> None:
    def answer(request: Request) -> Any:
        return {"os_family": "debian", "nothing": None} if isinstance(request, Facts) else None

    asked, end = drive(task(f"print({expression})"), answer, vars={"list": [1, 2]})
    assert isinstance(end, Done), end
    assert [request.text for request in asked if isinstance(request, Output)] == [shown]


def test_an_unknown_fact_is_an_error_and_one_without_a_value_is_nil() -> None:
    def answer(request: Request) -> Any:
        return {"os_family": "debian", "nothing": None} if isinstance(request, Facts) else None

    assert output(task("print(facts.os_family, facts.nothing)"), answer) == ["debian\tnil"]
    for source in (
        task("if facts.os_familiy == 'debian' then end"),
        "\nif facts.os_familiy then end",
        'task({ name = "t",\nwhen = function() return facts.os_familiy end, run = print })',
    ):
        loaded = program(source)
        end: Request = loaded.load()
        if isinstance(end, Done):
            one = loaded.tasks[0]
            end = loaded.start_hook(one, Hook.WHEN) if Hook.WHEN in one.hooks else loaded.start(one)
        assert isinstance(end, Facts)
        end = loaded.resume({"os_family": "debian"})
        assert isinstance(end, Error)
        assert (end.message, end.hint) == ("there is no facts.os_familiy", 'did you mean "os_family"?')
        assert end.where == "site.sloth:2"
        assert isinstance(end.cause, SiteError)


def test_facts_that_are_not_known_before_a_run_are_nil() -> None:
    assert output(task("print(facts.anything)"), lambda request: {} if isinstance(request, Facts) else None) == ["nil"]


def test_the_first_line_may_name_an_interpreter(tmp_path: Path) -> None:
    inner = tmp_path / "inner.sloth"
    inner.write_text("#!/usr/bin/env sloth-runner\nreturn 1\n")
    site = tmp_path / "site.sloth"
    site.write_bytes(b'\xef\xbb\xbf#!/usr/bin/env -S sloth-runner run -f\nprint(include("inner.sloth"))\nerror("here")')
    check_syntax(Site.read(str(site)))
    loaded = Program(Site.read(str(site)), host={}, groups={}, vars={}, modules=MODULES)
    assert isinstance(loaded.load(), Output)
    end = loaded.resume(None)
    assert isinstance(end, Error)
    assert end.where == f"{site}:3"


def test_positions_have_the_whole_path_however_long(tmp_path: Path) -> None:
    folder = tmp_path / ("a" * 80) / ("b" * 80)
    folder.mkdir(parents=True)
    site = folder / "site.sloth"
    for text, message in (("\nlocal x = nil\nx.y = 1", "attempt to index"), ("\n\nx = = 1", "unexpected symbol")):
        site.write_text(text)
        end = Program(Site.read(str(site)), host={}, groups={}, vars={}, modules=MODULES).load()
        assert isinstance(end, Error)
        assert end.where == f"{site}:3"
        assert end.message.startswith(message)
    with pytest.raises(SiteError, match="unexpected symbol") as caught:
        check_syntax(Site.read(str(site)))
    assert caught.value.where == f"{site}:3"


def test_no_frame_of_our_own_code_is_in_a_traceback() -> None:
    end = error(task('local function inner() pcall(print) error("x") end\ninner()'))
    assert "site.sloth:2" in end.traceback
    assert "(sloth" not in end.traceback


def test_options_become_typed_values() -> None:
    loaded = program('task({name = "a", serial = "25%", on_failure = "rollback", run = print})\n'
                     'task({name = "b", serial = 3, hosts = "web*", run = print})')  # fmt: skip
    assert isinstance(loaded.load(), Done)
    first, second = loaded.tasks
    assert (first.serial, first.on_failure) == ((Share(percent=25),), OnFailure.ROLLBACK)
    assert (second.serial, second.hosts) == ((Share(hosts=3),), ("web*",))
    assert [Share(percent=25).of(total) for total in (1, 4, 10)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{% for i in l %}{{ i }} {% endfor %}\n", "1 2 \n"),
        ("{% if l %}yes{% endif %}\n", "yes\n"),
        ("{% if not l %}no{% endif %}\n", "\n"),
        ("{% for i in l %}\n{{ i }}\n{% endfor %}\n", "1\n2\n"),
        ("text\n\n\n", "text\n\n\n"),
        ("text", "text"),
        ("{% if l %}yes{% endif %}", "yes"),
        ("{{ line }}\n", "line\n"),
        ("Hello {% include 'world' %}!", "Hello world!"),
        ("", ""),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_template_keeps_its_final_newlines_as_with_ansible(
    tmp_path: Path, template: str, text: str, newline: str
) -> None:
    (tmp_path / "t").write_text(template)
    (tmp_path / "world").write_text("world\n")
    variables = {"l": [1, 2], "line": "line" + newline}
    made = Renderer([tmp_path]).render("t", variables, {"newline_sequence": newline})
    # A file that nothing makes a template keeps its own line ends.
    assert made == (text.replace("\n", newline) if "{" in template else text)


def test_errors_of_templates_name_the_line_and_the_nearest_variable(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("{{ port }}\n{{ prot }}\n")
    (tmp_path / "attribute").write_text("{{ port.prot }}\n")
    with pytest.raises(CallError) as caught:
        Renderer([tmp_path]).render("t", {"port": 1})
    assert (caught.value.where, caught.value.hint) == (f"{tmp_path}/t:2", 'did you mean "port"?')
    with pytest.raises(CallError) as caught:
        Renderer([tmp_path]).render("attribute", {"port": 1})
    assert caught.value.hint == ""


@pytest.mark.parametrize(
    ("written", "compiled"),
    [
        ("{until = f}", '{["until"] = f}'),
        ("{until=f, until\n=\ng}", '{["until"]=f, ["until"]\n=\ng}'),
        ("repeat x() until ok", "repeat x() until ok"),
        ("repeat x() until x == 1", "repeat x() until x == 1"),
        ("x = 'until = 1' -- until = 2\n", "x = 'until = 1' -- until = 2\n"),
        ('x = "\\"until = 1" y = [==[ ]] until = ]==]', 'x = "\\"until = 1" y = [==[ ]] until = ]==]'),
        ("--[[ until = \n until = ]] {until = f}", '--[[ until = \n until = ]] {["until"] = f}'),
        ("repeat_until = 1", "repeat_until = 1"),
    ],
)
def test_until_may_be_written_as_an_option_though_it_is_a_keyword(written: str, compiled: str) -> None:
    assert lua_source(written.encode(), "site.sloth") == compiled.encode()
