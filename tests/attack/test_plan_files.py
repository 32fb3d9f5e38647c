"""Saved plans whose file, site or sources change, before and while they are applied; and two applies of one at once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.attack.sending import LIMIT, SMALL, Sending
from tests.support.paths import ROOT

pytestmark = pytest.mark.attack
PLANNED = b"planned" * (SMALL // 7)
BODY = """
    exec.run("echo done >> " .. "HOST/log")
    file.copy({ src = "sent", dest = "HOST/sent" })
    file.template({ src = "of.j2", dest = "HOST/template" })
"""


def command(sending: Sending, *words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "HOME": str(sending.path), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "sloth", *words], cwd=sending.path, env=environment, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.fixture
def plan(sending: Sending) -> Path:
    """A saved plan of two hosts that send a file, render a template and append to a log."""
    sending.source.write_bytes(PLANNED)
    (sending.path / "of.j2").write_text("planned {{ host.name }}\n")
    sending.make_hosts()
    sending.describe("need", BODY)
    path = sending.path / "the.plan"
    (sending.path / "go").touch()  # a plan, too, reads what is sent
    made = command(sending, "plan", "-f", "site.sloth", "-o", "./the.plan")
    _, errors = made.communicate(timeout=LIMIT)
    assert path.exists(), errors
    for name in ("held", "go"):
        (sending.path / name).unlink()
    return path


def as_planned(sending: Sending) -> None:
    """Fail unless both hosts are what the plan says, which was done once."""
    for host in ("other", "held"):
        assert (sending.hosts / host / "sent").read_bytes() == PLANNED
        assert (sending.hosts / host / "template").read_text() == f"planned {host}\n"
        assert (sending.hosts / host / "log").read_text() == "done\n"


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def exchange(path: Path) -> None:
    path.with_suffix(".other").write_bytes(b"another plan" * 10_000)
    path.with_suffix(".other").rename(path)


def become_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


CHANGES: dict[str, Callable[[Path], None]] = {
    "cut": cut, "exchanged": exchange, "gone": Path.unlink, "a FIFO": become_fifo,
}  # fmt: skip


@pytest.mark.parametrize("change", ["cut", "exchanged", "gone"])
def test_what_becomes_of_the_file_of_a_plan_that_is_applied_does_not_matter(
    sending: Sending, plan: Path, change: str
) -> None:
    """Neither does what becomes of the site and of what it sends."""
    sending.start("apply", "./the.plan", "--allow-unknown", "-o", "json")
    sending.until_held()
    CHANGES[change](plan)
    (sending.path / "site.sloth").write_text("error('another site')")
    (sending.path / "of.j2").write_text("another")
    sending.source.write_bytes(b"another")
    status, report = sending.go()
    assert status == 0, report
    as_planned(sending)


@pytest.mark.parametrize("change", list(CHANGES))
def test_a_file_that_is_no_plan_any_more_is_refused(sending: Sending, plan: Path, change: str) -> None:
    CHANGES[change](plan)
    done = command(sending, "apply", "./the.plan", "--allow-unknown")
    _, errors = done.communicate(timeout=LIMIT)
    assert done.returncode in (1, 2), errors
    assert "the.plan" in errors
    assert "Traceback" not in errors
    assert list((sending.hosts / "held").iterdir()) == []


def test_a_plan_that_is_applied_twice_at_once_is_applied_once(sending: Sending, plan: Path) -> None:
    sending.start("apply", "./the.plan", "--allow-unknown", "-o", "json")
    sending.until_held()
    second = command(sending, "apply", "./the.plan", "--allow-unknown", "--lock-wait", "60")
    third = command(sending, "apply", "./the.plan", "--allow-unknown", "--lock-wait", "0")
    shown, errors = third.communicate(timeout=LIMIT)
    assert third.returncode in (1, 3), shown + errors  # it is locked on one host, and was applied on the other
    status, report = sending.go()
    assert status == 0, report
    shown, errors = second.communicate(timeout=LIMIT)
    assert second.returncode == 3, shown + errors
    assert "the plan was applied before, in run" in shown + errors
    as_planned(sending)
