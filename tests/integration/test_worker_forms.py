"""What a user does with a run of several hosts is the same in one process and with workers."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.support.cluster import Cluster
from tests.support.command import sloth
from tests.support.home import Home
from tests.support.terminal import Terminal
from tests.support.worker_processes import wait_for, workers_of

pytestmark = pytest.mark.timeout(400)

HOSTS = ("a", "b", "c", "d")
FORMS = pytest.mark.parametrize("run_form", ["one process", "workers", "engine"], indirect=True)
SLOW = 200  # seconds; the machine may be six times slower
SITE = """
task({ name = "base", run = function()
    file.copy({ content = "base\\n", dest = "FILES/" .. host.name .. ".base" })
end })
task({ name = "app", depends_on = "base", notify = "reload", run = function()
    file.copy({ content = "app\\n", dest = "FILES/" .. host.name .. ".app" })
    if host.name == "c" and vars.breaks then fail("broken on purpose") end
end })
handler({ name = "reload", run = function() exec.run("echo reloaded >> FILES/" .. host.name .. ".log") end })
"""


@pytest.fixture
def run_form(request: pytest.FixtureRequest) -> Sequence[str]:
    """The options of a run in one process, with two workers, or on a Dask cluster of two."""
    if request.param == "engine":
        cluster: Cluster = request.getfixturevalue("cluster")
        return ("--engine", cluster.url)
    return ("--workers", "2") if request.param == "workers" else ()


@pytest.fixture(autouse=True)
def usual_site(four: Home) -> None:
    write(four, SITE)


def write(home: Home, site: str) -> None:
    (home.path / "site.sloth").write_text(site.replace("FILES", str(home.files)))


def terminal(home: Home, *words: str, verb: str = "run") -> Terminal:
    return Terminal(["-m", "sloth", verb, "-f", "site.sloth", *words], home.path)


def named(home: Home, ending: str) -> list[str]:
    return sorted(path.name[: -len(ending)] for path in home.files.iterdir() if path.name.endswith(ending))


@FORMS
def test_a_step_is_asked_for_once_for_all_hosts(four: Home, run_form: Sequence[str]) -> None:
    with terminal(four, "--step", *run_form) as shown:
        shown.wait_for(r"Run task base\?", SLOW)
        assert not named(four, ".base")
        shown.press("n\n")
        shown.wait_for(r"Run task app\?", SLOW)
        shown.press("y\n")
        assert shown.end(SLOW) == 0
    assert shown.text.count("Run task") == 2
    assert (named(four, ".base"), named(four, ".app"), named(four, ".log")) == ([], [*HOSTS], [*HOSTS])


@FORMS
@pytest.mark.parametrize("answer", ["y", "n"])
def test_pruning_is_asked_for_once_with_what_all_hosts_have(four: Home, run_form: Sequence[str], answer: str) -> None:
    four("run", "-f", "site.sloth", *run_form)
    write(
        four,
        SITE.replace('file.copy({ content = "base', 'if host.name == "d" then return end file.copy({ content = "base'),
    )
    with terminal(four, "--prune", *run_form) as shown:
        shown.wait_for(r"Remove 1 state that the site no longer names\? \[y/N\]", SLOW)
        assert named(four, ".base") == [*HOSTS]
        shown.press(answer + "\n")
        assert shown.end(SLOW) == 0
    assert re.search(r"remove +\S*d\.base +d", shown.text)
    assert named(four, ".base") == (["a", "b", "c"] if answer == "y" else [*HOSTS])


@FORMS
def test_confirm_shows_all_hosts_and_asks_once(four: Home, run_form: Sequence[str]) -> None:
    with terminal(four, "--confirm", *run_form) as shown:
        shown.wait_for(r"Do this\? \[y/N\]", SLOW)
        assert not named(four, ".base")
        assert all(f"/{name}.base" in shown.text for name in HOSTS)
        shown.press("y\n")
        assert shown.end(SLOW) == 0
    assert shown.text.count("Do this?") == 1
    assert named(four, ".app") == [*HOSTS]


@FORMS
def test_a_question_of_the_site_is_asked_once(four: Home, run_form: Sequence[str]) -> None:
    write(four, 'local word = prompt({ name = "word", text = "Which word", secret = true })\n'
          'task({ name = "t", run = function() file.copy({ content = word, dest = "FILES/" .. host.name .. ".word" })\n'
          "print(word) end })")  # fmt: skip
    with terminal(four, *run_form) as shown:
        shown.wait_for("Which word: ", SLOW)
        shown.press("unguessable-2\n")
        assert shown.end(SLOW) == 0
    assert named(four, ".word") == [*HOSTS]
    assert {path.read_text() for path in four.files.iterdir()} == {"unguessable-2"}
    assert shown.text.count("Which word") == 1
    assert "unguessable" not in shown.text


@FORMS
def test_a_second_interrupt_cuts_hosts_off(four: Home, run_form: Sequence[str]) -> None:
    """The first lets them end what they do, for which they have several seconds."""
    write(four, 'task({ name = "t", run = function() '
          'exec.run("trap : TERM; touch FILES/" .. host.name .. ".begun; until test -e FILES/go; do sleep 1; done") '
          "end })")  # fmt: skip
    with terminal(four, "-o", "plain", *run_form) as shown:
        for name in HOSTS:
            wait_for(four.files / f"{name}.begun")
        workers = workers_of(four)
        assert len(workers) == (2 if run_form else 0)
        shown.press("\x03")
        shown.wait_for("interrupted: hosts have up to", SLOW)
        shown.press("\x03")
        assert shown.end(SLOW) == 130
    (four.files / "go").touch()
    assert "4 hosts" in shown.text
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


@FORMS
def test_a_plan_of_several_hosts_is_saved_and_applied(four: Home, run_form: Sequence[str]) -> None:
    write(four, SITE[: SITE.index("handler(")].replace(', notify = "reload"', ""))
    said = four("plan", "-f", "site.sloth", "-o", "saved.plan", *run_form)
    assert (f"{run_form[0]} has no effect" in said) if run_form else "no effect" not in said
    assert not named(four, ".base")
    four("apply", "saved.plan")
    assert (named(four, ".base"), named(four, ".app")) == ([*HOSTS], [*HOSTS])


def events_of(home: Home, run_form: Sequence[str]) -> dict[str, list[tuple[str, ...]]]:
    """Return what ndjson has of each host, in order, without what differs from run to run."""
    done = sloth(home.path, "run", "-f", "site.sloth", "-e", "breaks=1", "-o", "ndjson", "--junit", "junit.xml",
                 "--profile", "--log", "run.log", *run_form)  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "app" in done.stderr, "the profile"
    found: dict[str, list[tuple[str, ...]]] = {}
    rows: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    for row in rows:
        plain = (row["event"], str(row.get("task")), str(row.get("status")), str(row.get("error")))
        if row["event"] not in ("host_phase", "session_opened"):
            found.setdefault(str(row.get("host", "")), []).append(plain)
    assert (rows[0]["event"], rows[-1]["event"]) == ("run_started", "run_finished")
    return found


def test_reports_are_the_same_in_both_forms(four: Home) -> None:
    seen = []
    for form in ((), ("--workers", "2")):
        for path in four.files.iterdir():
            path.unlink()
        events = events_of(four, form)
        assert set(events) == {"", *HOSTS}
        suites = ElementTree.parse(four.path / "junit.xml").getroot()
        cases = sorted((str(one.get("classname")), str(one.get("name")), len(one)) for one in suites.iter("testcase"))
        seen.append((events, cases))
    assert seen[0] == seen[1]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
def test_a_stopped_worker_does_not_hang_the_run_for_ever(four: Home) -> None:
    """Reports of other tools are full of workers that hang: a second Ctrl-C ends a run whose worker answers nothing."""
    write(
        four, 'task({ name = "t", run = function() exec.run("touch FILES/" .. host.name .. ".begun; sleep 1000") end })'
    )
    with terminal(four, "-o", "plain", "--workers", "2") as shown:
        for name in HOSTS:
            wait_for(four.files / f"{name}.begun")
        workers = workers_of(four)
        os.kill(workers[1], signal.SIGSTOP)
        try:
            shown.press("\x03")
            shown.wait_for("interrupted: hosts have up to", SLOW)
            shown.press("\x03")
            assert shown.end(SLOW) == 130
        finally:
            for pid in workers:
                if Path(f"/proc/{pid}").exists():
                    os.kill(pid, signal.SIGKILL)
    assert "worker lost" in shown.text


@FORMS
def test_hosts_that_wait_for_each_other_may_be_more_than_the_usual_limit_of_files(
    four: Home, run_form: Sequence[str]
) -> None:
    """The limit is raised as far as it may be: see tests/unit/test_descriptors.py."""
    names = [f"h{number:02}" for number in range(20)]
    (four.path / "inventory.toml").write_text("".join(f'[hosts.{name}]\nconnection = "local"\n' for name in names))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    done = sloth(
        four.path, "run", "-f", "site.sloth", *run_form,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (48, hard)),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert named(four, ".app") == names
