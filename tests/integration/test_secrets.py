"""The value of a secret is shown and stored nowhere, whichever way it goes, while errors keep their words."""

from __future__ import annotations

import base64
import json
import sqlite3
import subprocess
import sys
import zlib
from pathlib import Path
from unittest import mock

import pytest

from sloth.state.keys import generate
from tests.support.command import sloth

SECRET = 'pa"ss/wörd-7'
KEY = "-----BEGIN KEY-----\nfirstline0123456789\nsecondline9876543210\n-----END KEY-----\n"
SITE = """
task({name = "t", run = function()
    local token, key = secret("db/token"), secret("key")
    file.copy({content = "token=" .. token .. "\\nport=80\\n", dest = "HOME/conf"})
    file.copy({content = key, dest = "HOME/key"})
    file.template({src = "t.j2", dest = "HOME/rendered"})
    file.lineinfile({path = "HOME/lines", line = "password " .. token, create = true})
    log.debug("debugging " .. token)
    print("the token is " .. token)
    local said = exec.run({cmd = "printf %s \\"$T\\"; printf %s \\"$T\\" | base64", env = {T = token}})
    state.set("deployed", "yes")
    assert(string.sub(said.stdout, 1, #token) == token, "Lua itself sees the value")
    exec.run({cmd = "echo 'cannot log in with " .. string.gsub(token, "'", "") .. ": refused' >&2; exit 3"})
end})
"""


@pytest.fixture
def secret_site(tmp_path: Path) -> Path:
    (tmp_path / "site.sloth").write_text(SITE.replace("HOME", str(tmp_path)))
    (tmp_path / "t.j2").write_text("{{ secret('db/token') }} {{ secret('key') | b64encode }}\n")
    return tmp_path


def run(secret_site: Path, *words: str, token: str = SECRET) -> subprocess.CompletedProcess[str]:
    with mock.patch.dict("os.environ", {"SLOTH_SECRET_DB_TOKEN": token, "SLOTH_SECRET_KEY": KEY}):
        return sloth(secret_site, "run", "-f", "site.sloth", *words)


def stored(secret_site: Path) -> str:
    """Everything that is stored below the secret_site, but for the files that were asked for."""
    asked = {"conf", "key", "rendered", "lines", "site.sloth", "t.j2"}
    data = b""
    for path in secret_site.rglob("*"):
        if path.is_file() and path.name not in asked:
            data += path.read_bytes()
            if path.suffix == ".db":
                with sqlite3.connect(path) as database:
                    if database.execute("SELECT 1 FROM sqlite_master WHERE name='pieces'").fetchone():
                        data += b"".join(zlib.decompress(row[0]) for row in database.execute("SELECT data FROM pieces"))
                database.close()
    return data.decode("utf-8", "replace")


def leaks(text: str, secret: str = SECRET) -> list[str]:
    forms = [secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]]
    forms += [base64.b64encode(secret.encode()).decode(), base64.b64encode(KEY.encode()).decode()]
    forms += ["firstline0123456789", "secondline9876543210"]
    return [form for form in forms if form in text]


@pytest.mark.parametrize("output", ["plain", "json", "ndjson"])
@pytest.mark.parametrize("more", [[], ["--check"]], ids=["run", "check"])
def test_no_sink_has_it(secret_site: Path, output: str, more: list[str]) -> None:
    done = run(secret_site, "--output", output, "--diff", "-vv", "--junit", "junit.xml", *more)
    assert done.returncode == (0 if more else 1), done.stderr
    for text in (done.stdout, done.stderr, (secret_site / "junit.xml").read_text(), stored(secret_site)):
        assert leaks(text) == [], text[max(0, text.find(SECRET) - 300) : text.find(SECRET) + 100]
    assert "********" in done.stdout
    if not more:
        assert "cannot log in with ********: refused" in done.stdout, "the words of an error stay"
        assert (secret_site / "conf").read_text() == f"token={SECRET}\nport=80\n"
        history = sloth(secret_site, "state", "history", "--diff").stdout
        assert leaks(history) == []
        assert "+token=********" in history
        assert "+port=80" in history


def test_a_rotated_secret_s_old_value_is_as_secret(secret_site: Path) -> None:
    run(secret_site)
    done = run(secret_site, "--diff", token="a-new-value-of-it")
    assert leaks(done.stdout) == []
    assert leaks(done.stdout, "a-new-value-of-it") == []
    assert leaks(stored(secret_site)) == []
    assert leaks(stored(secret_site), "a-new-value-of-it") == []
    rolled = sloth(secret_site, "rollback", "last", "--yes")
    assert "secrets" in rolled.stdout
    assert leaks(rolled.stdout + rolled.stderr) == []


def test_drift_of_what_has_secrets_in_it(secret_site: Path) -> None:
    run(secret_site)
    told = json.loads(sloth(secret_site, "drift", "-o", "json").stdout)["hosts"]["local"]
    assert told["drift"] == []
    assert [row["msg"] for row in told["unknown"]] == ["it was made with a secret; a check of its site can tell"]
    (secret_site / "conf").write_text(f"token={SECRET}\nport=81\n")
    done = sloth(secret_site, "drift", "--diff")
    assert "file:copy" in done.stdout
    assert leaks(done.stdout) == []


def test_what_a_secret_names_is_taken_for_nothing_else(tmp_path: Path) -> None:
    """Of a secret only a hash is kept, so a record that it names cannot be compared, restored or removed."""
    (tmp_path / "site.sloth").write_text(
        'task({name = "name " .. secret("s"), run = function()\n'
        'file.link({path = "~/link", src = "/nowhere/" .. secret("s"), force = true})\n'
        'file.copy({content = "x", dest = "~/" .. secret("s")})\n'
        'exec.run({cmd = "true", unless = "true", env = {A = secret("s")}})\nend})'
    )
    value = "an-unknown-name"
    with mock.patch.dict("os.environ", {"SLOTH_SECRET_S": value}):
        assert sloth(tmp_path, "run", "-f", "site.sloth").returncode == 0
    drift = sloth(tmp_path, "drift")
    assert drift.stdout.count("it was made with a secret; a check of its site can tell") == 2, drift.stdout
    (tmp_path / "site.sloth").write_text(
        'task({name = "t", run = function() file.link({path = "~/link", src = "/etc/hosts", force = true}) end})'
    )
    pruned = sloth(tmp_path, "run", "-f", "site.sloth", "--prune", "--yes")
    assert "what it is about was a secret, which is not kept" in pruned.stdout
    back = sloth(tmp_path, "rollback", "last", "--yes", "--force")
    assert "its former target is a secret, and was not kept" in back.stdout, back.stdout
    assert (tmp_path / "link").readlink() == Path("/etc/hosts")
    assert (tmp_path / value).read_text() == "x"
    for text in (drift.stdout, pruned.stdout, back.stdout, stored(tmp_path)):
        assert value not in text


@pytest.mark.parametrize(
    "other",
    [
        'file.lineinfile({path = "~/f", line = "other"})',
        'file.blockinfile({path = "~/f", block = "other"})',
        'file.replace({path = "~/f", regexp = "begin", replace = "start"})',
        'file.copy({content = "begin\\nnothing of it\\nend\\n", dest = "~/f"})',
        'file.template({src = "t.j2", dest = "~/f"})',
        'file.link({src = "/etc/hosts", path = "~/f", force = true})',
        'file.absent("~/f")',
    ],
)
def test_what_others_wrote_of_a_secret_stays_hidden(tmp_path: Path, other: str) -> None:
    """A call that reads no secret, in a later run, shows and keeps the file that another one has put a secret in."""
    (tmp_path / "t.j2").write_text("begin\nnothing of it\n")
    first = 'file.copy({content = "begin\\n", dest = "~/f"}) file.lineinfile({path = "~/f", line = secret("s")})'
    (tmp_path / "a.sloth").write_text(f'task({{name = "t", run = function() {first} end}})')
    (tmp_path / "b.sloth").write_text(f'task({{name = "t", run = function() {other} end}})')
    with mock.patch.dict("os.environ", {"SLOTH_SECRET_S": "yesterday-s-value"}):
        assert sloth(tmp_path, "run", "-f", "a.sloth").returncode == 0
    shown = [
        sloth(tmp_path, "run", "-f", "b.sloth", "--diff", *words)
        for words in (["--check"], ["-vv"], ["-o", "json", "-vv"])
    ]
    shown += [sloth(tmp_path, "state", "history", "--diff"), sloth(tmp_path, "rollback", "last", "--yes", "--diff")]
    assert "changed" in shown[1].stdout
    (tmp_path / "f").unlink(missing_ok=True)
    for text in (*(done.stdout + done.stderr for done in shown), stored(tmp_path)):
        assert "yesterday-s-value" not in text


def test_a_secret_that_is_not_there(secret_site: Path) -> None:
    done = sloth(secret_site, "run", "-f", "site.sloth")
    assert done.returncode == 1
    assert "there is no secret db/token" in done.stdout
    assert "SLOTH_SECRET_DB_TOKEN" in done.stdout


# Stands between the controller and the payload of a host, and keeps what it is sent.
RECORDER = """#!{python}
import os, subprocess, sys
payload = subprocess.Popen([sys.executable, *sys.argv[1:]], stdin=subprocess.PIPE)
with open(__file__ + ".sent", "ab", 0) as file:
    for data in iter(lambda: os.read(0, 65536), b""):
        file.write(data)
        payload.stdin.write(data)
        payload.stdin.flush()
payload.stdin.close()
sys.exit(payload.wait())
"""


def test_a_host_is_sent_no_secret_of_another_one(tmp_path: Path) -> None:
    """Also not what another host has read before; what reaches a host by way of shared values is hidden there, too."""
    hosts = ("one", "two")
    for host in hosts:
        (tmp_path / host).write_text(RECORDER.format(python=sys.executable))
        (tmp_path / host).chmod(0o755)
    (tmp_path / "inventory.toml").write_text(
        "".join(f'[hosts.{host}]\nconnection = "local"\npython = "{tmp_path / host}"\n' for host in hosts)
    )
    (tmp_path / "site.sloth").write_text(
        'task({name = "own", serial = 1, run = function()\n'
        'file.copy({content = secret("of/" .. host.name), dest = "~/" .. host.name})\n'
        'if host.name == "one" then state.set("passed", secret("common")) end\nend})\n'
        'task({name = "passed", hosts = "two", depends_on = "own", run = function()\n'
        'file.copy({content = state.get("passed"), dest = "~/passed"}) end})\n'
    )
    values = {"OF_ONE": "first-value-1", "OF_TWO": "second-value-2", "COMMON": "third-value-3"}
    environment = {f"SLOTH_SECRET_{name}": value for name, value in values.items()}
    with mock.patch.dict("os.environ", {**environment, "SLOTH_KEY": generate()}):
        done = sloth(tmp_path, "run", "-f", "site.sloth")
    assert done.returncode == 0, done.stdout + done.stderr
    sent = {host: (tmp_path / f"{host}.sent").read_bytes() for host in hosts}
    own = {"one": {"OF_ONE"}, "two": {"OF_TWO", "COMMON"}}
    for host in hosts:
        assert {name for name, value in values.items() if value.encode() in sent[host]} == own[host]
    assert (tmp_path / "passed").read_text() == "third-value-3"
    assert "third-value-3" not in stored_values(tmp_path / ".sloth-runner/state/two.db")


SHARING = """
task({name = "share", hosts = "local", run = function()
    state.set("plain", {a = 1})
    state.set("token", {value = "token " .. secret("s"), n = 2})
    assert(state.cas("token", {value = "token " .. secret("s"), n = 2}, {value = "new " .. secret("s")}))
end})
"""
READING = """
task({name = "read", run = function()
    print("it is", state.get("token").value, state.get("plain").a)
    file.copy({content = state.get("token").value, dest = "~/conf"})
end})
"""


def test_a_shared_secret_is_encrypted_and_stays_one(tmp_path: Path) -> None:
    """Another run, which has not read the secret, can use it and hides it."""
    key, value = {"SLOTH_KEY": generate()}, "a-shared-secret-value"
    (tmp_path / "a.sloth").write_text(SHARING)
    (tmp_path / "b.sloth").write_text(READING)
    with mock.patch.dict("os.environ", {**key, "SLOTH_SECRET_S": value}):
        done = sloth(tmp_path, "run", "-f", "a.sloth")
        assert done.returncode == 0, done.stdout
    with mock.patch.dict("os.environ", key):
        done = sloth(tmp_path, "run", "-f", "b.sloth", "--diff")
    assert "it is\tnew ********\t1" in done.stdout
    assert (tmp_path / "conf").read_text() == f"new {value}"
    listed = sloth(tmp_path, "state", "list", "shared").stdout
    assert "token" in listed
    for text in (done.stdout, listed, stored(tmp_path)):
        assert value not in text
    done = sloth(tmp_path, "run", "-f", "b.sloth")
    assert done.returncode == 1
    assert "the shared value token is encrypted with the key" in done.stdout


def test_a_secret_is_not_shared_without_a_key_or_as_a_name(tmp_path: Path) -> None:
    (tmp_path / "a.sloth").write_text(SHARING)
    named = 'task({name = "t", ignore_errors = true, run = function() CALL end})\n'
    calls = ('state.set(secret("s"), 1)', 'state.lock(secret("s"), "me")', 'state.lock("l", secret("s"))')
    (tmp_path / "b.sloth").write_text(
        "".join(named.replace('"t"', f'"t{i}"').replace("CALL", call) for i, call in enumerate(calls))
    )
    with mock.patch.dict("os.environ", {"SLOTH_SECRET_S": "a-shared-secret-value"}):
        done = sloth(tmp_path, "run", "-f", "a.sloth")
        assert done.returncode == 1
        assert "a.sloth:4: state.set token: it has a secret in it, and there is no key" in done.stdout
        assert sloth(tmp_path, "run", "-f", "b.sloth").stdout.count("a secret cannot be in the name of") == len(calls)
    assert "a-shared-secret-value" not in stored(tmp_path)


def stored_values(path: Path) -> str:
    """Return the text of all tables of a state file."""
    with sqlite3.connect(path) as database:
        text = "\n".join(database.iterdump())
    database.close()
    return text
