"""The calls that sites can make, for packages that do not import the payload."""

from __future__ import annotations

from sloth.errors import UsageError
from sloth.payload.kernel.registry import call_names, find, registry
from sloth.payload.kernel.resource import ArgumentError, Call, Field
from sloth.playbook import Site

__all__ = ["Call", "Field", "all_calls", "fact_names", "find_call", "module_names", "named_calls"]


def fact_names() -> tuple[str, ...]:
    """Return the names of all facts."""
    return tuple(field.name for field in find("facts.gather").returns)


def module_names() -> dict[str, list[str]]:
    """Return the namespaces of Lua and their functions."""
    names: dict[str, list[str]] = {}
    for name in call_names():
        namespace, _, verb = name.partition(".")
        names.setdefault(namespace, []).append(verb)
    names.pop("facts", None)  # the global `facts` is a value
    return names


def named_calls(site: Site) -> tuple[str, ...]:
    """Return the names of the calls that a site's files seem to make."""
    return tuple(name for name in call_names() if any(name.encode() in file.source for file in site.files))


def find_call(name: str) -> type[Call]:
    """Return the class of a call ("file.copy"). Raises UsageError with the nearest word."""
    try:
        return find(name)
    except ArgumentError as error:
        raise UsageError(error.message, hint=error.hint) from error


def all_calls() -> list[type[Call]]:
    """Return the classes of all calls, sorted by name; importing them takes a while."""
    return registry()
