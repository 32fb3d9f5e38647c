"""Any command, with hosts whose words are changed on their way: nothing hangs, nothing is poisoned, others go on.

The payloads are real. `liar.py` stands between them and the controller, and changes, drops, repeats or cuts what they
send, by a seed. The laws: a command ends in time with words, and never with "a defect of sloth-runner"; its report has
every host; a host that does not lie is as if it were alone; and once nobody lies any more, the next run converges, as
the controller has learned nothing false that it relies on.

SLOTH_ATTACK_ROUNDS=100 for more rounds, SLOTH_ATTACK_SEED=N for others.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.paths import ROOT

ROUNDS = int(os.environ.get("SLOTH_ATTACK_ROUNDS", "1"))
SEED = int(os.environ.get("SLOTH_ATTACK_SEED", "20261126"))
HOSTS = [f"liar{number}" for number in range(6)]
GOOD = "good"
LIMIT = 150  # seconds for one command, on a machine that is slow
pytestmark = [pytest.mark.attack, pytest.mark.timeout(300 + ROUNDS * 600)]

SITE = """
handler({{ name = "reload", run = function() exec.run("echo {word} >> ~/log") end }})
task({{ name = "files", notify = "reload", ignore_errors = true, run = function()
    file.directory({{ path = "~/tree", mode = "0755" }})
    file.copy({{ dest = "~/tree/conf", content = "{word}\\n" }})
    file.copy({{ src = "big", dest = "~/tree/big" }})
    local r = file.lineinfile({{ path = "~/tree/lines", line = "v={word}", regexp = "^v=", create = true }})
    print(r.changed, r.diff, r.before, facts.os_family)
end }})
task({{ name = "action", ignore_errors = true, run = function()
    local r = exec.run("echo {word}")
    print(r.stdout, r.exit_code)
    state.delete("nothing")
end }})
task({{ name = "taken back", on_failure = "rollback", ignore_errors = true, run = function()
    file.copy({{ dest = "~/tree/never", content = "{word}" }})
    fail("on purpose")
end }})
{more}
"""
DELEGATED = """
task({{ name = "for others", ignore_errors = true, delegate_to = "liar0", run = function()
    file.copy({{ dest = "~/for-" .. host.name, content = "{word}" }})
end }})
task({{ name = "at the end", ignore_errors = true, run = function()
    file.copy({{ dest = "~/tree/end", content = "{word}" }})
end }})
"""
CONFIRMED = """
task({{ name = "confirmed", confirm = 6, ignore_errors = true, run = function()
    file.copy({{ dest = "~/tree/confirmed", content = "{word}" }})
end }})
"""
# Commands that lying hosts are met with; and those that read afterwards what the controller has kept.
COMMANDS = {
    "run": ("run", "-f", "site.sloth", "-o", "json"),
    "delegates": ("run", "-f", "delegated.sloth", "-o", "json"),
    "confirm": ("run", "-f", "confirmed.sloth", "-o", "json"),
    "check": ("run", "-f", "site.sloth", "-o", "json", "--check", "--diff"),
    "prune": ("run", "-f", "less.sloth", "-o", "json", "--prune", "--yes"),
    "workers": ("run", "-f", "delegated.sloth", "-o", "json", "--workers", "2"),
    "plan": ("plan", "-f", "site.sloth", "-o", "./lying.plan"),
    "apply": ("apply", "./honest.plan", "--allow-unknown", "-o", "json"),
    "rollback": ("rollback", "last", "--yes", "-o", "json"),
    "forced": ("rollback", "last", "--yes", "--force"),
    "drift": ("drift", "-o", "json"),
    "list": ("state", "list", "--agent", "all", "-o", "json"),
    "history": ("state", "history", "--agent", "all"),
    "stats": ("state", "stats", "--agent", "all"),
    "sound": ("state", "check", "--agent", "all"),
    "handlers": ("state", "list", "handler", "--agent", "all"),
    "export": ("state", "export", "--agent", "all", "-o", "./lying.export"),
    "facts": ("facts", "-o", "json"),
    "adhoc": ("exec", "all", "echo", "x"),
    "vacuum": ("state", "vacuum", "--agent", "all"),
    "diff": ("state", "diff", "last", "last", "--agent", "all"),
    "freeze": ("state", "freeze", "none:*", "--agent", "all", "--until", "1m", "--why", "x"),
}
ALWAYS = ("delegates", "apply", "rollback")
LATER = (
    ("runs", "list"), ("runs", "show", "last"), ("state", "list", "--agent", "all", "--cached"),
    ("state", "show", "file:copy:~", "--agent", "all", "--cached"), ("state", "stats", "--agent", "all", "--cached"),
)  # fmt: skip


class Party:
    """A controller, an honest host and some that lie."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.version = 0
        lines = [f'[hosts.{GOOD}]\nconnection = "local"']
        for name in (GOOD, *HOSTS):
            program = path / f"python-{name}"
            home = path / "homes" / name
            home.mkdir(parents=True)
            liar = ROOT / "tests" / "attack" / "liar.py"
            begin = f'exec {sys.executable} -I {liar} {name} {path} {sys.executable} "$@"'
            if name == GOOD:
                begin = f'HOME={home} exec {sys.executable} "$@"'
                lines[0] += f'\npython = "{program}"'
            else:
                lines.append(f'[hosts.{name}]\nconnection = "local"\npython = "{program}"')
            program.write_text(f"#!/bin/sh\n{begin}\n")
            program.chmod(0o755)
        (path / "inventory.toml").write_text("\n".join(lines))

    def describe(self) -> str:
        """Write the sites of another version; return its word."""
        self.version += 1
        word = f"word{self.version}"
        (self.path / "big").write_bytes(word.encode() * 40000)
        for name, more in (("site", ""), ("delegated", DELEGATED), ("confirmed", CONFIRMED)):
            text = SITE.format(word=word, more=more.format(word=word))
            (self.path / f"{name}.sloth").write_text(text)
        less = re.sub(r".*tree/(conf|lines).*\n", "local r = {}\n", SITE.format(word=word, more=""))
        (self.path / "less.sloth").write_text(less)
        return word

    def lie(self, seed: str | None) -> None:
        (self.path / "lies").unlink(missing_ok=True)
        if seed is not None:
            (self.path / "lies").write_text(seed)

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "HOME": str(self.path), "PYTHONPATH": str(ROOT)}
        environment.pop("SLOTH_INVENTORY", None)
        return subprocess.run(
            [sys.executable, str(ROOT / "tests" / "attack" / "impatient.py"), *words],
            cwd=self.path, env=environment, capture_output=True, text=True, errors="replace", timeout=LIMIT,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def text(self, host: str, name: str) -> str | None:
        path = self.path / "homes" / host / name
        return path.read_text() if path.exists() else None


@pytest.fixture
def party(tmp_path: Path) -> Party:
    return Party(tmp_path)


def check_words(done: subprocess.CompletedProcess[str], where: str) -> None:
    shown = done.stdout + done.stderr
    assert "defect of sloth-runner" not in shown, f"{where}:\n{shown[-3000:]}"
    assert "Traceback (most" not in shown, f"{where}:\n{shown[-3000:]}"
    assert done.returncode in (0, 1, 3, 4), f"{where}: {done.returncode}\n{shown[-3000:]}"
    assert re.search("[\x00-\x08\x0b\x0c\x0e-\x1a\x9b\u202e]", shown) is None, f"{where}:\n{shown[-3000:]!r}"


def check_report(done: subprocess.CompletedProcess[str], name: str, where: str) -> None:
    """Fail unless the report of a run has every host, and its exit status is the one of the worst."""
    document = json.loads(done.stdout)
    if name in ("run", "delegates", "confirm", "check", "prune", "workers", "apply"):
        statuses = {host: part["status"] for host, part in document["hosts"].items()}
        assert set(statuses) == {GOOD, *HOSTS}, where
        bad = {status for status in statuses.values() if status in ("failed", "unreachable")}
        assert (done.returncode in (1, 3, 4)) == bool(bad), f"{where}: {statuses}, {done.returncode}"
        if name != "delegates" and name != "workers":  # one that delegates depends on a liar
            assert statuses[GOOD] in ("changed", "unchanged", "unknown"), f"{where}: {document['hosts'][GOOD]['error']}"


@pytest.mark.parametrize("number", range(ROUNDS))
def test_nothing_that_hosts_say_hangs_or_poisons_a_command(party: Party, number: int) -> None:
    chance = random.Random(f"{SEED} {number}")
    party.describe()
    first = party("run", "-f", "site.sloth", "-o", "json")
    assert first.returncode == 0, first.stdout + first.stderr
    others = [name for name in COMMANDS if name not in ALWAYS]
    names = [*ALWAYS, *chance.sample(others, 3 if ROUNDS == 1 else len(others))]
    for name in names:
        where = f"{name} in round {number} of seed {SEED}"
        word = party.describe()
        if name == "apply":
            made = party("plan", "-f", "site.sloth", "-o", "./honest.plan")
            assert made.returncode == 0, made.stderr
        party.lie(f"{SEED} {number} {name}")
        begun = time.monotonic()
        done = party(*COMMANDS[name])
        print(f"{name}: status {done.returncode} in {time.monotonic() - begun:.1f} s")
        check_words(done, where)
        if "json" in COMMANDS[name]:
            check_report(done, name, where)
        party.lie(None)
        for words in chance.sample(LATER, 1) if ROUNDS == 1 else LATER:
            check_words(party(*words), f"{' '.join(words)} after {where}")
        again = party("run", "-f", "site.sloth", "-o", "json")
        assert again.returncode == 0, f"after {where}: {again.stdout[-3000:]}{again.stderr}"
        for host in (GOOD, *HOSTS):
            assert party.text(host, "tree/conf") == f"{word}\n", f"{host} after {where}"
            assert party.text(host, "tree/big") == word * 40000, f"{host} after {where}"
        found = party("drift", "--exit-code")
        assert found.returncode == 0, f"after {where}: {found.stdout}{found.stderr}"
