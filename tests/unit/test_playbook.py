"""The Lua room: what a site may do, what it may not, and where its errors point."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sloth.errors import CallError
from sloth.playbook import Done, Error, Fetch, Invoke, Limits, Output, Program, Raise, Request, Site, Sync

MODULES = {"file": ["copy", "absent"], "exec": ["run"]}


def program(source: str, **more: Any) -> Program:
    site = Site("site.sloth", source.encode("utf-8", "surrogateescape"), Path())
    return Program(site, host={"name": "web1"}, groups={}, vars=more.pop("vars", {}), modules=MODULES, **more)


def drive(source: str, answer: Any = None, **more: Any) -> tuple[list[Request], Done | Error]:
    """Run the top level, then every task; return all requests and the last end."""
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
    asked, _ = drive(task('pcall(function() file.copy({dest = "/a"}) end)\nfile.copy({dest = "/b"})'))
    assert isinstance(asked[0], Sync)
    assert [request.protected for request in asked if isinstance(request, Invoke)] == [True, False]


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
    ("body", "said", "line"),
    [
        ("fiel.copy({})", 'did you mean "file"?', 2),
        ("file.cpoy({})", 'did you mean "copy"?', 2),
        ("\nlocal x = nil\nx.y = 1", "attempt to index a nil value (local 'x')", 4),
        ('error("by hand")', "by hand", 2),
        ("error({code = 3})", '{"code":3}', None),
        ("while true do end", "endless loop", 2),
        ("while true do pcall(function() while true do end end) end", "endless loop", 2),
        ('string.rep("x", 1e9)', "uses more than", None),
        ("local t = {} while true do t[#t + 1] = {} end", "", None),
        ("local function f() return 1 + f() end f()", "", None),
        ('string.gsub("a", "a", function() file.copy({dest = "/a"}) end)', "inside a callback", 2),
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
    ],
)
def test_errors_point_at_the_line(body: str, said: str, line: int | None) -> None:
    end = error(task(body), limits=Limits(instructions=2_000_000))
    assert said in end.message
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
    ("options", "said"),
    [
        ("nmae = 1", "has no option 'nmae'; hint: did you mean \"name\"?"),
        ("serial = 0", "serial must be"),
        ("retries = 'x'", "retries must be"),
        ("depends_on = 'b'", "depends_on names the task b"),
        ("notify = 'h'", "notify names the handler h"),
        ("become = 3", "become must be"),
    ],
)
def test_task_options_are_checked(options: str, said: str) -> None:
    end = error(f'\ntask({{ name = "a", {options}, run = function() end }})')
    assert said in f"{end.message}; hint: {end.cause.hint if end.cause else ''}"
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
