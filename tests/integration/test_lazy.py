"""Lazy results must mean exactly what one call after another means: same host, same results, same errors."""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from sloth.engine.events import CallFinished, HostFinished, Log, TaskFinished
from sloth.engine.options import Options
from tests.support.programs import sites
from tests.support.running import run_local


def _tree(home: Path) -> dict[str, Any]:
    return {
        str(path.relative_to(home)): path.read_bytes() if path.is_file() else None
        for path in sorted(home.rglob("*"))
        if ".sloth-runner" not in path.parts
    }


def _observable(source: str, eager: bool) -> tuple[Any, ...]:
    home = Path(tempfile.mkdtemp())
    try:
        text = source.replace("HOME", str(home))
        events = asyncio.run(run_local(text, home, Options(eager=eager)))
        return _tree(home), [_show(event, home) for event in events if _show(event, home)]
    finally:
        shutil.rmtree(home)


def _show(event: object, home: Path) -> tuple[Any, ...] | None:
    def clean(text: str | None) -> str | None:
        return text and re.sub(re.escape(str(home)) + r"|site\w*\.sloth", "X", text)

    match event:
        case CallFinished():
            result = event.result
            return (
                "call",
                event.task,
                clean(result.key),
                result.status,
                result.reason,
                clean(result.error),
                result.where[-3:],
            )
        case TaskFinished():
            return ("task", event.task, event.status, clean(event.error), event.ignored)
        case Log():
            return ("log", event.task, event.level, clean(event.text))
        case HostFinished():
            return ("host", event.status, clean(event.error))
    return None


@pytest.mark.timeout(600)  # 80 runs
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(sites())
def test_lazy_and_eager_runs_cannot_be_told_apart(source: str) -> None:
    assert _observable(source, eager=False) == _observable(source, eager=True)
