"""JSON without Python's package `json`: that loads `re` and `enum`, together a tenth of a payload's start.

What reads and writes JSON in that package is in C, in the module `_json`, and is used here directly. For whatever that
refuses, for texts with spaces around them, and in a Python without that module, the package itself gives the answer.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable


def _in_c() -> "Any":
    try:
        import _json
    except ImportError:
        return None
    return _json


def encoder(
    separators: "tuple[str, str]" = (", ", ": "), sort_keys: "bool" = False, allow_nan: "bool" = True
) -> "Callable[[object], str]":
    """Return a function like json.dumps() with these options; what it returns is ASCII."""

    def by_package(value: "object") -> "str":
        import json

        return json.dumps(value, separators=separators, sort_keys=sort_keys, allow_nan=allow_nan)

    try:
        item, key = separators
        # As json.encoder.JSONEncoder.iterencode() makes it, but for the look for circles: they end in RecursionError.
        quote = _C.encode_basestring_ascii
        encode = _C.make_encoder(None, _refuse, quote, None, key, item, sort_keys, False, allow_nan)
    except (AttributeError, TypeError):
        return by_package

    def encoded(value: "object") -> "str":
        try:
            return "".join(encode(value, 0))
        except (TypeError, ValueError):  # the package raises it again, with its words
            return by_package(value)

    return encoded


def decoder(
    parse_int: "Callable[[str], object] | None" = None,
    parse_float: "Callable[[str], object] | None" = None,
    parse_constant: "Callable[[str], object] | None" = None,
) -> "Callable[[str], Any]":
    """Return a function like json.loads() with these options, for a str."""

    def by_package(text: "str") -> "Any":
        import json

        return json.loads(text, parse_int=parse_int, parse_float=parse_float, parse_constant=parse_constant)

    try:
        scan = _C.make_scanner(_Options(parse_int, parse_float, parse_constant))
    except (AttributeError, TypeError):
        return by_package

    def decoded(text: "str") -> "Any":
        try:
            value, end = scan(text, 0)
            if end == len(text):
                return value
        # SystemError: it has no class for what it would raise while json.decoder is not loaded.
        except (StopIteration, ValueError, SystemError):
            pass
        return by_package(text)

    return decoded


class _Options(object):
    """What make_scanner() reads of a json.JSONDecoder."""

    strict = True
    object_hook = object_pairs_hook = None

    def __init__(
        self,
        parse_int: "Callable[[str], object] | None",
        parse_float: "Callable[[str], object] | None",
        parse_constant: "Callable[[str], object] | None",
    ) -> "None":
        self.parse_int = parse_int or int
        self.parse_float = parse_float or float
        self.parse_constant = parse_constant or _CONSTANTS.__getitem__


_C = _in_c()
_CONSTANTS = {"-Infinity": float("-inf"), "Infinity": float("inf"), "NaN": float("nan")}


def _refuse(value: "object") -> "object":
    raise TypeError("%s is no JSON" % type(value).__name__)


dumps = encoder()
loads = decoder()
