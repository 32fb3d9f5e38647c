"""Make docs/web.png, the picture of the README, of real runs: python -m tests.browser.screenshot."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.browser.story import HOSTS, tell
from tests.support.paths import ROOT
from tests.support.world import open_world

PAGE = "/resource?key=file:copy:/etc/ssh/sshd_config&host=web3"


def main() -> None:
    """Tell the story, and take the picture."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "web.png"
    with (
        tempfile.TemporaryDirectory() as directory,
        open_world(Path(directory) / "controller", HOSTS) as world,
        sync_playwright() as playwright,
    ):
        tell(world)
        with world.web() as address:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            page = browser.new_context(viewport={"width": 1000, "height": 620}).new_page()
            page.goto(address)
            page.goto(address.split("/login")[0] + PAGE)
            page.screenshot(path=target)
            browser.close()


if __name__ == "__main__":
    main()
