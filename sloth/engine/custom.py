"""A site's own modules: found in a directory, checked before anything is touched, made known here, shipped to hosts."""

from __future__ import annotations

import ast
import importlib
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path

import sloth.payload.modules as built_in
from sloth.errors import SiteError
from sloth.payload.kernel.registry import call_names
from sloth.payload.kernel.resource import Call, Field

PACKAGE = built_in.__name__
OLDEST = (3, 6)  # the oldest Python of hosts
# What a namespace of Lua may not hide: see env in playbook/lua/sandbox.lua and stubs.lua, and Lua's own.
_GLOBALS = frozenset(
    {"assert", "check", "coroutine", "debug", "error", "facts", "groups", "handler", "host", "include", "io", "load"}
    | {"log", "math", "next", "os", "package", "pairs", "print", "require", "secret", "select", "state", "string"}
    | {"table", "task", "template", "type", "utf8", "vars", "ipairs", "pcall", "xpcall", "tonumber", "tostring"}
)
# As global as what they mirror, the path of the package and sys.modules.
_known: list[str] = []  # directories that were made known, with the names of what they held
_names: set[str] = set()


def load(directory: Path | None) -> Mapping[str, bytes]:
    """Make the modules in `directory` known to this process; return their sources by their path in the payload's zip.

    `NAME.py` holds the classes of the namespace NAME; NAME/VERB.py may hold one of them. What an earlier call made
    known is forgotten. None, or a directory that is not there: none. Raises SiteError, with the file and the line.
    """
    _forget()
    if directory is None or not directory.is_dir():
        return {}
    files = dict(_files(directory))
    if not files:
        return {}
    for path, source in files.items():
        _check(directory / path, source)
    built_in.__path__.append(str(directory))
    _known.append(str(directory))
    _names.update(Path(path).parts[0].removesuffix(".py") for path in files)
    importlib.invalidate_caches()
    for path in files:
        _import(directory, path)
    packed = {f"sloth/payload/modules/{path}": source for path, source in files.items()}
    for path in files:
        if "/" in path:
            packed.setdefault(f"sloth/payload/modules/{path.split('/')[0]}/__init__.py", b"")
    return packed


def _forget() -> None:
    for path in _known:
        built_in.__path__.remove(path)
    _known.clear()
    for name in [name for name in sys.modules if name.removeprefix(PACKAGE + ".").split(".")[0] in _names]:
        if name.startswith(PACKAGE + "."):
            del sys.modules[name]
            parent, _, last = name.rpartition(".")
            if parent in sys.modules and hasattr(sys.modules[parent], last):
                delattr(sys.modules[parent], last)
    _names.clear()


def _files(directory: Path) -> Iterator[tuple[str, bytes]]:
    ours = {path.stem for path in Path(built_in.__path__[0]).iterdir()}
    for path in sorted(directory.rglob("*.py")):
        relative = path.relative_to(directory)
        if len(relative.parts) > 2 or any(part.startswith((".", "__pycache__")) for part in relative.parts):
            continue
        namespace = relative.parts[0].removesuffix(".py")
        if not all(part.removesuffix(".py").isidentifier() for part in relative.parts):
            raise SiteError("the name of a module must be a Python identifier", where=str(path))
        if namespace in _GLOBALS or namespace in ours:
            raise SiteError(f"the name {namespace} is taken", hint="name the file otherwise", where=str(path))
        try:
            yield relative.as_posix(), path.read_bytes()
        except OSError as error:
            raise SiteError(f"the module cannot be read: {error.strerror}", where=str(path)) from error


def _check(path: Path, source: bytes) -> None:
    """Raise SiteError when `source` cannot run on every host: old Python, standard library only."""
    try:
        tree = ast.parse(source, str(path), feature_version=OLDEST)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        what = getattr(error, "msg", str(error))
        raise SiteError(f"{what} (hosts may have Python {OLDEST[0]}.{OLDEST[1]})", where=f"{path}:{line}") from error
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "."] if not node.level else ["."]
        for name in names:
            if name == "." or (
                name.split(".")[0] not in sys.stdlib_module_names and not name.startswith("sloth.payload")
            ):
                raise SiteError(
                    f"a module may import the standard library and sloth.payload only, not {name}",
                    hint="hosts have nothing else",
                    where=f"{path}:{getattr(node, 'lineno', 1)}",
                )


def _import(directory: Path, path: str) -> None:
    name = f"{PACKAGE}.{path.removesuffix('.py').replace('/', '.').removesuffix('.__init__')}"
    try:
        module = importlib.import_module(name)
    except Exception as error:
        raise SiteError(f"{type(error).__name__}: {error}", where=_place(error, directory, path)) from error
    namespace = path.split("/")[0].removesuffix(".py")
    known = call_names()
    for thing in vars(module).values():
        if not (isinstance(thing, type) and issubclass(thing, Call) and thing.name) or thing.__module__ != name:
            continue
        where = f"{directory / path}"
        if not thing.name.startswith(namespace + ".") or not thing.name[len(namespace) + 1 :].isidentifier():
            raise SiteError(f"class {thing.__name__} is named {thing.name!r}, not {namespace}.VERB", where=where)
        if thing.name not in known:
            raise SiteError(
                f'the name of {thing.__name__} must stand plainly in it: name = "{thing.name}"', where=where
            )
        fields: tuple[object, ...] = tuple(thing.fields)
        for field in fields:
            if not isinstance(field, Field):
                raise SiteError(f"the fields of {thing.name} must be Fields, not {field!r}", where=where)
            if field.type not in Field.TYPES:
                raise SiteError(f"field {field.name} of {thing.name} has the unknown type {field.type!r}", where=where)


def _place(error: Exception, directory: Path, path: str) -> str:
    """The deepest line of a traceback that is below `directory`."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename.startswith(str(directory)):
            return f"{frame.filename}:{frame.lineno}"
    return str(directory / path)
