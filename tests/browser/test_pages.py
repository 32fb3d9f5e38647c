"""Every view in Chromium over the story's fleet: nothing on the console, none wider than a telephone, no barriers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.conftest import Problems
from tests.support.world import World

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PAGES = (
    "/", "/runs", "/runs/last", "/hosts", "/hosts/web3", "/drift", "/drift?by=host&days=1", "/drift?by=resource",
    "/resources", "/resource?key=file:copy:/etc/ssh/sshd_config", "/resource?key=file:copy:/srv/app/VERSION&host=web3",
    "/shared", "/plans", "/plan?name=deploy.plan", "/actions", "/search?q=web3",
)  # fmt: skip
SCREENS = (("light", 1280), ("dark", 1280), ("light", 360), ("dark", 360))


@pytest.fixture(scope="module")
def story_pages(fleet_story: World) -> Iterator[tuple[World, str, dict[str, str]]]:
    """The web UI of the story's controller: its base address, and the cookies of a login."""
    with fleet_story.web("--allow-actions", "--plan", "deploy.plan") as address:
        yield fleet_story, address, {}


def log_in(browser: Browser, address: str, known: dict[str, str], scheme: str = "light", width: int = 1280) -> Page:
    """Return a page of a browser that is logged in; known: the session, once there is one."""
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})  # type: ignore[arg-type]
    page = context.new_page()
    if known:
        context.add_cookies([{"name": "sloth", "value": known["sloth"], "url": address.split("/login")[0]}])
    else:
        page.goto(address)
        known["sloth"] = next(one["value"] for one in context.cookies() if one["name"] == "sloth")
    return page


@pytest.mark.timeout(600)
def test_every_view_in_light_and_dark_wide_and_narrow(
    browser: Browser, story_pages: tuple[World, str, dict[str, str]], problems: Problems, pictures: Path
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    _, address, known = story_pages
    base = address.split("/login")[0]
    barriers: list[str] = []
    for scheme, width in SCREENS:
        page = log_in(browser, address, known, scheme, width)
        problems.watch(page)
        for path in PAGES:
            answer = page.goto(base + path)
            assert answer is not None
            assert answer.status == 200, (path, page.locator("body").inner_text()[:500])
            overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert overflow <= 0, f"{path} is {overflow} px too wide at {width} px"
            name = re.sub(r"[^a-z0-9]+", "-", path.lower()).strip("-") or "overview"
            page.screenshot(path=pictures / f"{name}-{scheme}-{width}.png", full_page=True)
            if width == 1280:  # in the dark, only the contrast differs
                options = None if scheme == "light" else {"runOnly": ["color-contrast"]}
                found = Axe().run(page, options=options)
                barriers += [f"{path} ({scheme}): {one['id']}: {one['nodes'][0]['html'][:200]}"
                             for one in found.response["violations"]]  # fmt: skip
        page.context.close()
    assert not barriers


def test_somebody_who_has_never_seen_it_finds_the_answers_by_clicking(
    browser: Browser, story_pages: tuple[World, str, dict[str, str]], problems: Problems
) -> None:
    from playwright.sync_api import expect

    _, address, known = story_pages
    page = log_in(browser, address, known)
    problems.watch(page)
    page.goto(address.split("/login")[0] + "/")
    expect(page.get_by_role("link", name="1 drifted")).to_be_visible()  # web3; db1 was put back
    # Which hosts drifted since yesterday?
    page.get_by_role("link", name="Drift", exact=True).click()
    page.get_by_role("link", name="since yesterday").click()
    page.get_by_role("link", name="By host").click()
    assert set(page.locator("tbody tr td:first-child").all_inner_texts()) == {"web3", "db1"}
    # Who changed /etc/ssh/sshd_config on web3, and when?
    page.get_by_role("link", name="web3").click()
    page.get_by_role("link", name="file:copy:/etc/ssh/sshd_config").click()
    newest = page.get_by_role("region", name="History").locator("> table > tbody > tr").first
    expect(newest).to_contain_text(re.compile("changed by hand between the end of run .* and the look"))
    expect(newest).to_contain_text("web3")
    assert newest.locator("time").first.get_attribute("datetime")
    expect(newest.locator(".diff td").filter(has_text="PermitRootLogin yes")).to_be_visible()
    expect(page.get_by_role("region", name="History")).to_contain_text("new")  # the run before, with its user
    # What failed in the last run, and why?
    page.get_by_role("link", name="Runs", exact=True).click()
    page.locator("tbody tr").first.get_by_role("link").last.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("failed")
    expect(page.get_by_text("no space left on device").first).to_be_visible()
    expect(page.get_by_text("deploy.sloth:").first).to_be_visible()
    page.context.close()


@pytest.mark.timeout(600)
def test_drift_is_looked_for_from_a_page_and_written_down(
    browser: Browser, story_pages: tuple[World, str, dict[str, str]], problems: Problems
) -> None:
    from playwright.sync_api import expect

    _, address, known = story_pages
    page = log_in(browser, address, known)
    problems.watch(page)
    page.goto(address.split("/login")[0] + "/drift")
    page.get_by_label("Hosts", exact=True).fill("web*")
    page.get_by_role("button", name="Ask now").click()
    expect(page.get_by_text("4 hosts: web[1:4]")).to_be_visible()
    page.get_by_label("Your name").fill("Ann <b>Smith</b>")
    page.get_by_role("button", name="Look for drift").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("drift", timeout=120_000)
    expect(page.get_by_text("Ann <b>Smith</b> (web UI)").first).to_be_visible()
    page.get_by_role("link", name="Actions").click()
    row = page.locator("tbody tr").first
    expect(row).to_contain_text("Ann <b>Smith</b>")
    expect(row).to_contain_text("hosts web*")
    # A resource is frozen, and thawed again.
    page.goto(address.split("/login")[0] + "/resource?key=file:copy:/srv/app/VERSION&host=web1")
    page.get_by_role("button", name="Freeze").click()
    page.get_by_label("Until").fill("1h")
    page.get_by_label("Why").fill("a test")
    page.get_by_label("Your name").fill("ann")
    page.get_by_role("button", name="Freeze a resource").click()
    expect(page.locator("tbody tr").first).to_contain_text("froze file:copy:/srv/app/VERSION on web1", timeout=60_000)
    page.goto(address.split("/login")[0] + "/resource?key=file:copy:/srv/app/VERSION&host=web1")
    page.get_by_role("button", name="Thaw").click()
    page.get_by_label("Your name").fill("ann")
    page.get_by_role("button", name="Thaw a resource").click()
    expect(page.locator("tbody tr").first).to_contain_text("is no longer frozen", timeout=60_000)
    # A lock is released, after the question.
    page.get_by_role("link", name="Shared", exact=True).click()
    page.get_by_role("button", name="Release deploy").click()
    page.get_by_label("Your name").fill("ann")
    page.get_by_role("button", name="Release a lock").click()
    expect(page.locator("tbody tr").first).to_contain_text("released deploy")
    page.context.close()


def test_pages_are_exported_and_work_without_a_server(
    browser: Browser, fleet_story: World, problems: Problems, tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    said = fleet_story("web", "export", str(tmp_path / "report"), "-i", "inventory.toml", "--plan", "deploy.plan")
    assert "wrote" in said
    for file in (tmp_path / "report").rglob("*.html"):
        text = file.read_text()
        assert "<script" not in text
        assert "<form" not in text
    page = browser.new_context(java_script_enabled=False).new_page()
    problems.watch(page)
    page.goto((tmp_path / "report" / "index.html").as_uri())
    page.get_by_role("link", name="Plans", exact=True).click()
    page.get_by_role("link", name="deploy.plan").click()
    expect(page.get_by_text("PermitRootLogin no", exact=False).first).to_be_visible()
    expect(page.locator("body")).not_to_have_css("font-family", "Times New Roman")
    page.context.close()
    alone = fleet_story("web", "export", str(tmp_path / "one"), "/runs/last", "-i", "inventory.toml")
    assert "wrote 1 page" in alone


def test_live_events_go_on_where_a_browser_was(
    story_pages: tuple[World, str, dict[str, str]], browser: Browser
) -> None:
    import httpx

    _, address, known = story_pages
    if not known:
        log_in(browser, address, known).context.close()
    base = address.split("/login")[0]
    with httpx.Client(cookies={"sloth": known["sloth"]}, timeout=60) as client:
        run = client.get(f"{base}/api/v1/runs").json()["rows"][0]["run"]
        whole = client.get(f"{base}/runs/{run}/events").text
        assert whole.count("event: update") == 1
        mark = re.findall(r"^id: (.*)$", whole, re.M)[-1]
        again = client.get(f"{base}/runs/{run}/events", headers={"Last-Event-ID": mark}).text
        assert "event: update" not in again
        assert "event: end" in again
        assert client.get(f"{base}/runs/none/events").status_code == 404


@pytest.mark.timeout(600)
def test_metrics_and_the_api_hold_what_the_documents_say(
    story_pages: tuple[World, str, dict[str, str]], browser: Browser, tmp_path: Path
) -> None:
    import httpx

    _, address, known = story_pages
    if not known:
        log_in(browser, address, known).context.close()
    base = address.split("/login")[0]
    with httpx.Client(cookies={"sloth": known["sloth"]}, timeout=60) as client:
        text = client.get(f"{base}/metrics").text
    assert re.search(r'sloth_host_last_run_success\{host="web2"\} 0', text)
    assert re.search(r'sloth_site_last_run_success\{site="[^"]*deploy.sloth"\} 0', text)
    pytest.importorskip("schemathesis")
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    examples = os.environ.get("SLOTH_API_EXAMPLES", "5")
    done = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "run", f"{base}/api/v1/openapi.json", "--checks", checks,
         "-H", f"Cookie: sloth={known['sloth']}", "--max-examples", examples, "--phases", "examples,fuzzing",
         "--seed", "1", "--no-color", "--generation-database", "none"],
        cwd=tmp_path, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
