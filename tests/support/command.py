"""Run the command line in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.paths import ROOT


def sloth(home: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `sloth-runner ARGUMENTS` in `home`, which is also $HOME; `options` are those of subprocess.run()."""
    environment = {**os.environ, "HOME": str(home), "PYTHONPATH": str(ROOT)}
    environment.pop("SLOTH_INVENTORY", None)
    return subprocess.run(
        [sys.executable, "-m", "sloth", *arguments],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
        **options,
    )
