"""Hosts that live and never end an answer, met by every command that only reads: it ends in time, and shows the others.

The limits are those of `impatient.py`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.peers import end_peers

pytestmark = pytest.mark.attack
GOOD = "good"
SILENT, ENDLESS = "answer-never-but-alive", "answer-of-pages-without-end"
MUTE = "no-reply-but-alive"  # to a call, such as that of facts
ONLY_DRIFT = "drift-never-but-alive"
SITE = 'task({ name = "t", run = function() file.copy({ dest = "~/made", content = "x" }) end })\n'
PROMISED = 15.0  # seconds from the first Ctrl-C
SLOW = 3  # a busy machine may take so many times as long
QUERIES = {
    "list": (("state", "list", "--agent", "all"), "file:copy:"),
    "show": (("state", "show", "file:copy:{home}/made", "--agent", "all"), "file:copy:"),
    "history": (("state", "history", "--agent", "all"), "file:copy:"),
    "stats": (("state", "stats", "--agent", "all"), "good"),
    "handlers": (("state", "list", "handler", "--agent", "all"), ""),
    "runs": (("runs", "list", "--agent", "all"), "good"),
    "check": (("state", "check", "--agent", "all"), "good, no-reply-but-alive: the file is sound"),
    "drift": (("drift",), "none has drifted"),
    "facts": (("facts", "os_family"), "good"),
}


class Party:
    """A host that answers, and some that never end; all of them are this machine."""

    def __init__(self, path: Path) -> None:
        self.path, self.pids = path, path / "pids"
        self.pids.mkdir()
        lines = [f'[hosts.{GOOD}]\nconnection = "local"']
        for name in (SILENT, ENDLESS, MUTE, ONLY_DRIFT):
            program = path / name
            script = ROOT / "tests" / "attack" / "hostile_peer.py"
            start = f"HOSTILE_PIDS={self.pids} PYTHONPATH={ROOT} exec {sys.executable} -S {script} {name}"
            program.write_text(f"#!/bin/sh\n{start}\n")
            program.chmod(0o755)
            lines.append(f'[hosts.{name}]\nconnection = "local"\npython = "{program}"')
        (path / "inventory.toml").write_text("\n".join(lines))
        (path / "site.sloth").write_text(SITE)

    def start(self, *words: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "HOME": str(self.path), "PYTHONPATH": str(ROOT)}
        program = ROOT / "tests" / "attack" / "impatient.py"
        return subprocess.Popen(
            [sys.executable, str(program), *(word.format(home=self.path) for word in words)],
            cwd=self.path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
            text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
        )  # fmt: skip

    def is_met(self) -> bool:
        """Return whether a host that never ends has been started."""
        return any(self.pids.iterdir())


@pytest.fixture
def endless_party(tmp_path: Path) -> Iterator[Party]:
    party = Party(tmp_path)
    done = party.start("run", "-f", "site.sloth", "--limit", GOOD)
    _, errors = done.communicate(timeout=60)
    assert done.returncode == 0, errors
    yield party
    end_peers(party.pids)


@pytest.mark.parametrize("name", list(QUERIES))
def test_a_query_ends_in_time_and_shows_what_others_answer(endless_party: Party, name: str) -> None:
    words, expected = QUERIES[name]
    running = endless_party.start(*words)
    shown, errors = running.communicate(timeout=90 * SLOW)
    assert running.returncode == 1, errors
    assert expected in shown
    assert "defect" not in errors
    bad = [MUTE] if name == "facts" else [SILENT, ENDLESS]
    bad += [ONLY_DRIFT] if name in ("check", "drift") else []
    for host in bad:
        (line,) = [line for line in errors.splitlines() if host in line]
        assert "answered" in line, line
        assert "within" in line, line


@pytest.mark.parametrize("name", ["list", "drift", "facts"])
def test_the_first_interrupt_ends_a_query(endless_party: Party, name: str) -> None:
    running = endless_party.start(*QUERIES[name][0])
    end = time.monotonic() + 60
    while not endless_party.is_met():
        assert time.monotonic() < end
        time.sleep(0.05)
    time.sleep(1)  # it waits for answers
    begun = time.monotonic()
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode == 130
    assert time.monotonic() - begun < PROMISED * SLOW
