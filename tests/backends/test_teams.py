"""Two laptops and a CI job work on one fleet through each backend, and lose no record."""

from __future__ import annotations

import json
import os
import secrets
import signal
import sqlite3
from pathlib import Path
from urllib.request import Request, urlopen

import jsonschema
import pytest

from tests.support.etcd import EtcdServer
from tests.support.paths import ROOT
from tests.support.team import Team, wait_until

ONE = 'file.copy({content = "1\\n", dest = "FILES/" .. host.name})'
TWO = 'file.copy({content = "2\\n", dest = "FILES/" .. host.name .. "-2"})'
SLOW = 'exec.run({cmd = "touch FILES/begun-" .. host.name .. "; sleep 3"})'
JOB = {
    "GITHUB_ACTIONS": "true", "GITHUB_RUN_ID": "42", "GITHUB_SERVER_URL": "https://git.example.org",
    "GITHUB_REPOSITORY": "ops/fleet",
}  # fmt: skip


def of_schema(name: str, document: object) -> None:
    schema = json.loads((ROOT / "sloth" / "report" / "schema_state.json").read_text())
    jsonschema.validate(document, {**schema, "$ref": f"#/$defs/{name}"})


@pytest.fixture
def team(tmp_path: Path, server_url: str) -> Team:
    return Team(tmp_path, server_url)


@pytest.fixture
def over_etcd(tmp_path: Path, etcd_server: EtcdServer) -> Team:
    return Team(tmp_path, etcd_server.url(secrets.token_hex(4)))


@pytest.fixture
def over_file(tmp_path: Path) -> Team:
    return Team(tmp_path, f"sqlite://{tmp_path}/backend.db")


def test_two_laptops_and_a_ci_job(team: Team, tmp_path: Path) -> None:
    ann, ben = team.controller("ann"), team.controller("ben")
    team.site(ONE, 'if host.name == "web2" then error("no") end')
    ann.run(status=1)
    (first,) = ben.runs()
    assert ben.recorded() == ann.recorded() == [f"file:copy:{team.files}/web1"]
    assert "ann" in ben("runs", "show", first)
    assert "web2" in ben("runs", "show", first)
    team.site(ONE, TWO)
    job = team.controller("job", **JOB)
    assert "2 changed" not in job.run("--limit", "@failed"), "a job with an empty home retries what has failed"
    assert (team.files / "web2-2").exists()
    assert not (team.files / "web1-2").exists()
    assert "root from https" not in ann("runs", "list")
    assert "job from https://git.example.org/ops/fleet/actions/runs/42" in ann("runs", "show", ann.runs()[0])
    ann.run()
    assert len(ann.runs()) == 3
    assert set(ann.runs()) == set(ben.runs()) == set(job.runs())
    assert ben.recorded() == job.recorded() == [f"file:copy:{team.files}/web1", f"file:copy:{team.files}/web1-2"]
    assert ben.json("state", "stats", "--cached", "--agent", "web1")["resources"] == 2
    job("state", "export", "--cached", "--agent", "web*", "-o", str(tmp_path / "dump"))
    assert "web1: 2 resources" in job("state", "verify", str(tmp_path / "dump"))
    # What the hosts have is asked for from there: it is the same on each controller.
    assert ben("state", "diff", first, "last", "--agent", "web1").count("-2") >= 1
    on_host = ben.json("state", "diff", first, "last", "--agent", "web1")
    cached = job.json("state", "diff", first, "last", "--agent", "web1", "--cached")
    assert [row["key"] for row in cached] == [row["key"] for row in on_host] == [f"file:copy:{team.files}/web1-2"]
    assert ben("drift").endswith("3 states, none has drifted\n") or "none has drifted" in ben("drift")


def test_a_laptop_goes_on_where_another_one_was_killed(over_etcd: Team) -> None:
    ann, ben = over_etcd.controller("ann"), over_etcd.controller("ben")
    over_etcd.site(ONE, SLOW, TWO)
    process = ann.start("run", "-f", "site.sloth")
    wait_until(lambda: len(list(over_etcd.files.glob("begun-*"))) == 2, "the run does not begin")
    wait_until(lambda: len(ben.runs()) == 1, "the run is not in the backend")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (run,) = ben.runs()
    assert "not finished" in ben("runs", "show", run)
    over_etcd.site(ONE, 'exec.run({cmd = "true"})', TWO)
    output = ben.run("--resume", run, "--lock-wait", "120")  # the lock of the killed run expires
    assert f"resuming run {run}, which ann began elsewhere" in output
    assert (over_etcd.files / "web1-2").exists()
    assert len(ann.runs()) == 2
    assert f"file:copy:{over_etcd.files}/web2-2" in ann.recorded("web2")


def test_a_server_that_is_killed_in_mid_run_costs_no_record(tmp_path: Path) -> None:
    (tmp_path / "etcd").mkdir()
    server = EtcdServer(tmp_path / "etcd")
    server.start()
    try:
        team = Team(tmp_path, server.url("x"))
        ann, ben = team.controller("ann"), team.controller("ben")
        team.site(ONE, SLOW, TWO)
        process = ann.start("run", "-f", "site.sloth")
        wait_until(lambda: len(list(team.files.glob("begun-*"))) == 2, "the run does not begin")
        server.kill()
        out, error = process.communicate(timeout=120)
        assert process.returncode == 0, out + error
        assert (out + error).count("not delivered to the backend yet") == 1
        assert (team.files / "web1-2").exists(), "the hosts' work goes on"
        text = ben("runs", "list")
        assert "what this controller has by itself is used" in text
        assert ann("state", "list", "--cached", "--agent", "web1").count("web1-2") == 1
        server.start()
        (run,) = ann.runs()
        assert ben.runs() == [run]
        assert len(ben.recorded()) == 2
        server.kill()
        refused = ann.start("run", "-f", "site.sloth", "--lock-wait", "1").communicate()
        assert "the site cannot be locked" in refused[1]
        assert "not delivered" in ann.run("--no-lock"), "a server that is away at the start"
        server.start()
        assert len(ann.runs()) == len(ben.runs()) == 2
    finally:
        server.kill()


def test_runs_at_once_and_ctrl_c(over_file: Team, tmp_path: Path) -> None:
    # web1 is an account of its own: on one account, runs come one after the other.
    (tmp_path / "account").mkdir()
    ann, ben = over_file.controller("ann", HOME=str(tmp_path / "account")), over_file.controller("ben")
    over_file.site(ONE, SLOW)
    one = ann.start("run", "-f", "site.sloth", "--site-name", "one", "--limit", "web1")
    two = ben.start("run", "-f", "site.sloth", "--site-name", "two", "--limit", "web2")
    wait_until(lambda: len(list(over_file.files.glob("begun-*"))) == 2, "the runs do not begin")
    two.send_signal(signal.SIGTERM)  # SIGINT is ignored where tests run in the background
    for process, status in ((one, 0), (two, 130)):
        out, error = process.communicate(timeout=90)
        assert process.returncode == status, out + error
    third = over_file.controller("third")
    assert {run["who"]: run["status"] for run in third.json("runs", "list")} == {"ann": 0, "ben": 130}
    assert third.recorded("web1") == [f"file:copy:{over_file.files}/web1"]
    assert third.recorded("web2") == [f"file:copy:{over_file.files}/web2"]


def test_values_are_encrypted_and_another_key_is_refused_clearly(over_file: Team, tmp_path: Path) -> None:
    text = over_file.inventory.read_text()
    over_file.inventory.write_text(f'[backend]\nurl = "{over_file.backend}"\nencrypt = true\n{text}')
    ann, ben = over_file.controller("ann"), over_file.controller("ben")
    del ann.environment["SLOTH_BACKEND"]
    del ben.environment["SLOTH_BACKEND"]
    over_file.site(ONE)
    ann.run()
    with sqlite3.connect(tmp_path / "backend.db") as database:
        values = [bytes(row[0]) for row in database.execute("SELECT value FROM entries")]
    database.close()
    assert len(values) >= 5
    assert {value.split(b" {")[0] for value in values} == {b"sloth-runner sealed 1"}, "names are visible, no value is"
    assert ben.runs() == ann.runs()
    carl = over_file.controller("carl")
    del carl.environment["SLOTH_BACKEND"]
    old = carl.environment["SLOTH_KEY"]
    new = carl("key", "generate").strip()
    carl.environment["SLOTH_KEY"] = new
    assert "is encrypted with the key" in carl("runs", "list")
    (tmp_path / "old").write_text(old)
    (tmp_path / "old").chmod(0o600)
    (tmp_path / "new").write_text(new)
    (tmp_path / "new").chmod(0o600)
    words = ("state", "rekey", "--key-file", str(tmp_path / "old"), "--new-key-file", str(tmp_path / "new"))
    assert "entries were encrypted again" in ann(*words)
    assert "0 entries" in ann(*words), "repeated, as after a kill"
    assert carl.runs() == ann.runs()
    assert carl.recorded() == [f"file:copy:{over_file.files}/web1"]


def test_versions_are_kept_and_restored(over_file: Team) -> None:
    ann, ben = over_file.controller("ann"), over_file.controller("ben")
    for number in range(3):
        over_file.site(f'file.copy({{content = "{number}\\n", dest = "FILES/" .. host.name .. "-{number}"}})')
        ann.run("--limit", "web1")
    found = ann.json("state", "backend", "versions", "replicas/web1")
    of_schema("backend_versions", found)
    assert [one["version"] for one in found] == [3, 2, 1]
    ann("state", "backend", "restore", "replicas/web1", "1", "--yes")
    assert ben.recorded() == [f"file:copy:{over_file.files}/web1-0"]
    assert "kept are" in ann("state", "backend", "restore", "replicas/web1", "77", "--yes", status=1)
    assert "has no versions" in ann("state", "backend", "versions", "shared/x", status=2)
    run = ann.runs()[0]
    found = ann.json("state", "backend", "versions", f"runs/{run}")
    assert [one["version"] for one in found] == [2, 1]
    assert "ended with status 0" in found[0]["what"]
    assert "not finished" in found[1]["what"]
    # The host is the truth: what comes from there replaces what was restored.
    over_file.site('file.copy({content = "9\\n", dest = "FILES/" .. host.name .. "-9"})')
    ben.run("--limit", "web1")
    assert len(over_file.controller("third").recorded()) == 4


def test_two_runs_are_compared_without_touching_a_host(over_file: Team) -> None:
    ann, ben = over_file.controller("ann"), over_file.controller("ben")
    over_file.site(ONE)
    ann.run()
    over_file.site(ONE, TWO)
    ben.run()
    ben.run()  # changes nothing
    over_file.site(ONE.replace('"1', '"3'))
    ann.run("--limit", "web1", "--prune", "--yes")
    fourth, third, second, first = ann.runs()
    everything = over_file.inventory.read_text()
    unreachable = "".join(f'[hosts.{name}]\naddress = "127.0.0.1"\nport = 1\n' for name in ("web1", "web2"))
    job = over_file.controller("job")

    def compared(one: str, other: str, agent: str = "web1") -> object:
        over_file.inventory.write_text(everything)
        asked = ben.json("state", "diff", one, other, "--agent", agent)
        over_file.inventory.write_text(unreachable)
        cached = job.json("state", "diff", one, other, "--agent", agent, "--cached")
        assert [row["key"] for row in cached] == [row["key"] for row in asked]
        # The host also has what the site does not name.
        assert all(one["diff"].keys() <= other["diff"].keys() for one, other in zip(cached, asked, strict=True))
        of_schema("diff", cached)
        return [row["key"].rpartition("/")[2] for row in cached]

    assert compared(first, second) == ["web1-2"]
    assert compared(second, first) == ["web1-2"], "whatever comes first"
    assert compared(first, third) == ["web1-2"], "a run that changed nothing has no version of its own"
    assert compared(second, third) == []
    assert compared(first, "last") == ["web1"]
    assert compared(third, fourth) == ["web1", "web1-2"]
    assert compared(first, second, "web2") == ["web2-2"]
    over_file.inventory.write_text(everything)
    assert "has not reached web2" in job("state", "diff", first, fourth, "--agent", "web2", "--cached", status=1)
    assert "not found" in job("state", "diff", "2000", "last", "--agent", "web1", "--cached", status=1)
    alone = ("state", "diff", first, "last", "--agent", "web1", "--cached", "--backend", "none")
    assert "without a backend only the hosts have it" in job(*alone, status=2)


def test_an_end_that_was_never_delivered_by_itself_is_not_guessed(over_file: Team) -> None:
    ann = over_file.controller("ann")
    over_file.site(ONE)
    ann.run("--limit", "web1")
    away = over_file.path / "backend.db"
    away.rename(over_file.path / "away")
    away.mkdir()  # nothing can be opened there
    for number in (2, 3):
        over_file.site(ONE.replace('"1', f'"{number}'))
        ann.run("--limit", "web1", "--no-lock")
    away.rmdir()
    (over_file.path / "away").rename(away)
    ben = over_file.controller("ben")
    third, second, first = ann.runs()
    assert len(ben.json("state", "diff", first, third, "--agent", "web1", "--cached")) == 1
    assert f"what web1 was at the end of run {second}" in ben(
        "state", "diff", first, second, "--agent", "web1", "--cached", status=1
    )


def test_everything_moves_to_another_backend(over_file: Team, etcd_server: EtcdServer, tmp_path: Path) -> None:
    ann = over_file.controller("ann")
    over_file.site(ONE, 'state.set("x", 1)')
    ann.run()
    target = etcd_server.url(secrets.token_hex(4))
    words = ("state", "backend", "migrate", over_file.backend, target)
    assert "all are there" in ann(*words)
    assert "all are there" in ann(*words), "again"
    ben = over_file.controller("ben", SLOTH_BACKEND=target)
    assert ben.runs() == ann.runs()
    assert ben.recorded("web2") == ann.recorded("web2")
    ben.run()
    assert "has other data" in ann(*words, status=1)
    assert "is both" in ann("state", "backend", "migrate", target, target, status=1)
    # A controller that had no backend brings along what it has.
    alone = over_file.controller("alone", SLOTH_BACKEND="none")
    alone.run()
    alone.environment["SLOTH_BACKEND"] = target
    alone("state", "backend", "push")
    assert alone.runs()[0] in ben.runs()
    assert len(ben.runs()) == 3


def test_a_backend_is_checked(over_file: Team) -> None:
    ann = over_file.controller("ann")
    found = ann.json("state", "backend", "check")
    of_schema("backend_check", found)
    assert {one["verdict"] for one in found["findings"]} == {"ok"}
    assert "cannot reach" in ann("state", "backend", "check", "--backend", "etcd://127.0.0.1:1", status=1)


def test_a_plan_has_a_name_in_the_backend(over_file: Team) -> None:
    ann, ben = over_file.controller("ann"), over_file.controller("ben")
    over_file.site(ONE)
    assert "apply @deploy-1" in ann("plan", "-f", "site.sloth", "-o", "@deploy-1")
    of_schema("plans", ben.json("plan", "list"))
    assert ben.json("plan", "list") == ["@deploy-1"]
    assert "would change" in ben("plan", "show", "@deploy-1")
    assert "2 changed" in ben("apply", "@deploy-1")
    assert "no plan @deploy-2" in ben("apply", "@deploy-2", status=1)
    assert "is not the name of a plan" in ben("apply", "@../x", status=2)
    assert "needs a backend" in ben("apply", "@deploy-1", "--backend", "none", status=2)
    ben("plan", "delete", "@deploy-1", "--yes")
    assert ann.json("plan", "list") == []


PAGES = ("/", "/runs", "/runs/last", "/hosts", "/hosts/web1", "/drift", "/resources", "/shared", "/plans", "/metrics")


def test_the_web_ui_shows_what_others_have_done(team: Team) -> None:
    pytest.importorskip("starlette", reason="the extra `web` is not installed")
    ann, ben = team.controller("ann"), team.controller("ben", SLOTH_WEB_TOKEN="t" * 40)
    team.site(ONE + ' state.set("color", "green")')
    ann.run()
    ben.run()
    with sqlite3.connect(ben.home / "controller.db") as database:  # both are known here, since an hour ago
        database.execute("UPDATE agents SET seen_at=seen_at-3600")
    team.site(ONE, TWO)
    ann.run("--limit", "web1")
    with ben.start("web", "--port", "0") as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip().partition("/login")[0]

            def page(path: str) -> str:
                request = Request(address + path, headers={"Authorization": "Bearer " + "t" * 40})
                with urlopen(request, timeout=60) as answer:
                    text: str = answer.read().decode()
                    return text

            wait_until(lambda: f"{team.files}/web1-2" in page("/hosts/web1"), "the replica is not fetched")
            assert "ann" in page("/runs/last")
            assert all(page(path) for path in PAGES)
            assert "color" in page("/shared")
            assert "green" in page("/shared")
        finally:
            process.terminate()
            process.communicate(timeout=60)


def test_the_values_that_a_run_was_given_are_recorded_and_secrets_are_not(over_file: Team) -> None:
    ann, ben = over_file.controller("ann", SLOTH_SECRET_S="hunter2-and-more"), over_file.controller("ben")
    over_file.site(ONE, 'local x = secret("s")')
    ann.run("-e", "release=7", "-e", "db.password=geheim99", "-e", "db.host=a", "-e", "late=hunter2-and-more")
    used = {"release": 7, "db": {"password": "********", "host": "a"}, "late": "********"}
    for one in (ann, ben):
        (found,) = one.json("runs", "list")
        assert found["about"]["used"] == used
        assert 'late="********", release=7' in one("runs", "show", "last")
    everything = b"".join(path.read_bytes() for path in over_file.path.rglob("*.db*") if path.is_file())
    assert b"geheim99" not in everything
    with sqlite3.connect(over_file.path / "backend.db") as database:
        values = b"".join(bytes(row[0]) for row in database.execute("SELECT value FROM entries"))
    database.close()
    assert b"hunter2-and-more" not in values, "also not in the version of the beginning, when it was not known yet"
