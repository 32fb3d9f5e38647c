"""Errors that nobody foresaw: in words where the machine is the cause, and once where a reporter is."""

from __future__ import annotations

import errno
import os
import time

import pytest

from sloth.engine.defect import defect
from sloth.engine.emitter import Emitter
from sloth.engine.events import Event, Log
from sloth.engine.secrets import Secrets
from sloth.playbook import LogLevel
from sloth.state.keys import Keys


def test_what_this_machine_lacks_is_no_defect() -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert defect(full) == f"No space left on device (errno {errno.ENOSPC}) on this machine; hint: free some space"
    with pytest.raises(ZeroDivisionError) as raised:
        _ = 1 / len([])
    text = defect(raised.value)
    assert text.startswith("ZeroDivisionError: division by zero (test_unforeseen.py:")
    assert text.endswith("hint: this is a defect of sloth-runner: please report it")


def test_a_report_that_cannot_be_made_is_said_once_and_fails_the_run() -> None:
    tried: list[Event] = []

    def sink(event: Event) -> None:
        tried.append(event)
        raise BrokenPipeError("nobody reads")

    emitter = Emitter(Secrets([], Keys()), sink, check=False)
    for text in ("one", "two", "three"):
        emitter.emit(Log(time.time(), "web1", "t", LogLevel.INFO, text))
    texts = [event.text for event in tried if isinstance(event, Log)]
    assert texts == ["one", "an event cannot be reported: BrokenPipeError: nobody reads", "two", "three"]
    assert emitter.failed
