"""The import graph of a package, read from its sources: what imports what when it runs, not what annotations name."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

Graph = Mapping[str, frozenset[str]]


def module_name(path: Path, root: Path) -> str:
    """Return the dotted name of the module in `path`, below `root`."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield (module, name) for each import that can run, at the top or in a function; name is "" for `import module`.

    What is under `if TYPE_CHECKING:` never runs, so it is left out.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for statement in node.orelse:
                yield from imported_names(ast.Module([statement], []))
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            yield from ((node.module or "", alias.name) for alias in node.names)
        else:
            yield from imported_names(node)


def import_graph(sources: Mapping[str, str]) -> Graph:
    """Return which modules each module imports, of those in `sources` (their texts by name)."""
    graph: dict[str, frozenset[str]] = {}
    for module, text in sources.items():
        found = set()
        for target, name in imported_names(ast.parse(text)):
            submodule = f"{target}.{name}"
            found.add(submodule if submodule in sources else target)
        graph[module] = frozenset(found & sources.keys() - {module})
    return graph


def circle(graph: Graph) -> list[str]:
    """Return the names along one import circle, or [] when there is none."""
    done: set[str] = set()
    for start in sorted(graph):
        trail = _circle_from(start, graph, [], done)
        if trail:
            return trail
    return []


def _circle_from(module: str, graph: Graph, trail: list[str], done: set[str]) -> list[str]:
    if module in trail:
        return [*trail[trail.index(module) :], module]
    if module not in done:
        for target in sorted(graph.get(module, ())):
            found = _circle_from(target, graph, [*trail, module], done)
            if found:
                return found
        done.add(module)
    return []
