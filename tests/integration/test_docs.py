"""The docs are true: commands print what docs/state.md shows (SLOTH_WRITE_DOCS=1 rewrites it), and links work."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from click import Context

from sloth.cli import sloth_runner
from tests.support.command import sloth
from tests.support.home import TWO_HOSTS
from tests.support.paths import ROOT

STATE = ROOT / "docs" / "state.md"
SAFETY = ROOT / "docs" / "safety.md"
RUNNING = ROOT / "docs" / "running.md"
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("vagrant/*.md")]
ROLES = ROOT / "docs" / "roles.md"
BLOCK = re.compile(r"```(console|lua)\n(.*?)```\n", re.S)
# What differs from one run to the next, and what stands for it when two texts are compared.
MOVING = (
    (r"\d{8}-\d{6}-[0-9a-f]{16}", "PLAN"),
    (r"\d{8}-\d{6}-[0-9a-f]{6}", "RUN"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "DATE"),
    (r"(\d+ (second|minute)s? ago|now)", "AGO"),
    (r"\b[0-9a-f]{64}\b", "SHA256"),
    (r"\b[0-9a-f]{16}\b", "KEY"),
    (r"\b\d+ bytes", "N bytes"),
    (r"\d+\.\d s\b", "N s"),
    (r"\d+ s$", "N s"),
    (r" +", " "),
)


def replay(text: str, home: Path) -> str:
    """The document with what its commands print now. Files of the hosts are below `home`/srv, shown as /srv."""
    srv = home / "srv"
    srv.mkdir()
    (home / "inventory.toml").write_text(TWO_HOSTS)
    here, there = str(srv), "/srv"
    environment = {
        **os.environ, "HOME": str(home), "PYTHONPATH": str(ROOT), "SLOTH_KEY_FILE": str(home / "sloth.key"),
        "USER": "ann", "LOGNAME": "ann", "SLOTH_INVENTORY": "inventory.toml",
    }  # fmt: skip
    first = ""

    def run(command: str) -> str:
        nonlocal first
        found = re.match(r'sqlite3 (\S+) "(.*)"', command)
        if found:
            with sqlite3.connect(str(home) + found[1].removeprefix("~")) as database:
                rows = database.execute(found[2]).fetchall()
            database.close()
            return "".join("|".join(map(str, row)) + "\n" for row in rows)
        words = command.replace("sloth-runner", f"{sys.executable} -m sloth").replace("FIRST", first)
        done = subprocess.run(
            ["/bin/sh", "-c", words.replace("/srv", here)],
            cwd=home, env=environment, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        first = first or next(iter(re.findall(r"\d{8}-\d{6}-[0-9a-f]{6}", done.stdout)), "")
        return done.stdout + done.stderr

    def block(match: re.Match[str]) -> str:
        if match[1] == "lua":
            name = match[2].partition("\n")[0].removeprefix("-- ")
            (home / name).write_text(match[2].replace("/srv", here))
            return match[0]
        shown = ""
        for line in match[2].splitlines():
            if line.startswith("$ "):
                said = run(line.removeprefix("$ ")).replace(here, there).replace(str(home), "/root")
                shown += line + "\n" + aligned(re.sub(r"(?m) +$", "", said))
        return f"```console\n{shown}```\n"

    return BLOCK.sub(block, text)


def aligned(text: str) -> str:
    """A table whose paths have become shorter, its columns in line again."""
    rows = [re.split(r" {2,}", line) for line in text.splitlines()]
    if not re.match(r"[A-Z]+  ", text) or len({len(row) for row in rows}) != 1:
        return text
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines) + "\n"


def steady(text: str) -> str:
    """The text without what moves: hosts work side by side, so the order of what a command prints does, too."""
    for pattern, word in MOVING:
        text = re.sub(f"(?m){pattern}", word, text)
    text = re.sub(r"(?m)from \S+$", "from HOST", re.sub(r"(root|ann) from \S+", "USER from HOST", text))
    said = r"(?m)^(\$ .*\n)((?:(?!\$ |```).*\n)*)"
    return re.sub(said, lambda match: match[1] + "".join(sorted(match[2].splitlines(keepends=True))), text)


@pytest.mark.parametrize("document", [STATE, SAFETY], ids=lambda path: path.name)
def test_every_command_prints_what_the_document_says(document: Path) -> None:
    text = document.read_text()
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:  # a short path, of which nothing is cut off
        now = replay(text, Path(directory))
    if os.environ.get("SLOTH_WRITE_DOCS"):
        if steady(now) != steady(text):
            document.write_text(now)
        return
    assert steady(now) == steady(text)


@pytest.mark.parametrize("number", range(len(re.findall(r"```lua\n", RUNNING.read_text()))))
def test_the_sites_of_the_guide_to_running_are_right(number: int, tmp_path: Path) -> None:
    source = re.findall(r"```lua\n(.*?)```", RUNNING.read_text(), re.S)[number]
    (tmp_path / "site.sloth").write_text(source)
    (tmp_path / "inventory.toml").write_text(TWO_HOSTS)
    done = sloth(tmp_path, "validate", "-i", "inventory.toml", "-f", "site.sloth")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_role_of_the_guide_to_roles_is_right(tmp_path: Path) -> None:
    text = ROLES.read_text()
    site, entry = re.findall(r"```lua\n(.*?)```", text, re.S)
    declaration = re.findall(r"```toml\n(.*?)```", text, re.S)[0]
    for name in ("nginx", "vhost"):
        role = tmp_path / "roles" / name
        (role / "templates").mkdir(parents=True)
        (role / "init.lua").write_text(entry)
        (role / "role.toml").write_text(declaration.replace("required = true", 'default = "localhost"'))
        (role / "templates" / "nginx.conf.j2").write_text("listen {{ port }};\n")
    (tmp_path / "site.sloth").write_text(site)
    (tmp_path / "inventory.toml").write_text(TWO_HOSTS)
    done = sloth(tmp_path, "validate", "-i", "inventory.toml", "-f", "site.sloth")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_module_of_the_contributors_guide_works(tmp_path: Path) -> None:
    source = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.S)[0]
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/motd.py").write_text(source)
    call = ("call", "local", "motd.set", "Authorized users only", "path=~/motd", "--output", "json")
    for reason, content in (("new", None), ("", None), ("drift", "spoiled\n")):
        if content is not None:
            (tmp_path / "motd").write_text(content)
        done = sloth(tmp_path, *call)
        assert done.returncode == 0, done.stdout + done.stderr
        (task,) = json.loads(done.stdout)["hosts"]["local"]["tasks"]
        assert task["results"][0]["reason"] == reason
        assert (tmp_path / "motd").read_text() == "Authorized users only\n"
    assert sloth(tmp_path, "rollback", "last", "--yes").returncode == 0
    assert (tmp_path / "motd").read_text() == "spoiled\n"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", document.read_text(), flags=re.S)
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"[a-z]+:", target)]
    for target in targets:
        path, _, anchor = target.partition("#")
        found = document.parent / path if path else document
        assert found.exists(), f"{target} does not exist"
        if anchor and found.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", found.read_text(), re.M)
            assert anchor in {re.sub(r"[^\w\- ]", "", head).lower().replace(" ", "-") for head in headings}, target


def test_the_readme_names_every_command() -> None:
    text = (ROOT / "README.md").read_text()
    missing = [
        name
        for name in sloth_runner.list_commands(Context(sloth_runner))
        if not re.search(rf"sloth-runner {name}\b", text)
    ]
    assert missing == []


def test_the_first_module_of_the_custom_modules_page_works(tmp_path: Path) -> None:
    source = re.findall(r"```python\n(.*?)```", (ROOT / "docs/custom-modules.md").read_text(), re.S)[0]
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/greeting.py").write_text(source)
    for name, reason in (("world", "new"), ("world", ""), ("Ann", "updated")):
        done = sloth(tmp_path, "call", "local", "greeting.set", "path=~/greeting", f"name={name}", "--output", "json")
        assert done.returncode == 0, done.stdout + done.stderr
        (task,) = json.loads(done.stdout)["hosts"]["local"]["tasks"]
        assert task["results"][0]["reason"] == reason
        assert (tmp_path / "greeting").read_text() == f"Hello, {name}!\n"
