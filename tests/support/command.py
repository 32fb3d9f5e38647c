"""Run the command line in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.paths import ROOT


def sloth(
    home: Path, *arguments: str, extra: Mapping[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run `sloth-runner ARGUMENTS` in `home`, which is also $HOME.

    extra: variables of the environment; `options` are those of subprocess.run().
    """
    environment = {**os.environ, "HOME": str(home), "PYTHONPATH": str(ROOT)}
    environment.pop("SLOTH_INVENTORY", None)
    environment.update(extra or {})
    return subprocess.run(
        [sys.executable, "-m", "sloth", *arguments],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
        **options,
    )
