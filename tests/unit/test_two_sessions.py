"""Two sessions of one run write one state file: what each has seen may be no longer so when it writes."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from unittest import mock

from sloth.payload.kernel.content import Content
from sloth.payload.kernel.record import Context
from sloth.payload.state import runs
from sloth.payload.state.database import Database
from sloth.payload.state.store import Store


def test_both_keep_one_content(tmp_path: Path) -> None:
    first, second = Store(str(tmp_path / "x.db")), Store(str(tmp_path / "x.db"))
    known = Content.of_bytes(b"x" * 300_000)

    def read() -> bytes:  # after the first has looked, and before it writes
        assert second.blobs.keep(known)
        second.commit()
        return b"x" * 300_000

    slow = Content(known.sha256, known.size, lambda: iter([read()]))
    assert first.blobs.keep(slow)
    first.commit()
    found = first.blobs.get(known.sha256)
    assert found is not None
    assert found.data() == b"x" * 300_000
    assert first.blobs.damaged() == []


def test_numbers_of_changes_are_given_once(tmp_path: Path) -> None:
    first, second = Database(str(tmp_path / "x.db")), Database(str(tmp_path / "x.db"))
    given = [first.next_seq()]
    other = threading.Thread(target=lambda: given.append(second.next_seq()))
    other.start()
    time.sleep(0.2)  # it has looked by now, or waits
    first.commit()
    other.join()
    second.commit()
    assert given == [1, 2]


def test_both_notify_one_handler(tmp_path: Path) -> None:
    first, second = Store(str(tmp_path / "x.db")), Store(str(tmp_path / "x.db"))
    context = Context(run="r", site="s")

    def now() -> float:  # asked for after the first has looked, and before it writes
        with mock.patch.object(runs.time, "time", return_value=1.0):
            second.handlers.notify(["reload"], context, "file:copy:/a")
        second.commit()
        return 2.0

    with mock.patch.object(runs.time, "time", now):
        first.handlers.notify(["reload"], context, "file:copy:/b")
    first.commit()
    assert first.handlers.names("s") == ["reload"]
