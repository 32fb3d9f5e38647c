"""Reports: what is folded into one line, and that nobody's words are replaced by it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from rich.console import Console

from sloth.engine.events import (
    CHANGED,
    FAILED,
    CallFinished,
    CallOutput,
    HostFinished,
    Result,
    RunFinished,
    RunStarted,
    Summary,
)
from sloth.engine.history import usual_seconds
from sloth.engine.options import Options
from sloth.engine.resume import given
from sloth.inventory import Host, Inventory
from sloth.playbook import Site
from sloth.report.folding import Folding
from sloth.report.grouped import Grouped, GroupedDocument
from sloth.report.live import Live, time_left
from sloth.report.plain import Plain
from sloth.state.memory import Memory
from sloth.state.run_records import RunCounts


def fold(*texts: tuple[str, str]) -> list[tuple[str, list[str]]]:
    """Fold pairs of host and text."""
    folding: Folding[str] = Folding()
    for host, text in texts:
        folding.add("", host, text)
    return [(text, hosts) for _, text, hosts in folding.groups()]


def test_texts_that_name_their_hosts_are_folded() -> None:
    assert fold(("web1", "web1: no route"), ("web2", "web2: no route"), ("web3", "web3: refused")) == [
        ("the host: no route", ["web1", "web2"]),
        ("web3: refused", ["web3"]),
    ]
    assert fold(("web1", "copy on web1: full."), ("web2", "copy on web2: full.")) == [
        ("copy on the host: full.", ["web1", "web2"])
    ]
    assert fold(("a", "disk full"), ("b", "disk full")) == [("disk full", ["a", "b"])]


@pytest.mark.parametrize(
    "text", ["HOSTNAME is not set", "cannot open the host.db", "no a in /srv/web1/a", "web10 is a"]
)
@pytest.mark.parametrize("names", [("web1", "web2"), ("host", "host2"), ("a", "b"), ("HOST", "A"), ("is", "web")])
def test_a_word_that_is_no_host_s_name_stays(text: str, names: tuple[str, str]) -> None:
    assert fold(*((name, text) for name in names)) == [(text, list(names))]
    named = [(name, f"{name}: {text}") for name in names]
    assert fold(*named) == [(f"the host: {text}", list(names))]
    assert fold(named[0]) == [(named[0][1], [names[0]])]


def test_paths_and_names_with_a_host_in_them_keep_hosts_apart() -> None:
    texts = [(name, f"no {name}.db in /srv/{name}") for name in ("web1", "web2")]
    assert fold(*texts) == [(text, [name]) for name, text in texts]


def test_a_text_that_names_another_host_is_not_folded() -> None:
    texts = [("a", "a waits for b"), ("b", "b waits for a"), ("c", "c waits for a")]
    assert fold(*texts) == [("a waits for b", ["a"]), ("the host waits for a", ["b", "c"])]
    assert fold(("a", "a and a"), ("b", "b and a"), ("c", "c and c"), ("d", "d and a")) == [
        ("the host and a", ["a", "b", "d"]),
        ("c and c", ["c"]),
    ]


def started(*hosts: str) -> RunStarted:
    return RunStarted(0.0, "r", "s.sloth", False, hosts, ())


def finished(hosts: int) -> RunFinished:
    return RunFinished(1.0, "r", 1.0, Summary(hosts=hosts, failed=hosts))


def test_the_recap_replaces_no_part_of_a_word() -> None:
    out = io.StringIO()
    report = Plain(out, diff=False, verbosity=0)
    names = ("web1", "host", "a")
    report.emit(started(*names))
    for name in names:
        result = Result("exec:run:x", "exec.run", FAILED, error="HOSTNAME is not set, nor a file in the host.db")
        report.emit(CallFinished(0.0, name, "t", result))
        report.emit(HostFinished(0.0, name, FAILED, 1.0, result.error))
    report.emit(finished(3))
    (line,) = [line for line in out.getvalue().splitlines() if "(3 hosts)" in line]
    assert line == "failed       a, host, web1 (3 hosts): HOSTNAME is not set, nor a file in the host.db"


def test_grouped_output_takes_the_exit_code_from_the_result_and_not_from_words() -> None:
    out, aside = io.StringIO(), io.StringIO()
    for report in (Grouped(out, aside), GroupedDocument(out, aside)):
        report.emit(started("web1", "web2", "web3"))
        for name, error, values in (
            ("web1", "exit code 3", {"exit_code": 3}),
            ("web2", "exit code 3", {"exit_code": 3}),
            ("web3", "it printed: exit code 7", {}),
        ):
            report.emit(CallOutput(0.0, name, "t", "exec.run", "stdout", "hello\n"))
            result = Result("exec:run:x", "exec.run", FAILED, error=error, values=values)
            report.emit(CallFinished(0.0, name, "t", result))
            report.emit(HostFinished(0.0, name, FAILED, 1.0, error))
        report.emit(finished(3))
        report.close()
        if type(report) is Grouped:
            text = out.getvalue()
            assert "── web1, web2: exit code 3\nhello\n" in text
            assert "── web3: it printed: exit code 7\nhello\n" in text
            out.truncate(0)
            out.seek(0)
    document = json.loads(out.getvalue())
    assert [document[name]["exit_code"] for name in ("web1", "web2", "web3")] == [3, 3, None]
    assert document["web1"]["status"] == "failed"
    assert CHANGED == "changed"


# The live view


@pytest.mark.parametrize(
    ("usual", "elapsed", "shown"),
    [
        (None, 3.0, ""),
        (60.0, 20.0, "about 40 s left"),
        (60.0, 59.9, "about 1 s left"),
        (60.0, 61.0, "usually 60 s"),
        (600.0, 60.0, "about 9 min left"),
    ],
)
def test_the_time_left_is_that_of_runs_before(usual: float | None, elapsed: float, shown: str) -> None:
    assert time_left(usual, elapsed) == shown


@pytest.mark.parametrize(
    ("usual", "shown"), [(None, "0 changed"), (lambda: 50.0, "about 50 s left"), (lambda: None, "0")]
)
def test_the_live_view_shows_the_time_left(usual: Callable[[], float | None] | None, shown: str) -> None:
    out = io.StringIO()
    live = Live(out, diff=False, verbosity=0, usual=usual)
    live.emit(RunStarted(0, "r", "site.sloth", False, ("web1",), ("t",)))
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(live._view())
    live.close()
    bar, head = captured.get().splitlines()
    assert len(bar) <= 40, "the numbers have a line of their own, or they do not fit"
    assert head.startswith("0/1 hosts")
    assert shown in head
    assert ("left" in head) == ("left" in shown)


def test_what_runs_like_this_one_usually_take(tmp_path: Path) -> None:
    (tmp_path / "site.sloth").write_text("")
    site = Site.read(str(tmp_path / "site.sloth"))
    everything = Inventory.local()
    hosts = list(everything.hosts.values())
    memory = Memory(tmp_path)

    def add(name: str, seconds: float | None, options: Options, about: Sequence[Host] = hosts, status: int = 0) -> None:
        memory.runs.begin(name, site.title, "me", len(about), given(site, options, about))
        if seconds is not None:
            memory.runs.end(name, counts=RunCounts(), seconds=seconds, status=status)

    plain = Options()
    assert usual_seconds(memory, site, plain, hosts) is None
    add("failed", 1.0, plain, status=1)
    add("not ended", None, plain)
    add("with tags", 2.0, Options(tags=("quick",)))
    assert usual_seconds(memory, site, plain, hosts) is None
    for number, seconds in enumerate((1000.0, 10.0, 11.0, 12.0, 13.0, 14.0)):
        add(f"run {number}", seconds, plain)
    assert usual_seconds(memory, site, plain, hosts) == 12.0, "the oldest counts no more"
    assert usual_seconds(memory, site, Options(tags=("quick",)), hosts) == 2.0
    assert usual_seconds(memory, site, Options(check=True), hosts) is None
    assert usual_seconds(memory, site, plain, []) is None
    memory.close()
