"""The report as lines of JSON in a file that keeps the runs before, too: --log."""

from __future__ import annotations

import json
import os

from sloth.engine.events import Event, RunStarted
from sloth.errors import UsageError
from sloth.report.document import event_line


class LogFile:
    """Appends an event a line, as NDJSON has it and with the run's id: several runs may write to one file."""

    def __init__(self, path: str) -> None:
        """Raise UsageError if the file cannot be written: before the run rather than in it."""
        try:
            # What commands print may be nobody else's business, though secrets are hidden in it.
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UsageError(f"{path} cannot be written: {error.strerror}", hint="see --log") from error
        self._run = ""

    def emit(self, event: Event) -> None:
        """Write one event. Raises OSError."""
        if isinstance(event, RunStarted):
            self._run = event.run_id
        line = json.dumps({**event_line(event), "run_id": self._run}, ensure_ascii=True) + "\n"
        data = memoryview(line.encode())
        while data:  # one write, unless the disk is full or it is a pipe
            data = data[os.write(self._descriptor, data) :]

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
