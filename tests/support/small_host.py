"""A host whose home is on a file system of its own, on which something is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support.paths import ROOT

FULL = """
task({name = "resource", ignore_errors = true, run = function() file.copy({dest = "HOME/new", content = "x"}) end})
task({name = "command", run = function() exec.run("rm -rf HOME/fill; echo freed") end})
task({name = "again", run = function() file.copy({dest = "HOME/new", content = "x"}) end})
"""


class Small:
    """A controller, and a host whose home is on a file system of its own."""

    def __init__(self, directory: Path, home: Path) -> None:
        self.directory = directory
        self.home = home
        (directory / "inventory.toml").write_text('[hosts.h1]\nconnection = "local"\n')
        self.write(FULL)

    def write(self, site: str) -> None:
        (self.directory / "site.sloth").write_text(site.replace("HOME", str(self.home)))

    def run(
        self, *words: str, environment: dict[str, str] | None = None, **options: object
    ) -> tuple[int, dict[str, object]]:
        """Run the site; return the exit status and the JSON document."""
        variables = {**os.environ, "HOME": str(self.home), "SLOTH_HOME": str(self.directory / "controller")}
        variables |= {"PYTHONPATH": str(ROOT), **(environment or {})}
        done = subprocess.run(
            [sys.executable, "-m", "sloth", "run", "-f", "site.sloth", "-o", "json", *words],
            cwd=self.directory, env={name: value for name, value in variables.items() if value != "-"},
            capture_output=True, text=True, check=False, timeout=200, **options,  # type: ignore[call-overload]
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        assert "defect" not in done.stdout + done.stderr, done.stdout + done.stderr
        return done.returncode, json.loads(done.stdout) if done.stdout.startswith("{") else {"stderr": done.stderr}
