"""Where things are: the repository, its schemas and examples, and the Pythons of this machine."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
SCHEMAS = ROOT / "sloth" / "report"
EXAMPLES = ROOT / "examples"
# Every Python under which the payload must run; those that do not exist are skipped.
PYTHONS = [
    path
    for path in (*sorted(Path.home().glob(".pyenv/versions/3.*/bin/python")), Path("/usr/bin/python3"))
    if path.exists()
]
