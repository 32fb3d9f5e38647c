"""Names of the plain data that crosses seams; only annotations need them, so nothing here exists at run time."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterator, List, Union

    # Plain JSON data of which nothing more is known: a site's variables, a result that Lua reads.
    # (Not a recursive union: every reader would have to narrow what the declaring class already knows.)
    Json = Any
    JsonObject = Dict[str, Any]
    # What observe() and desired() return. Values are plain data or Content; each resource knows its own.
    Attributes = Dict[str, Any]
    # A call's arguments by name, as its Fields describe them.
    Arguments = Dict[str, Any]
    # How two dicts of Attributes differ: attribute -> {"before": value, "after": value, "unified": text}.
    Diff = Dict[str, Dict[str, Any]]
    Chunks = Callable[[], Iterator[bytes]]
    # A value of a SQLite column.
    Column = Union[None, int, float, str, bytes]
    Rows = List[Dict[str, Any]]
