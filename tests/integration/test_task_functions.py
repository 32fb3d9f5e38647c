"""What a task's functions decide of it: failed_when, changed_when, delegate_to, when; and what they fail of."""

from __future__ import annotations

from pathlib import Path

import pytest

from sloth.engine.events import Event, TaskFinished
from sloth.engine.options import Options
from tests.support.running import printed, results, run_local


def outcomes(events: list[Event]) -> dict[str, tuple[str, str]]:
    """Return how each task ended, and what it failed of, by name."""
    return {
        event.task: (event.status, event.error or event.unknown) for event in events if isinstance(event, TaskFinished)
    }


def site_of(*tasks: str) -> str:
    """Return a site of such tasks, named a, b, ...; a failure of one lets the next one run."""
    return "\n".join(
        f'task({{ name = "{name}", ignore_errors = true, {task} }})'
        for name, task in zip("abcdefgh", tasks, strict=False)
    )


async def test_failed_when_decides_by_what_run_has_returned(tmp_path: Path) -> None:
    events = await run_local(
        site_of(
            "failed_when = function(n) return n > 1 end, run = function() return 2 end",
            "failed_when = function(n) return n > 1 end, run = function() return 1 end",
            'failed_when = function() error("cannot judge") end, run = function() end',
            "failed_when = true, run = function() end",
            'failed_when = false, run = function() exec.run("exit 3") end',
            'failed_when = function() return false end, run = function() exec.run("exit 4") end',
        ),
        tmp_path,
    )
    ended = outcomes(events)
    assert ended["a"][0] == "failed"
    assert ended["a"][1].endswith("site.sloth:1: `failed_when` of task a holds")
    assert ended["b"] == ("unchanged", "")
    assert ended["c"][0] == "failed"
    assert "cannot judge" in ended["c"][1]
    assert "`failed_when` of task d holds" in ended["d"][1]
    assert ended["e"] == ("unchanged", "")
    assert "exit code 4" in ended["f"][1], "what `run` raises is a failure, whatever failed_when says"


HANDLER = 'handler({ name = "note", run = function() exec.run("echo note >> ~/log") end })\n'


async def test_changed_when_decides_and_handlers_follow_it(tmp_path: Path) -> None:
    events = await run_local(
        HANDLER
        + site_of(
            'notify = "note", changed_when = function(n) return n == 1 end, run = function() return 1 end',
            'notify = "note", changed_when = function(n) return n == 1 end, run = function() exec.run("true") end',
            'changed_when = function() error("cannot judge") end, run = function() exec.run("true") end',
            "changed_when = true, run = function() end",
            'changed_when = function() return true end, run = function() exec.run("exit 3") end',
        ),
        tmp_path,
    )
    ended = outcomes(events)
    assert [ended[name][0] for name in "abde"] == ["changed", "unchanged", "changed", "failed"]
    assert "cannot judge" in ended["c"][1]
    assert "exit code 3" in ended["e"][1]
    assert (tmp_path / "log").read_text() == "note\n"


async def test_a_change_that_is_none_leaves_no_handler_to_run_and_a_check_owes_nothing(tmp_path: Path) -> None:
    site = HANDLER + site_of(
        'notify = "note", changed_when = function() return false end, run = function() exec.run("true") end'
    )
    assert outcomes(await run_local(site, tmp_path)) == {"a": ("unchanged", "")}
    wanted = HANDLER + site_of('notify = "note", changed_when = function() return true end, run = function() end')
    checked = await run_local(wanted, tmp_path, Options(check=True))
    assert outcomes(checked)["a"] == ("changed", "")
    assert not (tmp_path / "log").exists()
    assert "note" not in outcomes(await run_local(HANDLER + site_of("run = function() end"), tmp_path))
    assert not (tmp_path / "log").exists(), "neither of them has left anything to do"


async def test_delegate_to_is_a_function_whose_answer_is_checked(tmp_path: Path) -> None:
    events = await run_local(
        site_of(
            'delegate_to = function() return { "x" } end, run = function() exec.run("true") end',
            'delegate_to = function() error("no idea") end, run = function() exec.run("true") end',
            'delegate_to = function() return "nobody" end, run = function() exec.run("true") end',
            'delegate_to = function() return nil end, run = function() exec.run("true") end',
            'delegate_to = function() return host.name end, run = function() exec.run("true") end',
        ),
        tmp_path,
    )
    ended = outcomes(events)
    assert "delegate_to of task a must return the name of a host" in ended["a"][1]
    assert "no idea" in ended["b"][1]
    assert "delegate_to names the host nobody, which the inventory does not have" in ended["c"][1]
    assert [ended[name] for name in "de"] == [("changed", "")] * 2
    assert [result.delegated_to for result in results(events)] == ["", ""]


async def test_a_when_that_raises_is_the_failure_of_its_task(tmp_path: Path) -> None:
    events = await run_local(
        site_of('when = function() error("not today") end, run = function() log.info("ran") end'), tmp_path
    )
    assert "not today" in outcomes(events)["a"][1]
    assert printed(events) == []


async def test_a_failure_before_facts_are_read_is_the_one_that_counts(tmp_path: Path) -> None:
    """Calls are sent ahead: the host skips the query of its facts after one has failed."""
    source = 'file.copy({ content = "x", dest = "~/none/x" }) log.info(facts.hostname)'
    events = await run_local(f'task({{ name = "a", run = function() {source} end }})', tmp_path)
    assert "file.copy" in outcomes(events)["a"][1]
    assert [result.status for result in results(events)] == ["failed"]
    assert printed(events) == []


async def test_a_failure_on_the_host_comes_before_one_of_the_controller_that_follows(tmp_path: Path) -> None:
    source = 'file.copy({ content = "x", dest = "~/none/x" }) file.copy({ src = "missing", dest = "~/y" })'
    events = await run_local(f'task({{ name = "a", run = function() {source} end }})', tmp_path)
    assert "file.copy ~/none/x on local: " in outcomes(events)["a"][1]
    assert [result.status for result in results(events)] == ["failed"]


async def test_functions_of_calls_fail_with_their_calls(tmp_path: Path) -> None:
    events = await run_local(
        site_of(
            'run = function() exec.run({ cmd = "true", changed_when = function() error("cannot judge") end }) end',
            'run = function() exec.run({ cmd = "true", failed_when = "yes" }) end',
        ),
        tmp_path,
    )
    ended = outcomes(events)
    assert "cannot judge" in ended["a"][1]
    assert "failed_when must be" in ended["b"][1]
    assert [result.status for result in results(events)] == ["failed", "failed"]


async def test_an_empty_secret_hides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLOTH_SECRET_EMPTY", "")
    events = await run_local(site_of('run = function() print("[" .. secret("empty") .. "] shown") end'), tmp_path)
    assert printed(events) == ["[] shown"]
