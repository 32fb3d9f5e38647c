"""What the option `sensitive` of a call hides: its results, and its arguments but for those that name its subject."""

from sloth.payload.kernel.resource import Resource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator

    from sloth.payload.kernel.resource import Call
    from sloth.payload.kernel.values import Arguments, Json

_PLAIN = ("path", "file", "mode", "bool")  # types of arguments that hold no secrets


def visible(cls: "type[Call]") -> "set[str]":
    """Return the names of the arguments that stay visible, so that a resource can be found again.

    They are paths, choices, and what a resource is called by. What an action does (a command, a URL) is hidden.
    """
    names = set(field.name for field in cls.fields if field.choices or field.type in _PLAIN)
    if issubclass(cls, Resource):
        names.add(cls.subject or cls.positional())
    return names


def hidden_values(cls: "type[Call]", args: "Arguments") -> "set[str]":
    """Return the texts in the other arguments of a call, as the state file and messages may hold them."""
    shown = visible(cls)
    defaults = dict((field.name, field.default) for field in cls.fields)
    found: "set[str]" = set()
    for name, value in args.items():
        if name not in shown and value is not None and value != defaults.get(name):
            texts = list(_texts(value))
            found.update(texts)
            if isinstance(value, list) and len(texts) > 1:
                found.add(" ".join(texts))  # as the identity of a command has them
    return found


def _texts(value: "Json") -> "Iterator[str]":
    if isinstance(value, dict):
        for item in value.values():
            for text in _texts(item):
                yield text
    elif isinstance(value, list):
        for item in value:
            for text in _texts(item):
                yield text
    elif value is not None and not isinstance(value, bool):
        yield str(value)
