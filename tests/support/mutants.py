"""Mutants of the code, and which of them no test notices; see "Mutants" in CONTRIBUTING.md.

It changes one comparison, condition, number, operator, return value or call in a copy of the project, and runs the
tests that ran this line before, the quickest first, until one fails. A mutant that survives is printed as a diff.
"""

from __future__ import annotations

import argparse
import ast
import copy
import difflib
import importlib.util
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import asyncssh  # noqa: F401  # once, not in the process of each mutant
import coverage
import hypothesis  # noqa: F401
import pytest

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = "-p no:schemathesis -p no:cacheprovider --basetemp=t -W ignore::pytest.PytestAssertRewriteWarning"
PYTEST = OPTIONS.split()  # schemathesis takes four times as long to load as a test takes
BUDGET = 10.0  # seconds of tests for a line that many run
SWAPS: dict[Any, Any] = {
    ast.Eq: ast.NotEq, ast.Lt: ast.LtE, ast.Gt: ast.GtE, ast.Is: ast.IsNot, ast.In: ast.NotIn,
    ast.And: ast.Or, ast.Add: ast.Sub, ast.Mult: ast.FloorDiv,
}  # fmt: skip
SWAPS |= {new: old for old, new in SWAPS.items()}
DROPPED = (ast.Raise, ast.AugAssign, ast.Delete, ast.Break, ast.Continue)


class Follower:
    """Records which tests pass, how long each takes, and which lines it runs."""

    def __init__(self) -> None:
        self._coverage = coverage.Coverage("followed", config_file=False, source_pkgs=["sloth"])
        self._seconds: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        began = time.monotonic()
        self._coverage.switch_context(item.nodeid)
        self._seconds[item.nodeid] = 0.0
        yield
        if item.nodeid in self._seconds:
            self._seconds[item.nodeid] = time.monotonic() - began

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not report.passed:
            self._seconds.pop(report.nodeid, None)

    def run(self, tests: list[str]) -> int:
        self._coverage.start()
        pytest.main([*PYTEST, *tests], plugins=[self])
        self._coverage.stop()
        data = self._coverage.get_data()
        lines = {os.path.relpath(file): data.contexts_by_lineno(file) for file in data.measured_files()}
        Path("followed.json").write_text(json.dumps([self._seconds, lines]))
        return 0


def mutated(node: Any) -> Iterator[ast.AST]:
    """Yield what may stand in the place of a part of a program."""
    match node:
        case ast.Compare(ops=[op]) if type(op) in SWAPS:
            yield ast.Compare(node.left, [SWAPS[type(op)]()], node.comparators)
        case ast.BoolOp() | ast.BinOp() if type(node.op) in SWAPS:
            swapped = copy.copy(node)
            swapped.op = SWAPS[type(node.op)]()
            yield swapped
        case ast.UnaryOp(op=ast.Not()):
            yield node.operand
        case ast.Constant(value=bool() | int() as value):
            yield ast.Constant(not value if isinstance(value, bool) else value + 1)
        case ast.Return(value=ast.expr()) if not isinstance(node.value, ast.Constant):
            yield ast.Return(ast.Constant(None))
        case ast.Expr(value=ast.Call() | ast.Await()):
            yield ast.Pass()
        case ast.stmt() if isinstance(node, DROPPED):
            yield ast.Pass()


def places(tree: ast.AST) -> Iterator[tuple[Any, ast.AST]]:
    """Yield each part of a program that can be changed, and what may stand in its place."""
    for name, value in ast.iter_fields(tree):
        for node in value if isinstance(value, list) else [value]:
            if not isinstance(node, ast.AST) or name in ("annotation", "returns") or isinstance(node, ast.JoinedStr):
                continue
            if isinstance(node, ast.If | ast.Assign) and "TYPE_CHECKING" in ast.unparse(node).splitlines()[0]:
                continue
            if name == "test" and isinstance(node, ast.Name | ast.Attribute | ast.Call | ast.Subscript | ast.NamedExpr):
                yield node, ast.UnaryOp(ast.Not(), node)
            yield from ((node, other) for other in mutated(node))
            yield from places(node)


def rewritten(source: str, node: Any, other: ast.AST) -> str:
    """Return a program with a part of it replaced."""
    lines = source.encode().splitlines(keepends=True)
    begin = len(b"".join(lines[: node.lineno - 1])) + node.col_offset
    end = len(b"".join(lines[: node.end_lineno - 1])) + node.end_col_offset
    text = ast.unparse(other) if isinstance(other, ast.stmt) else f"({ast.unparse(other)})"
    return (source.encode()[:begin] + text.encode() + source.encode()[end:]).decode()


def in_a_process(work: Callable[[], int], log: str, seconds: float) -> int:
    """Do work in a child of its own session; return its exit status, or -1 when it takes too long."""
    if not (pid := os.fork()):
        os.setsid()
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
        os.dup2(1, 2)
        for name in [name for name in sys.modules if name.partition(".")[0] in ("sloth", "tests")]:
            del sys.modules[name]
        try:
            status = work()
        finally:
            sys.stdout.flush()
        os._exit(status)
    end = time.monotonic() + seconds
    while (done := os.waitpid(pid, os.WNOHANG)) == (0, 0) and time.monotonic() < end:
        time.sleep(0.02)
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    if done == (0, 0):
        os.waitpid(pid, 0)
        return -1
    return os.waitstatus_to_exitcode(done[1])


def chosen(
    lines: Mapping[str, list[str]], node: Any, around: Any, seconds: Mapping[str, float]
) -> tuple[list[str], float]:
    """Return the tests that run a line, and how long they take.

    All of them, if it only runs on import, or if other processes run the file. around: the coroutine that the line is
    in: what runs right after an exception was thrown into one is not seen, so those that run another line come last.
    """
    near = _running(lines, node)
    found = near | _running(lines, around)
    if "" in near or not any(map(any, lines.values())):
        found = near = set(seconds)
    tests: list[str] = []
    total = 0.0
    for test in sorted(found & seconds.keys(), key=lambda test: (test not in near, seconds[test], test)):
        total += seconds[test]
        if not tests or total <= BUDGET:
            tests.append(test)
    return tests, total


def _running(lines: Mapping[str, list[str]], node: Any) -> set[str]:
    return {test for line in range(node.lineno, node.end_lineno + 1) for test in lines.get(str(line), ())}


def coroutine_around(tree: ast.AST, node: Any) -> Any:
    """Return the outermost coroutine that a part of a program is in; the part itself if it is in none."""
    for one in ast.walk(tree):
        if isinstance(one, ast.AsyncFunctionDef) and one.lineno < node.lineno and node.end_lineno <= one.end_lineno:
            return one
    return node


def fate(tests: list[str], limit: float) -> str:
    """Return what becomes of a mutant that stands in the copy."""
    if not tests:
        return "not run by a test"
    status = in_a_process(lambda: int(pytest.main(["-x", *PYTEST, *tests])), "last.log", limit)
    return {0: "survived", -1: "too long"}.get(status, "killed")


def main() -> None:
    """Try the mutants of some files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", help="PATH, or PATH:LINE for all mutants of a line")
    parser.add_argument("--tests", nargs="+", required=True)
    parser.add_argument("--count", type=int, default=5, help="mutants of each file")
    parser.add_argument("--seed", default="0")
    args, options = parser.parse_known_args()  # of pytest: -k WORDS
    place = Path(tempfile.mkdtemp(prefix="mutants-"))
    shutil.copytree(ROOT, place, ignore=shutil.ignore_patterns(".*", "__pycache__"), dirs_exist_ok=True, symlinks=True)
    os.chdir(place)
    sys.path[0] = os.environ["PYTHONPATH"] = str(place)
    in_a_process(lambda: Follower().run([*options, *args.tests]), "first.log", 3600)
    seconds, lines = json.loads(Path("followed.json").read_text())
    print(f"{len(seconds)} tests pass in {sum(seconds.values()):.0f} s", flush=True)
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    for file, _, line in (name.partition(":") for name in args.files):
        source = Path(file).read_text()
        tree = ast.parse(source)
        found = [pair for pair in places(tree) if not line or pair[0].lineno == int(line)]
        sample = found if line else random.Random(f"{args.seed}:{file}").sample(found, min(args.count, len(found)))
        ends: Counter[str] = Counter()
        for node, other in sample:
            tests, total = chosen(lines.get(file, {}), node, coroutine_around(tree, node), seconds)
            mutant = rewritten(source, node, other)
            Path(file).write_text(mutant)
            Path(importlib.util.cache_from_source(file)).unlink(missing_ok=True)
            end = fate(tests, 30 + 4 * min(total, BUDGET))
            ends[end] += 1
            if end in ("survived", "not run by a test"):
                diff = difflib.unified_diff(source.splitlines(), mutant.splitlines(), n=0, lineterm="")
                print(f"{end} ({len(tests)} tests): {file}", *list(diff)[2:], sep="\n  ", flush=True)
        Path(file).write_text(source)
        print(f"{file}: {len(sample)} of {len(found)}: {dict(ends)}", flush=True)
    shutil.rmtree(place)


if __name__ == "__main__":
    main()
