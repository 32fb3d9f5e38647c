"""Run one call of a module through the kernel in this process, without a controller."""

from __future__ import annotations

from collections.abc import Sequence

from sloth.payload.kernel.converge import Outcome, execute
from sloth.payload.kernel.record import Asset
from sloth.payload.kernel.registry import find
from sloth.payload.kernel.resource import Args
from sloth.payload.lib.host import Host
from sloth.payload.state.store import Store


class NoController:
    """The channel of a host that no controller is connected to; it keeps what commands print."""

    def __init__(self) -> None:
        self.printed = b""

    def cancelled(self) -> bool:
        return False

    def output(self, stream: str, data: bytes) -> None:
        self.printed += data


def execute_call(
    module: str,
    /,
    *,
    on: Host | None = None,
    store: Store | None = None,
    check: bool = False,
    assets: Sequence[Asset] = (),
    **arguments: object,
) -> Outcome:
    """Check the arguments and run the call `on` a host (this machine), with a state in memory if none is given."""
    cls = find(module)
    call = cls(Args(cls.check(arguments)), on or Host(NoController()), list(assets))
    return execute(call, store or Store(None), check)
