"""The reference of task options and Lua's globals: it names what there is, and what it states is so."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sloth.engine.context import lua_host
from sloth.engine.modules import all_calls
from sloth.errors import SiteError
from sloth.inventory import Inventory
from sloth.playbook import Hook, Program, SharedOp, Site, Task, reference
from sloth.playbook.declarations import declare
from sloth.playbook.lua_globals import FLAGS, GROUPS, HOST_FIELDS, PROMPT_FIELDS, Global
from sloth.playbook.lua_types import lua_types
from sloth.playbook.names import LUA, SITE
from sloth.playbook.prompts import _SETTINGS
from sloth.playbook.task_options import HANDLER_OPTIONS, OPTIONS, TASK_OPTIONS
from sloth.report import documentation
from sloth.state import shared
from tests.support.command import sloth
from tests.support.paths import ROOT

GLOBALS = {one.name: one for group in GROUPS for one in group.globals}
MARK = "<!-- sloth-runner doc {} --markdown -->\n"


@pytest.fixture(scope="module")
def room() -> Iterator[Any]:
    """What the chunks of Lua share, with a site's globals as `env`, and the runtime's debug library."""
    modules: dict[str, list[str]] = {}
    for cls in all_calls():
        space, _, verb = cls.name.partition(".")
        modules.setdefault(space, []).append(verb)
    site = Site("site.sloth", b"", Path())
    host = lua_host(next(iter(Inventory.local().hosts.values())))
    program = Program(site, host=host, groups={}, vars={}, modules=modules)
    debug = program._runtime.globals()[b"debug"]
    for at in range(1, 100):
        name, value = debug[b"getupvalue"](program._driver[b"start"], at)
        if name == b"room":
            yield {"env": value[b"env"], "debug": debug, "modules": set(modules)}
            return


def raw_names(table: Any) -> set[str]:
    return {key.decode() for key in table if isinstance(key, bytes)}


def test_the_globals_are_those_that_a_site_has(room: Any) -> None:
    env = room["env"]
    documented = {name.partition(".")[0] for name, one in GLOBALS.items() if not one.is_standard}
    assert documented == set(SITE)
    assert {name.partition(".")[0] for name, one in GLOBALS.items() if one.is_standard} <= set(LUA)
    assert raw_names(env) - (room["modules"] - set(SITE)) == {*SITE, *LUA}
    for table in ("log", "json", "state", "re"):
        members = {name.partition(".")[2] for name in GLOBALS if name.startswith(table + ".")}
        assert raw_names(env[table.encode()]) == members | (set(FLAGS) if table == "re" else set())
    for name, value in FLAGS.items():
        assert env[b"re"][name.encode()] == value


@pytest.mark.parametrize(
    "one", [one for one in GLOBALS.values() if one.parameters is not None], ids=lambda one: one.name
)
def test_a_signature_has_the_parameters_of_the_function(room: Any, one: Global) -> None:
    assert one.parameters is not None
    function = room["env"]
    for part in one.name.split("."):
        function = function[part.encode()]
    info = room["debug"][b"getinfo"](function, b"u")
    names = [name for name, _ in one.parameters]
    optional = [name.endswith("?") or name == "..." for name in names]
    assert optional == sorted(optional), "what may be left out comes last"
    space, _, op = one.name.partition(".")
    if space == "state" and op != "with_lock":
        parameters = shared._OPERATIONS[op]
        assert [name.removesuffix("?") for name in names] == [parameter.name for parameter in parameters]
        assert optional == [bool(parameter.default) for parameter in parameters]
    elif info[b"isvararg"]:
        assert int(info[b"nparams"]) == sum(name != "..." for name in names)
    elif one.name != "assert":
        assert int(info[b"nparams"]) == len(names)
        assert "..." not in names


def test_every_operation_on_shared_values_is_documented() -> None:
    assert set(shared._OPERATIONS) < {op.value for op in SharedOp}
    assert {f"state.{op}" for op in shared._OPERATIONS} | {"state.with_lock"} == {
        name for name in GLOBALS if name.startswith("state.")
    }


def test_the_fields_of_host_and_prompt_are_those_they_have() -> None:
    host = lua_host(next(iter(Inventory.local().hosts.values())))
    assert [name for name, _ in HOST_FIELDS] == list(host)
    assert {name for name, _, _ in PROMPT_FIELDS} == set(_SETTINGS)


def test_every_example_runs(tmp_path: Path) -> None:
    (tmp_path / "roles/web").mkdir(parents=True)
    (tmp_path / "roles/web/init.lua").write_text('task({ name = "of the role", run = function() end })')
    (tmp_path / "more.sloth").write_text("local args = ...\nassert(args.port == 80)")
    (tmp_path / "app.conf.j2").write_text("port = {{ port }}\n")
    top = [f"do {one.example} end" for one in GLOBALS.values() if one.is_top]
    inside = [
        f'task({{ name = "{one.name}", tags = "example", run = function() {one.example} end }})'
        for one in GLOBALS.values()
        if not one.is_top
    ]
    (tmp_path / "site.sloth").write_text("\n".join([*top, *inside]))
    (tmp_path / "inventory.toml").write_text("[hosts.local]\nconnection = 'local'\n")
    done = sloth(
        *(tmp_path, "run", "-f", "site.sloth", "-e", "version=1", "-o", "json"),
        extra={"SLOTH_SECRET_TOKEN": "hunter2-canary"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (host,) = json.loads(done.stdout)["hosts"].values()
    assert len(host["tasks"]) >= len(inside)
    for one in GLOBALS.values():
        assert one.name.partition(".")[0] in one.example, f"the example of {one.name} does not use it"


def test_every_option_is_documented_and_declared() -> None:
    fields = {field.name: field for field in dataclasses.fields(Task)}
    assert set(OPTIONS) == set(TASK_OPTIONS) | set(HANDLER_OPTIONS)
    assert {str(hook) for hook in Hook} <= set(OPTIONS)
    own = {"where", "index", "handler", "is_flush", "hooks"}
    assert set(fields) - own <= set(OPTIONS)
    assert set(OPTIONS) - set(fields) == {"run"} | {str(hook) for hook in Hook} - set(fields)
    for name, option in OPTIONS.items():
        assert option.help.endswith("."), name
        default = fields[name].default if option.check is not None else None
        if isinstance(default, (bool, int, float)) and "number of hosts" not in option.expected:
            assert option.default.startswith(f"{default:g}" if default or default is not False else "false"), name


@pytest.mark.parametrize("name", [name for name, option in OPTIONS.items() if option.check is not None])
def test_an_option_is_refused_by_the_words_of_the_reference(name: str) -> None:
    option = OPTIONS[name]
    what = "task" if option.of_tasks else "handler"
    with pytest.raises(SiteError, match=f"{name} must be ") as raised:
        declare(what, {"name": "t", name: {"no": [{}]}}, ("run",), "s:1", 1)
    assert option.expected in str(raised.value)


def test_the_pages_are_current() -> None:
    text = (ROOT / "docs/reference.md").read_text()
    hint = "run nox -s docs"
    head, _, rest = text.partition(MARK.format("task"))
    task, _, lua = rest.partition(MARK.format("lua"))
    assert head.startswith("# ")
    assert (task, lua) == (reference.task_markdown() + "\n", reference.lua_markdown()), hint


def test_the_types_for_editors_have_every_option_and_global() -> None:
    text = documentation.lua_types(all_calls(), lua_types())
    task, _, rest = text.partition("---@class (exact) sloth.Handler")
    handler = rest.partition("\n\n")[0]
    for page, names in ((task, TASK_OPTIONS), (handler, HANDLER_OPTIONS)):
        for name in names:
            mark = "" if OPTIONS[name].is_required else "?"
            assert f"---@field {name}{mark} " in page
    for one in GLOBALS.values():
        if one.is_standard:
            continue
        names = [] if one.parameters is None else [name.removesuffix("?") for name, _ in one.parameters]
        line = f"{one.name} = " if one.parameters is None else f"function {one.name}({', '.join(names)}) end"
        assert f"\n{line}" in text
    for table in {name.partition(".")[0] for name in GLOBALS}:
        assert text.count(f"\n{table} = ") <= 1, f"{table} is defined twice"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["task"], "confirm_check"),
        (["lua"], "state.cas(name, expected, value, options?)"),
        (["lua", "--markdown"], "| `flush_handlers()` |"),
        (["task", "-o", "json"], '"handler": true'),
        (["lua", "-o", "json"], '"signature": "re.sub(pattern, replacement, text, options?)"'),
        (["state.cas"], "state.cas(name, expected, value, options?)"),
        (["re", "-o", "json"], '"name": "re.fullmatch"'),
        (["--help"], "sloth-runner doc lua"),
    ],
)
def test_doc_shows(tmp_path: Path, words: list[str], expected: str) -> None:
    done = sloth(tmp_path, "doc", *words)
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout


def test_doc_knows_the_nearest_global(tmp_path: Path) -> None:
    done = sloth(tmp_path, "doc", "state.gte")
    assert done.returncode == 2
    assert 'did you mean "state.get"?' in done.stderr


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("ta", {"task"}),
        ("lu", {"lua"}),
        ("inv", {"inventory"}),
        ("ro", {"role"}),
        ("file.cop", {"file.copy"}),
        ("state.c", {"state.cas"}),
    ],
)
def test_the_shell_completes_topics(tmp_path: Path, typed: str, offered: set[str]) -> None:
    variables = {"_SLOTH_RUNNER_COMPLETE": "bash_complete", "COMP_LINE": f"sloth-runner doc {typed}"}
    done = sloth(tmp_path, extra=variables)
    assert offered == {line.rpartition(",")[2].strip() for line in done.stdout.splitlines()}, done.stderr
