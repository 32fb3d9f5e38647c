"""The lock of a site: one run at a time, whatever becomes of the one that holds it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.command import sloth
from tests.support.paths import ROOT

MAIN = (
    "import sys; from sloth.cli import main; from sloth.engine import site_lock; "
    "site_lock.TTL = {ttl}; main(sys.argv[1:])"
)
SITE = """
task({ name = "t", run = function()
    exec.run("touch begun-" .. vars.me)
    exec.run("for i in $(seq 600); do [ -e go ] && break; sleep 0.1; done")
end })
"""


def wait_until(is_so: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


class Place:
    """A directory with a site, a backend, and the runs that were started in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.backend = f"sqlite://{path}/backend.db"
        self.runs: list[subprocess.Popen[str]] = []
        (path / "site.sloth").write_text(SITE.replace("begun-", f"{path}/begun-").replace("-e go", f"-e {path}/go"))

    def run(self, me: str, *words: str, ttl: float = 30.0) -> subprocess.Popen[str]:
        """Start a run of a controller of its own."""
        (self.path / me).mkdir(exist_ok=True)
        command = [sys.executable, "-c", MAIN.format(ttl=ttl), "run", "-f", "site.sloth", "--site-name", "web"]
        variables = {**os.environ, "HOME": str(self.path / me), "PYTHONPATH": str(ROOT), "SLOTH_BACKEND": self.backend}
        run = subprocess.Popen(
            [*command, "-e", f"me={me}", *words], cwd=self.path, env={**variables, "CI_JOB_URL": f"https://ci/{me}"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.runs.append(run)
        return run

    def begin(self, me: str, *words: str, ttl: float = 30.0) -> subprocess.Popen[str]:
        """Start a run, and wait until it is at work."""
        run = self.run(me, *words, ttl=ttl)
        wait_until(lambda: (self.path / f"begun-{me}").exists())
        return run

    def go(self) -> None:
        """Let runs end."""
        (self.path / "go").touch()

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return sloth(self.path, *words, "--backend", self.backend)

    def locks(self) -> list[str]:
        found = json.loads(self.command("state", "locks", "-o", "json").stdout)
        return [lock["name"] for lock in found]


@pytest.fixture(name="place")
def place_of_a_lock(tmp_path: Path) -> Iterator[Place]:
    found = Place(tmp_path)
    yield found
    for run in found.runs:
        run.kill()
        run.wait()
        if run.stdout is not None:
            run.stdout.close()


def said(run: subprocess.Popen[str], status: int) -> str:
    out, _ = run.communicate(timeout=120)
    assert run.returncode == status, out
    return out


def test_another_run_waits_and_then_names_the_holder(place: Place) -> None:
    first = place.begin("ann")
    text = said(place.run("ben", "--lock-wait", "0"), 1)
    assert "the site is locked by the run 2" in text
    assert "from " in text
    assert "job https://ci/ann, since 2" in text
    assert "sloth-runner state unlock 'run:web'" in text
    assert not (place.path / "begun-ben").exists()
    assert place.locks() == ["run:web"]
    assert said(place.run("cat", "--check"), 0), "a check needs no lock"
    waiting = place.run("dan", "--lock-wait", "60", "-o", "plain")
    place.go()
    said(first, 0)
    assert "1 changed" in said(waiting, 0) or (place.path / "begun-dan").exists()
    assert place.locks() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_gives_the_lock_back(place: Place, number: signal.Signals) -> None:
    run = place.begin("ann")
    run.send_signal(number)
    said(run, 130)
    assert place.locks() == []


def test_the_lock_of_a_killed_run_expires(place: Place) -> None:
    run = place.begin("ann", ttl=3)
    run.kill()
    run.wait()
    place.go()
    said(place.run("ben", "--lock-wait", "60"), 0)
    assert place.locks() == []


def test_a_run_is_renewed_and_says_so_when_another_one_took_its_lock(place: Place) -> None:
    first = place.begin("ann", ttl=1.5)
    time.sleep(3)
    assert place.locks() == ["run:web"], "renewed"
    wrong = place.command("state", "unlock", "run:wep", "--yes")
    assert 'did you mean "run:web"?' in wrong.stderr
    freed = place.command("state", "unlock", "run:web", "--yes")
    assert freed.returncode == 0, freed.stderr
    assert "job https://ci/ann" in freed.stdout
    second = place.begin("ben")
    time.sleep(2)
    place.go()
    text = said(first, 1)
    assert "the lock of the site was lost, and the run " in text
    assert "two runs were at work at the same time" in text
    said(second, 0)


def lost_to_another(place: Place) -> tuple[subprocess.Popen[str], subprocess.Popen[str]]:
    """Begin a run, which will not be renewed; return it, and another one that has taken its lock since."""
    first = place.begin("ann", ttl=600)
    assert place.command("state", "unlock", "run:web", "--yes").returncode == 0
    return first, place.begin("ben")


def said_that_another_took_it(run: subprocess.Popen[str]) -> None:
    text = said(run, 1)
    assert "the lock of the site was lost, and another run has taken it" in text
    assert "two runs were at work at the same time" in text


def test_a_lock_that_another_run_took_is_found_lost_when_it_is_given_back(place: Place) -> None:
    """The run ends before it would be renewed."""
    first, second = lost_to_another(place)
    place.go()
    said_that_another_took_it(first)
    said(second, 0)


def test_a_lock_that_another_run_had_meanwhile_is_found_lost_when_it_is_given_back(place: Place) -> None:
    first, second = lost_to_another(place)
    first.send_signal(signal.SIGSTOP)
    place.go()
    said(second, 0)
    assert place.locks() == []
    first.send_signal(signal.SIGCONT)
    said_that_another_took_it(first)


def test_a_lock_that_expired_is_taken_again_if_nobody_had_it(place: Place) -> None:
    run = place.begin("ann", ttl=1.5)
    run.send_signal(signal.SIGSTOP)
    time.sleep(2)
    run.send_signal(signal.SIGCONT)
    assert run.stdout is not None
    seen = iter(run.stdout.readline, "")
    assert any("the lock of the site is held again: no other run had it meanwhile" in line for line in seen)
    assert place.locks() == ["run:web"]
    place.go()
    said(run, 0)
    assert place.locks() == []


@pytest.mark.parametrize("number", [0, 1])
def test_a_lock_whose_entry_was_removed_or_is_an_older_one_is_taken_again(place: Place, number: int) -> None:
    """A rule of the bucket that deletes what is old, or a server that was restored from a backup."""
    with contextlib.closing(sqlite3.connect(place.path / "backend.db", isolation_level=None)) as database:
        place.go()
        said(place.run("before"), 0)
        older = database.execute("SELECT * FROM entries WHERE name LIKE 'locks/%'").fetchone()
        (place.path / "go").unlink()
        run = place.begin("ann", ttl=1.5)
        database.execute("DELETE FROM entries WHERE name LIKE 'locks/%'")
        if number:
            database.execute("INSERT INTO entries VALUES (?, ?, ?)", older)
    assert run.stdout is not None
    seen = iter(run.stdout.readline, "")
    assert any("the lock of the site is held again: its entry was removed from the backend" in line for line in seen)
    assert place.locks() == ["run:web"]
    place.go()
    assert "another run" not in said(run, 0)


def test_a_lock_that_cannot_be_given_back_expires_by_itself(place: Place) -> None:
    run = place.begin("ann")
    with contextlib.closing(sqlite3.connect(place.path / "backend.db")) as database:
        database.execute("BEGIN EXCLUSIVE")
        place.go()
        text = said(run, 0)
    assert "the lock run:web was not released: " in text
    assert "it expires by itself in " in text
    assert place.locks() == ["run:web"]


def test_a_site_without_a_remote_needs_a_name(place: Place) -> None:
    done = place.command("run", "-f", "site.sloth", "-e", "me=ann")
    assert done.returncode == 2
    assert "the site site.sloth needs a name" in done.stderr
    assert "--site-name" in done.stderr
    assert not (place.path / "begun-ann").exists()
    for name in ("/etc", "a + b", "", "x\ny"):
        assert place.command("run", "-f", "site.sloth", "--site-name", name).returncode == 2
