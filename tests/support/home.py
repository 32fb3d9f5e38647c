"""A controller whose hosts are this machine, for tests of several runs."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
from pathlib import Path
from typing import Any
from unittest import mock

from sloth.cli import main
from tests.support.command import sloth

TWO_HOSTS = "".join(f'[hosts.{name}]\nconnection = "local"\n' for name in ("web1", "web2"))
THREE_FILES = """
    file.copy({content = "one\\n", dest = "FILES/one", mode = "0600"})
    file.lineinfile({path = "FILES/two", line = "added"})
    file.link({path = "FILES/three", src = "FILES/one"})
"""


class Home:
    """A controller whose hosts are this machine, under names of their own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = path / "files"
        self.files.mkdir()
        (path / "inventory.toml").write_text(TWO_HOSTS)

    def sloth(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a process of its own."""
        return sloth(self.path, *words)

    def site(self, body: str, name: str = "site.sloth", before: str = "", options: str = "") -> None:
        """Write a site of one task; FILES in it stands for the directory `files`."""
        text = f'{before}\ntask({{name = "t", {options} run = function()\n{body}\nend}})\n'
        (self.path / name).write_text(text.replace("FILES", str(self.files)))

    def run(self, *words: str, site: str = "site.sloth", status: int = 0, verb: str = "run") -> str:
        """Run the site on web1 and return what was printed."""
        done = self.sloth(verb, "-f", site, "--limit", "web1", *words)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def __call__(self, *words: str, status: int = 0) -> str:
        """Run a command and return what was printed; it must end with `status`."""
        done = self.sloth(*words)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def json(self, *words: str, status: int = 0) -> Any:
        """Run a command and return its JSON document."""
        done = self.sloth(*words, "--output", "json")
        assert done.returncode == status, done.stdout + done.stderr
        return json.loads(done.stdout)

    def recorded(self, *words: str) -> list[str]:
        """Return the keys of web1's records."""
        rows: list[dict[str, Any]] = self.json("state", "list", "--agent", "web1", *words)
        return [row["key"] for row in rows]

    def text(self, name: str) -> str | None:
        """Return the text of a file in `files`, or None."""
        path = self.files / name
        return path.read_text() if path.exists() else None

    def last_run(self) -> str:
        """Return the id of the newest run."""
        return str(self.json("runs", "list")[0]["run"])


class QuickHome(Home):
    """The same, whose commands run in the process of the test: that takes a fifth of the time."""

    def sloth(self, *words: str) -> subprocess.CompletedProcess[str]:
        status: object = 0
        out, err = io.StringIO(), io.StringIO()
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.chdir(self.path))
            stack.enter_context(mock.patch.dict(os.environ, {"HOME": str(self.path)}))
            os.environ.pop("SLOTH_INVENTORY", None)
            stack.enter_context(contextlib.redirect_stdout(out))
            stack.enter_context(contextlib.redirect_stderr(err))
            try:
                main(list(words))
            except SystemExit as ended:
                status = ended.code
        return subprocess.CompletedProcess(words, int(str(status)), out.getvalue(), err.getvalue())
