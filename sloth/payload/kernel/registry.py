"""Finds the classes of calls by their names, below a package of modules."""

import os

from sloth.payload.kernel.errors import ArgumentError, did_you_mean
from sloth.payload.kernel.resource import Call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Iterable

MODULES = "sloth.payload.modules"


def _module(name: "str") -> "ModuleType":
    """Import a module by its full name. (importlib does the same, and takes a millisecond of every start to load.)"""
    module: "ModuleType" = __import__(name, fromlist=("__name__",))
    return module


def find(name: "str", package: "str" = MODULES) -> "type[Call]":
    """Return the class of the call `name` ("file.copy"); raise ArgumentError, with the nearest word, if unknown.

    `ns.verb` is looked for in the module `ns/verb.py`, then `ns.py`, below `package`.
    """
    found = _found.get((package, name))
    if found is None:
        found = _found[package, name] = _find(name, package)
    return found


_found: "dict[tuple[str, str], type[Call]]" = {}


def forget() -> "None":
    """Look for every class again: modules have come or gone."""
    _found.clear()
    _names.clear()


def _find(name: "str", package: "str") -> "type[Call]":
    namespace, _, verb = name.partition(".")
    for path in ("%s.%s" % (namespace, verb), namespace):
        if not all(part.isidentifier() for part in path.split(".")):
            continue
        full = "%s.%s" % (package, path)
        try:
            module = _module(full)
        except ImportError as error:
            if error.name and full.startswith(error.name):
                continue
            raise
        for thing in vars(module).values():
            if isinstance(thing, type) and issubclass(thing, Call) and thing.name == name:
                return thing
    names = call_names(package)
    hint = did_you_mean(name, names)
    if not hint and not any(known.startswith(namespace + ".") for known in names):
        hint = "modules are " + ", ".join(sorted(set(known.partition(".")[0] for known in names)))
    raise ArgumentError("there is no module %s" % name, hint=hint)


def call_names(package: "str" = MODULES) -> "list[str]":
    """Return the names of all calls below `package`, sorted; read from the sources, since importing them is slow."""
    module = _module(package)
    directories = tuple(module.__path__)
    if directories not in _names:
        bundled: "dict[str, bytes]" = getattr(module.__loader__, "sources", dict)()  # on hosts: see payload/loader.py
        inside = package.replace(".", "/") + "/"
        found = [name for path in bundled if path.startswith(inside) for name in _names_of(bundled[path])]
        _names[directories] = sorted(set(found) | _names_in(directories))
    return list(_names[directories])


_names: "dict[tuple[str, ...], list[str]]" = {}


def _names_in(directories: "Iterable[str]") -> "set[str]":
    found: "set[str]" = set()
    for directory in directories:
        for root, _, names in os.walk(directory):
            for name in names:
                if name.endswith(".py"):
                    with open(os.path.join(root, name), "rb") as file:
                        found.update(_names_of(file.read()))
    return found


def _names_of(source: "bytes") -> "Iterable[str]":
    """Yield the names in one source. (A regular expression takes twenty times as long, in every run.)"""
    for rest in (b"\n" + source).split(b"\n    name = ")[1:]:
        quote = rest[:1]
        name = rest[1:].partition(quote)[0] if quote in (b"'", b'"') else b""
        if all(part.isidentifier() for part in name.decode("utf-8", "replace").split(".", 1)) and b"." in name:
            yield name.decode("utf-8")


def registry(package: "str" = MODULES) -> "list[type[Call]]":
    """Return every class of a call below `package`, sorted by name."""
    return [find(name, package) for name in call_names(package)]
