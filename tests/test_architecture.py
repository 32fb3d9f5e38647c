"""The import laws of the house (DESIGN: the rooms and who may know whom), read from the source of every file."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT

SLOTH = ROOT / "sloth"
FILES = sorted(SLOTH.rglob("*.py"))
PAYLOAD = [path for path in FILES if "payload" in path.relative_to(SLOTH).parts[:1]]
CONTROLLER = [path for path in FILES if path not in PAYLOAD]


def imports(path: Path) -> Iterator[str]:
    """The absolute names of every module that `path` imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(path: Path) -> str:
    """The room a file is in: "engine", "cli", ..., or its own name at the top."""
    parts = path.relative_to(SLOTH).parts
    return parts[0].removesuffix(".py")


def knows(path: Path, name: str) -> bool:
    return any(module == name or module.startswith(name + ".") for module in imports(path))


def test_there_are_files_to_look_at() -> None:
    assert len(PAYLOAD) > 10
    assert len(CONTROLLER) > 15


@pytest.mark.parametrize("path", PAYLOAD, ids=str)
def test_payload_needs_nothing_but_python_3_6(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=(3, 6))
    for module in imports(path):
        top = module.partition(".")[0]
        assert top in sys.stdlib_module_names or module == "sloth" or module.startswith("sloth.payload"), module


@pytest.mark.parametrize("path", [path for path in PAYLOAD if "modules" in path.parts], ids=str)
def test_modules_know_only_the_kernel_s_declarations(path: Path) -> None:
    allowed = ("modules", "lib", "kernel.resource", "kernel.content", "kernel.hashing", "kernel.values")
    for module in imports(path):
        if module.startswith("sloth.payload.") and module != "sloth.payload.kernel":
            assert module[len("sloth.payload.") :].startswith(allowed), module
    assert "check" not in {
        node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)
    } - {"check_together"}, "a module asks whether this is a check"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_rooms_keep_to_their_doors(path: Path) -> None:
    here = room(path)
    if here != "playbook":
        assert not knows(path, "lupa")
    if here != "transport":
        assert not knows(path, "asyncssh")
    if here in ("playbook", "transport"):
        assert not knows(path, "sloth.engine")
        assert not knows(path, "sloth.transport" if here == "playbook" else "sloth.playbook")
    if here not in ("engine", "transport", "playbook", "cli"):
        assert not knows(path, "sloth.transport")
        assert not knows(path, "sloth.playbook")
    if here not in ("cli", "__main__"):
        assert not knows(path, "sloth.cli")


@pytest.mark.parametrize("path", [p for p in CONTROLLER if room(p) not in ("report", "cli")], ids=str)
def test_only_report_and_cli_write_to_the_terminal(path: Path) -> None:
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    assert not [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]
    assert not knows(path, "click")
    assert not knows(path, "rich")


@pytest.mark.parametrize("path", FILES, ids=str)
def test_every_room_says_why_it_exists(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring
    assert len(docstring.splitlines()[0]) < 125
    assert not {"utils", "helpers", "common", "manager", "misc"} & set(path.with_suffix("").parts)
