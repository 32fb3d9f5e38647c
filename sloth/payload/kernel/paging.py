"""Splits long lists of rows into pages that fit into a frame each."""

from sloth.payload.kernel import plain_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterable, Iterator

    from sloth.payload.kernel.values import JsonObject, Rows

ROWS = 500  # rows in one page
PAGE = 2 * 1024 * 1024  # bytes of them, unless a single one is larger


def pages(rows: "Iterable[JsonObject]") -> "Iterator[Rows]":
    """Yield `rows` in lists of at most ROWS rows and about PAGE bytes."""
    page: "Rows" = []
    size = 0
    for row in rows:
        length = sum(len(value) if isinstance(value, str) else 8 for value in row.values())
        if any(isinstance(value, (dict, list)) for value in row.values()):
            length = len(plain_json.dumps(row))
        if page and (len(page) == ROWS or size + length > PAGE):
            yield page
            page, size = [], 0
        page.append(row)
        size += length
    if page:
        yield page
