"""The arguments of a call: fields, the types that values are converted to, and the errors when they cannot be."""

from sloth.payload.kernel.errors import ArgumentError, did_you_mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, ClassVar, Sequence

    from sloth.payload.kernel.values import Json

REQUIRED = object()

_TRUE = ("yes", "true", "on", "1")
_FALSE = ("no", "false", "off", "0")


class Field(object):
    """One argument of a call, or one value of its result.

    type: "str" "bool" "int" "float" "path" (absolute or ~ on the host) "file" (a path that may be relative, such as one
          on the controller) "mode" (octal string or symbolic) "list" (of str) "dict" "argv" (a string or a list of
          strings) "any"
    default: used when the argument is not given; REQUIRED makes it obligatory
    choices: the values that are allowed
    secret: the value is shown and stored as a keyed hash only
    aliases: other names of the same argument (mostly Ansible's)
    how: the argument says how to do it, not what is desired; it is no part of the resource's checksum
    """

    TYPES: "ClassVar[dict[str, str]]" = {
        "any": "anything",
        "str": "a string",
        "path": "a path",
        "file": "a path",
        "bool": "true or false",
        "int": "a whole number",
        "float": "a number",
        "mode": "a mode such as 0644 or u+x in quotes",
        "list": "a string or a list of strings",
        "argv": "a string or a list of strings",
        "dict": "a table with names",
    }

    __slots__ = ("aliases", "choices", "default", "help", "how", "name", "secret", "type")

    def __init__(
        self,
        name: "str",
        type: "str" = "str",
        default: "Json" = None,
        choices: "Sequence[Json] | None" = None,
        secret: "bool" = False,
        aliases: "Sequence[str]" = (),
        how: "bool" = False,
        help: "str" = "",
    ) -> "None":
        self.name = name
        self.type = type
        self.default = default
        self.choices = choices
        self.secret = secret
        self.aliases = aliases
        self.how = how
        self.help = help

    @property
    def required(self) -> "bool":
        return self.default is REQUIRED

    def coerce(self, value: "Json") -> "Json":
        """Return `value` converted to this field's type; raise ArgumentError, naming the field, when it cannot be."""
        convert = _CONVERSIONS.get(self.type)
        if convert is None:
            raise ValueError("field %s has the unknown type %r" % (self.name, self.type))
        value = convert(self, value)
        if self.choices is not None and value not in self.choices:
            words = [str(choice) for choice in self.choices]
            raise ArgumentError(
                "%s must be one of %s, not %r" % (self.name, ", ".join(words), value),
                hint=did_you_mean(str(value), words),
            )
        return value

    def mismatch(self, value: "Json") -> "ArgumentError":
        """The error for a value that is not of this field's type."""
        return ArgumentError("%s must be %s, not %s" % (self.name, self.TYPES[self.type], _word_for(value)))


def _any(field: "Field", value: "Json") -> "Json":
    return value


def _str(field: "Field", value: "Json") -> "str":
    if _is_number(value):
        return number_text(value)
    if not isinstance(value, str):
        raise field.mismatch(value)
    return value


def _path(field: "Field", value: "Json") -> "str":
    if not isinstance(value, str):
        raise field.mismatch(value)
    if not value.startswith(("/", "~")):
        raise ArgumentError(
            "%s must be an absolute path on the host, not %r" % (field.name, value), hint="begin it with / or ~"
        )
    return _without_nul(field, value)


def _file(field: "Field", value: "Json") -> "str":
    if not isinstance(value, str):
        raise field.mismatch(value)
    if not value.strip():  # joined to a directory it would mean all that is in there
        raise ArgumentError("%s must be a path, not an empty string" % field.name, hint="is a variable empty?")
    return _without_nul(field, value)


def _mode(field: "Field", value: "Json") -> "str":
    if _is_number(value):
        raise ArgumentError(
            "%s must be a string: the number %s would be read as decimal" % (field.name, number_text(value)),
            hint='write %s = "0644", in quotes' % field.name,
        )
    if not isinstance(value, str) or not value:
        raise field.mismatch(value)
    return _without_nul(field, value)


def _without_nul(field: "Field", value: "str") -> "str":
    if "\0" in value:
        raise ArgumentError("%s contains a NUL byte" % field.name)
    return value


def _bool(field: "Field", value: "Json") -> "bool":
    if isinstance(value, str) and value.lower() in _TRUE + _FALSE:
        return value.lower() in _TRUE
    if not isinstance(value, bool):
        raise field.mismatch(value)
    return value


def _int(field: "Field", value: "Json") -> "int":
    if isinstance(value, float) and value == value and abs(value) != float("inf") and value == int(value):
        return int(value)
    if isinstance(value, str) and value.lstrip("-").isdigit():
        try:
            return int(value)
        except ValueError:  # "--1", or a digit of another script
            raise field.mismatch(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise field.mismatch(value)
    return value


def _float(field: "Field", value: "Json") -> "int | float":
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise field.mismatch(value)
    if not _is_number(value):
        raise field.mismatch(value)
    number: "int | float" = value
    return number


def _list(field: "Field", value: "Json") -> "list[str]":
    is_alone = isinstance(value, (str, int, float)) and not isinstance(value, bool)
    return _words(field, [value] if is_alone else value)


def _argv(field: "Field", value: "Json") -> "str | list[str]":
    if isinstance(value, str):
        return value
    words = _words(field, value)
    if not words:
        raise field.mismatch(value)
    return words


def _words(field: "Field", value: "Json") -> "list[str]":
    if value == {}:  # an empty Lua table is both
        return []
    if not isinstance(value, list) or not all(isinstance(item, (str, int, float)) for item in value):
        raise field.mismatch(value)
    return [item if isinstance(item, str) else number_text(item) for item in value]


def _dict(field: "Field", value: "Json") -> "dict[str, Json]":
    if value == []:  # an empty Lua table is both
        return {}
    if not isinstance(value, dict):
        raise field.mismatch(value)
    return value


_CONVERSIONS: "dict[str, Callable[[Field, Json], Json]]" = {
    "any": _any,
    "str": _str,
    "path": _path,
    "file": _file,
    "mode": _mode,
    "bool": _bool,
    "int": _int,
    "float": _float,
    "list": _list,
    "argv": _argv,
    "dict": _dict,
}


def _is_number(value: "Json") -> "bool":
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def number_text(value: "Json") -> "str":
    """Return a number as people write it: 8080.0, which Lua may make of 8080, is "8080"."""
    return str(int(value)) if isinstance(value, float) and value == value // 1 else str(value)


def _word_for(value: "Json") -> "str":
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return "the number %s" % number_text(value)
    if isinstance(value, str):
        # Never a piece of it: it may be the beginning of a secret, which would then not be recognised.
        return "the string %r" % value if len(value) <= 60 else "a string of %d characters" % len(value)
    return "a table"
