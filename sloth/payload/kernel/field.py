"""What a call may be given: fields, the types that values are brought to, and the errors that say why they cannot."""

REQUIRED = object()

_TRUE = ("yes", "true", "on", "1")
_FALSE = ("no", "false", "off", "0")


class Failed(Exception):
    """A call cannot do what it was asked; `hint` says what the user can do, `detail` what a command printed."""

    def __init__(self, message, hint="", detail=""):
        Exception.__init__(self, message)
        self.message = message
        self.hint = hint
        self.detail = detail


class Missing(Failed):
    """Something is not there that an earlier call of the site may bring: a user, a file, a command, a unit.

    In a check, where earlier calls have brought nothing, it is no failure: what the call would do is not known.
    """


class ArgumentError(Failed):
    """The call's arguments are wrong: nothing was touched."""


class Field(object):
    """One argument, or one value of a result.

    type: "str" "bool" "int" "float" "path" (absolute or ~ on the host) "mode" (octal string or symbolic)
          "list" (of str) "dict" "argv" (a string or a list of strings) "any"
    default: used when the argument is not given; REQUIRED makes it obligatory
    choices: the values that are allowed
    secret: the value is shown and stored as a keyed hash only
    aliases: other names for the same argument (Ansible's, mostly)
    how: the argument says how to do it, not what is wanted; it is no part of the wish's checksum
    """

    TYPES = {
        "any": "anything",
        "str": "a string",
        "path": "a path",
        "bool": "true or false",
        "int": "a whole number",
        "float": "a number",
        "mode": "a mode such as 0644 or u+x in quotes",
        "list": "a string or a list of strings",
        "argv": "a string or a list of strings",
        "dict": "a table with names",
    }

    def __init__(self, name, type="str", default=None, choices=None, secret=False, aliases=(), how=False, help=""):
        self.name = name
        self.type = type
        self.default = default
        self.choices = choices
        self.secret = secret
        self.aliases = aliases
        self.how = how
        self.help = help

    @property
    def required(self):
        return self.default is REQUIRED

    def coerce(self, value):
        """Return `value` as this field's type; raise ArgumentError, naming the field, when it is not one."""
        kind = self.type
        if kind == "any":
            return value
        if kind in ("str", "path"):
            good = isinstance(value, str)
            if not good and kind == "str" and isinstance(value, (int, float)) and not isinstance(value, bool):
                value, good = _number_text(value), True
            if good and kind == "path" and not (value.startswith("/") or value.startswith("~")):
                raise ArgumentError(
                    "%s must be an absolute path on the host, not %r" % (self.name, value), hint="begin it with / or ~"
                )
        elif kind == "bool":
            if isinstance(value, str) and value.lower() in _TRUE + _FALSE:
                value = value.lower() in _TRUE
            good = isinstance(value, bool)
        elif kind == "int":
            if isinstance(value, float) and value == int(value):
                value = int(value)
            if isinstance(value, str) and value.lstrip("-").isdigit():
                value = int(value)
            good = isinstance(value, int) and not isinstance(value, bool)
        elif kind == "float":
            if isinstance(value, str):
                try:
                    value = float(value)
                except ValueError:
                    pass
            good = isinstance(value, (int, float)) and not isinstance(value, bool)
        elif kind == "mode":
            good = isinstance(value, str) and value != ""
            if not good and isinstance(value, (int, float)) and not isinstance(value, bool):
                raise ArgumentError(
                    "%s must be a string: the number %s would be read as decimal" % (self.name, _number_text(value)),
                    hint='write %s = "0644", with quotes' % self.name,
                )
        elif kind == "list":
            if isinstance(value, str):
                value = [value]
            good = isinstance(value, list) and all(isinstance(item, (str, int, float)) for item in value)
            if good:
                value = [item if isinstance(item, str) else _number_text(item) for item in value]
        elif kind == "argv":
            good = isinstance(value, str) or (
                isinstance(value, list) and all(isinstance(item, (str, int, float)) for item in value) and value
            )
            if good and not isinstance(value, str):
                value = [item if isinstance(item, str) else _number_text(item) for item in value]
        elif kind == "dict":
            if value == []:  # an empty Lua table is both
                value = {}
            good = isinstance(value, dict)
        else:
            raise ValueError("field %s has the unknown type %r" % (self.name, kind))
        if not good:
            raise ArgumentError("%s must be %s, not %s" % (self.name, self.TYPES[kind], _word_for(value)))
        if kind in ("str", "path", "mode") and "\0" in value and kind != "str":
            raise ArgumentError("%s has a NUL byte in it" % self.name)
        if self.choices is not None and value not in self.choices:
            raise ArgumentError(
                "%s must be one of %s, not %r" % (self.name, ", ".join(str(c) for c in self.choices), value),
                hint=did_you_mean(str(value), [str(c) for c in self.choices]),
            )
        return value


def _number_text(value):
    return str(int(value)) if isinstance(value, float) and value == int(value) else str(value)


def _word_for(value):
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return "the number %s" % _number_text(value)
    if isinstance(value, str):
        return "the string %r" % value[:60]
    return "a table"


def did_you_mean(word, known):
    """Return 'did you mean "x"?' for the known word nearest to `word`, or ''."""
    import difflib

    near = difflib.get_close_matches(word, list(known), 1, 0.6)
    return 'did you mean "%s"?' % near[0] if near else ""
