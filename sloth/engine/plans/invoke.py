"""The request of a call that a saved plan has: its secrets are resolved, and its files come from the plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from typing import TYPE_CHECKING

from sloth.engine.assets import of_bytes
from sloth.engine.plans.references import Resolve, resolve, text_of
from sloth.engine.plans.values import PlannedAsset, PlannedCall
from sloth.frozen import frozen
from sloth.playbook import Invoke
from sloth.transport import Asset

if TYPE_CHECKING:
    from sloth.payload.kernel.values import JsonObject

Open = Callable[[str], Callable[[], Iterator[bytes]]]  # returns what opens the content with a hash


@frozen(eq=False)
class PlannedInvoke(Invoke):
    """Send a call of a plan. planned: the call; contents: what opens the contents of the plan."""

    planned: PlannedCall = field(kw_only=True)
    contents: Open = field(kw_only=True)

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


def prepare(request: Invoke, secret: Resolve) -> tuple[JsonObject, list[Asset]]:
    """Return the arguments and options of a planned call, and its assets. Raises CallError, StateError."""
    assert isinstance(request, PlannedInvoke)
    return dict(request.arguments(secret)), request.assets(secret)
