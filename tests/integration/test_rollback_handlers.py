"""rollback: handlers run again for what was taken back, secrets that did not change are no obstacle, `last`."""

from __future__ import annotations

from tests.support.home import Home

SITE = """
task({name = "conf", notify = "restart", run = function()
    file.copy({content = "port CONTENT\\n", dest = "FILES/conf"})
end})
task({name = "other", notify = "reload", run = function()
    file.copy({content = "OTHER\\n", dest = "FILES/other"})
end})
handler({name = "restart", run = function()
    exec.run({cmd = "cat FILES/conf >> FILES/daemon"})
    exec.run({cmd = "echo done >> FILES/daemon"})
end})
handler({name = "reload", run = function() exec.run({cmd = "echo reloaded >> FILES/log"}) end})
"""


def write(home: Home, content: str, other: str = "same", more: str = "") -> None:
    text = SITE.replace("CONTENT", content).replace("OTHER", other) + more
    (home.path / "site.sloth").write_text(text.replace("FILES", str(home.files)))


def two_runs(home: Home) -> None:
    write(home, "22")
    home.run()
    write(home, "2222")
    home.run()
    assert home.text("daemon") == "port 22\ndone\nport 2222\ndone\n"


def test_a_rollback_runs_the_handlers_of_what_it_takes_back(home: Home) -> None:
    two_runs(home)
    plan = home("rollback", "last", "--check", "--limit", "web1")
    assert "would restore  web1  file:copy:" in plan
    assert plan.count("would run      web1  exec:run:") == 2
    assert "(handler restart)" in plan
    assert "reload" not in plan, "it was not notified in this run"
    assert home.text("daemon") == "port 22\ndone\nport 2222\ndone\n"
    shown = home("rollback", "last", "--yes", "--limit", "web1")
    assert "restored" in shown
    assert home.text("conf") == "port 22\n"
    assert home.text("daemon") == "port 22\ndone\nport 2222\ndone\nport 22\ndone\n", "it read the former file"
    assert home.text("log") == "reloaded\n"
    assert home.json("drift", "--limit", "web1")["summary"]["drift"] == 0


def test_no_handler_runs_for_what_was_not_restored(home: Home) -> None:
    two_runs(home)
    (home.files / "conf").write_text("by hand\n")
    before = home.text("daemon")
    shown = home("rollback", "last", "--yes", "--limit", "web1", status=1)
    assert "changed since: content" in shown
    assert home.text("daemon") == before
    changes = home.json("rollback", "last", "--force", "--yes", "--limit", "web1")["hosts"]["web1"]["changes"]
    assert [(row["handler"], row["status"]) for row in changes] == [
        ("", "done"),
        ("restart", "done"),
        ("restart", "done"),
    ]
    assert home.text("daemon") == f"{before}port 22\ndone\n"


def test_actions_of_tasks_are_not_done_again(home: Home) -> None:
    two_runs(home)
    action = 'task({name = "act", notify = "restart", run = function() exec.run({cmd = "echo act >> FILES/act"}) end})'
    write(home, "22", more=action)
    home.run()
    shown = home("rollback", "last", "--yes", "--limit", "web1", status=1)
    assert "an action was done, and cannot be undone" in shown
    assert home.text("act") == "act\n"
    assert (home.text("daemon") or "").endswith("port 2222\ndone\n")


def test_a_handler_that_fails_is_a_failure(home: Home) -> None:
    two_runs(home)
    write(home, "1")
    home.run()
    daemon = home.files / "daemon"
    daemon.unlink()
    daemon.mkdir()
    shown = home("rollback", "last", "--yes", "--limit", "web1", status=1)
    assert "failed         web1  exec:run:" in shown
    assert home.text("conf") == "port 2222\n"


def test_a_handler_with_a_secret_is_reported(home: Home, monkeypatch: object) -> None:
    import os

    os.environ["SLOTH_SECRET_TOKEN"] = "a-long-secret-token"
    try:
        secret = SITE.replace('cmd = "echo done >>', 'cmd = "echo " .. secret("token") .. " >>')
        for port in ("22", "2222"):
            text = secret.replace("CONTENT", port).replace("FILES", str(home.files))
            (home.path / "site.sloth").write_text(text)
            home.run()
        shown = home("rollback", "last", "--yes", "--limit", "web1", status=1)
    finally:
        del os.environ["SLOTH_SECRET_TOKEN"]
    assert "not run        web1  exec:run:" in shown
    assert "had secrets in it, which are not kept; hint: the next run of its site runs it" in shown
    assert owed(home) == ["restart"]
    assert "a-long-secret-token" not in shown
    assert home.text("conf") == "port 22\n"


def owed(home: Home) -> list[str]:
    """Return the handlers that the next run of the site runs."""
    return [row["name"] for row in home.json("state", "list", "handler", "--agent", "web1")]


def test_a_killed_rollback_owes_its_handlers(home: Home) -> None:
    """They run in the site's next run, as those of a killed run do."""
    two_runs(home)
    write(home, "3")
    site = home.path / "site.sloth"
    site.write_text(
        site.read_text().replace(
            f"cat {home.files}/conf >>", f"test -e {home.files}/kill && kill -9 $PPID; cat {home.files}/conf >>"
        )
    )
    home.run()
    (home.files / "kill").touch()
    home("rollback", "last", "--yes", "--limit", "web1", status=4)
    assert home.text("conf") == "port 2222\n", "it was taken back before its handler was to run"
    assert owed(home) == ["restart"]
    (home.files / "kill").unlink()
    before = home.text("daemon")
    write(home, "2222")
    assert "1 unchanged" not in home.run()
    assert home.text("daemon") == f"{before}port 2222\ndone\n"
    assert owed(home) == []


def test_a_rollback_that_did_it_all_owes_nothing(home: Home) -> None:
    two_runs(home)
    home("rollback", "last", "--yes", "--limit", "web1")
    assert owed(home) == []
    write(home, "3")
    home.run()
    (home.files / "conf").write_text("by hand")
    home("rollback", "last", "--yes", "--limit", "web1", status=1)
    assert owed(home) == [], "nothing was taken back"


def test_a_handler_that_only_has_resources_is_left_to_the_next_run(home: Home) -> None:
    def write_port(port: str) -> None:
        call = f'file.copy({{content = "{port}", dest = "FILES/conf"}})'
        handler = 'handler({name = "link", run = function() file.link({path = "FILES/l", src = "FILES/conf"}) end})'
        home.site(call, before=handler.replace("FILES", str(home.files)), options='notify = "link",')

    for port in ("1", "2"):
        write_port(port)
        home.run()
    shown = home("rollback", "last", "--yes", "--limit", "web1", status=1)
    assert "it made no calls here that could be made again; the next run of its site runs it" in shown
    assert home.text("conf") == "1"
    assert owed(home) == ["link"]
    write_port("1")
    home.run()
    assert owed(home) == []


def test_last_is_the_newest_run_that_changed_something(home: Home) -> None:
    assert "run last not found" in home("rollback", "last", "--yes", status=1)
    home.site('file.stat("/")')
    home.run()
    assert "no run has changed anything" in home("rollback", "last", "--yes", status=1)
    home.site('file.copy({content = "x", dest = "FILES/x"})')
    home.run()
    run = home.last_run()
    home.run()
    home("run", "-f", "site.sloth", "--limit", "web1", "--check")
    shown = home("rollback", "last", "--yes", "--limit", "web1")
    assert f"the newest run that changed something is {run} of site.sloth" in shown
    assert home.text("x") is None
