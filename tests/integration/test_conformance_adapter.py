"""The adapter that holds modules against recorded behaviour of Ansible, also for calls that ship files."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import PYTHONS, ROOT

ADAPTER = ROOT / "tests/conformance_adapter.py"


def ask(python: Path, *requests: dict[str, Any]) -> list[dict[str, Any]]:
    """Send requests to one adapter; return its answers."""
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    done = subprocess.run([python, ADAPTER], input=lines, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("python", PYTHONS, ids=str)
def test_edits_run_under_every_python(python: Path, tmp_path: Path) -> None:
    request = {"module": "file.lineinfile", "args": {"path": f"{tmp_path}/f", "line": "x", "create": True}}
    assert [answer["changed"] for answer in ask(python, request, request)] == [True, False]
    assert (tmp_path / "f").read_text() == "x\n"


def test_what_a_call_ships_is_resolved_by_the_controller(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "a.txt").write_text("text\n")
    (site / "a.txt").chmod(0o640)
    (site / "t.j2").write_text("{% for x in [1, 2] %}\n{{ word }}{{ x }}\n{% endfor %}\n")
    with tarfile.open(site / "a.tar.gz", "w:gz") as archive:
        archive.add(site / "a.txt", "inside/a.txt")
    (tmp_path / "to").mkdir()
    requests: list[dict[str, Any]] = [
        {"module": "file.copy", "args": {"src": "a.txt", "dest": f"{tmp_path}/to/", "mode": "preserve"}},
        {"module": "file.copy", "args": {"content": "", "dest": f"{tmp_path}/to/empty"}},
        {"module": "file.copy", "args": {"src": f"{site}/", "dest": f"{tmp_path}/to/tree"}},
        {"module": "file.template", "args": {"src": "t.j2", "dest": f"{tmp_path}/to/t"}, "vars": {"word": "w"}},
        {"module": "archive.unpack", "args": {"src": "a.tar.gz", "dest": f"{tmp_path}/to"}},
    ]
    requests = [{"dir": str(site), **request} for request in requests]
    answers = ask(Path(sys.executable), *requests, *requests)
    assert [answer["failed"] for answer in answers] == [False] * 10, answers
    assert [answer["changed"] for answer in answers] == [True] * 5 + [False] * 5
    assert (tmp_path / "to/a.txt").stat().st_mode & 0o7777 == 0o640
    assert (tmp_path / "to/t").read_text() == "w1\nw2\n"
    assert (tmp_path / "to/inside/a.txt").read_text() == "text\n"
    (failed,) = ask(
        Path(sys.executable), {"dir": str(site), "module": "file.copy", "args": {"src": "no", "dest": "/x"}}
    )
    assert failed["failed"]
    assert "there is no file no" in failed["msg"]


CASES = [json.loads(line) for line in (ROOT / "tests/conformance/recorded.jsonl").read_text().splitlines()]


def test_recorded_cases_of_ansible(tmp_path: Path) -> None:
    """Each is called twice: the first call does what Ansible did, the second one nothing."""
    account = pwd.getpwuid(os.geteuid()).pw_name
    os.umask(0o022)
    requests: list[dict[str, Any]] = []
    for case in CASES:
        directory = tmp_path / case["id"]
        directory.mkdir()
        for name, text in case["files"].items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode("latin-1"))
            path.chmod(int(case.get("modes", {}).get(name, "0644"), 8))
        for name, target in case.get("links", {}).items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).symlink_to(target)
        args = json.dumps(case["args"]).replace("{{dir}}", str(directory)).replace("{{user}}", account)
        requests.append({"module": case["module"], "args": json.loads(args), "dir": str(directory)})
    first = ask(Path(sys.executable), *requests)
    wrong = []
    for case, answer in zip(CASES, first, strict=True):
        if (answer["failed"], answer["changed"]) != (case["failed"], case["changed"]):
            wrong.append((case["id"], answer))
        directory = tmp_path / case["id"]
        for name, text in case.get("after", case["files"]).items():
            found = directory / name
            if found.is_symlink():
                continue
            if not found.is_file() or found.read_bytes().decode("latin-1").replace(str(directory), "{{dir}}") != text:
                wrong.append((case["id"], name))
    assert wrong == []
    again = ask(Path(sys.executable), *requests)
    assert [case["id"] for case, answer in zip(CASES, again, strict=True) if answer["changed"]] == []
