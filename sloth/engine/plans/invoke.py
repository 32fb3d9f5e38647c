"""The request of a call that a saved plan has: its secrets are resolved, and its files come from the plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from sloth.engine.assets import of_bytes
from sloth.engine.plans.references import Resolve, resolve, text_of
from sloth.engine.plans.values import PlannedAsset, PlannedCall
from sloth.frozen import frozen
from sloth.payload.kernel.resource import Call
from sloth.playbook import Invoke
from sloth.transport import Asset

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Arguments

Open = Callable[[str], Callable[[], Iterator[bytes]]]  # returns what opens the content with a hash


@frozen(eq=False)
class PlannedInvoke(Invoke):
    """Send a call of a plan. planned: the call; contents: what opens the contents of the plan."""

    planned: PlannedCall
    contents: Open

    def arguments(self, secret: Resolve) -> Mapping[str, object]:
        """Return the arguments with the values of their secrets. Raises CallError, StateError."""
        found = resolve(self.planned.args, secret)
        assert isinstance(found, dict)
        return found

    def assets(self, secret: Resolve) -> list[Asset]:
        """Return the call's assets. Raises CallError, StateError."""
        return [self._asset(asset, secret) for asset in self.planned.assets]

    def _asset(self, asset: PlannedAsset, secret: Resolve) -> Asset:
        if asset.dir:
            return Asset(asset.name, mode=asset.mode, dir=True)
        if asset.parts is not None:
            text = text_of(asset.parts, secret)
            return of_bytes(asset.name, text.encode("utf-8", "surrogateescape"), asset.mode)
        return Asset(asset.name, asset.sha256, asset.size, asset.mode, open=self.contents(asset.sha256))


def prepare(cls: type[Call], request: Invoke, secret: Resolve) -> tuple[type[Call], Arguments, Arguments, list[Asset]]:
    """Return the class of a planned call, its arguments, those to send, and its assets.

    Raises CallError, StateError, ArgumentError.
    """
    assert isinstance(request, PlannedInvoke)
    args = cls.check(request.arguments(secret))
    return cls, args, {name: value for name, value in args.items() if value is not None}, request.assets(secret)
