"""What a running Lua program asks of the engine, and how it ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sloth.errors import SlothError


@dataclass(frozen=True, eq=False)
class Invoke:
    """Send a call; answer its number. protected: inside pcall, so the answer must wait for the call's reply."""

    name: str
    args: dict[str, Any]
    where: str
    protected: bool


@dataclass(frozen=True, eq=False)
class Fetch:
    """The result of call number `call`, because `field` is read; answer a dict."""

    call: int
    field: str
    where: str


@dataclass(frozen=True, eq=False)
class Sync:
    """Wait until every call is answered."""

    where: str


@dataclass(frozen=True, eq=False)
class Output:
    """print (level "print") or log.LEVEL."""

    level: str
    text: str
    where: str


@dataclass(frozen=True, eq=False)
class Facts:
    """The host's facts; answer a dict."""

    where: str


@dataclass(frozen=True, eq=False)
class Shared:
    """state.OP(...); answer plain data. The op "holder" asks for a name that no other holder has."""

    op: str
    args: list[Any]
    where: str


@dataclass(frozen=True, eq=False)
class Render:
    """template(source, args); answer the text."""

    source: str
    args: dict[str, Any]
    where: str


@dataclass(frozen=True, eq=False)
class Secret:
    """secret(name); answer the value."""

    name: str
    where: str


@dataclass(frozen=True, eq=False)
class Done:
    """It came to its end; value: the truth of what it returned."""

    value: bool = False


@dataclass(frozen=True, eq=False)
class Error:
    """It ended with an error that nothing caught. cause: the Raise answer's error, if it is that one."""

    message: str
    where: str
    traceback: str
    cause: SlothError | None = None


@dataclass(frozen=True, eq=False)
class Raise:
    """An answer that is an error: Lua sees it as a string, str(error)."""

    error: SlothError


Request = Invoke | Fetch | Sync | Output | Facts | Shared | Render | Secret | Done | Error
