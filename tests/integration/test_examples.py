"""Every example runs, and a second run changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.command import sloth
from tests.support.paths import ROOT

# The web server needs root and real hosts: tests/fleet has it.
EXAMPLES = [*sorted((ROOT / "examples").glob("*.sloth")), ROOT / "examples/custom/site.sloth"]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_an_example_converges(example: Path, tmp_path: Path) -> None:
    first = sloth(tmp_path, "run", "-f", str(example), "--output", "json")
    assert first.returncode == 0, first.stdout + first.stderr
    second = json.loads(sloth(tmp_path, "run", "-f", str(example), "--output", "json").stdout)
    assert second["summary"]["changed"] == 0
    assert second["summary"]["unchanged"] > 0


def test_the_demo_shows_changed_unchanged_and_drift(tmp_path: Path) -> None:
    done = sloth(tmp_path, "demo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "(new)" in done.stdout
    assert "3 hosts: 0 changed" in done.stdout
    assert "(drift)" in done.stdout
    assert not (tmp_path / ".sloth-runner").exists()
