"""state freeze: what runs leave alone for a while, and what says so."""

from __future__ import annotations

import sqlite3
import xml.etree.ElementTree as ET

import pytest

from tests.support.home import Home

pytestmark = pytest.mark.timeout(180)

BODY = """
    file.copy({content = "one\\n", dest = "FILES/one", mode = "0600"})
    file.copy({content = "two\\n", dest = "FILES/two"})
    file.lineinfile({path = "FILES/lines", line = "a", create = true})
    file.lineinfile({path = "FILES/lines", line = "b"})
"""


@pytest.fixture
def managed(home: Home) -> Home:
    home.site(BODY, before='handler({name = "h", run = function() log.warn("handled") end})', options='notify = "h",')
    home.run()
    return home


def freeze(home: Home, *keys: str, until: str = "3d", status: int = 0) -> str:
    return home(
        "state", "freeze", *keys, "--agent", "web1", "--until", until, "--why", "debugging", status=status
    )  # fmt: skip


def test_a_run_leaves_it_alone_and_says_so(managed: Home) -> None:
    home = managed
    one = f"file:copy:{home.files}/one"
    assert f"froze {one} on web1 until " in freeze(home, f"file:{home.files}/one")
    (home.files / "one").write_text("edited\n")
    (home.files / "two").write_text("edited\n")
    shown = home.run("--junit", str(home.path / "junit.xml"))
    assert f"frozen     file.copy {home.files}/one: {one} is frozen until " in shown
    assert "by root: debugging" in shown or "debugging" in shown
    assert "1 changed, 2 unchanged, 1 frozen" in shown
    assert (home.text("one"), home.text("two")) == ("edited\n", "two\n")
    (suite,) = ET.parse(home.path / "junit.xml").getroot()
    assert suite.find("properties/property[@name='frozen']").get("value") == "1"  # type: ignore[union-attr]
    assert "is frozen until" in (suite.findtext("system-out") or "")
    document = home.json("run", "-f", "site.sloth", "--limit", "web1", "--check")
    assert document["summary"]["frozen"] == 1
    (result,) = [
        one for one in document["hosts"]["web1"]["tasks"][0]["results"] if one["status"] == "frozen"
    ]  # fmt: skip
    assert (result["changed"], result["failed"]) == (False, False)
    assert home.json("runs", "list")[0]["frozen"] == 1
    # Drift lists it apart, and is none of its own.
    drift = home.json("drift", "--limit", "web1", "--exit-code")
    (row,) = drift["hosts"]["web1"]["frozen"]
    assert (row["key"], list(row["diff"]), drift["summary"]["drift"]) == (one, ["content"], 0)
    assert f"frozen       web1  {one} is frozen until" in home("drift", "--limit", "web1")
    assert "debugging" in home("state", "list", "--agent", "web1")
    assert home.json("state", "show", one, "--agent", "web1")["frozen"]["why"] == "debugging"
    assert [row["key"] for row in home.json("state", "list", "frozen", "--agent", "web1")] == [one]
    assert "is no longer frozen" in home("state", "unfreeze", f"file:{home.files}/one", "--agent", "web1")
    assert "none of these is frozen" in home("state", "unfreeze", one, "--agent", "web1", status=1)
    assert "1 changed" in home.run()
    assert home.text("one") == "one\n"


def test_pruning_and_rollback_leave_it_alone(managed: Home) -> None:
    home = managed
    run = home.last_run()
    freeze(home, f"file:copy:{home.files}/*")
    home.site('file.lineinfile({path = "FILES/lines", line = "a"})')
    assert "is frozen until" in home.run("--prune", "--yes")
    assert (home.text("one"), home.text("two"), home.text("lines")) == ("one\n", "two\n", "a\n")
    shown = home("rollback", run, "--yes", "--limit", "web1", "--force", status=1)
    assert "is frozen until" in shown
    assert home.text("one") == "one\n"


def test_what_is_frozen_is_a_thing_and_not_a_call(managed: Home) -> None:
    home = managed
    freeze(home, f"file:copy:{home.files}/one")
    home.site('file.lineinfile({path = "FILES/one", line = "more"})')
    assert "frozen     file.lineinfile" in home.run()
    (home.path / "t.j2").write_text("other")
    home.site('file.template({src = "t.j2", dest = "FILES/one"})')
    assert "frozen     file.template" in home.run()
    assert home.text("one") == "one\n"
    freeze(home, f"file:lineinfile:{home.files}/lines:b")
    home.site('file.copy({content = "all new", dest = "FILES/lines"})')
    assert "frozen     file.copy" in home.run(), "the file has the frozen line in it"
    home.site('file.lineinfile({path = "FILES/lines", line = "c"})')
    assert "1 changed" in home.run(), "another line is another thing"


def test_it_is_over_by_the_host_s_clock(managed: Home) -> None:
    home = managed
    one = f"file:copy:{home.files}/one"
    freeze(home, one, until="1h")
    database = home.path / ".sloth-runner/state/web1.db"
    with sqlite3.connect(database) as state:
        state.execute("UPDATE freezes SET until=strftime('%s', 'now') - 1")
    state.close()
    (home.files / "one").write_text("edited\n")
    assert home.json("state", "list", "frozen", "--agent", "web1") == []
    assert "1 changed" in home.run()
    assert home.text("one") == "one\n"


def test_wrong_times_and_keys(managed: Home) -> None:
    home = managed
    one = f"file:copy:{home.files}/one"
    assert "--until 'soon' is no time; hint: such as" in freeze(home, one, until="soon", status=2)
    assert "has passed already" in freeze(home, one, until="2020-01-01", status=1)
    assert "no state of file:copy:/none on web1" in freeze(home, "file:copy:/none", status=1)
    assert "Missing option '--why'" in home("state", "freeze", one, "--until", "1h", status=2)
    assert "froze" in freeze(home, one, until="2099-01-01 12:00")
    home("state", "mv", one, f"file:template:{home.files}/one", "--agent", "web1", "--yes")
    (frozen,) = home.json("state", "list", "frozen", "--agent", "web1")
    assert frozen["key"] == f"file:template:{home.files}/one", "a freeze follows its record"


def test_a_plan_does_not_touch_what_was_frozen_since(managed: Home) -> None:
    home = managed
    (home.files / "one").write_text("edited\n")
    home.run("-o", "deploy.plan", verb="plan")
    freeze(home, f"file:copy:{home.files}/one")
    assert "planned as changed, and now frozen" in home("apply", "deploy.plan", "--allow-unknown", status=3)
    assert home.text("one") == "edited\n"
