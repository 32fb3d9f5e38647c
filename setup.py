"""Adds to a distribution what a first run would have to build: the payload that is sent to hosts."""

from __future__ import annotations

import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
BUNDLE = Path("sloth", "transport", "payload.bundle")


class BuildPy(build_py):
    """Also makes the bundle: in the wheel, or beside the sources of an editable installation."""

    def run(self) -> None:
        super().run()
        sys.path.insert(0, str(ROOT))
        from sloth.transport import bundle

        bundle.ship((ROOT if self.editable_mode else Path(self.build_lib)) / BUNDLE)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        return [*super().get_outputs(include_bytecode), str(Path(self.build_lib, BUNDLE))]


setup(cmdclass={"build_py": BuildPy})
