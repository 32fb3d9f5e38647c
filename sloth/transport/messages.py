"""What crosses the session's edge as values: assets going out, replies coming in, checked before they are believed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sloth.errors import ProtocolError

STATUSES = ("changed", "unchanged", "failed", "skipped", "unknown")


@dataclass(frozen=True)
class Asset:
    """A file (or, with `dir`, a directory) that goes with a call. open() gives its bytes, each time anew."""

    name: str
    sha256: str = ""
    size: int = 0
    mode: str = ""
    dir: bool = False
    open: Callable[[], Iterator[bytes]] | None = field(default=None, compare=False)

    def on_wire(self, pushed: bool) -> dict[str, Any]:
        """Its description in a call frame."""
        return {
            "name": self.name,
            "sha256": self.sha256,
            "size": self.size,
            "mode": self.mode,
            "dir": self.dir,
            "pushed": pushed,
        }


@dataclass(frozen=True)
class Reply:
    """A host's answer to one call."""

    status: str
    key: str = ""
    reason: str = ""
    msg: str = ""
    diff: dict[str, Any] | None = None
    values: dict[str, Any] = field(default_factory=dict)
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    error: str = ""
    hint: str = ""
    detail: str = ""
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0

    @classmethod
    def read(cls, frame: dict[str, Any], host: str) -> Reply:
        """Take a reply frame apart; raise ProtocolError when a field is not what it must be."""

        def take(name: str, kind: type | tuple[type, ...], default: Any) -> Any:
            value = frame.get(name)
            if value is None:
                return default
            if not isinstance(value, kind) or isinstance(value, bool):
                raise ProtocolError(f"{host} sent a reply whose {name} is {type(value).__name__}")
            return value

        status = take("status", str, "")
        if status not in STATUSES:
            raise ProtocolError(f"{host} sent a reply with the status {status[:40]!r}")
        texts = {name: take(name, str, "") for name in ("key", "reason", "msg", "error", "hint", "detail")}
        tables = {name: take(name, dict, None) for name in ("diff", "before", "after")}
        return cls(
            status=status,
            values=take("values", dict, {}),
            warnings=tuple(str(warning) for warning in take("warnings", list, [])),
            seconds=float(take("seconds", (int, float), 0.0)),
            **texts,
            **tables,
        )
