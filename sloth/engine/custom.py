"""A site's own modules: found in a directory, checked before a host is touched, imported here and shipped to hosts."""

from __future__ import annotations

import ast
import importlib
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import TypeGuard

import sloth.payload.modules as built_in
from sloth.errors import SiteError
from sloth.payload.kernel.registry import call_names, find, forget
from sloth.payload.kernel.resource import Call, Field
from sloth.playbook.names import LUA, SITE

PACKAGE = built_in.__name__
_BUILT_IN = Path(built_in.__path__[0])
OLDEST = (3, 6)  # the oldest Python of hosts
_GLOBALS = frozenset((*LUA, *SITE))  # what a namespace may not be called
_KEYWORDS = frozenset(
    {"and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if", "in", "local", "nil"}
    | {"not", "or", "repeat", "return", "then", "true", "until", "while"}
)
# As global as what they mirror: what load() has put into sys.modules, and what it has added to the paths of packages.
_loaded: list[str] = []
_extended: list[tuple[ModuleType, str]] = []


def load(*directories: Path) -> Mapping[str, bytes]:
    """Make the modules in `directories` known to this process; return their sources by their path in the payload's zip.

    `NAME.py` holds the classes of a new namespace NAME, NAME/VERB.py one class of a new or a built-in one. What an
    earlier call made known is forgotten; a directory that does not exist is skipped. Raises SiteError, with the file
    and the line.
    """
    _forget()
    packed: dict[str, bytes] = {}
    for directory in directories:
        for path, source in _load(directory).items():
            if packed.setdefault(path, source) != source:
                raise SiteError(f"another directory has a module {Path(path).name}", where=str(directory))
    return packed


def _load(directory: Path) -> Mapping[str, bytes]:
    files = dict(_files(directory)) if directory.is_dir() else {}
    if not files:
        return {}
    for path, source in files.items():
        _check(directory / path, source)
    taken = frozenset(call_names())
    _extend(built_in, directory)
    packed = {f"sloth/payload/modules/{path}": source for path, source in files.items()}
    for namespace in sorted({path.split("/")[0] for path in files if "/" in path}):
        if not (_BUILT_IN / namespace).is_dir():
            packed.setdefault(f"sloth/payload/modules/{namespace}/__init__.py", _package(namespace))
        if _is_built_in(namespace):
            _extend(importlib.import_module(f"{PACKAGE}.{namespace}"), directory / namespace)
    importlib.invalidate_caches()
    names = frozenset(call_names())
    for path in files:
        for cls in _import(directory, path):
            _check_class(cls, path, directory, names)
            if cls.name in taken or find(cls.name) is not cls:
                raise SiteError(f"there is another call {cls.name}", hint="rename it", where=str(directory / path))
    return packed


def unpack(sources: Mapping[str, bytes], directory: Path) -> Path:
    """Write what load() has returned to an empty directory, so that load() can be given it; return the directory."""
    prefix = "sloth/payload/modules/"
    for path, source in sources.items():
        parts = path.removeprefix(prefix).split("/")
        if (
            not path.startswith(prefix)
            or len(parts) > 2
            or not all(re.fullmatch(r"\w+(\.py)?", part) for part in parts)
        ):
            raise SiteError(f"{path} is not the path of a module")
        if parts[1:] == ["__init__.py"] and source == _package(parts[0]):
            continue  # it was added to make a package
        target = directory.joinpath(*parts)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(source)
    return directory


def _package(namespace: str) -> bytes:
    """Return the source of a namespace's package in the zip; a built-in one that is a single file becomes one, too."""
    path = _BUILT_IN / f"{namespace}.py"
    return path.read_bytes() if path.exists() else b""


def _is_built_in(namespace: str) -> bool:
    return (_BUILT_IN / f"{namespace}.py").exists() or (_BUILT_IN / namespace).is_dir()


def _extend(package: ModuleType, directory: Path) -> None:
    """Let Python find further modules of `package` in `directory`."""
    paths = vars(package).setdefault("__path__", [])
    paths.append(str(directory))
    _extended.append((package, str(directory)))


def _forget() -> None:
    forget()
    for package, directory in _extended:
        paths = vars(package)["__path__"]
        paths.remove(directory)
        if not paths:
            del vars(package)["__path__"]
    _extended.clear()
    for name in _loaded:
        module = sys.modules.pop(name, None)
        parent, _, last = name.rpartition(".")
        if module is not None and vars(sys.modules.get(parent, module)).get(last) is module:
            delattr(sys.modules[parent], last)
    _loaded.clear()


def _files(directory: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(directory.rglob("*.py")):
        relative = path.relative_to(directory)
        if len(relative.parts) > 2 or any(part.startswith((".", "__pycache__")) for part in relative.parts):
            continue
        names = [part.removesuffix(".py") for part in relative.parts]
        if not all(name.isidentifier() for name in names):
            raise SiteError("the name of a module must be a Python identifier", where=str(path))
        _check_names(path, *names)
        try:
            yield relative.as_posix(), path.read_bytes()
        except OSError as error:
            raise SiteError(f"the module cannot be read: {error.strerror}", where=str(path)) from error


def _check_names(path: Path, namespace: str, verb: str = "") -> None:
    """Raise SiteError when a namespace or a verb of it has a name that is used already, or that Lua cannot have."""
    for name in (namespace, verb):
        if name in _KEYWORDS:
            raise SiteError(f"{name} is a keyword of Lua", hint="rename the file", where=str(path))
    if namespace in _GLOBALS or (namespace.startswith("__") and not verb):
        raise SiteError(f"the name {namespace} is taken", hint="rename the file", where=str(path))
    if _is_built_in(namespace) and not verb:
        hint = f"to add a verb to the built-in {namespace}, put it into {namespace}/VERB.py"
        raise SiteError(f"the name {namespace} is taken", hint=hint, where=str(path))
    if _is_built_in(namespace) and (verb == "__init__" or (_BUILT_IN / namespace / f"{verb}.py").exists()):
        raise SiteError(f"the name {namespace}/{verb}.py is taken", hint="rename the file", where=str(path))


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


def _import(directory: Path, path: str) -> list[type[Call]]:
    """Import one file; return the calls that it declares. Raises SiteError."""
    name = f"{PACKAGE}.{path.removesuffix('.py').replace('/', '.').removesuffix('.__init__')}"
    before = set(sys.modules)
    try:
        module = importlib.import_module(name)
    except Exception as error:
        raise SiteError(f"{type(error).__name__}: {error}", where=_location(error, directory, path)) from error
    finally:
        _loaded.extend(sorted(found for found in sys.modules.keys() - before if _is_custom(found, directory)))
    return [thing for thing in vars(module).values() if _is_call(thing) and thing.__module__ == name]


def _is_custom(name: str, directory: Path) -> bool:
    """Return whether a module was imported from `directory`."""
    paths = [getattr(sys.modules[name], "__file__", None), *getattr(sys.modules[name], "__path__", ())]
    return name.startswith(PACKAGE + ".") and any(Path(path).is_relative_to(directory) for path in paths if path)


def _is_call(thing: object) -> TypeGuard[type[Call]]:
    return isinstance(thing, type) and issubclass(thing, Call) and bool(thing.name)


def _check_class(cls: type[Call], path: str, directory: Path, names: frozenset[str]) -> None:
    """Raise SiteError when a class is not what its file's name says, or its declaration is invalid.

    names: of all calls, as they are read from the sources.
    """
    where = str(directory / path)
    parts = path.removesuffix(".py").split("/")
    namespace, _, verb = cls.name.partition(".")
    if namespace != parts[0] or not verb.isidentifier() or verb in _KEYWORDS:
        raise SiteError(f"class {cls.__name__} is named {cls.name!r}, not {parts[0]}.VERB", where=where)
    if parts[1:] not in ([], ["__init__"], [verb]):
        raise SiteError(
            f"class {cls.__name__} is named {cls.name!r}, not {'.'.join(parts)}",
            hint=f"put it into {namespace}/{verb}.py",
            where=where,
        )
    if cls.name not in names:
        raise SiteError(f'the name of {cls.__name__} must stand plainly in it: name = "{cls.name}"', where=where)
    fields: tuple[object, ...] = tuple(cls.fields)
    for field in fields:
        if not isinstance(field, Field):
            raise SiteError(f"the fields of {cls.name} must be Fields, not {field!r}", where=where)
        if field.type not in Field.TYPES:
            raise SiteError(f"field {field.name} of {cls.name} has the unknown type {field.type!r}", where=where)


def _location(error: Exception, directory: Path, path: str) -> str:
    """Return the deepest line of a traceback that is below `directory`."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename.startswith(str(directory)):
            return f"{frame.filename}:{frame.lineno}"
    return str(directory / path)
