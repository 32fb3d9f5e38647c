"""The command line itself: its help, options that were given wrongly, which inventory is used, and output in pipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from sloth.cli import COMMANDS, SUMMARIES, sloth_runner
from sloth.state.keys import generate
from tests.support.command import sloth
from tests.support.home import Home
from tests.support.paths import ROOT

SITE = 'task({ name = "users", tags = "users", run = function() file.stat("/") end })'


def commands(group: click.Group, path: str = "sloth-runner") -> Iterator[tuple[str, click.Command]]:
    """Yield every command below a group, with the words that call it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")


ALL = dict(commands(sloth_runner))


def test_the_summaries_are_those_of_the_commands() -> None:
    assert list(SUMMARIES) == list(COMMANDS)
    for name, summary in SUMMARIES.items():
        help_text = ALL[f"sloth-runner {name}"].help or ""
        assert " ".join(help_text.split("\n\n")[0].split()) == summary


@pytest.mark.parametrize("words", ALL)
def test_every_command_and_option_has_a_help_in_sentences(words: str) -> None:
    command = ALL[words]
    first = (command.help or "").split("\n\n")[0].strip()
    assert first[:1].isupper()
    assert first.endswith(".")
    for option in command.params:
        if isinstance(option, click.Option):
            text = (option.help or "").partition("  [default:")[0]
            assert text[:1].isupper(), f"{option.opts} has no help"
            assert text.endswith("."), f"the help of {option.opts} is no sentence: {text}"


# Wrong options


def test_a_site_is_required(home: Home) -> None:
    assert "Missing option '-f' / '--file'" in home("run", status=2)
    assert "Missing option '-f' / '--file'" in home("validate", status=2)


@pytest.mark.parametrize("option", ["--tags", "--skip-tags"])
def test_a_tag_that_no_task_has_is_a_usage_error(home: Home, option: str) -> None:
    (home.path / "site.sloth").write_text(SITE)
    for verb in ("run", "plan"):
        done = sloth(home.path, verb, "-f", "site.sloth", option, "usres")
        assert done.returncode == 2
        assert 'no task has the tag "usres"; hint: did you mean "users"?' in done.stderr
    assert "tags are users" in home("run", "-f", "site.sloth", option, "x", status=2)
    home("run", "-f", "site.sloth", option, "users,always,never")


@pytest.mark.parametrize("value", ["", " ", ","])
def test_an_empty_selection_is_an_error_and_not_everything(home: Home, value: str) -> None:
    (home.path / "site.sloth").write_text(SITE)
    for verb in (("run", "-f", "site.sloth"), ("plan", "-f", "site.sloth"), ("facts",), ("drift",)):
        shown = home(*verb, "--limit", value, status=2)
        assert "error: --limit is empty; hint: leave --limit out to select all" in shown
    assert "error: --tags is empty" in home("run", "-f", "site.sloth", "--tags", value, status=2)
    home("run", "-f", "site.sloth", "--skip-tags", value)


@pytest.mark.parametrize("option", ["--log", "--junit", "--key-file", "--backend", "--engine", "--resume"])
def test_an_option_whose_variable_of_the_shell_is_not_set_is_an_error(home: Home, option: str) -> None:
    (home.path / "site.sloth").write_text(SITE)
    shown = home("run", "-f", "site.sloth", f"{option}=", status=2)
    assert f"Invalid value for '{option}': it is empty" in shown


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize("kind", ["plain", "rich"])
def test_what_a_terminal_cannot_show_is_escaped(home: Home, encoding: str, kind: str) -> None:
    home.site('print("\u2192")')
    done = sloth(
        home.path, "run", "-f", "site.sloth", "-o", kind, extra={"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    )
    assert done.returncode == 0, done.stderr
    assert "web1: \\u2192" in done.stdout
    assert "2 hosts: 0 changed" in done.stdout


def test_an_output_that_is_full_or_closed_is_no_defect(home: Home) -> None:
    home.site('print("shown")')
    command = f"{sys.executable} -m sloth"
    environment = {**os.environ, "HOME": str(home.path), "PYTHONPATH": str(ROOT)}
    for words, status in (
        ("inventory list > /dev/full", 1),
        ("run -f site.sloth > /dev/full", 1),
        ("inventory list >&-", 0),
        ("run -f site.sloth >&- 2>&- <&-", 0),
    ):
        done = subprocess.run(
            ["sh", "-c", f"{command} {words}"], cwd=home.path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        assert ("cannot be written: No space left on device" in done.stderr) is (status == 1)


def test_a_terminal_without_a_size_shows_the_report(home: Home) -> None:
    home.site('print("shown")')
    done = sloth(home.path, "run", "-f", "site.sloth", "-o", "rich", extra={"COLUMNS": "0"})
    assert "web1: shown" in done.stdout


def test_a_tag_may_be_that_of_another_host_s_tasks(home: Home) -> None:
    text = f'if host.name == "web2" then {SITE.replace("users", "other")} else {SITE} end'
    (home.path / "site.sloth").write_text(text)
    home("run", "-f", "site.sloth", "--tags", "other")
    assert 'no task has the tag "othr"' in home("run", "-f", "site.sloth", "--tags", "othr", status=2)
    assert "no task has" in home("run", "-f", "site.sloth", "--tags", "other", "--limit", "web1", status=2)


def test_tags_that_depend_on_facts_are_not_judged_before_the_facts_are_known(home: Home) -> None:
    (home.path / "site.sloth").write_text(f'if facts.os_family ~= "" then {SITE} end')
    home("run", "-f", "site.sloth", "--tags", "users")
    for option in ("--tags", "--skip-tags"):
        shown = home("run", "-f", "site.sloth", option, "usres", status=2)
        assert 'error: no task has the tag "usres"; hint: did you mean "users"?' in shown
    assert "usage error" in home("runs", "list")


def test_a_fact_or_setting_that_does_not_exist_is_an_error_with_the_nearest_word(home: Home) -> None:
    (home.path / "t.j2").write_text("{{ facts.os_familiy }}")
    for text, status, message in (
        ("if facts.os_familiy then end", 2, 'there is no facts.os_familiy; hint: did you mean "os_family"?'),
        ('print(facts["os_" .. "familiy"])', 1, 'there is no facts.os_familiy; hint: did you mean "os_family"?'),
        ("print(host.naem)", 1, 'there is no host.naem; hint: did you mean "name"?'),
        ('print(template("t.j2"))', 1, "no attribute 'os_familiy'; hint: did you mean \"os_family\"?"),
        ("print(template('none.j2'))", 1, "template none.j2 not found"),
    ):
        home.site(text)
        assert message in home.run(status=status)
    home.site("print(facts.os_family, host.port, host.name, vars.nothing, groups.nothing)")
    home.run()
    home("validate", "-f", "site.sloth")


def test_a_name_that_the_site_gives_another_meaning_is_no_module(home: Home) -> None:
    home.site(
        """
        local file = {read = function() return "x" end}
        local function each(user, ...) return user.nick end
        for _, facts in ipairs({{own = 1}}) do print(file.read(), each({nick = 1}), facts.own) end
        group = {list = print}
        group.list({user = 1, group = 2})
        """
    )
    home.run()
    assert "no mistakes" in home("validate", "-f", "site.sloth")


# The inventory that was found


def test_an_inventory_that_nobody_named_is_reported_on_stderr(home: Home) -> None:
    (home.path / "site.sloth").write_text(SITE)
    words = ["run", "-f", "site.sloth", "--output", "json"]
    found = sloth(home.path, *words)
    assert "using the inventory inventory.toml" in found.stderr
    assert list(json.loads(found.stdout)["hosts"]) == ["web1", "web2"]
    assert "using" not in sloth(home.path, *words, "-i", "inventory.toml").stderr
    assert home("state", "check", "--agent", "web1").count("using the inventory") == 1
    (home.path / "inventory.toml").unlink()
    alone = sloth(home.path, *words)
    assert "using" not in alone.stderr
    assert list(json.loads(alone.stdout)["hosts"]) == ["local"]
    assert "./inventory.toml" in " ".join(home("run", "--help").split())


# Output


def test_nothing_is_cut_in_a_pipe(home: Home) -> None:
    value = "0123456789" * 30
    (home.path / "inventory.toml").write_text(f'[hosts.web1]\nconnection = "local"\nvars = {{ long = "{value}" }}\n')
    shown = home("inventory", "list", "--vars")
    assert value in shown
    assert [line.split()[-2:] for line in shown.splitlines() if "vars.long" in line] == [["inventory.toml:3", "(host)"]]
    assert all(len(line) < 90 or value in line for line in shown.splitlines())
    for line in home("doc").splitlines():
        assert line.count(".") >= 2, f"{line} was folded"


def test_run_started_names_the_tasks(home: Home) -> None:
    text = f'{SITE}\n{SITE.replace("users", "second")}\ntask({{ name = "third", hosts = "web2", run = print }})'
    (home.path / "site.sloth").write_text(text)

    def tasks(*words: str) -> list[str]:
        first = json.loads(sloth(home.path, *words, "--output", "ndjson").stdout.splitlines()[0])
        assert first["event"] == "run_started"
        return list(first["tasks"])

    assert tasks("run", "-f", "site.sloth") == ["users", "second"]
    assert tasks("run", "-f", "site.sloth", "--tags", "second") == ["second"]
    assert tasks("call", "web1", "file.stat", "/") == ["file.stat"]


def test_facts_gather_is_no_call(home: Home) -> None:
    for words in (("call", "web1", "facts.gather"), ("state", "adopt", "facts.gather")):
        done = sloth(home.path, *words)
        assert done.returncode == 2
        assert done.stderr == "error: facts.gather cannot be called like this; hint: use sloth-runner facts\n"


def test_adopt_says_in_words_what_differs(home: Home) -> None:
    (home.files / "f").write_text("hello\n")
    words = ["state", "adopt", "file.copy", "content=other", f"dest={home.files}/f", "mode=0600", "--agent", "web1"]
    shown = home(*words, status=1)
    assert "content is 6 bytes (5891b5b522d5), not 5 bytes (d9298a10d1b0)" in shown
    assert "mode is 0644, not 0600" in shown
    assert "{" not in shown


def test_drift_of_what_a_rollback_has_restored_names_no_run(home: Home) -> None:
    for text in ("one", "two"):
        home.site(f'file.copy({{content = "{text}\\n", dest = "FILES/f"}})')
        home.run()
    home("rollback", "last", "--yes")
    assert home.text("f") == "one\n"
    (home.files / "f").write_text("three\n")
    shown = home("drift")
    assert "applied by site.sloth:3, restored by a rollback\n" in shown
    home.run()
    (home.files / "f").write_text("three\n")
    assert f"applied by site.sloth:3, run {home.last_run()}\n" in home("drift")


# Secrets


@pytest.mark.parametrize(
    ("given", "options", "kept"),
    [
        ("hunter2\n", [], "hunter2"),
        ("hunter2", [], "hunter2"),
        ("two\nlines\n\n", [], "two\nlines\n"),
        ("hunter2\n", ["--keep-newline"], "hunter2\n"),
        ("\n", [], ""),
    ],
)
def test_a_secret_from_stdin_loses_one_final_newline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, options: list[str], kept: str
) -> None:
    monkeypatch.setenv("SLOTH_KEY", generate())
    done = sloth(tmp_path, "secret", "set", "a", "--stdin", *options, input=given)
    assert done.returncode == 0, done.stderr
    assert sloth(tmp_path, "secret", "get", "a").stdout == kept
    (tmp_path / "file").write_bytes(b"first\r\nsecond\n")
    assert sloth(tmp_path, "secret", "set", "b", "--from-file", "file").returncode == 0
    assert json.dumps("first\r\nsecond\n") == json.dumps(get_raw(tmp_path, "b"))
    assert "--keep-newline needs --stdin" in sloth(tmp_path, "secret", "set", "c", "--keep-newline").stderr
    assert "final newline" in sloth(tmp_path, "secret", "set", "--help").stdout


def get_raw(home: Path, name: str) -> str:
    """Return a secret's value without the translation of newlines that text pipes do."""
    from sloth.state.keys import Keys
    from sloth.state.vault import Vault

    assert os.environ["SLOTH_KEY"]
    return Vault(home / "secrets.vault", Keys()).get(name)


def test_connection_variables_of_the_command_line_are_those_of_the_run(home: Home) -> None:
    (home.path / "inventory.toml").write_text('[hosts.web1]\naddress = "192.0.2.1"\nconnect_timeout = 1\n')
    home.site('file.copy({dest = "FILES/x", content = vars.ansible_connection .. "\\n"})')
    home.run("-e", "ansible_connection=local")
    assert (home.files / "x").read_text() == "local\n"
    assert "-e ansible_port must be a port number" in home.run("-e", "ansible_port=ssh", status=2)
