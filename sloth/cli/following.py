"""`run --web`: serves the web UI while a run goes on, by a process of its own that the run does not wait for."""

from __future__ import annotations

import contextlib
import importlib.util
import subprocess
import sys
from collections.abc import Sequence

from sloth.engine.events import Event, RunStarted
from sloth.errors import UsageError

ENDING = 20.0  # seconds for the browsers that follow to get the end of the run


class Following:
    """A reporter that starts `sloth-runner web` when the run begins, and ends it when the run has."""

    def __init__(self, inventory: Sequence[str]) -> None:
        """inventory: its sources. Raises UsageError when the extra `web` is not installed."""
        for name in ("starlette", "uvicorn", "jinja2"):
            if importlib.util.find_spec(name) is None:
                raise UsageError(f"--web: {name} is not installed", hint="pip install 'sloth-runner[web]'")
        self._inventory = inventory
        self._server: subprocess.Popen[bytes] | None = None

    def emit(self, event: Event) -> None:
        if not isinstance(event, RunStarted):
            return
        sources = [word for source in self._inventory for word in ("-i", source)]
        # Its address goes to stderr: stdout may be a document. Ctrl-C is for the run; the server ends with its stdin.
        self._server = subprocess.Popen(
            [sys.executable, "-m", "sloth", "web", "--port", "0", "--follow", event.run_id, *sources],
            stdin=subprocess.PIPE,
            stdout=sys.stderr.fileno(),
            start_new_session=True,
        )

    def close(self) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        assert server.stdin is not None
        server.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(ENDING)
        if server.poll() is None:
            server.terminate()
