"""Saved plans in the web UI, in the states that plans get into."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command import sloth
from tests.support.home import Home
from tests.support.web_client import Client, serving

pytest.importorskip("starlette", reason="the extra `web` is not installed")


def rows(client: Client) -> dict[str, dict[str, str]]:
    found = client.json("/plans")["rows"]
    assert isinstance(found, list)
    return {row["name"]: row for row in found}


def test_a_plan_says_whether_it_was_applied_and_by_which_runs(home: Home) -> None:
    home.site('file.copy({dest = "FILES/" .. host.name, content = "<b>1</b>\\n"})')
    for name in ("deploy.plan", "other.plan"):
        home("plan", "-f", "site.sloth", "-o", name)
    with serving(home.path, "-i", "inventory.toml", "--plan", "deploy.plan", "--plan", "other.plan") as address:
        client = Client(address)
        client.log_in()
        assert "not yet, as far as this controller knows" in client.page("/plan?name=deploy.plan")
        assert [row["applied"] for row in rows(client).values()] == ["", ""]
        home("apply", "deploy.plan", "--check")
        assert rows(client)["deploy.plan"]["applied"] == "", "a check applies nothing"
        home("apply", "deploy.plan", "-l", "web1")
        home("apply", "deploy.plan", status=3)  # web1 has it
        found = client.json("/plan?name=deploy.plan")
        second, first = found["applied"]  # type: ignore[misc]
        assert [run["end"] for run in (second, first)] == ["failed", "changed"]
        assert (first["limit"], second["limit"]) == ("web1", "")
        assert {name: row["applied"] for name, row in rows(client).items()} == {
            "deploy.plan": second["run"],
            "other.plan": "",
        }
        page = client.page("/plan?name=deploy.plan")
        assert "&lt;b&gt;1&lt;/b&gt;" in page
        assert f'/runs/{first["run"]}"' in page
        # And the other way: the run shows what it applied, by which command, and can be found by its plan.
        about = client.json(f"/runs/{first['run']}")["about"]
        assert about["plan"] == found["plan"]["id"]  # type: ignore[index]
        assert about["command"] == ["apply", "deploy.plan", "-l", "web1"]  # type: ignore[index]
        assert f"Applies the plan</dt><dd><code>{about['plan']}" in client.page(f"/runs/{first['run']}")  # type: ignore[index]
        listed = client.json(f"/runs?plan={about['plan']}")["rows"]  # type: ignore[index]
        assert {run["run"] for run in listed} >= {first["run"], second["run"]}  # type: ignore[union-attr]
        assert about["plan"] in home("runs", "show", first["run"])  # type: ignore[index]
        checks = client.json("/runs?kind=check&sort=started")["rows"]
        command = client.json(f"/runs/{checks[0]['run']}")["about"]["command"]  # type: ignore[index]
        assert command == ["plan", "-f", "site.sloth", "-o", "deploy.plan"]


def test_plans_that_cannot_be_read_say_why_and_leave_the_others(home: Home, tmp_path: Path) -> None:
    home.site('file.copy({dest = "FILES/one", content = "secret text\\n"})')
    (home.path / "a").mkdir()
    for name in ("good.plan", "a/good.plan", "cut.plan", "removed.plan"):
        home("plan", "-f", "site.sloth", "-o", name)
    key = sloth(home.path, "key", "generate").stdout.strip()
    (home.path / "key").write_text(key + "\n")
    (home.path / "key").chmod(0o600)
    home("plan", "-f", "site.sloth", "-o", "sealed.plan", "--encrypt", "--key-file", "key")
    cut = home.path / "cut.plan"
    cut.write_bytes(cut.read_bytes()[:-40])
    (home.path / "text.plan").write_text("no plan\n")
    (home.path / "empty.plan").write_text("")
    names = ("good.plan", "a/good.plan", "cut.plan", "removed.plan", "sealed.plan", "text.plan", "empty.plan")
    words = [word for name in names for word in ("--plan", name)]
    with serving(home.path, "-i", "inventory.toml", *words) as address:
        client = Client(address)
        client.log_in()
        (home.path / "removed.plan").unlink()
        found = rows(client)
        bad = {name: row["problem"] for name, row in found.items() if row["problem"]}
        assert set(bad) == {"cut.plan", "removed.plan", "sealed.plan", "text.plan", "empty.plan"}
        assert "key" in bad["sealed.plan"]
        assert "not found" in bad["removed.plan"] or "No such file" in bad["removed.plan"]
        assert sum(name.endswith("good.plan") for name in found) == 2, "two of one name are told apart"
        page = client.page("/plans")
        assert page.count('<td colspan="6">') == len(bad)
        for name in bad:
            status, text, _ = client.request(f"/plan?name={name}")
            assert status in (404, 409, 500, 503), name
            assert "Traceback" not in text
            assert "secret text" not in text
