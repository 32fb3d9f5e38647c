"""What a page is: its address, the parameters that it takes, the function that finds its data, and its template."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import StrEnum

from sloth.errors import UsageError
from sloth.frozen import frozen
from sloth.suggest import did_you_mean, did_you_mean_or_list
from sloth.web.data.paging import LARGEST, SIZE, Window
from sloth.web.data.source import Source

LONGEST = 500  # characters of a parameter
LARGEST_NUMBER = 2**31 - 1


class Kind(StrEnum):
    """What a parameter holds."""

    TEXT = "text"
    NUMBER = "number"  # a whole one, from 0 on
    CHOICE = "choice"


@frozen
class Parameter:
    """A parameter of an address; choices: with CHOICE."""

    name: str
    help: str
    kind: Kind = Kind.TEXT
    choices: tuple[str, ...] = ()

    def read(self, text: str) -> str | int:
        """Return the value that a text stands for. Raises UsageError."""
        if len(text) > LONGEST or "\0" in text:
            raise UsageError(f"{self.name} must be a text of up to {LONGEST} characters")
        if self.kind is Kind.NUMBER:
            if not re.fullmatch(r"[0-9]{1,10}", text, re.ASCII) or int(text) > LARGEST_NUMBER:
                raise UsageError(f"{self.name} must be a whole number, not {text!r}")
            return int(text)
        if self.kind is Kind.CHOICE and text not in self.choices:
            hint = did_you_mean_or_list(text, self.choices, "choices")
            raise UsageError(f"{self.name} must be one of {', '.join(self.choices)}, not {text!r}", hint=hint)
        return text


SEARCH = Parameter("q", "A text to look for.")
RUN = Parameter("run", "The id of a run, the beginning of it, or `last`.")
PAGING = (
    Parameter("page", "The page, from 1 on.", Kind.NUMBER),
    Parameter("size", f"Rows of a page, up to {LARGEST}.", Kind.NUMBER),
    Parameter("sort", "The column to sort by; -NAME: the largest first."),
)


class Query:
    """The parameters of one request, checked; those of the path are among them."""

    def __init__(self, values: Mapping[str, str | int]) -> None:
        self.values = values

    def text(self, name: str) -> str:
        """Return a text, "" when it was not given."""
        return str(self.values.get(name, ""))

    def number(self, name: str, default: int = 0) -> int:
        """Return a number, or the default when it was not given."""
        value = self.values.get(name)
        return value if isinstance(value, int) else default

    @property
    def window(self) -> Window:
        """Which page of a list is wanted."""
        return Window(self.number("page", 1), self.number("size", SIZE) or SIZE, self.text("sort"))

    @classmethod
    def read(cls, view: View, given: Mapping[str, str]) -> Query:
        """Check the parameters of a request. An empty one was not given. Raises UsageError."""
        known = {parameter.name: parameter for parameter in view.all_parameters}
        values: dict[str, str | int] = {}
        for name, text in given.items():
            if name not in known:
                hint = did_you_mean(name, known)
                raise UsageError(f"unknown parameter {name[:LONGEST]!r}", hint=hint or f"it takes {', '.join(known)}")
            if text:
                values[name] = known[name].read(text)
        return cls(values)


@frozen
class View:
    """A page, and the same as JSON.

    Attributes:
        name: of the page, and of its template NAME.html; endpoints are "NAME" and "api-NAME".
        path: of the page; the JSON is at /api/v1 + path, the overview's at /api/v1/overview.
        title: what the navigation and the OpenAPI document call it.
        find: finds the data: a value whose fields become the JSON; the template gets it as `data`.
        parameters: what it takes after the "?"; those of its path besides.
        path_parameters: those in its path, in braces there.
        result: the type of what `find` returns.
        section: the entry of the navigation that it belongs to.
    """

    name: str
    path: str
    title: str
    find: Callable[[Source, Query], object]
    result: type
    parameters: tuple[Parameter, ...] = ()
    path_parameters: tuple[Parameter, ...] = ()
    section: str = ""

    @property
    def all_parameters(self) -> tuple[Parameter, ...]:
        return (*self.path_parameters, *self.parameters)

    def choices(self, name: str) -> tuple[str, ...]:
        """Return the choices of a parameter."""
        return next(parameter.choices for parameter in self.all_parameters if parameter.name == name)

    @property
    def api_path(self) -> str:
        return "/api/v1" + ("/overview" if self.path == "/" else self.path)
