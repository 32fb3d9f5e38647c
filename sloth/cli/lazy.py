"""Modules of the standard library that are loaded when something in them is used.

What we depend on imports them for functions that a run does not call: click and asyncio do so with inspect, which
brings ast, dis and tokenize, and asyncio with ssl. Together they take a sixth of the start.
"""

from __future__ import annotations

import os
import sys
from _thread import RLock
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import CodeType, CoroutineType, GeneratorType, MethodType, ModuleType

_LOCK = RLock()  # the same thread comes back while it loads a module that looks for names of its own
_COROUTINE, _ITERABLE_COROUTINE = 0x80, 0x100  # flags of code
_loading: set[str] = set()


class LazyModule(ModuleType):
    """A module that has nothing but what it is given until something else of it is used; then it is loaded."""

    def __init__(self, name: str, ready: Mapping[str, Callable[..., object]]) -> None:
        super().__init__(name)
        self.__dict__.update(ready)

    def __getattr__(self, name: str) -> object:
        if name != "__path__":  # which the import system looks for, before anything of the module is used
            load(self)
        return ModuleType.__getattribute__(self, name)


def install() -> None:
    """Let the modules be loaded when they are used; those that are loaded already stay."""
    for name, ready in _READY.items():
        if name not in sys.modules:
            sys.modules[name] = LazyModule(name, ready)


def load(module: ModuleType) -> None:
    """Load a lazy module; the object stays the same. Raises ImportError."""
    with _LOCK:
        name = module.__name__
        if type(module) is not LazyModule or name in _loading:
            return
        from importlib.machinery import PathFinder

        parent = name.rpartition(".")[0]
        spec = PathFinder.find_spec(name, sys.modules[parent].__path__ if parent else None)
        if spec is None or spec.loader is None:
            raise ImportError(f"no module named {name!r}", name=name)
        vars(module).update(__spec__=spec, __loader__=spec.loader, __package__=spec.parent, __file__=spec.origin)
        if spec.submodule_search_locations is not None:
            module.__path__ = spec.submodule_search_locations
        _loading.add(name)
        try:
            spec.loader.exec_module(module)
            module.__class__ = ModuleType  # type: ignore[assignment]  # it becomes an ordinary one
        finally:
            _loading.discard(name)


# What is called while other modules load, or by every run. The answers are those of the modules' own functions, which
# get what takes more than a line.


def _cleandoc(doc: str) -> str:
    if "\n" in doc or "\t" in doc:
        return str(_own("inspect", "cleandoc")(doc))
    return doc.lstrip()


def _iscoroutinefunction(function: object) -> bool:
    code = getattr(function.__func__ if isinstance(function, MethodType) else function, "__code__", None)
    if not isinstance(code, CodeType):
        return bool(_own("inspect", "iscoroutinefunction")(function))
    return bool(code.co_flags & _COROUTINE)


def _isawaitable(value: object) -> bool:
    return (
        isinstance(value, CoroutineType)
        or (isinstance(value, GeneratorType) and bool(value.gi_code.co_flags & _ITERABLE_COROUTINE))
        or isinstance(value, Awaitable)
    )


class _NoSocket:
    """The class of sockets of TLS while ssl is not loaded: there is none."""


def _signature(function: object, **settings: object) -> object:
    if sys._getframe(1).f_globals.get("__name__") == "dataclasses":
        return "(...)"  # for the documentation of a class that has none
    return _own("inspect", "signature")(function, **settings)


def _near(word: str, words: Iterable[str], *limits: float) -> object:
    """Return what difflib finds; click looks for options like -f before it knows that this is a short one."""
    if len(word) == 2 and word[0] == "-":
        return []
    return _own("difflib", "get_close_matches")(word, words, *limits)


def _own(module: str, name: str) -> Callable[..., object]:
    load(sys.modules[module])
    function: Callable[..., object] = vars(sys.modules[module])[name]
    return function


_READY: dict[str, dict[str, Callable[..., object]]] = {
    "inspect": {
        "cleandoc": _cleandoc,
        "iscoroutinefunction": _iscoroutinefunction,
        "isawaitable": _isawaitable,
        "signature": _signature,
    },
    "difflib": {"get_close_matches": _near},
    # click has no translations; for each of its texts gettext looks for some, and loads locale to know where.
    "gettext": {"gettext": lambda text: text, "ngettext": lambda one, several, count: one if count == 1 else several},
    "platform": {"system": lambda: os.uname().sysname},
    "asyncio.sslproto": {},
    "ssl": {"SSLSocket": _NoSocket},
    "linecache": {},
    "textwrap": {},
    "ast": {},
    "glob": {},
    "hashlib": {},
    "ipaddress": {},
    "pickle": {},
    "random": {},
    "secrets": {},
    "shlex": {},
    "shutil": {},
    "tempfile": {},
    "tomllib": {},
}
