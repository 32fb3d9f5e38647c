"""What scripts rely on: exit codes, one JSON document on stdout, NDJSON, by the command line itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.support.command import sloth
from tests.support.paths import ROOT, SCHEMAS


@pytest.fixture
def site_directory(tmp_path: Path) -> Path:
    (tmp_path / "site.sloth").write_text(
        'task({ name = "t", run = function() file.copy({ dest = "~/a", content = "a\\n" }) '
        'exec.run("echo \\27[31m") end })'
        '\ntask({ name = "u", run = function() print(exec.run("echo x").stdout) end })\n'
    )
    return tmp_path


def check(document: Any, name: str) -> None:
    jsonschema.validate(document, json.loads((SCHEMAS / name).read_text()))


@pytest.mark.parametrize("extra", [[], ["--check"]])
def test_json_is_one_document_of_the_schema(site_directory: Path, extra: list[str]) -> None:
    done = sloth(site_directory, "run", "-f", "site.sloth", "--output", "json", *extra)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    check(document, "schema_json.json")
    first = document["hosts"]["local"]["tasks"][0]["results"][0]
    assert (first["key"], first["changed"], first["reason"]) == (f"file:copy:{site_directory}/a", True, "new")
    assert first["where"] == "site.sloth:1"
    if extra:
        assert document["hosts"]["local"]["tasks"][1]["status"] == "unknown"


def test_every_ndjson_line_is_of_the_schema(site_directory: Path) -> None:
    done = sloth(site_directory, "run", "-f", "site.sloth", "--output", "ndjson")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    for event in events:
        check(event, "schema_ndjson.json")
    assert events[0]["event"] == "run_started"
    assert events[-1]["event"] == "run_finished"
    assert "call_output" in [event["event"] for event in events]


def test_a_terminal_escape_from_a_host_is_not_shown(site_directory: Path) -> None:
    done = sloth(site_directory, "run", "-f", "site.sloth")
    assert "\x1b" not in done.stdout
    assert "\\x1b[31m" in done.stdout


@pytest.mark.parametrize(
    ("text", "arguments", "status", "said"),
    [
        ("task({", [], 2, "site.sloth:1: "),
        ('task({ name = "x", hosts = "nope", run = function() end })', [], 2, "no host matches nope"),
        ('task({ name = "x", run = function() file.copy({ dset = "/x" }) end })', [], 2, 'did you mean "dest"?'),
        ('task({ name = "x", run = function() file.copy({ dest = "/x", content = "", mode = 0644 }) end })', [], 2,
         'site.sloth:1: file.copy: mode must be a string: the number 644 would be read as decimal; '
         'hint: write mode = "0644", in quotes'),
        ('task({ name = "x", run = function() exec.run("exit 7") end })', [], 1, "1: exec.run exit 7 on local"),
        ('task({ name = "x", run = function() end })', ["--limit", "nope"], 2, "no host matches nope"),
        ('task({ name = "x", run = function() file.copy({ dest = "~/n", content = "" }) end })',
         ["--check", "--exit-code"], 3, "would change"),
    ],
)  # fmt: skip
def test_exit_codes(site_directory: Path, text: str, arguments: list[str], status: int, said: str) -> None:
    (site_directory / "site.sloth").write_text(text)
    done = sloth(site_directory, "run", "-f", "site.sloth", *arguments)
    assert said in done.stdout + done.stderr
    assert done.returncode == status


def test_an_unreachable_host_is_exit_code_4(site_directory: Path) -> None:
    (site_directory / "inventory.toml").write_text(
        '[hosts.gone]\naddress = "127.0.0.1"\nport = 1\nssh_config = false\n'
    )
    done = sloth(site_directory, "run", "-i", "inventory.toml", "-f", "site.sloth")
    assert done.returncode == 4
    assert "refused" in done.stdout


def test_interrupting_releases_the_host_and_exits_with_130(site_directory: Path) -> None:
    (site_directory / "site.sloth").write_text(
        'task({ name = "s", run = function() exec.run("touch ~/begun; sleep 60") end })'
    )
    environment = {**os.environ, "HOME": str(site_directory), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "sloth", "run", "-f", "site.sloth", "--output", "json"]
    child = subprocess.Popen(
        command, cwd=site_directory, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not (site_directory / "begun").exists():
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    stdout, stderr = child.communicate(timeout=60)
    assert child.returncode == 130, stderr
    document = json.loads(stdout)
    check(document, "schema_json.json")
    assert document["interrupted"]
    (site_directory / "site.sloth").write_text('task({ name = "s", run = function() exec.run("true") end })')
    assert sloth(site_directory, "run", "-f", "site.sloth", "--lock-wait", "5").returncode == 0


def test_validate_finds_what_no_run_would_reach(site_directory: Path) -> None:
    (site_directory / "site.sloth").write_text("""
task({ name = "x", hosts = "nope", run = function()
    if false then file.copy({ dset = "/x", mode = 644 }) end
    file.cpoy({})
    exec.run({ cmd = "x", timeout = "long" })
end })
""")
    done = sloth(site_directory, "validate", "-f", "site.sloth", "--output", "json")
    assert done.returncode == 2
    problems = json.loads(done.stdout)
    assert {problem["where"] for problem in problems} == {f"site.sloth:{line}" for line in (2, 3, 4, 5)}
    assert 'did you mean "dest"?' in [problem["hint"] for problem in problems]


def test_state_commands_of_the_seed(site_directory: Path) -> None:
    assert sloth(site_directory, "run", "-f", "site.sloth").returncode == 0
    key = f"file:copy:{site_directory}/a"
    listed = json.loads(sloth(site_directory, "state", "list", "file", "--output", "json").stdout)
    assert [row["key"] for row in listed] == [key]
    assert key in sloth(site_directory, "state", "list").stdout
    shown = json.loads(sloth(site_directory, "state", "show", f"file:{site_directory}/a", "--output", "json").stdout)
    assert (shown["key"], shown["history"][0]["reason"]) == (key, "new")
    assert json.loads(sloth(site_directory, "state", "stats", "--output", "json").stdout)["resources"] == 1
    refused = sloth(site_directory, "state", "clear", stdin=subprocess.DEVNULL)
    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    assert sloth(site_directory, "state", "delete", key, "--yes").returncode == 0
    missing = sloth(site_directory, "state", "show", key)
    assert missing.returncode == 1
    assert "no state of" in missing.stderr
    assert sloth(site_directory, "state", "clear", "--yes").returncode == 0


def test_history_tells_what_changed_why_and_by_whom(site_directory: Path) -> None:
    assert sloth(site_directory, "run", "-f", "site.sloth").returncode == 0
    key = f"file:copy:{site_directory}/a"
    (site_directory / "a").write_text("by hand\n")
    assert sloth(site_directory, "run", "-f", "site.sloth").returncode == 0
    rows = json.loads(sloth(site_directory, "state", "history", f"file:{site_directory}/a", "--output", "json").stdout)
    assert [(row["key"], row["reason"]) for row in rows] == [(key, "drift"), (key, "new")]
    assert rows[0]["who"]
    shown = sloth(site_directory, "state", "history", key, "--diff", "--limit", "1").stdout
    assert "-by hand" in shown
    assert "+a" in shown
    assert "drift" in shown
    of_run = json.loads(sloth(site_directory, "state", "history", "--run", rows[1]["run"], "--output", "json").stdout)
    assert key in [row["key"] for row in of_run]
    assert sloth(site_directory, "state", "delete", key, "--yes").returncode == 0
    assert len(json.loads(sloth(site_directory, "state", "history", key, "--output", "json").stdout)) == 2
    assert "no change of nothing:here" in sloth(site_directory, "state", "history", "nothing:here").stdout
