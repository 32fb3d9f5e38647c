"""Controllers of a team, each with a home of its own, over hosts that are this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.support.home import TWO_HOSTS
from tests.support.paths import ROOT

PATIENCE = 90.0  # seconds, on a machine that is busy
MACHINE = {  # what a CI system of the machine that runs the tests says of itself
    "GITHUB_RUN_ID", "GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_ACTIONS", "CI", "CI_JOB_URL", "SLOTH_INVENTORY",
}  # fmt: skip


class Team:
    """The hosts web1 and web2, a site in `site`, and a backend."""

    def __init__(self, path: Path, backend: str) -> None:
        self.path = path
        self.backend = backend
        self.files = path / "files"
        for name in ("files", "machine", "site"):
            (path / name).mkdir()
        (path / "site" / ".git").mkdir()
        (path / "site" / ".git" / "config").write_text('[remote "origin"]\nurl = git@git.example.com:ops/team.git\n')
        self.inventory = path / "site" / "inventory.toml"
        self.inventory.write_text(TWO_HOSTS)

    def site(self, *tasks: str) -> None:
        """Write the site; a task is the text of its function. FILES stands for the directory `files`."""
        text = "".join(
            f'task({{name = "t{number}", run = function()\n{body}\nend}})\n' for number, body in enumerate(tasks, 1)
        )
        (self.path / "site" / "site.sloth").write_text(text.replace("FILES", str(self.files)))

    def controller(self, name: str, **environment: str) -> Controller:
        """Return a controller; environment: more variables of its commands."""
        return Controller(self, name, environment)


class Controller:
    """A laptop, or a job of a CI system."""

    def __init__(self, team: Team, name: str, environment: Mapping[str, str]) -> None:
        self.home = team.path / name
        self._team = team
        self.environment = {
            **{key: value for key, value in os.environ.items() if key not in MACHINE},
            "HOME": str(team.path / "machine"),  # that of the hosts' accounts
            "SLOTH_HOME": str(self.home),
            "SLOTH_INVENTORY": str(team.inventory),
            "SLOTH_BACKEND": team.backend,
            "LOGNAME": name,
            "USER": name,
            "PYTHONPATH": str(ROOT),
            **environment,
        }

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command."""
        return subprocess.Popen(
            [sys.executable, "-m", "sloth", *words],
            cwd=self._team.path / "site", env=self.environment, text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def __call__(self, *words: str, status: int = 0) -> str:
        """Run a command and return what was printed; it must end with `status`."""
        process = self.start(*words)
        out, error = process.communicate(timeout=PATIENCE)
        assert process.returncode == status, out + error
        return out + error

    def json(self, *words: str, status: int = 0) -> Any:
        """Run a command and return its JSON document."""
        process = self.start(*words, "--output", "json")
        out, error = process.communicate(timeout=PATIENCE)
        assert process.returncode == status, out + error
        return json.loads(out)

    def run(self, *words: str, status: int = 0) -> str:
        """Run the site."""
        return self("run", "-f", "site.sloth", *words, status=status)

    def runs(self) -> list[str]:
        """Return the ids of all runs, the newest first."""
        return [run["run"] for run in self.json("runs", "list")]

    def recorded(self, agent: str = "web1") -> list[str]:
        """Return the keys of an agent's replica."""
        return [row["key"] for row in self.json("state", "list", "--cached", "--agent", agent)]


def wait_until(happens: Callable[[], bool], what: str) -> None:
    """Wait until something happens."""
    end = time.monotonic() + PATIENCE
    while not happens():
        assert time.monotonic() < end, what
        time.sleep(0.05)
