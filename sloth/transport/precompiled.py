"""The payload's modules as code of this Python's version, for hosts that have the same: they need not compile them.

A host that has another one compiles what it needs, and so does one for a module that was not sent.
"""

from __future__ import annotations

import ast
import marshal
import zlib
from collections.abc import Iterable, Iterator, Mapping

from sloth.payload.loader import pack

MAIN = "sloth.payload.__main__"
MODULES = "sloth.payload.modules"
# What functions import, and first runs call: all of them, and those with a package.
_LATER = ("sloth.payload.kernel.diff", "sloth.payload.kernel.paging", "sloth.payload.lib.contents")
_LATER_OF = {"pkg": ("backend", "apt", "dpkg")}
Code = tuple[bool, bytes]  # whether it is a package, and what marshal makes of its code


def make(sources: Mapping[str, bytes]) -> bytes:
    """Compile all sources, given by their paths; return the code with what each module imports, for select()."""
    codes: dict[str, Code] = {}
    imports: dict[str, list[str]] = {}
    for path, source in sources.items():
        name = path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        is_package = path.endswith("/__init__.py")
        try:
            tree = ast.parse(source)
            code = compile(source, path, "exec", 0, dont_inherit=True, optimize=0)
        except (SyntaxError, ValueError):  # hosts say what is wrong with it
            continue
        codes[name] = (is_package, marshal.dumps(code))
        imports[name] = sorted(set(_imports(tree, name, is_package)))
    return marshal.dumps((codes, imports))


def _imports(tree: ast.Module, name: str, is_package: bool) -> Iterator[str]:
    """Yield the names that a module imports while it is loaded; some may be names in modules, and not modules."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def select(kept: bytes, calls: Iterable[str]) -> bytes:
    """Return a code file (see payload/loader.py), compressed, with what the payload and these calls load."""
    if not kept:
        return b""
    codes, imports = marshal.loads(kept)
    needed: set[str] = set()
    waiting = [MAIN, *_LATER]
    for call in calls:
        package = call.partition(".")[0]
        waiting += [f"{MODULES}.{call}", f"{MODULES}.{package}"]
        waiting += [f"{MODULES}.{package}.{name}" for name in _LATER_OF.get(package, ())]
    while waiting:
        name = waiting.pop()
        if name not in needed and name in codes:
            needed.add(name)
            waiting += imports[name]
            if "." in name:
                waiting.append(name.rpartition(".")[0])
    return zlib.compress(pack({name: codes[name] for name in sorted(needed)}), 6)  # 9 takes three times as long
