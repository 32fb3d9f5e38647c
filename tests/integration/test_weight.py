"""What a start costs, told in bytes, modules and writes: they grow unseen, and seconds cannot be asserted."""

from __future__ import annotations

import ast
import os
import pwd
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from sloth.engine.events import HostFinished
from sloth.payload.session import messages, wire
from sloth.transport import bundle
from sloth.transport.local import LocalProcess
from sloth.transport.slim import slim
from tests.support.paths import ROOT
from tests.support.running import run_local

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json

BUNDLE = 175_000  # bytes; every host gets them once a version
PAYLOAD_MODULES = 96  # that a payload has loaded when it is ready for calls
TOTAL = 2500  # system calls of a payload that looks at ten lines
EACH = 40  # system calls of one more line
HEAVY = (
    "hashlib",
    "_hashlib",
    "difflib",
    "subprocess",
    "typing",
    "pkgutil",
    "random",
    "tempfile",
    "logging",
    "ssl",
    "ast",
    "re",
    "enum",
    "json",
    "threading",
)


def test_the_payload_stays_small() -> None:
    made = bundle.build()
    assert len(made.data) < BUNDLE
    assert bundle._build.__wrapped__((), None).sha256 == made.sha256, "the same sources give the same bytes"


def test_the_payload_loads_little_before_it_is_ready() -> None:
    script = "import sys; import sloth.payload.__main__; print(' '.join(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-E", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {script}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    loaded = done.stdout.split()
    assert len(loaded) <= PAYLOAD_MODULES, loaded
    assert [name for name in HEAVY if name in loaded] == []


def test_what_hosts_have_no_use_for_stays_here_and_lines_keep_their_numbers() -> None:
    source = (
        b'"""Doc."""\nimport os\n\nTYPE_CHECKING = False\nif TYPE_CHECKING:\n    # why\n    import typing\n'
        b'    X = "\xc3\xbc"\n\n\ndef f(a: "int", *b: "str", c: "dict[str, int]" = {}) -> "None":  # \xc3\xbc: why\n'
        b'    """One\n\n    two."""\n    x: "int" = 1\n    y: "str"\n    raise ValueError("x # no comment")\n'
        b'\n\nclass A:\n    "a"\n    field: "int" = 2\n'
    )
    kept = slim(source)
    for word in (b"Doc", b"two", b"why", b"typing", b"str", b"None"):
        assert word not in kept, kept
    assert b'field: "int" = 2' in kept, "kernel/value.py reads it"
    scope: dict[str, object] = {}
    exec(compile(kept, "f.py", "exec"), scope)  # noqa: S102  its own source
    with pytest.raises(ValueError, match="x # no comment") as caught:
        scope["f"](1)  # type: ignore[operator]
    assert caught.traceback[-1].lineno == 16
    assert slim(b"not python (") == b"not python ("


@pytest.mark.parametrize(
    "source",
    [
        b'def f(a: ("int") = 1) -> "int":\n    return a\n',
        b'def f() -> ("int"):\n    return 1\n',
        b'x: ("int") = 1\n',
        b'# -*- coding: latin-1 -*-\nx = "\xfc\xfc"  # \xfc\ndef f(a: "int") -> "int":\n    return a\n',
        b'\xef\xbb\xbfdef f(a: "int") -> "int":\n    return a\n',
        b'def f(a: "int") -> "int":\r\n    return a\r\n',
    ],
)
def test_a_source_that_cannot_be_cut_is_unchanged(source: bytes) -> None:
    assert slim(source) == source


def test_odd_sources_are_cut_with_care() -> None:
    for before, after in (
        (b"# -*- coding: utf-8 -*-\n# a\nx = 1  # b\n", b"# -*- coding: utf-8 -*-\n\nx = 1\n"),
        (b'"""a"""; x = "#"\n', b'""; x = "#"\n'),
        (b'"""a"""; x = 1\n', b'"""a"""; x = 1\n'),
        (b'def f() -> \\\n  "int":\n    pass\n', b'def f() -> \\\n  "int":\n    pass\n'),
        (b'x = """\n# no comment\n"""  # one\n', b'x = """\n# no comment\n"""\n'),
        (b"if TYPE_CHECKING:\n    @a\n    def f():\n        pass\n", b"if TYPE_CHECKING:\n    pass\n\n\n"),
        (b'def f(a: "x"\n      "y", b=1):\n    pass\n', b"def f(a\n, b=1):\n    pass\n"),
        (b'def f(\n    a: "int" = 1,  # \xc3\xbc\n) -> "int":\n    pass\n', b"def f(\n    a = 1,\n):\n    pass\n"),
    ):
        kept = b"\n".join(line.rstrip() for line in slim(before).split(b"\n"))
        assert kept == after


@pytest.mark.parametrize("path", sorted((ROOT / "sloth" / "payload").rglob("*.py")), ids=lambda path: path.name)
def test_a_slim_source_does_the_same(path: Path) -> None:
    before, after = path.read_bytes(), slim(path.read_bytes())
    assert before.count(b"\n") == after.count(b"\n")
    assert _without_types(ast.parse(before)) == _without_types(ast.parse(after, feature_version=(3, 6)))


def _without_types(tree: ast.AST) -> str:
    """What a module does, with the places of its statements."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node, False) is not None:
            node.body[0] = ast.Pass(lineno=node.body[0].lineno, col_offset=0)
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
        for name, value in ast.iter_fields(node):
            if isinstance(value, list) and not isinstance(node, ast.ClassDef):
                setattr(node, name, [_plain_assignment(item) for item in value])
    lines = [(type(node).__name__, node.lineno) for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    return ast.dump(tree) + repr(lines)


def _plain_assignment(node: object) -> object:
    if not isinstance(node, ast.AnnAssign):
        return node
    if node.value is None:
        return ast.Pass(lineno=node.lineno, col_offset=0)
    return ast.Assign(targets=[node.target], value=node.value, lineno=node.lineno, col_offset=0)


def test_a_kept_bundle_is_used_until_a_source_changes(tmp_path: Path) -> None:
    build = bundle._build.__wrapped__
    first = build((), tmp_path)
    (kept,) = tmp_path.glob("bundle-*.zip")
    code = first.code(["file.copy"])
    with mock.patch.object(bundle, "_packed", side_effect=AssertionError("it was built again")):
        assert build((), tmp_path) == first
        assert build((), tmp_path).code(["file.copy"]) == code
    kept.write_bytes(kept.read_bytes()[:-1] + b"x")
    assert build((), tmp_path) == first, "a damaged one is not"
    own = build((("sloth/payload/modules/own.py", b"x = 1"),), tmp_path)
    assert own != first
    assert [path.suffix for path in tmp_path.iterdir()] == [".zip"], "code of other sources is removed"
    own.code(["own.verb"])
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".code", ".zip"]


@pytest.mark.parametrize(
    ("words", "absent"),
    [
        (["--version"], ["asyncio", "asyncssh", "lupa", "jinja2", "rich", "cryptography", "sqlite3"]),
        (["--help"], ["asyncio", "asyncssh", "lupa", "jinja2", "rich", "cryptography", "sqlite3"]),
        (["run", "-f", "site.sloth"], ["asyncssh", "jinja2", "rich", "cryptography", "zipfile"]),
    ],
)
def test_a_command_loads_what_it_needs(tmp_path: Path, words: list[str], absent: list[str]) -> None:
    (tmp_path / "site.sloth").write_text('task({ name = "t", run = function() exec.run("true") end })')
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    environment.pop("COVERAGE_PROCESS_CONFIG", None)  # measuring coverage loads modules, too
    # The end of a command is os._exit: what it had loaded is told before it.
    script = (
        "import os, sys; end = os._exit; names = sys.argv.pop().split()\n"
        "os._exit = lambda status: end(9 if [print(n) for n in names if n in sys.modules] else status)\n"
        "from sloth.cli import command_line; command_line()"
    )
    for turn in range(2):
        done = subprocess.run(
            [sys.executable, "-c", script, *words, " ".join(absent)],
            cwd=tmp_path, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        if turn or words[0] != "run":  # the first run builds the bundle
            assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def writes() -> Iterator[list[int]]:
    """The sizes of what is written to payloads."""
    sizes: list[int] = []
    real = LocalProcess.write

    async def counted(self: LocalProcess, data: bytes) -> None:
        sizes.append(len(data))
        await real(self, data)

    with mock.patch.object(LocalProcess, "write", counted):
        yield sizes


async def test_many_calls_go_out_together(tmp_path: Path, writes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("transport.outbox.SOON", "engine.turns.TURN"):  # a busy machine takes longer
        monkeypatch.setattr(f"sloth.{limit}", 60)
    site = 'task({ name = "t", run = function() for i = 1, 200 do file.stat("/etc/" .. i) end end })'
    events = await run_local(site, tmp_path)
    assert [event.status for event in events if isinstance(event, HostFinished)] == ["unchanged"]
    assert len(writes) < 20, writes
    assert sum(writes) > 20_000


async def test_a_content_that_the_host_has_is_not_sent_again(tmp_path: Path, writes: list[int]) -> None:
    for number in range(3):
        (tmp_path / f"file{number}").write_bytes(os.urandom(20_000))
    calls = " ".join(
        f'file.copy({{ src = "{tmp_path}/file{number}", dest = "~/copied{number}" }})' for number in range(3)
    )
    sent = []
    for _ in range(2):
        await run_local(f'task({{ name = "t", run = function() {calls} end }})', tmp_path)
        sent.append(sum(writes))
        writes.clear()
    assert sent[0] > 60_000
    assert sent[1] < 10_000


async def test_a_call_does_not_wait_for_a_slow_site(tmp_path: Path, writes: list[int]) -> None:
    site = """task({ name = "t", run = function()
        file.stat("/etc/first")
        local begun = os.clock()
        while os.clock() - begun < 0.05 do end
        file.stat("/etc/second")
        while os.clock() - begun < 0.1 do end
        file.stat("/etc/third")
    end })"""
    await run_local(site, tmp_path)
    assert len(writes) >= 4, "hello, two that were overdue, the rest"


def _serve(home: Path, calls: list[tuple[str, dict[str, Json]]], program: tuple[str, ...] = (), end: str = "") -> bytes:
    """Let a payload answer `calls`, from its start to its end, and return what it wrote.

    program: what runs Python; end: code that runs after the session.
    """
    hello = messages.Hello(v=messages.VERSION, agent="a", site="s", run="r", who="w", origin="o")
    asked = [
        messages.Call(id=n, epoch=0, task="t", where="s:1", name=name, args=args)
        for n, (name, args) in enumerate(calls, 1)
    ]
    frames = b"".join(wire.pack(message) for message in (hello, *asked, messages.Close()))
    start = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from sloth.payload.__main__ import main; main(); {end}"
    process = subprocess.Popen(
        [*program, sys.executable, "-I", "-S", "-E", "-c", start],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "HOME": str(home)},
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(frames)
    process.stdin.flush()  # it stays open: its end would be that of the controller
    said = process.stdout.read()
    process.stdout.close()
    process.stdin.close()
    assert process.wait() == 0
    return said


def test_a_converged_run_of_files_users_and_packages_does_without_re_enum_json_and_threading(tmp_path: Path) -> None:
    calls: list[tuple[str, dict[str, Json]]] = [
        ("file.lineinfile", {"path": f"{tmp_path}/lines", "line": "a", "create": True}),
        ("file.directory", {"path": f"{tmp_path}/directory", "mode": "0750"}),
        ("user.create", {"name": "root", "shell": pwd.getpwnam("root").pw_shell}),
        ("group.create", {"name": "root"}),
    ]
    if os.path.exists("/var/lib/dpkg/status"):
        calls.append(("pkg.install", {"name": "dpkg"}))
    for _ in range(2):
        said = _serve(tmp_path, calls, end=f"open({f'{tmp_path}/modules'!r}, 'w').write(' '.join(sys.modules))")
    assert said.count(b'"unchanged"') == len(calls), said[-1000:]
    loaded = set((tmp_path / "modules").read_text().split())
    assert "sloth.payload.modules.user.create" in loaded
    assert not loaded & {"re", "enum", "json", "threading", "importlib", "subprocess", "hashlib"}


def _system_calls(home: Path, lines: int) -> Counter[str]:
    """What a payload asks of its kernel to look at `lines` lines that are there, from its start to its end."""
    trace = home / "trace"
    calls: list[tuple[str, dict[str, Json]]] = [
        ("file.lineinfile", {"path": f"{home}/lines", "line": f"line {n}", "create": True}) for n in range(lines)
    ]
    for program in ((), (), ("strace", "-f", "-qq", "-o", str(trace))):
        said = _serve(home, calls, program)
    assert said.count(b'"unchanged"') == lines, said[-1000:]
    return Counter(re.findall(r"^\d+ +(\w+)\(", trace.read_text(errors="replace"), re.M))


@pytest.mark.skipif(shutil.which("strace") is None, reason="it counts with strace")
def test_a_look_costs_a_few_system_calls_and_no_sync(tmp_path: Path) -> None:
    (tmp_path / "ten").mkdir()
    (tmp_path / "sixty").mkdir()
    ten, sixty = _system_calls(tmp_path / "ten", 10), _system_calls(tmp_path / "sixty", 60)
    assert sixty["fsync"] + sixty["fdatasync"] <= 5, sixty
    assert sixty["fsync"] + sixty["fdatasync"] <= ten["fsync"] + ten["fdatasync"] + 1, (ten, sixty)
    assert sum(ten.values()) < TOTAL
    assert (sixty.total() - ten.total()) / 50 < EACH, sixty - ten


MODULES = 365  # that a run on this machine has loaded at its end, of Python's and the libraries' as of ours


def test_a_run_loads_few_modules(tmp_path: Path) -> None:
    (tmp_path / "site.sloth").write_text('task({ name = "t", run = function() exec.run("true") end })')
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    environment.pop("COVERAGE_PROCESS_CONFIG", None)
    script = (
        "import os, sys; end = os._exit\n"
        "def count(status):\n"
        "    from sloth.cli.lazy import LazyModule\n"
        "    loaded = sorted(name for name, one in sys.modules.items() if type(one) is not LazyModule)\n"
        "    print(*loaded, file=sys.stderr, flush=True)\n"
        "    end(status)\n"
        "os._exit = count\n"
        "from sloth.cli import command_line; command_line()"
    )
    for _ in range(2):  # the first run builds the bundle
        done = subprocess.run(
            [sys.executable, "-c", script, "run", "-f", "site.sloth"],
            cwd=tmp_path, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    loaded = done.stderr.split()
    assert len(loaded) < MODULES, loaded
    unused = {"inspect", "dis", "tokenize", "ssl", "_ssl", "_hashlib", "shutil", "sloth.transport.ssh", "jinja2"}
    unused |= {"difflib", "gettext", "tomllib", "sloth.cli.syncing"}
    assert not unused & set(loaded)
