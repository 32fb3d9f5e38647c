"""Tests of the site: python3 -m unittest discover tests"""

import json
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

SITE = Path(__file__).resolve().parents[1]


class TestSite(unittest.TestCase):
    def setUp(self) -> None:
        """Give every test a directory of its own, which is the home, too: what is recorded of runs is not yours."""
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)

    def sloth(self, *words: str) -> str:
        """Run sloth-runner over the site, and return what it prints."""
        done = subprocess.run(
            ["sloth-runner", *words, "-i", "inventory.toml", "-f", "site.sloth"],
            cwd=SITE,
            env={**os.environ, "HOME": str(self.directory)},
            capture_output=True,
            text=True,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def run_here(self) -> int:
        """Run the site on this machine, and return how much has changed."""
        words = ("--limit", "this-machine", "-e", f"directory={self.directory}/example", "--output", "json")
        changed: int = json.loads(self.sloth("run", *words))["summary"]["changed"]
        return changed

    def test_it_has_no_mistakes(self) -> None:
        self.sloth("validate")

    def test_a_second_run_changes_nothing(self) -> None:
        self.assertGreater(self.run_here(), 0)
        self.assertTrue((self.directory / "example" / "greeting").read_text().startswith("Welcome"))
        self.assertEqual(self.run_here(), 0)


if __name__ == "__main__":
    unittest.main()
