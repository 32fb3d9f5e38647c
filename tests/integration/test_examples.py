"""Every example runs, and a second run changes nothing."""

from __future__ import annotations

import json
import os
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


def test_the_module_of_the_docs_writes_safely_and_can_be_taken_back(tmp_path: Path) -> None:
    site, note, link = ROOT / "examples/custom/site.sloth", tmp_path / "private", tmp_path / ".sloth-note"
    note.write_text("old\n")
    note.chmod(0o600)
    link.symlink_to("private")
    os.setxattr(note, "user.label", b"kept")
    before = note.stat()
    done = sloth(tmp_path, "run", "-f", str(site), "--output", "json")
    assert done.returncode == 0, done.stderr
    assert note.read_text() == "REMEMBER THE MILK\n"
    assert (note.stat().st_mode, note.stat().st_uid) == (before.st_mode, before.st_uid), "a private note stays private"
    assert note.stat().st_ino != before.st_ino, "written beside the old file, then renamed"
    assert os.getxattr(note, "user.label") == b"kept"
    assert link.is_symlink()
    run = json.loads(done.stdout)["run_id"]
    modules = ("--modules", str(site.parent / "modules"))
    restored = sloth(tmp_path, "rollback", run, *modules, "--yes")
    assert restored.returncode == 0, restored.stdout + restored.stderr
    assert note.read_text() == "old\n"

    link.unlink()
    assert sloth(tmp_path, "run", "-f", str(site)).returncode == 0
    restored = sloth(tmp_path, "rollback", "last", *modules, "--yes")
    assert restored.returncode == 0, restored.stdout + restored.stderr
    assert not link.exists(), "what the run created is removed"
