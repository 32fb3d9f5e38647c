"""Hostile sites: no way out of Lua's or Jinja2's sandbox, and nothing that a site does holds up other hosts or Ctrl-C.

All attacks run against the real runtime, bombs with small limits. Some of them go through a whole run, with the real
limits and a second host that must converge; with SLOTH_ATTACK_ROUNDS=500 all of them.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sloth.engine.modules import module_names
from sloth.errors import CallError
from sloth.inventory import Inventory
from sloth.playbook import Done, Error, Facts, Invoke, Limits, Output, Program, Request, Shared, Site
from sloth.playbook.rendering import Templates, Worker
from tests.attack.hostile_sites import LUA_BOMBS, LUA_ESCAPES, TEMPLATE_BOMBS, TEMPLATE_ESCAPES
from tests.support.paths import ROOT
from tests.support.running import finished_hosts, run_site

pytestmark = pytest.mark.attack
IS_LONG = int(os.environ.get("SLOTH_ATTACK_ROUNDS", "60")) > 60
SMALL = Limits(instructions=1_000_000, requests=2000, seconds=1)
SLOW = 12  # a machine may be so much slower
HOSTS = '[hosts.web1]\nconnection = "local"\n[hosts.web2]\nconnection = "local"\n'


def run_task(body: str, directory: Path, limits: Limits) -> tuple[Done | Error, list[str], float]:
    """Run the body of a task; return how it ends, what it prints, and the longest time without a suspension."""
    source = f'task({{ name = "t", run = function(...)\n{body}\nend }})'
    site = Site(str(directory / "site.sloth"), source.encode(), directory)
    program = Program(site, host={"name": "web1"}, groups={}, vars={}, modules=module_names(), limits=limits)
    printed: list[str] = []
    longest = 0.0
    request: Request = program.load()
    started = False
    while True:
        begun = time.process_time()
        if isinstance(request, Done) and not started:
            started = True
            request = program.start(program.tasks[0])
        elif isinstance(request, (Done, Error)):
            program.close()
            return request, printed, longest
        else:
            if isinstance(request, Output):
                printed.append(request.text[:100])
            answer = 1 if isinstance(request, Invoke) else {"os": "x"} if isinstance(request, Facts) else None
            request = program.resume("no" if isinstance(request, Shared) else answer)
        longest = max(longest, time.process_time() - begun)


@pytest.mark.parametrize("name", list(LUA_ESCAPES))
def test_lua_has_no_way_out(name: str, tmp_path: Path) -> None:
    body, expected = LUA_ESCAPES[name]
    end, printed, _ = run_task(body, tmp_path, Limits())
    found = end.message if isinstance(end, Error) else "\n".join(printed)
    assert re.search(expected, found), found
    assert "defect" not in found
    if isinstance(end, Error):
        assert end.where.startswith(str(tmp_path))


@pytest.mark.parametrize("name", list(LUA_BOMBS))
def test_a_bomb_of_lua_ends_and_names_its_line(name: str, tmp_path: Path) -> None:
    body, expected = LUA_BOMBS[name]
    end, _, longest = run_task(body, tmp_path, SMALL)
    assert longest < SLOW, "time of the processor between two suspensions"
    if expected:
        assert isinstance(end, Error), end
        assert re.search(expected + "|instructions", end.message), end  # they are so few here
        assert re.fullmatch(re.escape(str(tmp_path)) + r"/site\.sloth:\d+", end.where), end


def test_a_site_may_have_many_tasks(tmp_path: Path) -> None:
    """Declaring is linear, and other hosts get their turn meanwhile."""
    source = 'for i = 1, 20000 do task({name = "t" .. i, notify = "h", run = function() end}) end\n'
    site = Site("site.sloth", f'{source}handler({{name = "h", run = function() end}})'.encode(), tmp_path)
    program = Program(site, host={"name": "web1"}, groups={}, vars={}, modules=module_names())
    request, turns = program.load(), 0
    while not isinstance(request, (Done, Error)):
        request, turns = program.resume(None), turns + 1
    assert isinstance(request, Done), request
    assert len(program.tasks) == 20_000
    assert turns > 2


# Templates


async def _render(texts: dict[str, str], directory: Path) -> dict[str, str | CallError]:
    """Render texts, one after the other, by one worker; return texts or errors."""
    worker = Worker()
    templates = Templates([directory], worker)
    found: dict[str, str | CallError] = {}
    variables = {"groups": {"web": ["web1"]}, "shared": [1], "secret": str.upper}
    for name, text in texts.items():
        (directory / name).write_text(text)
        try:
            found[name] = await templates.render(name, variables)
        except CallError as error:
            found[name] = error
    await worker.close()
    assert variables["groups"] == {"web": ["web1"]}
    assert variables["shared"] == [1]
    return found


async def test_templates_have_no_way_out(tmp_path: Path) -> None:
    texts = {f"t{number}": text for number, (text, _) in enumerate(TEMPLATE_ESCAPES.values())}
    found = await _render(texts, tmp_path)
    for (name, (_, expected)), result in zip(TEMPLATE_ESCAPES.items(), found.values(), strict=True):
        assert re.search(expected, result.message if isinstance(result, CallError) else result), (name, result)
        assert not isinstance(result, CallError) or result.where.startswith(str(tmp_path)), (name, result.where)


async def test_bombs_in_templates_end_and_name_their_line(tmp_path: Path) -> None:
    slow = [name for name in TEMPLATE_BOMBS if "within" in TEMPLATE_BOMBS[name][1]]
    chosen = [name for name in TEMPLATE_BOMBS if IS_LONG or name not in slow[2:]]  # each takes its whole time
    found = await _render({name: TEMPLATE_BOMBS[name][0] for name in chosen}, tmp_path)
    for name, result in found.items():
        _, expected, line = TEMPLATE_BOMBS[name]
        assert isinstance(result, CallError), (name, result)
        assert re.search(expected, result.message), (name, result.message)
        assert result.where == (f"{tmp_path}/{name}:{line}" if line else f"{tmp_path}/{name}"), result


async def test_a_template_changes_nothing_for_others(tmp_path: Path) -> None:
    change = "{% set _ = groups.web.append('evil') %}{% set _ = shared.append(2) %}{{ shared }}"
    found = await _render({"a": change, "b": change, "c": "{{ groups.web }} {{ shared }}"}, tmp_path)
    assert found == {"a": "[1, 2]", "b": "[1, 2]", "c": "['web1'] [1]"}


async def test_a_worker_that_was_ended_is_started_again(tmp_path: Path) -> None:
    texts = {"loop": TEMPLATE_BOMBS["nested ranges"][0], "secret": "{{ secret('x') }}"}
    worker = Worker()
    templates = Templates([tmp_path], worker)
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(CallError, match="within 3 seconds"):
        await templates.render("loop", {})
    begun = time.monotonic()
    with pytest.raises(CallError, match="within 3 seconds"):
        await templates.render("loop", {})  # on the next host, say
    assert time.monotonic() - begun < 1
    assert await templates.render("secret", {"secret": str.upper}) == "X"
    await worker.start()
    assert worker._process is not None
    worker._process.kill()
    with pytest.raises(CallError):
        await templates.render("secret", {"secret": str.upper})
    await worker.close()


# Whole runs


SOME = (
    "requests: log",
    "a handler for a loop",
    "closing",
    "a pattern of runs",
    "rep of nothing",
    "tables",
    "a device",
)
SOME_TEMPLATES = ("a regular expression", "itself")


@pytest.mark.parametrize("name", list(LUA_BOMBS) if IS_LONG else SOME)
async def test_other_hosts_go_on(name: str, tmp_path: Path) -> None:
    body, expected = LUA_BOMBS[name]
    await _bomb_web1(body, expected, tmp_path)


@pytest.mark.parametrize("name", list(TEMPLATE_BOMBS) if IS_LONG else SOME_TEMPLATES)
async def test_other_hosts_go_on_while_a_template_is_rendered(name: str, tmp_path: Path) -> None:
    text, expected, _ = TEMPLATE_BOMBS[name]
    (tmp_path / name).write_text(text)
    (tmp_path / "good").write_text("{{ host.name }}\n")
    await _bomb_web1(f'template("{name}")', expected, tmp_path)


async def _bomb_web1(body: str, expected: str, directory: Path) -> None:
    (directory / "inventory.toml").write_text(HOSTS)
    site = directory / "site.sloth"
    good = "good" if (directory / "good").exists() else ""
    more = f'file.template({{src = "{good}", dest = "{directory}/made2"}})' if good else ""
    site.write_text(
        f'task({{ name = "t", run = function()\nif host.name == "web1" then\n{body}\nelse\n'
        f'file.copy({{content = "x", dest = "{directory}/made"}}) {more}\nend\nend }})\n'
    )
    inventory = Inventory.read(directory / "inventory.toml")
    begun = time.monotonic()
    ends = finished_hosts(await run_site(site, inventory, directory / "controller"))
    assert time.monotonic() - begun < 30 * SLOW
    assert ends["web2"].status == "changed", ends["web2"].error
    assert (directory / "made").read_text() == "x"
    if expected:
        error = ends["web1"].error or ""
        assert ends["web1"].status == "failed"
        assert re.search(expected, error), error
        # A template that had to be ended has no line; test_bombs_in_templates_end_... has those that do.
        assert re.search(r"(site\.sloth:\d+|/[A-Za-z ]+(:\d+)?): ", error), error
        assert "defect" not in error


@pytest.mark.parametrize(
    "body",
    ['while state.get("go") ~= "yes" do end', "while true do local s = ('x'):rep(20000000) end"],
)
def test_ctrl_c_is_answered(body: str, tmp_path: Path) -> None:
    (tmp_path / "inventory.toml").write_text(HOSTS)
    (tmp_path / "site.sloth").write_text(f'task({{ name = "t", run = function()\npcall(function() {body} end)\nend }})')
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "sloth", "run", "-f", "site.sloth", "--output", "ndjson"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "task_started" in line:
                break
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(timeout=15 * SLOW) == 130
        assert time.monotonic() - begun < 15 * SLOW
