"""Headless Chromium, and a fleet with a story; problems of any page fail the test that opened it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.story import HOSTS, tell
from tests.support.world import World, can_isolate, open_world

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome")


def _missing(reason: str) -> None:
    """Skip what cannot run here; in CI it must."""
    if os.environ.get("SLOTH_SERVERS") == "required":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The browser of this machine. While it is open, no asyncio test can run in this process: it runs a loop itself."""
    pytest.importorskip("starlette", reason="the extra `web` is not installed")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _missing("playwright is not installed")
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        _missing(f"no browser is installed: none of {', '.join(NAMES)}")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def fleet_story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A fleet on which the story has happened."""
    if not can_isolate():
        _missing("this machine gives no process mounts of its own (unshare --mount)")
    path = tmp_path_factory.mktemp("world")
    with open_world(path / "controller", HOSTS) as opened:
        tell(opened)
        yield opened


@pytest.fixture(scope="session")
def pictures() -> Path:
    """Where screenshots are kept."""
    path = Path(os.environ.get("SLOTH_SCREENSHOTS", "build/screenshots"))
    path.mkdir(parents=True, exist_ok=True)
    return path


class Problems:
    """What went wrong on pages: errors of scripts and on the console, which has violations of the policy, too."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def watch(self, page: Page) -> None:
        page.on("pageerror", lambda error: self.found.append(f"{page.url}: {error}"))
        page.on("console", lambda message: self._read(page.url, message.type, message.text))

    def _read(self, url: str, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.found.append(f"{url}: {kind}: {text}")


@pytest.fixture
def problems() -> Iterator[Problems]:
    """Fail the test when a page had problems."""
    problems = Problems()
    yield problems
    assert not problems.found
