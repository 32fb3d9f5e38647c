"""Measures in Chromium when pages over a large controller's directory are answered and first painted.

python -m bench.web_paint DIR     # DIR as bench.web_data writes it

One tab goes from page to page, as that of somebody who clicks. A page that is not found shows what the browser takes.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.sync_api import sync_playwright

from tests.support.web import TOKEN, serve

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROUNDS = 7
PAGES = (
    "/nothing", "/", "/runs", "/hosts", "/hosts/web0003.example.org/history", "/drift", "/drift?by=host",
    "/resources", "/resource?key=file:copy:/etc/ssh/sshd_config", "/shared",
)  # fmt: skip
TIMES = """() => [
    performance.getEntriesByType("navigation")[0].responseEnd,
    performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? -1,
]"""


def paint(page: Page, address: str) -> tuple[float, float]:
    """Return after how many milliseconds a page was answered and first painted."""
    page.goto(address)
    page.wait_for_timeout(150)
    answered, painted = page.evaluate(TIMES)
    return answered, painted


def main() -> None:
    """Measure every page: the first visit after the start, and the median of those that follow."""
    with serve(Path(sys.argv[1])) as server, sync_playwright() as playwright:
        server.site.refresh_now()
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        context = browser.new_context(extra_http_headers={"Authorization": f"Bearer {TOKEN}"})
        page = context.new_page()
        rounds = [[paint(page, f"http://127.0.0.1:{server.port}{path}") for path in PAGES] for _ in range(1 + ROUNDS)]
        print("answered  painted  (first visit)   page (milliseconds; medians)")
        for path, first, *others in zip(PAGES, *rounds, strict=True):
            answered, painted = (statistics.median(one[number] for one in others) for number in (0, 1))
            print(f"{answered:8.0f} {painted:8.0f}  {first[0]:6.0f} {first[1]:6.0f}   {path}")
        browser.close()


if __name__ == "__main__":
    main()
