"""`sloth-runner web` itself, over what real runs have recorded: what it prints, refuses, shows, and asks hosts."""

from __future__ import annotations

import os
import re
import ssl

import pytest

from tests.support.home import Home
from tests.support.tls import Certificates
from tests.support.web import TOKEN, segment
from tests.support.web_client import Client, serving

pytest.importorskip("starlette", reason="the extra `web` is not installed")


def test_what_runs_did_is_there_to_be_clicked(home: Home) -> None:
    body = 'log.info(facts.hostname) file.copy({content = "Port 22\\n", dest = "FILES/sshd_config"})'
    home.site(body, options="serial = 1,")  # both hosts are this machine: web1 is to be the first
    home("run", "-f", "site.sloth", "-e", "release=7")
    first = home.last_run()
    (home.files / "sshd_config").write_text("Port 2222\n")
    home("drift")
    home("run", "-f", "site.sloth", "--check", "-l", "web1")
    home.site('file.copy({content = "Port 22\\n", dest = "FILES/missing/directory/x"})', name="bad.sloth")
    home("run", "-f", "bad.sloth", "-l", "web2", status=1)
    key = f"file:copy:{home.files}/sshd_config"
    with serving(home.path, "-i", "inventory.toml") as address:
        client = Client(address)
        client.log_in()
        # What failed in the last run, and why?
        overview = client.json("/overview")
        assert (overview["failed"], overview["drifted"], overview["hosts"]) == (1, 2, 2)
        (newest,) = [run for run in overview["newest"] if run["end"] == "failed"]  # type: ignore[attr-defined]
        page = client.page(f"/runs/{newest['run']}")
        assert "bad.sloth:3" in page
        assert "missing/directory" in page
        assert "sloth-runner run -f bad.sloth -l web2" in page
        # Which hosts drifted?
        drifted = client.json("/hosts?drift=drift")["hosts"]
        assert [row["host"] for row in drifted["rows"]] == ["web1", "web2"]  # type: ignore[index]
        # Who changed it on web1, and when? And what was it before?
        changes = client.json(f"/hosts/web1/history?key={segment(key)}")["changes"]["rows"]  # type: ignore[index]
        kinds = [(row["kind"], row["status"]) for row in changes]
        assert kinds == [("check", "changed"), ("drift", "drift"), ("run", "changed")]
        assert changes[2]["run"] == first
        assert changes[2]["who"]
        shown = client.page(f"/runs/{changes[1]['run']}/changes/{changes[1]['number']}")
        assert "Port 2222" in shown
        assert "as applied" in shown
        # How was it run, and where did time go?
        about = client.json(f"/runs/{first}")["about"]
        assert (about["values"], about["command"]) == (["release"], ["run", "-f", "site.sloth", "-e", "release=…"])  # type: ignore[index]
        ends = client.json(f"/runs/{first}/hosts")["hosts"]["rows"]  # type: ignore[index]
        assert {span["kind"] for end in ends for span in end["spans"]} >= {"start", "task", "call"}
        assert about["used"] == {"release": "7"}
        assert "<code>release</code> = <code>7</code>" in client.page(f"/runs/{first}")
        # Facts that the site has read
        facts = client.json("/hosts/web1/facts?q=hostname")["facts"]["rows"]  # type: ignore[index]
        assert facts[0]["name"] == "hostname"
        by = client.json("/hosts?by=fact:hostname")["shares"]
        assert by[0]["hosts"] == 2  # type: ignore[index]
        # What a rollback would do
        undo = client.json(f"/runs/{first}/rollback")
        assert undo["command"] == f"sloth-runner rollback {first}"
        assert {row["undo"] for row in undo["changes"]["rows"]} == {"remove"}  # type: ignore[index]
        # The host itself is asked only when somebody says so.
        assert "History, as the host has it" not in client.page("/hosts/web1/ask")
        status, text, _ = client.request("/hosts/web1/ask", "POST")
        assert status == 200
        assert "History, as the host has it" in text, text
        assert "nobody holds it" in text
        assert key in text
        assert client.request("/hosts/nobody/ask", "POST")[0] == 404


def test_secrets_are_not_in_run_records(home: Home) -> None:
    home.site(
        'file.copy({content = "pw " .. secret("db") .. "\\n", dest = "FILES/one"})'
        'file.copy({content = "hush-hush\\n", dest = "FILES/two", sensitive = true})'
    )
    os.environ["SLOTH_SECRET_DB"] = "correct-horse"
    try:
        home("run", "-f", "site.sloth", "-l", "web1")
    finally:
        del os.environ["SLOTH_SECRET_DB"]
    for path in home.path.rglob("*"):
        if path.is_file() and "controller.db" in path.name:
            data = path.read_bytes()
            assert b"correct-horse" not in data
            assert b"hush-hush" not in data


def test_tls(home: Home) -> None:
    home.site('file.copy({content = "x", dest = "FILES/x"})')
    pair = Certificates(home.path)
    with serving(home.path, "--cert", str(pair.cert), "--key", str(pair.key), token=TOKEN) as address:
        assert address.startswith("https://127.0.0.1:")
        context = ssl.create_default_context(cafile=str(pair.ca))
        client = Client(address, context)
        status, _, headers = client.request(f"{client.parts.path}?{client.parts.query}")
        assert status == 303
        assert "secure" in headers["set-cookie"].lower()
        assert "strict-transport-security" in headers
        assert "No run is recorded" in client.page("/")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--address", "0.0.0.0"], "can be reached from other machines"),
        (["--address", "::"], "can be reached from other machines"),
        (["--address", "192.0.2.1", "--behind-proxy"], "--behind-proxy needs --host-name"),
        (["--cert", "a"], "--cert and --key belong together"),
        (["--cert", "none.pem", "--key", "none.pem"], "--cert and --key cannot be used"),
        (["--host-name", "a/b"], "--host-name must be a name"),
        (["--prefix", "sloth"], "--prefix must be like /sloth"),
        (["--token-file", "none"], "cannot read none"),
        (["-i", "none.toml"], "none.toml"),
    ],
)
def test_what_is_not_safe_is_refused(home: Home, words: list[str], text: str) -> None:
    assert text in home("web", "--port", "0", *words, status=2)


def test_a_token_that_is_too_short_is_refused(home: Home) -> None:
    (home.path / "token").write_text("short\n")
    assert "at least 16" in home("web", "--port", "0", "--token-file", "token", status=2)


def test_behind_a_proxy(home: Home) -> None:
    words = ("--behind-proxy", "--host-name", "sloth.example", "--prefix", "/sloth")
    with serving(home.path, *words, token=TOKEN) as address:
        assert re.match(r"https://sloth\.example/sloth/login\?code=", address)


def test_a_lock_that_changed_hands_while_the_question_was_open_stays(home: Home) -> None:
    """Two browsers ask about the lock that ann holds; meanwhile ben takes it."""
    take = 'state.lock("deploy", "{}", 3600)'
    home.site(take.format("ann"))
    home.run()
    with serving(home.path, "-i", "inventory.toml", "--allow-actions") as address:
        one = Client(address)
        one.log_in()
        (lock,) = one.json("/shared")["locks"]  # type: ignore[misc]
        form = {"action": "unlock", "lock": "deploy", "number": str(lock["number"])}
        status, question, _ = one.request("/actions/ask", "POST", form)
        assert status == 200
        assert "ann has it since" in question
        csrf = re.search(r'name="csrf" value="([^"]+)"', question)
        assert csrf is not None
        home("state", "unlock", "deploy", "--yes")
        home.site(take.format("ben"))
        home.run()
        status, text, _ = one.request("/actions/do", "POST", {**form, "csrf": csrf[1], "who": "Ann"})
        assert status == 400
        assert "not held any more as it was shown" in text
        assert one.json("/shared")["locks"][0]["holder"].startswith("ben")  # type: ignore[index]
        status, text, _ = one.request("/actions/ask", "POST", form)
        assert status == 400
        assert "ben has it now" in text
        # Asked about as it is now, it is released, and a second click is no second release.
        form["number"] = str(one.json("/shared")["locks"][0]["number"])  # type: ignore[index]
        question = one.request("/actions/ask", "POST", form)[1]
        csrf = re.search(r'name="csrf" value="([^"]+)"', question)
        assert csrf is not None
        for _ in range(2):
            assert one.request("/actions/do", "POST", {**form, "csrf": csrf[1], "who": "Ann"})[0] == 303
        assert one.json("/shared")["locks"] == []
        outcomes = [row["outcome"] for row in one.json("/actions")["rows"]]  # type: ignore[index]
        assert [word.partition(" ")[0] for word in outcomes] == ["released", "begun", "failed:", "begun"]


def test_an_address_that_is_no_name(home: Home) -> None:
    said = home("web", "--address", "web..example", "--behind-proxy", "--host-name", "web", status=2)
    assert "cannot listen on web..example: a part of the name is empty or too long" in said
