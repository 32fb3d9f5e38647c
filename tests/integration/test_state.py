"""State over several runs, by the command line itself: drift, orphans, pruning, rollback, handlers, history, edits."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest

from tests.support.command import sloth
from tests.support.home import THREE_FILES, Home
from tests.support.paths import ROOT, SCHEMAS


def written_out(states: list[Path]) -> None:
    """Wait until the payloads have ended that wrote these files: the last thing they do is to empty their logs."""
    end = time.monotonic() + 10
    while time.monotonic() < end and any(path.with_name(path.name + "-wal").exists() for path in states):
        time.sleep(0.05)


# Drift


def test_drift_is_told_attribute_by_attribute_and_writes_nothing(home: Home) -> None:
    (home.files / "two").write_text("first\n")
    home.site(THREE_FILES)
    home.run()
    assert "3 states, none has drifted" in home("drift", "--limit", "web1", "--exit-code")
    (home.files / "one").write_text("uno\n")
    (home.files / "one").chmod(0o644)
    (home.files / "two").write_text("first\nsecond\nadded\n")
    (home.files / "three").unlink()
    states = list(home.path.rglob("web1.db"))
    written_out(states)
    before = [path.read_bytes() for path in states]
    told = home.json("drift", "--limit", "web1", "--exit-code", status=3)
    assert [path.read_bytes() for path in states] == before
    assert told["summary"] == {
        "hosts": 1,
        "states": 3,
        "drift": 2,
        "unknown": 0,
        "frozen": 0,
        "failed": 0,
        "unreachable": 0,
    }
    one, three = told["hosts"]["web1"]["drift"]
    assert one["diff"]["mode"] == {"applied": "0600", "found": "0644"}
    assert "-one\n+uno" in one["diff"]["content"]["unified"]
    assert three["diff"]["exists"] == {"applied": True, "found": False}
    shown = home("drift", "--limit", "web1", "--diff")
    assert re.search(r"--- applied\s+\+\+\+ found", shown)
    home.run()
    home("drift", "--limit", "web1", "--exit-code")


def test_drift_of_a_host_that_cannot_be_reached(home: Home) -> None:
    with (home.path / "inventory.toml").open("a") as file:
        file.write('[hosts.gone]\naddress = "127.0.0.1"\nport = 1\n')
    told = home.json("drift", status=4)
    assert told["hosts"]["gone"]["status"] == "unreachable"
    assert told["hosts"]["web1"]["status"] == "clean"


def test_a_state_check_finds_damage_and_differences(home: Home) -> None:
    home.site('file.copy({content = "one\\n", dest = "FILES/one"})')
    home.run()
    assert "the file is sound, and the host matches it" in home("state", "check", "--agent", "web1")
    (home.files / "one").write_text("uno\n")
    assert "file:copy" in home("state", "check", "--agent", "web1", status=3)
    (state,) = [path for path in home.path.rglob("web1.db") if "replicas" not in str(path)]
    with sqlite3.connect(state) as database:
        database.execute("UPDATE pieces SET data=x'00'")
    database.close()
    assert "damaged" in home("state", "check", "--agent", "web1", status=1)


# Orphans


def test_what_a_site_no_longer_names_is_shown_then_pruned(home: Home) -> None:
    (home.files / "two").write_text("first\n")
    home.site(THREE_FILES)
    home.run()
    home.site('exec.run({cmd = "true"})')
    for shown in (home.run(verb="plan"), home.run("--check"), home.run()):
        assert shown.count("orphaned") == 3
        assert "--prune" in shown
    assert home.recorded("orphaned") == home.recorded()
    document = json.loads(sloth(home.path, "run", "-f", "site.sloth", "--limit", "web1", "-o", "json").stdout)
    assert [row["status"] for row in document["hosts"]["web1"]["orphans"]] == ["planned"] * 3
    assert home.text("one") == "one\n"
    home.site("")
    assert "3 changed" in home.run("--prune", "--yes")
    assert (home.text("one"), home.text("two"), (home.files / "three").is_symlink()) == (None, "first\n", False)
    assert home.recorded() == []
    assert "orphaned" not in home.run()
    # A pruning is a run like any other: it can be taken back.
    home("rollback", home.json("runs", "list")[1]["run"], "--yes", "--limit", "web1")
    assert (home.text("one"), home.text("two")) == ("one\n", "first\nadded\n")


def test_what_was_there_before_us_is_never_pruned(home: Home) -> None:
    (home.files / "one").write_text("theirs\n")
    (home.files / "two").write_text("added\n")
    home.site(THREE_FILES)
    home.run()
    home.site("")
    shown = home.run("--prune", "--yes")
    assert shown.count("existed before sloth-runner") == 2
    assert (home.text("one"), home.text("two")) == ("one\n", "added\n")
    home("state", "rm", "--untracked", "--agent", "web1", "--yes")
    assert home.recorded() == []


def test_a_partial_evaluation_orphans_nothing(home: Home) -> None:
    both = 'task({name = "%s", tags = {"%s"}, %s run = function() file.copy({content = "x", dest = "FILES/%s"}) end})\n'

    def write(*tasks: tuple[str, str]) -> None:
        text = "".join(both % (name, name, options, name) for name, options in tasks)
        (home.path / "site.sloth").write_text(text.replace("FILES", str(home.files)))

    write(("a", ""), ("b", ""))
    home.run()
    assert "orphaned" not in home.run("--tags", "a")
    assert "leave out --tags" in home.run("--tags", "a", "--prune", "--yes", status=2)
    write(("a", ""), ("b", "when = function() return false end,"))
    assert "orphaned" not in home.run("--prune", "--yes")
    write(("bad", 'depends_on = {"a"},'), ("a", ""))
    (home.path / "site.sloth").write_text(
        (home.path / "site.sloth").read_text() + 'task({name = "c", run = function() error("no") end})'
    )
    assert "orphaned" not in home.run("--prune", "--yes", status=1)
    assert home.text("b") == "x"
    write(("a", ""))
    assert home.run("--check").count("orphaned") == 2
    assert home.run("--prune", "--yes").count("(pruned)") == 2
    assert home.text("b") is None


def test_what_another_site_owns_is_not_touched(home: Home) -> None:
    home.site('file.copy({content = "x", dest = "FILES/shared"}) file.copy({content = "x", dest = "FILES/mine"})')
    home.run()
    home.site('file.copy({content = "x", dest = "FILES/shared"})', name="other.sloth")
    home.run(site="other.sloth")
    home("call", "web1", "file.copy", "content=x", f"dest={home.files}/by-hand")
    home.site("")
    assert home.run("--prune", "--yes").count("(pruned)") == 1
    assert (home.text("shared"), home.text("mine"), home.text("by-hand")) == ("x", None, "x")


def test_hosts_that_wait_for_their_turn_are_pruned_together(home: Home) -> None:
    home.site('file.copy({content = "x", dest = "FILES/" .. host.name})')
    home("run", "-f", "site.sloth")
    home.site("")
    with (home.path / "inventory.toml").open("a") as file:
        file.write('[hosts.gone]\naddress = "127.0.0.1"\nport = 1\n')
    shown = home("run", "-f", "site.sloth", "--forks", "1", "--prune", "--yes", status=4)
    assert "2 changed on 2 of them" in shown
    assert list(home.files.iterdir()) == []


def test_pruning_asks_and_needs_a_terminal_for_it(home: Home) -> None:
    home.site("")
    assert "--yes" in home.run("--prune", status=2)


# Rollback


def test_a_run_is_taken_back_last_first(home: Home) -> None:
    (home.files / "two").write_text("first\n")
    home.site(THREE_FILES)
    home.run()
    home.site(
        """
        file.copy({content = "new\\n", dest = "FILES/one", mode = "0644"})
        file.lineinfile({path = "FILES/one", line = "more"})
        file.lineinfile({path = "FILES/one", line = "and more"})
        file.absent({path = "FILES/three"})
        file.directory({path = "FILES/dir"})
        file.copy({content = "inner", dest = "FILES/dir/inner"})
        exec.run({cmd = "true"})
        """
    )
    home.run()
    run = home.last_run()
    before = home.text("one")
    plan = home.json("rollback", run, "--check", "--limit", "web1", status=1)
    statuses = [row["status"] for row in plan["hosts"]["web1"]["changes"]]
    assert statuses == ["refused"] + ["planned"] * 6
    assert home.text("one") == before
    done = home.json("rollback", run, "--yes", "--limit", "web1", status=1)
    assert [row["status"] for row in done["hosts"]["web1"]["changes"]] == ["refused"] + ["done"] * 6
    assert home.text("one") == "one\n"
    assert (home.files / "one").stat().st_mode & 0o777 == 0o600
    assert (home.files / "three").is_symlink()
    assert not (home.files / "dir").exists()
    rows = home.json("state", "history", "--agent", "web1", "--limit", "6")
    assert [row["reason"] for row in rows] == ["rollback"] * 6
    assert [(row["before"] is None, row["after"] is None) for row in rows] == [
        (False, False), (False, False), (False, False), (True, False), (False, True), (False, True),
    ]  # fmt: skip
    home.site(THREE_FILES)
    assert "3 unchanged" in home.run(), "the records are what they were, too"


def test_a_variable_with_the_name_of_a_flag_is_a_variable(home: Home) -> None:
    """A template variable called `sealed` made every diff masked and rollback impossible."""
    (home.path / "t.j2").write_text("{{ text }} {{ sealed }}\n")
    for text in ("one", "two"):
        variables = f'{{ sealed = true, sensitive = true, text = "{text}" }}'
        home.site(f'file.template({{src = "t.j2", dest = "FILES/f", vars = {variables}}})')
        shown = home.run("--diff")
    assert "-one True" in shown
    assert "+two True" in shown
    home("rollback", home.last_run(), "--yes", "--limit", "web1")
    assert home.text("f") == "one True\n"


def test_what_changed_since_is_left_alone(home: Home) -> None:
    home.site('file.copy({content = "one\\n", dest = "FILES/one"})')
    home.run()
    home.site('file.copy({content = "two\\n", dest = "FILES/one"})')
    home.run()
    run = home.last_run()
    (home.files / "one").write_text("by hand\n")
    assert "changed since: content" in home("rollback", run, "--yes", "--limit", "web1", status=1)
    assert home.text("one") == "by hand\n"
    assert "--yes" in home("rollback", run, "--force", "--limit", "web1", status=2)
    home("rollback", run, "--force", "--yes", "--limit", "web1")
    assert home.text("one") == "one\n"
    assert "no host has a change by" in home("rollback", "20200101-000000-abcdef", "--yes", status=2)


def test_a_content_too_large_to_keep_is_refused_before_anything_is_touched(home: Home) -> None:
    (home.files / "one").write_bytes(b"x" * (9 * 1024 * 1024))
    home.site('file.copy({content = "small", dest = "FILES/one"})')
    home.run()
    assert "too large" in home("rollback", "last", "--yes", "--limit", "web1", status=1)
    assert home.text("one") == "small"


def test_a_failed_task_takes_its_own_changes_back(home: Home) -> None:
    (home.files / "one").write_text("old\n")
    home.site(
        """
        file.copy({content = "new\\n", dest = "FILES/one"})
        file.copy({content = "new\\n", dest = "FILES/two"})
        exec.run({cmd = "false"})
        """,
        before='handler({name = "h", run = function() file.copy({content = "x", dest = "FILES/handled"}) end})\n'
        'task({name = "earlier", run = function() file.copy({content = "kept", dest = "FILES/three"}) end})',
        options='on_failure = "rollback", notify = "h",',
    )
    shown = home.run(status=1)
    assert shown.count("(rollback)") == 2
    assert (home.text("one"), home.text("two"), home.text("three")) == ("old\n", None, "kept")
    assert home.text("handled") is None
    assert home.json("state", "list", "handler", "--agent", "web1") == []
    assert 'must be "rollback"' in _mistake(home)


def _mistake(home: Home) -> str:
    home.site("", options='on_failure = "undo",')
    return home.run(status=2)


# Handlers


def test_a_run_that_dies_between_change_and_handler_is_healed_by_the_next(home: Home) -> None:
    handler = 'handler({name = "reload", run = function() exec.run({cmd = "echo reloaded >> FILES/log"}) end})'
    body = 'file.copy({content = "x", dest = "FILES/conf"})\n%s'
    home.site(body % 'exec.run({cmd = "kill -9 $PPID"})', before=handler, options='notify = "reload",')
    shown = home.run(status=4)
    assert "1 unreachable" in shown
    assert (home.text("conf"), home.text("log")) == ("x", None)
    (waiting,) = home.json("state", "list", "handler", "--agent", "web1")
    assert (waiting["name"], waiting["task"]) == ("reload", "t")
    assert "reload" in home("state", "list", "handler", "--agent", "web1")
    home.site(body % "", before=handler, options='notify = "reload",')
    home.run("--check")
    assert home.text("log") is None
    home.run()
    assert home.text("log") == "reloaded\n"
    home.run()
    assert home.text("log") == "reloaded\n"
    assert "no handler is pending" in home("state", "list", "handler", "--agent", "web1")


def test_a_handler_that_fails_is_still_to_run(home: Home) -> None:
    handler = (
        'handler({name = "reload", run = function() exec.run({cmd = "test -e FILES/ready && touch FILES/done"}) end})'
    )
    home.site('file.copy({content = "x", dest = "FILES/conf"})', before=handler, options='notify = "reload",')
    home.run(status=1)
    (home.files / "ready").touch()
    home.run()
    assert home.text("done") == ""
    home.site("", before='handler({name = "other", run = function() end})')
    assert "no longer has" not in home.run()


# Looking and editing


def test_history_diff_and_runs_over_several_hosts(home: Home) -> None:
    home.site('file.copy({content = "one\\n", dest = "FILES/" .. host.name})')
    (home.path / "site.sloth").write_text((home.path / "site.sloth").read_text())
    assert home("run", "-f", "site.sloth")
    first = home.last_run()
    home.site('file.copy({content = "two\\n", dest = "FILES/" .. host.name})')
    home("run", "-f", "site.sloth")
    rows = home.json("state", "history", "--agent", "web*")
    assert sorted((row["agent"], row["reason"]) for row in rows) == [
        ("web1", "new"), ("web1", "updated"), ("web2", "new"), ("web2", "updated"),
    ]  # fmt: skip
    assert "-one" in home("state", "history", "--agent", "web1", "--diff")
    (row,) = home.json("state", "diff", first, "last", "--agent", "web1")
    assert "-one\n+two" in row["diff"]["content"]["unified"]
    assert home.json("state", "diff", "last", "last", "--agent", "web1") == []
    shown = home("runs", "show", "last")
    assert f"file:copy:{home.files}/web1 (updated)" in shown
    assert "done" in home("runs", "list")
    assert [row["changes"] for row in home.json("runs", "list", "--agent", "web1")] == [1, 1]
    assert "run 2019 not found" in home("runs", "show", "2019", status=1)
    assert "web2" in home("state", "list", "--agent", "all")
    assert home.json("state", "stats", "--agent", "web*")[1]["history"] == 2


def test_records_are_renamed_forgotten_and_adopted(home: Home) -> None:
    home.site('file.copy({content = "one\\n", dest = "FILES/one"}) file.copy({content = "2", dest = "FILES/two"})')
    home.run()
    old, new = f"file:copy:{home.files}/one", f"file:template:{home.files}/one"
    home("state", "mv", old, new, "--agent", "web1", "--yes")
    assert home.recorded("file:template") == [new]
    assert home.json("state", "history", new, "--agent", "web1")[0]["key"] == new
    assert "no state of" in home("state", "mv", old, new, "--agent", "web1", "--yes", status=1)
    assert "already" in home("state", "mv", new, f"file:copy:{home.files}/two", "--agent", "web1", "--yes", status=1)
    home("state", "rm", "file:*:*/one", "--agent", "web1", "--yes")
    assert home.recorded() == [f"file:copy:{home.files}/two"]
    home("state", "adopt", "file.copy", "content=one\n", f"dest={home.files}/one", "--agent", "web1")
    assert old in home.recorded()
    shown = home("state", "adopt", "file.copy", "content=else", f"dest={home.files}/one", "--agent", "web1", status=1)
    assert "the host is not as described" in shown
    assert home.text("one") == "one\n"
    assert "freed" in home("state", "vacuum", "--older", "0", "--agent", "web1")
    for words in (["rm"], ["rm", "x", "--untracked"], ["delete", "x", "--cached"], ["history", "--cached"]):
        home("state", *words, "--agent", "web1", status=2)


def test_a_damaged_state_is_set_aside_reported_and_rebuilt(home: Home) -> None:
    home.site(THREE_FILES)
    (home.files / "two").write_text("first\n")
    home.run()
    (state,) = [path for path in home.path.rglob("web1.db") if "replicas" not in str(path)]
    written_out([state])
    state.write_bytes(b"\0" * 100 + b"garbage" * 500)
    assert "damaged" in home("state", "list", "--agent", "web1", status=1)
    assert "sets it aside" in home.run("--check", status=1)
    shown = home.run("--verbose")
    assert "was damaged; it is kept as" in shown
    assert shown.count("(adopted)") == 3
    assert len(home.recorded()) == 3
    (aside,) = (path for path in state.parent.glob("web1.db.damaged-*") if path.name[-4:] not in ("-wal", "-shm"))
    assert aside.read_bytes().endswith(b"garbage")
    assert "damaged" not in home.run()


def test_damage_that_shows_in_the_middle_of_a_run_is_healed_by_the_next(home: Home) -> None:
    many = "".join(f'file.lineinfile({{path = "FILES/f{n}", line = "x", create = true}})\n' for n in range(60))
    home.site(many)
    home.run()
    (state,) = [path for path in home.path.rglob("web1.db") if "replicas" not in str(path)]
    for path in state.parent.glob("web1.db-*"):
        path.unlink()
    data = bytearray(state.read_bytes())
    for page in range(4, len(data) // 4096, 2):
        data[page * 4096 : page * 4096 + 200] = b"\xff" * 200
    state.write_bytes(data)
    done = sloth(home.path, "run", "-f", "site.sloth", "--limit", "web1")
    assert "damaged" in done.stdout + done.stderr
    assert "60 unchanged" in home.run()
    assert len(home.recorded()) == 60
    assert list(state.parent.glob("web1.db.damaged-*"))


# What scripts read


@pytest.mark.parametrize(
    ("name", "words", "status"),
    [
        ("records", ["state", "list", "--agent", "web*"], 0),
        ("records", ["state", "list", "orphaned", "--agent", "web1"], 0),
        ("show", ["state", "show", "KEY", "--agent", "web1"], 0),
        ("show", ["state", "show", "KEY", "--agent", "web*"], 0),
        ("history", ["state", "history", "--agent", "web*"], 0),
        ("diff", ["state", "diff", "FIRST", "last", "--agent", "web1"], 0),
        ("stats", ["state", "stats", "--agent", "web1"], 0),
        ("handlers", ["state", "list", "handler", "--agent", "web1"], 0),
        ("locks", ["state", "list", "lock"], 0),
        ("runs", ["runs", "list"], 0),
        ("run", ["runs", "show", "last"], 0),
        ("host_runs", ["runs", "list", "--agent", "web1"], 0),
        ("drift", ["drift"], 0),
        ("rollback", ["rollback", "last", "--check"], 1),
    ],
)
def test_every_document_is_of_its_schema(written: Home, name: str, words: list[str], status: int) -> None:
    first = str(written.json("runs", "list")[-1]["run"])
    key = f"file:copy:{written.files}/one"
    words = [word.replace("KEY", key).replace("FIRST", first) for word in words]
    document = written.json(*words, status=status)
    schema = json.loads((SCHEMAS / "schema_state.json").read_text())
    jsonschema.validate(document, {**schema, "$ref": f"#/$defs/{name}"})
    assert document, "an empty document says nothing of the schema"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Two hosts with something of everything."""
    home = Home(tmp_path_factory.mktemp("written"))
    home.site(THREE_FILES.replace('line = "added"', 'line = "added", create = true'))
    home("run", "-f", "site.sloth")
    home.site(
        'file.copy({content = "1\\n", dest = "FILES/one"}) state.lock("l", "me", 600) exec.run("kill -9 $PPID")',
        before='handler({name = "h", run = function() end})',
        options='notify = "h",',
    )
    home.run(status=4)
    home.site('file.copy({content = "uno\\n", dest = "FILES/one"})')
    home.run(status=0)
    home.site('file.copy({content = "uno\\n", dest = "FILES/one"}) exec.run("true")')
    home.run("--check")
    home.site(
        'file.copy({content = "eins\\n", dest = "FILES/one"}) exec.run("true")',
        before='handler({name = "h", run = function() exec.run("false") end})',
        options='notify = "h",',
    )
    home.run(status=1)
    (home.files / "one").chmod(0o600)
    return home


def test_a_run_s_document_tells_of_orphans_and_of_what_was_taken_back(home: Home) -> None:
    home.site('file.copy({content = "1", dest = "FILES/one"})')
    home.run()
    home.site('file.copy({content = "2", dest = "FILES/two"}) exec.run("false")', options='on_failure = "rollback",')
    failed = home.json("run", "-f", "site.sloth", "--limit", "web1", status=1)
    home.site("")
    pruned = home.json("run", "-f", "site.sloth", "--limit", "web1", "--prune", "--yes")
    for document in (failed, pruned):
        jsonschema.validate(document, json.loads((SCHEMAS / "schema_json.json").read_text()))
    assert [result["reason"] for result in failed["hosts"]["web1"]["tasks"][0]["results"]] == ["new", "", "rollback"]
    assert pruned["hosts"]["web1"]["tasks"][-1]["results"][0]["reason"] == "pruned"
    done = sloth(home.path, "run", "-f", "site.sloth", "--limit", "web1", "--output", "ndjson", "--check")
    for line in done.stdout.splitlines():
        jsonschema.validate(json.loads(line), json.loads((SCHEMAS / "schema_ndjson.json").read_text()))


def test_junit_names_hosts_tasks_and_failures(home: Home) -> None:
    home.site('exec.run("echo \\27[31m; false")')
    with (home.path / "inventory.toml").open("a") as file:
        file.write('[hosts.gone]\naddress = "127.0.0.1"\nport = 1\n')
    home("run", "-f", "site.sloth", "--junit", "junit.xml", status=1)
    root = ElementTree.parse(home.path / "junit.xml").getroot()
    assert {suite.get("name"): (suite.get("failures"), suite.get("errors")) for suite in root} == {
        "web1": ("1", "0"), "web2": ("1", "0"), "gone": ("0", "1"),
    }  # fmt: skip
    assert "exit code 1" in "".join(root.itertext())
    assert "cannot be written" in home("run", "-f", "site.sloth", "--junit", "no/such/junit.xml", status=2)


@pytest.mark.parametrize(("answer", "status", "left"), [(b"n\n", 0, "1"), (b"y\n", 0, None), (None, 130, "1")])
def test_pruning_asks_on_a_terminal(home: Home, answer: bytes | None, status: int, left: str | None) -> None:
    home.site('file.copy({content = "1", dest = "FILES/one"})')
    home.run()
    home.site("")
    main, other = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "sloth", "run", "-f", "site.sloth", "--limit", "web1", "--prune"],
        cwd=home.path, stdin=other, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "HOME": str(home.path), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert child.stdout is not None
    said = b""
    while b"[y/N]" not in said:
        said += os.read(child.stdout.fileno(), 1000)
    if answer is None:
        child.send_signal(signal.SIGINT)
    else:
        os.write(main, answer)
    said += child.communicate(timeout=60)[0]
    os.close(main)
    os.close(other)
    assert child.returncode == status, said
    assert f"remove     file:copy:{home.files}/one  web1".encode() in said
    assert home.text("one") == left
