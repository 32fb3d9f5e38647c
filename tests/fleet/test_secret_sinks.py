"""No sink on either machine has a piece of a secret, whichever argument of whichever call it is given to.

The site is made from the registry, so a new module is in it the day it is written. The longer form, with every shape of
an argument and all secrets, is run by SLOTH_ATTACK_ROUNDS=500 (any number above 60).
"""

from __future__ import annotations

import base64
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.cases import CASES
from tests.support.execs import OPTIONS, Execs, command_lines, descendants
from tests.support.machines import Fleet
from tests.support.packages import deb
from tests.support.paths import ROOT
from tests.support.secret_site import PIECE, Search, packed, site, stored

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(1800)]

HOST = "host5"
IS_LONG = int(os.environ.get("SLOTH_ATTACK_ROUNDS", "0")) > 60
SECRETS = {
    "plain": "q7Zk2mVx9Rb4TnW8sLd3Hc6J",
    "lines": '-----BEGIN X-----\nit\'s "quoted" \\ `more` $HOME ${x} {{ y }} {% z %} <&>\n'
    "pässwörd-ключ-密码-\U0001f511 and more of it\r\n\tthe last line of it\n-----END X-----\n",
    "very long": "".join(random.Random(8).choices("abcdefghijklmnopqrstuvwxyz0123456789äß\"'\\ \n", k=5000)),
    "four": "z9-Q",
}
# Directories of the host that are ours, or anybody's: what a site asks for is elsewhere.
SINKS = "/root/.sloth-runner /home/*/.sloth-runner /var/lib/sloth-runner /tmp /var/tmp /dev/shm"
OTHER = "Yt5-other-marker-of-it"  # P of the site, for what tools get as arguments: see PUBLIC there


@pytest.fixture
def prepared_cases(fleet: Fleet, tmp_path: Path) -> Path:
    """A controller whose inventory is the fleet; each case of tests/contract has been prepared on the host."""
    root = fleet.roots[HOST]
    place = root / "srv/repository"
    place.mkdir(exist_ok=True)
    for name in ("sloth-one", "sloth-two", "sloth-three"):
        if not (place / f"{name}_1.0.deb").exists():
            deb.build(place, name, "1.0")
    deb.index(place)
    (root / "etc/apt/sources.list").write_text("deb [trusted=yes] file:/srv/repository ./\n")
    fleet.shell(HOST, "apt-get update -qq")
    for case in CASES.values():
        fleet.shell(HOST, f"({case.before}) >/dev/null 2>&1 || true" if case.before else "true")
    (tmp_path / "inventory.toml").write_text(fleet.inventory())
    (tmp_path / "case.j2").write_text("{{ word }}\n")
    return tmp_path


@pytest.fixture
def host_execs(fleet: Fleet, tmp_path: Path) -> Iterator[Execs]:
    """All command lines of what runs below the host's sshd."""
    below = descendants(fleet._machines[HOST].pid)
    listening = [pid for pid, (parent, name) in below.items() if name == "sshd" and below[parent][1] == "systemd"]
    with Execs(min(listening), tmp_path / "host.execs") as execs:
        yield execs


def run(home: Path, secret: str, *words: str, log: Path) -> subprocess.CompletedProcess[bytes]:
    """Run a command line as sloth() does, with all its command lines in `log`."""
    environment = {
        **os.environ,
        "HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "SLOTH_SECRET_S": secret,
        "SLOTH_SECRET_P": OTHER,
    }
    traced = ["strace", "--seccomp-bpf", *OPTIONS, "-o", str(log), sys.executable, "-m", "sloth", *words]
    return subprocess.run(traced, cwd=home, env=environment, capture_output=True)


COMMANDS = (
    ("run", "-f", "site.sloth", "--limit", HOST, "-vv", "--diff", "--junit", "junit.xml"),
    ("run", "-f", "site.sloth", "--limit", HOST, "-vv", "--diff", "--check", "-o", "ndjson"),
    ("run", "-f", "site.sloth", "--limit", HOST, "-o", "json", "--diff"),
    ("drift", "--limit", HOST, "--diff"),
    ("state", "list", "--agent", HOST),
    ("state", "list", "--agent", HOST, "-o", "json", "--cached"),
    ("state", "history", "--agent", HOST, "--diff"),
    ("state", "history", "--agent", HOST, "-o", "json"),
    ("state", "export", "--agent", HOST, "-o", "export"),
    ("runs", "show", "last"),
    ("runs", "list", "--agent", HOST),
    ("rollback", "last", "--limit", HOST, "--check", "--diff"),
    ("rollback", "last", "--limit", HOST, "--yes", "--diff"),
)


@pytest.mark.parametrize("name", SECRETS if IS_LONG else ("plain", "lines"))
def test_no_sink_has_a_piece(prepared_cases: Path, host_execs: Execs, fleet: Fleet, name: str, tmp_path: Path) -> None:
    secret = SECRETS[name]
    (prepared_cases / "site.sloth").write_text(site(2 if IS_LONG else 1))
    sinks: dict[str, bytes] = {}
    for number, words in enumerate(COMMANDS if IS_LONG or name == "plain" else COMMANDS[:2]):
        log = tmp_path / f"controller-{number}.execs"
        done = run(prepared_cases, secret, *words, log=log)
        title = " ".join(words)
        sinks[title], sinks[f"{title} 2>"] = done.stdout, done.stderr
        sinks.update((f"controller: {line[:200]!r}", line) for line in map(b" ".join, command_lines(log)))
    sinks["junit.xml"] = (prepared_cases / "junit.xml").read_bytes()
    sinks["export"] = (prepared_cases / "export").read_bytes() if (prepared_cases / "export").exists() else b""
    sinks.update(packed(files_of(fleet), tmp_path / "scratch.db"))
    sinks.update(stored(prepared_cases / ".sloth-runner"))
    found = Search(secret)
    on_host = list(map(b" ".join, host_execs.command_lines()))
    sinks.update((f"host: {line[:300]!r}", line) for line in on_host)
    assert {title: piece for title, data in sinks.items() if (piece := found(data))} == {}
    # What tools get as arguments is in the process lists of the host, which also proves that those are seen.
    other = Search(OTHER)
    assert any(map(other, on_host))
    shown = {title: piece for title, data in sinks.items() if not title.startswith("host: ") and (piece := other(data))}
    assert shown == {}


def test_the_command_lines_of_the_controller_are_seen(tmp_path: Path) -> None:
    log = tmp_path / "controller.execs"
    run(tmp_path, "unused", "runs", "show", OTHER, log=log)
    assert any(OTHER.encode() in line for line in command_lines(log)[0])


def test_nothing_is_cut_before_it_is_searched() -> None:
    for name, secret in SECRETS.items():
        found = Search(secret)
        encoded = base64.b64encode(f"ab:{secret}:".encode()).decode()
        for text in (secret, secret[-PIECE:], f"x{secret[:PIECE]}x", *([encoded] if len(secret) > PIECE else [])):
            assert found(text), name
        assert not found("nothing of it is in this text, however long it is")


def files_of(fleet: Fleet) -> bytes:
    """Return a tar archive of SINKS."""
    script = f"cd / && tar --ignore-failed-read -cz $(ls -d {SINKS} 2>/dev/null) 2>/dev/null || true"
    options = ("-F", "none", "-i", str(fleet.key), "-o", f"UserKnownHostsFile={fleet.known_hosts}")
    argv = ["ssh", *options, f"root@{fleet.addresses[HOST]}", script]
    return subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout
