"""What people see: the live view, what an interrupted run says, -v and -vv, in a real terminal."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.terminal import COLUMNS, LINES, Terminal

pytestmark = pytest.mark.timeout(180)

SITE = """
task({name = "slow", run = function()
    file.copy({content = "x", dest = "~/f"})
    exec.run({cmd = "echo 'a line that is shown'; touch ~/begun; while test ! -e ~/go; do sleep 0.1; done"})
    file.copy({content = "x", dest = "~/f"})
end})
"""
# Feeds the live view with 500 hosts while its thread draws them.
MANY = """
import sys, time
from sloth.engine.counts import Counts
from sloth.engine.events import *
from sloth.payload.kernel.status import Status
from sloth.report.live import Live
live = Live(sys.stdout, diff=False, verbosity=0)
hosts = tuple(f"host{n:03}-with-a-name-that-is-long-enough" for n in range(500))
counts = Counts()
def emit(event):
    counts.add(event)
    live.emit(event)
emit(RunStarted(0, "r", "site.sloth", False, hosts, ("t",)))
for at, host in enumerate(hosts):
    emit(HostStarted(0, host))
    emit(TaskStarted(0, host, "a task with quite a long name that does not fit beside the others on one line"))
    emit(CallOutput(0, host, "t", "exec.run x", "stdout", "\\x1b[2Joutput \\t of it " * 9 + "\\n"))
    if at >= 100:
        emit(HostFinished(0, hosts[at - 100], Status.CHANGED, 1.0))
    time.sleep(0.002)
for host in hosts[-100:]:
    emit(HostFinished(0, host, Status.FAILED, 1.0, "it failed"))
emit(RunFinished(0, "r", 1.0, counts.summary(500)))
live.close()
"""


def site(home: Path) -> tuple[str, ...]:
    (home / "site.sloth").write_text(SITE)
    return ("-m", "sloth", "run", "-f", "site.sloth")


def test_the_live_view_shows_what_runs_and_leaves_nothing(tmp_path: Path) -> None:
    with Terminal(site(tmp_path), tmp_path) as terminal:
        terminal.wait_for(r"0/1 hosts  1 running")
        terminal.wait_for(r"task slow: exec\.run .* \| a line that is")
        (tmp_path / "go").touch()
        assert terminal.end() == 0
    assert "changed    file.copy ~/f (new)" in terminal.text
    assert "\x1b[?25l" in terminal.shown, "the cursor was hidden"
    assert terminal.shown.rindex("\x1b[?25h") > terminal.shown.rindex("\x1b[?25l"), "and is back"
    last = terminal.text.split("running")[-1]
    assert re.search(r"1 host: 2 changed, 1 unchanged in [\d.]+ s\r\n\Z", last), last
    assert "a line that is shown\r\n" not in last, "what commands print is quiet by default"


def test_the_live_view_compares_with_the_runs_before(tmp_path: Path) -> None:
    for expected in (r"0/1 hosts  1 running  [01] changed\s", r"about \d+ s left|usually \d+ s"):
        with Terminal(site(tmp_path), tmp_path) as terminal:
            terminal.wait_for(expected)
            assert "left" not in terminal.text or "left" in expected
            (tmp_path / "go").touch()
            assert terminal.end() == 0
        (tmp_path / "go").unlink()


@pytest.mark.parametrize(("option", "is_timed"), [("-v", False), ("-vv", True)])
def test_verbose_runs_show_output_and_unchanged_calls(tmp_path: Path, option: str, is_timed: bool) -> None:
    with Terminal((*site(tmp_path), option), tmp_path) as terminal:
        terminal.wait_for(r"local \| a line that is shown\r\n")
        (tmp_path / "go").touch()
        assert terminal.end() == 0
    assert re.search(r"unchanged\s+file\.copy", terminal.text)
    assert bool(re.search(r"\[site\.sloth:5, [\d.]+ s\]", terminal.text)) is is_timed


@pytest.mark.parametrize("times", [1, 2])
def test_an_interrupt_is_answered_at_once(tmp_path: Path, times: int) -> None:
    with Terminal(site(tmp_path), tmp_path) as terminal:
        while not (tmp_path / "begun").exists():
            terminal.wait_for("hosts")
            terminal._read()
        for _ in range(times):
            terminal.press("\x03")
            terminal.wait_for("interrupted")
        assert terminal.end(60) == 130
    assert terminal.text.count("interrupted: hosts have up to") == 1
    assert "interrupted: 1 host" in terminal.text
    assert "Traceback" not in terminal.text
    assert terminal.shown.rindex("\x1b[?25h") > terminal.shown.rindex("\x1b[?25l")


def test_many_hosts_fit_on_the_screen(tmp_path: Path) -> None:
    with Terminal(("-c", MANY), tmp_path) as terminal:
        assert terminal.end(120) == 0, terminal.text[-3000:]
    assert "Traceback" not in terminal.text, terminal.text[-3000:]
    assert "500 hosts" in terminal.text
    views = re.findall(r"\d+/500 hosts.*", terminal.text)
    assert len(views) > 3
    # Each drawing goes up as many lines as it has; more than the screen has would scroll it away.
    assert (
        max(len(found) // len("\x1b[1A\x1b[2K") for found in re.findall(r"(?:\x1b\[1A\x1b\[2K)+", terminal.shown))
        < LINES
    )
    rows = [line for line in terminal.text.replace("\r", "\n").split("\n") if "-long-enough  " in line]
    assert rows
    assert max(map(len, rows)) <= COLUMNS
    assert "\x1b[2Joutput" not in terminal.shown, "escapes of hosts are text"
