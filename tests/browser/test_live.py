"""A run over fifty hosts, followed in a browser by another process than the one that runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.browser.conftest import Problems
from tests.support.paths import ROOT
from tests.support.world import open_world

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HOSTS = tuple(f"web{number:02}" for number in range(1, 51))
SITE = """
task({ name = "prepare", run = function() file.copy({ dest = "~/one", content = host.name }) end })
task({ name = "work", run = function() exec.run("sleep 1.5") end })
task({ name = "finish", run = function()
    if host.name == "web07" then exec.run("echo 'disk <full>' >&2; exit 1") end
    file.copy({ dest = "~/two", content = "done" })
end })
"""


def test_a_run_of_another_process_is_followed_to_its_end(
    browser: Browser, tmp_path: Path, problems: Problems, pictures: Path
) -> None:
    from playwright.sync_api import expect

    with open_world(tmp_path / "controller", HOSTS, isolated=False) as world:
        world.write("site.sloth", SITE)
        environment = {**os.environ, "HOME": str(world.path), "PYTHONPATH": str(ROOT)}
        environment.pop("SLOTH_INVENTORY", None)
        command = ["run", "-i", "inventory.toml", "-f", "site.sloth", "--forks", "12", "--web"]
        with (
            browser.new_context() as context,
            subprocess.Popen(
                [sys.executable, "-m", "sloth", *command], cwd=world.path, env=environment, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            ) as running,
        ):  # fmt: skip
            assert running.stderr is not None
            lines: list[str] = []
            while not lines or "/login?code=" not in lines[-1]:
                lines.append(running.stderr.readline())
                assert lines[-1], (lines, running.communicate(timeout=60))
            address = lines[-1].strip()
            page = context.new_page()
            problems.watch(page)
            page.goto(address)
            expect(page).to_have_url(re.compile("/runs/[0-9]"))
            expect(page.locator("#live-state")).to_have_text("following", timeout=60_000)
            expect(page.get_by_role("status")).to_contain_text("of 50 hosts are done")
            expect(page.locator(".fleet .running").first).to_be_visible(timeout=60_000)
            page.screenshot(path=pictures / "live.png", full_page=True)
            expect(page.get_by_role("heading", level=1)).to_contain_text("failed", timeout=240_000)
            expect(page.locator("#live-state")).to_have_count(0)
            expect(page.get_by_text("disk <full>").first).to_be_visible()
            running.communicate(timeout=120)
            assert running.returncode == 1
