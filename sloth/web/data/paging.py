"""Lists a page at a time: filters and order as SQL, from names that are checked against what a list has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Generic, TypeVar

from sloth.errors import UsageError
from sloth.frozen import frozen, mutable
from sloth.suggest import did_you_mean
from sloth.web.data.database import ReadOnly, Row, Value

SIZE = 50  # rows of a page
LARGEST = 500

T = TypeVar("T")


@frozen
class Page(Generic[T]):
    """One page of a list.

    Attributes:
        total: how many rows all pages have.
        number: of this page, from 1 on.
        sort: the column, with a "-" before it for the largest first.
    """

    rows: tuple[T, ...]
    total: int
    number: int
    size: int
    sort: str

    @property
    def pages(self) -> int:
        """How many pages there are; an empty list has one."""
        return max(1, -(-self.total // self.size))


@frozen
class Window:
    """Which page of a list is wanted, and in which order; sort "": the list's own."""

    number: int = 1
    size: int = SIZE
    sort: str = ""


@mutable
class Where:
    """A WHERE clause that grows; only add() puts values into it, never into the text."""

    conditions: list[str] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)

    def add(self, condition: str, *values: Value) -> None:
        self.conditions.append(condition)
        self.values += values

    def add_if(self, condition: str, value: Value) -> None:
        """Add a condition with one value, unless that is empty."""
        if value not in (None, ""):
            self.add(condition, value)

    @property
    def sql(self) -> str:
        return " WHERE " + " AND ".join(f"({one})" for one in self.conditions) if self.conditions else ""


def like(text: str) -> str:
    """Return the pattern of LIKE ... ESCAPE '\\' that finds a text anywhere."""
    for special in "\\%_":
        text = text.replace(special, "\\" + special)
    return f"%{text}%"


def order(sort: str, default: str, columns: Mapping[str, str]) -> tuple[str, str]:
    """Return the order as SQL, and its name; columns: their expressions. Raises UsageError for an unknown column."""
    name = sort or default
    column = name.removeprefix("-")
    if column not in columns:
        hint = did_you_mean(column, columns) or f"sort by one of {', '.join(columns)}"
        raise UsageError(f"there is no column {column!r} to sort by", hint=hint)
    direction = "DESC" if name.startswith("-") else "ASC"
    return f"{columns[column]} {direction} NULLS LAST", name


def select(
    database: ReadOnly,
    columns: str,
    table: str,
    where: Where,
    window: Window,
    default: str,
    sortable: Mapping[str, str],
    read: Callable[[Row], T],
    tie: str,
    identity: str = "",
    listed: str = "",
    counted: str = "",
) -> Page[T]:
    """Return one page of a query.

    default: the usual order; sortable: expressions by the names of columns; tie: orders rows that are otherwise equal.
    identity: the number of a row: only the rows of the page are then read whole, which matters where they are large;
    listed: what is counted and ordered then, when that needs less than all of `table`. counted: the query that counts.
    """
    by, name = order(window.sort, default, sortable)
    listed = listed or table
    total = database.number(counted or f"SELECT count(*) FROM {listed}{where.sql}", where.values)
    size = min(max(window.size, 1), LARGEST)
    number = min(max(window.number, 1), max(1, -(-total // size)))
    rows = database.rows(
        f"SELECT {identity or columns} FROM {listed}{where.sql} ORDER BY {by}, {tie} LIMIT ? OFFSET ?",
        [*where.values, size, (number - 1) * size],
    )
    if identity and rows:
        found = [int(row[0]) for row in rows]
        marks = ",".join("?" * len(found))
        whole = database.rows(f"SELECT {identity}, {columns} FROM {table} WHERE {identity} IN ({marks})", found)
        by_number = {int(row[0]): row for row in whole}
        rows = [by_number[one] for one in found if one in by_number]
    return Page(tuple(map(read, rows)), total, number, size, name)


def cut(rows: Sequence[T], window: Window, sort: str) -> Page[T]:
    """Return one page of rows that are all at hand, in order."""
    size = min(max(window.size, 1), LARGEST)
    number = min(max(window.number, 1), max(1, -(-len(rows) // size)))
    return Page(tuple(rows[(number - 1) * size : number * size]), len(rows), number, size, sort)
