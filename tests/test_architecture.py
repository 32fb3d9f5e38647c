"""The structure of the sources: which package may import which, what each half may use, and how large things get."""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.imports import circle, import_graph, module_name
from tests.support.paths import ROOT

SLOTH = ROOT / "sloth"
FILES = sorted(SLOTH.rglob("*.py"))
PAYLOAD = [path for path in FILES if "payload" in path.relative_to(SLOTH).parts[:1]]
CONTROLLER = [path for path in FILES if path not in PAYLOAD]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
IMPORTS = import_graph({module_name(path, ROOT): path.read_text() for path in FILES})

# What each package may import of the others. Everybody may use errors and suggest.
PAYLOAD_LAYERS = {
    "kernel": set(),
    "state": {"kernel"},
    "lib": {"kernel"},
    "modules": {"kernel", "lib"},
    "session": {"kernel", "state", "lib", "modules"},
    "loader": set(),
    "__main__": {"kernel", "state", "lib", "modules", "session", "loader"},
}
CONTROLLER_LAYERS = {
    "inventory": {"payload"},
    "playbook": {"inventory", "payload"},
    "transport": {"inventory", "payload"},
    "state": {"payload"},
    "engine": {"inventory", "playbook", "transport", "state", "payload"},
    "report": {"engine", "payload"},
    "web": {"inventory", "state", "engine", "report", "payload"},
    "cli": {"inventory", "playbook", "transport", "state", "engine", "report", "web"},
    "__main__": {"cli"},
    "dates": set(),
    "errors": set(),
    "passwords": set(),
    "reading": set(),
    "suggest": {"payload"},
}
SHARED = {"dates", "errors", "frozen", "passwords", "reading", "suggest"}
LARGEST_FILE = 350  # lines
LARGEST_CLASS = 200
# Larger all the same, each for a reason.
LARGE: dict[str, str] = {
    "sloth/payload/modules/pkg/install.py:Install": "names, files, patterns and versions are one question to the index",
    "sloth/playbook/program.py:Program": "one Lua coroutine and everything that resumes it",
    "sloth/transport/session.py:Session": "one connection from start to end",
}


def imports(path: Path) -> Iterator[str]:
    """Yield the names of everything that `path` imports, anywhere in it, for annotations too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def package(module: str) -> str:
    """Return the package that a module is in: "engine" for sloth.engine.run; of the payload "payload"."""
    return [*module.split("."), ""][1]


def floor(module: str) -> str:
    """Return the package within the payload: "kernel" for sloth.payload.kernel.diff."""
    return [*module.split("."), "", ""][2]


def uses(path: Path, name: str) -> bool:
    return any(module == name or module.startswith(name + ".") for module in imports(path))


def test_there_are_files_to_look_at() -> None:
    assert len(PAYLOAD) > 10
    assert len(CONTROLLER) > 15
    assert sum(map(len, IMPORTS.values())) > 200


# Imports


def test_no_import_circle_between_files() -> None:
    assert circle(IMPORTS) == [], "move what both need into a file of its own"


def test_a_circle_is_found() -> None:
    text = "if TYPE_CHECKING:\n    import {0}\nelse:\n    import {1}\ndef f():\n    from p import {2}"
    ring = {"p.a": text.format("p.a", "re", "b"), "p.b": text.format("re", "re", "c"), "p.c": "import p.a", "p": ""}
    assert circle(import_graph(ring)) == ["p.a", "p.b", "p.c", "p.a"]
    ring["p.c"] = text.format("p.a", "re", "x")
    assert circle(import_graph(ring)) == []


@pytest.mark.parametrize("module", sorted(IMPORTS))
def test_packages_import_only_what_is_below_them(module: str) -> None:
    here = package(module)
    for target in IMPORTS[module]:
        if here == "payload":
            assert package(target) == "payload", f"{module} imports {target} of the controller"
            if floor(module) and floor(target) and floor(target) != floor(module):
                assert floor(target) in PAYLOAD_LAYERS[floor(module)], f"{module} imports {target}"
        elif here and package(target) and package(target) != here:
            assert package(target) in CONTROLLER_LAYERS[here] | SHARED, f"{module} imports {target}"


def test_layers_have_no_circle() -> None:
    for layers in (PAYLOAD_LAYERS, CONTROLLER_LAYERS):
        assert circle({name: frozenset(below) for name, below in layers.items()}) == []


@pytest.mark.parametrize("path", PAYLOAD, ids=str)
def test_payload_needs_nothing_but_python_3_6(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=(3, 6))
    for module in imports(path):
        top = module.partition(".")[0]
        assert top in sys.stdlib_module_names or module == "sloth" or module.startswith("sloth.payload"), module


@pytest.mark.parametrize("path", [path for path in PAYLOAD if "modules" in path.relative_to(SLOTH).parts], ids=str)
def test_modules_know_only_the_kernel_s_declarations(path: Path) -> None:
    allowed = ("resource", "content", "hashing")
    for module in IMPORTS[module_name(path, ROOT)]:
        if package(module) == "payload" and floor(module) == "kernel":
            assert module.rpartition(".")[2] in allowed, f"{module}: import it from kernel.resource, or put it into lib"
    assert "check" not in {
        node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)
    } - {"check_together"}, "a module asks whether this is a check"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_third_party_packages_have_one_place(path: Path) -> None:
    here = package(module_name(path, ROOT))
    if here != "playbook":
        assert not uses(path, "lupa")
    if here not in ("playbook", "web"):
        assert not uses(path, "jinja2")
    if here not in ("web", "cli"):  # cli/web.py starts the server
        assert not uses(path, "starlette")
        assert not uses(path, "uvicorn")
    if here != "transport":
        assert not uses(path, "asyncssh")
    if here not in ("report", "cli"):
        assert not uses(path, "click")
        assert not uses(path, "rich")


@pytest.mark.parametrize("path", CONTROLLER, ids=str)
def test_memory_and_shared_are_opened_in_one_place(path: Path) -> None:
    if path == SLOTH / "state" / "storage.py":
        return
    tree = ast.parse(path.read_text())
    classes = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in ("sloth.state.memory", "sloth.state.shared")
        for alias in node.names
        if alias.name in ("Memory", "Shared")
    }
    called = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert not [func.id for func in called if isinstance(func, ast.Name) and func.id in classes], "use state.storage"


@pytest.mark.parametrize("path", [p for p in CONTROLLER if p.parent.name not in ("report", "cli")], ids=str)
def test_only_report_and_cli_write_to_the_terminal(path: Path) -> None:
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    assert not [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]


# Files, classes and tests


@pytest.mark.parametrize("path", FILES, ids=str)
def test_every_file_has_a_docstring_and_a_name_that_says_something(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring
    assert len(docstring.splitlines()[0]) < 125
    assert not {"utils", "helpers", "common", "manager", "misc"} & set(path.with_suffix("").parts)


def sizes(path: Path) -> dict[str, int]:
    """Return the lines of the file and of each of its classes that exceed the limits, by name."""
    text = path.read_text()
    name = str(path.relative_to(ROOT))
    classes = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef))
    found = {f"{name}:{node.name}": (node.end_lineno or 0) - node.lineno + 1 for node in classes}
    large = {where: lines for where, lines in found.items() if lines > LARGEST_CLASS}
    lines = len(text.splitlines())
    return large | ({name: lines} if lines > LARGEST_FILE else {})


def test_files_and_classes_fit_on_a_few_screens() -> None:
    found = {where: lines for path in FILES for where, lines in sizes(path).items()}
    assert {where: lines for where, lines in found.items() if where not in LARGE} == {}, "split it along a real seam"
    assert sorted(LARGE.keys() - found.keys()) == [], "no longer large: remove it from LARGE"


def test_test_modules_import_nothing_from_each_other() -> None:
    for path in TESTS:
        for module in imports(path):
            name = module.rpartition(".")[2]
            assert not module.startswith("tests.") or not name.startswith("test_"), f"{path}: move it to tests/support"


def test_a_fixture_has_one_definition() -> None:
    names = Counter(
        node.name
        for path in TESTS
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and any(re.match(r"pytest\.fixture\b", ast.unparse(decorator)) for decorator in node.decorator_list)
    )
    assert len(names) > 10
    assert [name for name, count in names.items() if count > 1] == []
