"""Counts: what changed, failed, was ignored, rescued or retried is one number in every report and record."""

from __future__ import annotations

import asyncio
import io
import json
import re
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sloth.engine.events import Event, RunFinished
from sloth.engine.options import Options
from sloth.inventory import Inventory
from sloth.report.annotations import Annotations
from sloth.report.document import Document, Lines
from sloth.report.junit import JUnit
from sloth.report.plain import Plain
from sloth.state.memory import Memory
from tests.support.home import TWO_HOSTS, Home
from tests.support.running import run_whole

# A body fails on all hosts, on one, or on none; `N` is a number that makes it unlike the others.
BODIES = {
    "changes": 'file.copy({content = "x", dest = "FILES/" .. host.name .. "N"})',
    "looks": 'file.stat("/")',
    "call fails": 'exec.run({cmd = "echo out; exit 3"})',
    "call fails on one": 'if host.name == "web2" then exec.run({cmd = "exit 3"}) end',
    "changes and fails": 'file.copy({content = "x", dest = "FILES/" .. host.name .. "N"}) exec.run({cmd = "exit 3"})',
    "raises": 'error("oh")',
    "refuses": 'return false, "no"',
    "pcall": 'pcall(exec.run, {cmd = "exit 3"})',
    "pcall twice": 'pcall(exec.run, {cmd = "exit 3"}) pcall(file.copy, {src = "nothing", dest = "/x"})',
    "pcall and again": 'local ok, why = pcall(exec.run, {cmd = "exit 3"}) error(why, 0)',
    "pcall of Lua": 'pcall(error, "x")',
    "no such file": 'file.copy({src = "nothing", dest = "FILES/none"})',
    "locked": 'state.with_lock("l" .. host.name, function() exec.run({cmd = "exit 3"}) end)',
    "in time": 'tries = (tries or 0) + 1 if tries < 2 then exec.run({cmd = "exit 3"}) end',
    "delegated": 'pcall(exec.run, {cmd = "exit 3", delegate_to = "web2"}) exec.run({cmd = "true"})',
    "delegated fails": 'exec.run({cmd = "exit 3", delegate_to = "web2", retries = 1, delay = 0})',
    "call in time": """
        local made = "FILES/" .. host.name .. "N"
        local cmd = "test -e " .. made .. " || { touch " .. made .. "; false; }"
        exec.run({cmd = cmd, retries = 2, delay = 0, delegate_to = "web1"})
    """,
    "unknown": 'local out = exec.run({cmd = "true"}).stdout print(out)',
}
OPTIONS = ("", "ignore_errors = true,", "retries = 1, delay = 0,", "retries = 1, delay = 0, ignore_errors = true,")
BROKEN = ("", 'if host.name == "web1" then error("not here") end', 'file.stat("/")', 'exec.run({cmd = "exit 3"})')
steps = st.tuples(st.sampled_from(sorted(BODIES)), st.sampled_from(OPTIONS), st.booleans())


def text_of(site: list[tuple[str, str, bool]], top: str, files: Path) -> str:
    lines = [top]
    for number, (name, options, notifies) in enumerate(site):
        notify = 'notify = "h",' if notifies else ""
        lines.append(f'task({{name = "t{number}", {options} {notify} run = function() {BODIES[name]} end}})')
    lines.append('handler({name = "h", run = function() exec.run({cmd = "exit 4"}) end})')
    return "\n".join(line.replace("FILES", str(files)).replace("N", str(at)) for at, line in enumerate(lines))


def shown_counts(line: str) -> dict[str, int]:
    """Return the counts of the last line of the report for people."""
    line = line.replace("would change", "changed")
    return {word: int(number) for number, word in re.findall(r"(\d+) ([a-z]+)(?:,| on| in)", line)}


def expected(events: list[Event]) -> dict[str, int]:
    """Recount a run from what NDJSON has of its calls, tasks and hosts."""
    lines = ndjson(events)
    names = ("changed", "unchanged", "failed", "ignored", "rescued", "retried", "skipped", "unknown", "frozen")
    count = dict.fromkeys(names, 0)
    failed_hosts: set[str] = set()
    for line in lines:
        if line["event"] == "call_finished":
            status = line["result"]["status"]
            count[status] = count.get(status, 0) + (status in ("changed", "unchanged", "unknown", "frozen"))
            count["rescued"] += line["result"]["handled"] == "rescued"
        elif line["event"] == "task_finished":
            count["retried"] += line["retried"]
            if line["status"] in ("skipped", "unknown"):
                count[line["status"]] += 1
            elif line["status"] == "failed":
                count["ignored" if line["ignored"] else "failed"] += 1
                failed_hosts |= set() if line["ignored"] else {line["host"]}
        elif line["event"] == "host_finished" and line["status"] == "failed" and line["host"] not in failed_hosts:
            count["failed"] += 1
    return count


def ndjson(events: list[Event]) -> list[dict[str, Any]]:
    out = io.StringIO()
    for event in events:
        Lines(out).emit(event)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def junit(events: list[Event], path: Path) -> dict[str, int]:
    report = JUnit(str(path))
    for event in events:
        report.emit(event)
    report.close()
    root = ET.fromstring(path.read_text())
    count = dict.fromkeys(("ignored", "rescued", "retried", "frozen"), 0)
    for found in root.iter("property"):
        count[found.attrib["name"]] += int(found.attrib["value"])
    assert int(root.attrib["failures"]) == len(list(root.iter("failure")))
    return {**count, "failed": int(root.attrib["failures"]) + int(root.attrib["errors"])}


def annotations(events: list[Event]) -> list[str]:
    out = io.StringIO()
    report = Annotations(out)
    for event in events:
        report.emit(event)
    return out.getvalue().splitlines()


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(steps, min_size=1, max_size=4), st.sampled_from(BROKEN), st.booleans(), st.booleans())
@example([("call fails", OPTIONS[1], False), ("pcall", "", False)], "", False, False)
@example([("raises", "", False)], "", False, False)
@example([("changes and fails", OPTIONS[1], True)], "", False, False)
@example([("in time", OPTIONS[2], False), ("refuses", OPTIONS[3], False)], "", False, False)
@example([("unknown", "", False)], "", True, False)
@example(
    [("delegated", "", False), ("call in time", "", True), ("delegated fails", OPTIONS[1], False)], "", False, False
)
@example([("call in time", OPTIONS[2], False), ("delegated fails", OPTIONS[2], False)], "", False, False)
def test_every_sink_has_the_same_counts(site: list[tuple[str, str, bool]], top: str, check: bool, eager: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        compare(Path(name), site, top, Options(check=check, eager=eager))


def compare(home: Path, site: list[tuple[str, str, bool]], top: str, options: Options) -> None:
    (home / "files").mkdir()
    (home / "inventory.toml").write_text(TWO_HOSTS)
    (home / "site.sloth").write_text(text_of(site, top, home / "files"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        inventory = Inventory.read(home / "inventory.toml")
        events, status = asyncio.run(run_whole(home / "site.sloth", inventory, home / "controller", options))
    last = events[-1]
    assert isinstance(last, RunFinished)
    count = expected(events)

    out, aside = io.StringIO(), io.StringIO()
    document = Document(out, Plain(aside, diff=False, verbosity=0))
    people = Plain(aside, diff=False, verbosity=0)
    for event in events:
        document.emit(event)
        people.emit(event)
    whole = json.loads(out.getvalue())
    for summary in (whole["summary"], ndjson(events)[-1]["summary"]):
        assert {name: summary[name] for name in count} == count
    tasks = [task for host in whole["hosts"].values() for task in host["tasks"]]
    results = [result for task in tasks for result in task["results"]]
    assert sum(result["changed"] for result in results) == count["changed"], "no call is left out"
    assert sum(result["handled"] == "rescued" for result in results) == count["rescued"]
    assert sum(task["retried"] for task in tasks) == count["retried"]
    for host in whole["hosts"].values():  # the host's status is not better than its tasks
        if host["status"] != "failed":
            assert all(task["status"] != "failed" or task["ignored"] for task in host["tasks"])
            changed = any(result["changed"] for task in host["tasks"] for result in task["results"])
            assert host["status"] == "unknown" or (host["status"] == "changed") == changed

    annotated = [line for line in annotations(events) if line.startswith("::error")]
    assert bool(annotated) == bool(count["failed"])
    unhandled = [result for result in results if result["status"] == "failed" and not result["handled"]]
    assert len(annotated) >= min(10, len(unhandled)), "each failure that counts, and none of the others"
    assert len(annotated) <= len(unhandled) + count["failed"]

    shown = shown_counts(aside.getvalue().splitlines()[-1])
    assert {name: shown.get(name, 0) for name in count} == count
    found = junit(events, home / "junit.xml")
    assert found == {name: count[name] for name in found}
    assert status == (1 if count["failed"] else 0)

    memory = Memory(home / "controller")
    runs = memory.runs.newest()
    if options.check:
        assert runs == []
    else:
        assert {name: getattr(runs[0], name) for name in count} == count
        assert runs[0].status == status
        rows = memory.runs.results(runs[0].run)
        assert sum(row.status == "changed" for row in rows) == count["changed"]
        assert sum(row.status == "failed" for row in rows) == count["failed"]
        assert sum(row.status == "rescued" for row in rows) == count["rescued"]
    memory.close()


def test_runs_list_and_show_have_the_counts_of_the_report(home: Home) -> None:
    home.site('pcall(exec.run, {cmd = "exit 1"}) file.copy({content = "x", dest = "FILES/x"})')
    with (home.path / "site.sloth").open("a") as file:
        file.write('task({name = "i", ignore_errors = true, run = function() error("x") end})\n')
        file.write('task({name = "f", retries = 1, delay = 0, run = function() return false, "not today" end})\n')
    shown = home.run(status=1)
    assert "1 host: 1 changed, 0 unchanged, 1 failed, 1 ignored, 1 rescued, 1 retried in" in shown
    assert "not today" in shown
    assert "1 ignored, 1 rescued, 1 retried  failed" in home("runs", "list")
    details = home("runs", "show", "last")
    assert "1 changed, 0 unchanged, 1 failed, 1 ignored, 1 rescued, 1 retried" in details
    assert "site.sloth:6: not today" in details
    (run,) = home.json("runs", "list")
    assert [run[name] for name in ("changed", "failed", "ignored", "rescued", "retried")] == [1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('return false, "the disk is full"', "site.sloth:2: the disk is full"),
        ("return false", "site.sloth:2: task t returned false"),
        ('return nil, "no such thing"', "site.sloth:2: no such thing"),
        ("return pcall(error, 'inner', 0)", "site.sloth:2: inner"),
        ("return false, {code = 3}", "site.sloth:2: {code = 3}"),
        ('exec.run({cmd = "exit 7"}) return false, "later"', "exit code 7"),
        ("return", ""),
        ("return nil", ""),
        ('return true, "fine"', ""),
        ("return 0", ""),
        ('return "text"', ""),
        ('return file.stat("/")', ""),
    ],
)
def test_what_a_task_returns(home: Home, body: str, message: str) -> None:
    home.site(body)
    shown = home.run(status=1 if message else 0)
    assert message in shown
    assert ("1 failed" in shown) == bool(message)


def test_a_handler_may_return_false_and_a_false_task_is_retried(home: Home) -> None:
    home.site(
        'file.copy({content = "x", dest = "FILES/x"})',
        before='handler({name = "h", run = function() return false, "handler says no" end})',
        options='notify = "h",',
    )
    assert "site.sloth:1: handler says no" in home.run(status=1)
    home.site('n = (n or 0) + 1 return n > 2, "not yet"', options="retries = 2, delay = 0,")
    assert "2 retried" in home.run()


def test_what_fails_under_a_lock_is_not_rescued(home: Home) -> None:
    home.site('state.with_lock("l", function() exec.run({cmd = "exit 3"}) end)')
    shown = home.run(status=1)
    assert "1 failed in" in shown
    assert "rescued" not in shown
