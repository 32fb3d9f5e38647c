"""prompt(): asked once, on a terminal, before anything is touched."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.command import sloth
from tests.support.home import Home
from tests.support.terminal import Terminal

SITE = """
local version = prompt("version", "Which version?", { default = "1.0" })
local password = prompt({ name = "password", text = "Password", secret = true, confirm = true })
local where = prompt("where", "Where", { choices = { "staging", "production" } })
task({ name = "deploy " .. version, run = function()
    file.copy({ content = version .. " " .. where .. " " .. password, dest = DEST .. "/" .. host.name })
    print(template("t.j2"), type(vars.version), #password, password)
end })
"""
CANARY = "canary-5b1f"


@pytest.fixture
def deployment(home: Home) -> Path:
    (home.path / "t.j2").write_text("{{ version }} {{ where }}")
    path = home.path / "site.sloth"
    path.write_text(SITE.replace("DEST", json.dumps(str(home.path))))
    return path


def without_terminal(home: Home, *arguments: str) -> subprocess.CompletedProcess[str]:
    return sloth(home.path, *arguments, start_new_session=True, stdin=subprocess.DEVNULL)


def test_questions_are_asked_once_before_anything_is_touched(home: Home, deployment: Path) -> None:
    with Terminal(["-m", "sloth", "run", "-f", str(deployment), "-i", "inventory.toml"], home.path) as terminal:
        terminal.wait_for(r"Which version\? \[1\.0\]: ")
        assert not (home.path / ".sloth-runner" / "web1").exists()
        terminal.press("1.10\n")
        terminal.wait_for("Password: ")
        terminal.press(CANARY + "\n")
        terminal.wait_for("Again, to be sure: ")
        terminal.press("other\n")
        terminal.wait_for(r"(?s)The two answers differ\..*Password: ")
        terminal.press(CANARY + "\n")
        terminal.wait_for(r"(?s)differ.*Again, to be sure: ")
        terminal.press(CANARY + "\n")
        terminal.wait_for(r"Where \(staging, production\): ")
        terminal.press("\n")
        terminal.wait_for(r"An answer is needed\.")
        terminal.press("stagign\n")
        terminal.wait_for(r"It must be one of staging, production\.")
        terminal.press("staging\n")
        assert terminal.end() == 0, terminal.text
    assert terminal.text.count("Which version?") == 1
    # The live view shows a task only while it runs, which may be too short.
    assert "task deploy 1.10" in sloth(home.path, "runs", "show", "last").stdout
    assert re.search(r"1\.10 staging\s+string\s+11", terminal.text), terminal.text
    assert CANARY not in terminal.text
    for host in ("web1", "web2"):
        assert (home.path / host).read_text() == f"1.10 staging {CANARY}"


def test_without_a_terminal_every_answer_that_is_missing_is_named(home: Home, deployment: Path) -> None:
    done = without_terminal(home, "run", "-f", str(deployment), "-i", "inventory.toml", "-e", "where=staging")
    assert done.returncode == 2
    assert "there is no terminal to ask for version and password on" in done.stderr
    assert "hint: give -e version=VALUE -e password=VALUE" in done.stderr
    assert not (home.path / "web1").exists()


def test_answers_of_the_command_line(home: Home, deployment: Path) -> None:
    (home.path / "values.toml").write_text(f'password = "{CANARY}"\n')
    given = ("-f", str(deployment), "-i", "inventory.toml", "--values", "values.toml", "-e", "version=1.10")
    done = without_terminal(home, "plan", *given, "-e", "where=stagign")
    assert done.returncode == 2
    assert "-e where: stagign is not one of the choices of" in done.stderr
    assert 'did you mean "staging"?' in done.stderr
    (home.path / "wrong.toml").write_text('where = ["staging"]\n')
    done = without_terminal(home, "plan", *given, "--values", "wrong.toml")
    assert done.returncode == 2
    assert re.search(r"-e where: \S+:\d+ asks for a text, not for a list or a table", done.stderr), done.stderr
    for command in (("plan",), ("run", "--check"), ("run", "-o", "ndjson", "-vv", "--diff"), ("run",)):
        done = without_terminal(home, *command, *given, "-e", "where=staging")
        assert done.returncode == 0, done.stderr
        assert CANARY not in done.stdout + done.stderr
    assert (home.path / "web1").read_text() == f"1.10 staging {CANARY}"  # 1.10 as typed: as a number it would be 1.1
    state = b"".join(path.read_bytes() for path in home.path.rglob("*") if path.is_file() and ".db" in path.name)
    assert CANARY.encode() not in state


def test_validate_and_lists_ask_nothing(home: Home, deployment: Path) -> None:
    done = without_terminal(home, "validate", "-f", str(deployment), "-i", "inventory.toml")
    assert done.returncode == 0, done.stdout
    done = without_terminal(home, "run", "--list-tasks", "-f", str(deployment), "-i", "inventory.toml")
    assert done.returncode == 0, done.stderr
    assert "deploy 1.0" in done.stdout
    deployment.write_text('local v = prompt("v", { default = "x" })\nif v == "x" then task({ nme = "t" }) end\n')
    done = without_terminal(home, "validate", "-f", str(deployment), "-i", "inventory.toml", "-e", "v=x")
    assert "site.sloth:2: task has no option 'nme'" in done.stdout


@pytest.mark.parametrize(("keys", "status"), [("\x03", 130), ("\x04", 130)])
def test_ctrl_c_and_the_end_of_input_end_the_command(home: Home, deployment: Path, keys: str, status: int) -> None:
    with Terminal(["-m", "sloth", "run", "-f", str(deployment), "-i", "inventory.toml"], home.path) as terminal:
        terminal.wait_for("Which version")
        terminal.press("1\n")
        terminal.wait_for("Password: ")  # where the echo is off
        terminal.press(keys)
        assert terminal.end() == status, terminal.text
    assert "Aborted." in terminal.text
    assert "Traceback" not in terminal.text
    assert not (home.path / "web1").exists()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("prompt()", "prompt needs the name of a variable, which -e can set, and a question; hint: such as prompt("),
        ('prompt("Which version?")', "prompt needs the name of a variable"),
        ('prompt("v", 5)', "prompt v: text must be a question"),
        ('prompt("v", { privat = true })', "prompt has no option 'privat'"),
        ('prompt("v", { secret = "yes" })', "prompt v: secret must be true or false"),
        ('prompt("v", { choices = {} })', "prompt v: choices must be a list of texts"),
        ('prompt("v", { choices = { "a" }, default = "b" })', "prompt v: the default b is none of the choices"),
        ('prompt("v", { default = {} })', "prompt v: default must be a text or a number"),
        ('prompt("v", "Which?", "1")', "prompt takes a name, a question and a table"),
        (
            'task({ name = "t", run = function() prompt("v") end })',
            "prompt must stand at the top level, not inside a task: it is asked before anything is touched",
        ),
    ],
)
def test_questions_that_are_wrong(home: Home, call: str, message: str) -> None:
    (home.path / "site.sloth").write_text("\n" + call + "\n")
    done = without_terminal(home, "validate", "-f", "site.sloth", "-i", "inventory.toml")
    assert done.returncode == 2
    assert f"site.sloth:2: {message}" in done.stdout


def test_a_question_of_another_host_is_asked_before_the_run_too(home: Home) -> None:
    (home.path / "site.sloth").write_text(
        'if host.name == "web2" then prompt("disk") end\ntask({ name = "t", run = function() print(vars.disk) end })\n'
    )
    done = without_terminal(home, "run", "-f", "site.sloth", "-i", "inventory.toml")
    assert done.returncode == 2
    assert "there is no terminal to ask for disk on" in done.stderr
    done = without_terminal(home, "run", "-f", "site.sloth", "-i", "inventory.toml", "-l", "web1")
    assert done.returncode == 0, done.stderr
    (home.path / "more.sloth").write_text('if host.name == "web2" then prompt("disk") end\n')
    (home.path / "site.sloth").write_text(
        'if host.name == "web2" then include("more.sloth") end\ntask({ name = "t", run = function() end })\n'
    )
    done = without_terminal(home, "run", "-f", "site.sloth", "-i", "inventory.toml")
    assert done.returncode == 1
    assert "prompt disk was not asked before the run: only some hosts, or their facts, lead to it" in done.stdout


def test_a_problem_found_before_the_run_shows_no_answer(home: Home) -> None:
    (home.path / "site.sloth").write_text(
        'local p = prompt("p", { secret = true })\ntask({ name = p, run = function() end, serial = p })\n'
    )
    done = without_terminal(home, "run", "-f", "site.sloth", "-i", "inventory.toml", "-e", f"p={CANARY}")
    assert done.returncode == 2
    assert "serial must be" in done.stderr
    assert CANARY not in done.stderr + done.stdout


def test_what_is_known_need_not_be_asked_for(home: Home) -> None:
    """What ansible#63365 asks for: a variable of the inventory is enough where the site says so."""
    (home.path / "site.sloth").write_text(
        'local port = vars.port or prompt("port")\ntask({ name = "t", run = function() print(port) end })\n'
    )
    text = (home.path / "inventory.toml").read_text()
    (home.path / "inventory.toml").write_text(text + "\n[defaults.vars]\nport = 80\n")
    done = without_terminal(home, "run", "-f", "site.sloth", "-i", "inventory.toml")
    assert done.returncode == 0, done.stderr


def answered(home: Home, *words: str) -> str:
    """Run the site in a terminal, answer its questions and that of --confirm, and return what was shown."""
    with Terminal(["-m", "sloth", "run", "-f", "site.sloth", "-i", "inventory.toml", *words], home.path) as terminal:
        terminal.wait_for(r"Which version\? \[1\.0\]: ")
        terminal.press("1.10\n")
        for question in ("Password: ", "Again, to be sure: "):
            terminal.wait_for(question)
            terminal.press(CANARY + "\n")
        terminal.wait_for(r"Where \(staging, production\): ")
        terminal.press("staging\n")
        if "--confirm" in words:
            terminal.wait_for(r"Do this\? \[y/N\]: ")
            assert not (home.path / "web1").exists()
            terminal.press("y\n")
        status = terminal.end()
    assert status == (1 if "broken" in terminal.text else 0), terminal.text
    for question in ("Which version?", "Password: ", "Where ("):
        assert terminal.text.count(question) == 1, "asked once, though the site is evaluated twice"
    assert CANARY not in terminal.text
    return terminal.text


def recorded_anywhere(home: Home) -> bool:
    """Return whether the secret is in a file that is not one of the site's own."""
    files = [path for path in (home.path / ".sloth-runner").rglob("*") if path.is_file()]
    assert files
    return any(CANARY.encode() in path.read_bytes() for path in files)


def test_a_confirmed_run_asks_once_and_records_no_secret(home: Home, deployment: Path) -> None:
    shown = answered(home, "--confirm")
    assert shown.index("would change") < shown.index("Do this?") < shown.index("2 changed")
    assert (home.path / "web2").read_text() == f"1.10 staging {CANARY}"
    assert not recorded_anywhere(home)


@pytest.mark.parametrize("words", [("--resume",), ("--resume", "--confirm")])
def test_a_resumed_run_asks_again_since_answers_are_not_kept(
    home: Home, deployment: Path, words: tuple[str, ...]
) -> None:
    source = deployment.read_text()
    deployment.write_text(source + 'task({ name = "second", run = function() error("broken") end })\n')
    answered(home)
    assert not recorded_anywhere(home)
    for name in ("web1", "web2"):
        (home.path / name).unlink()
    again = 'task({ name = "second", run = function() file.copy({ content = "x", dest = DEST .. "/second" }) end })\n'
    deployment.write_text(source + again.replace("DEST", json.dumps(str(home.path))))
    shown = answered(home, *words)
    assert "values" not in shown, "the same answers are the same values"
    assert (home.path / "second").exists()
    assert not (home.path / "web2").exists(), "the first task is done"
    assert not recorded_anywhere(home)
