"""The secrets that a run has read: where they come from, and what must therefore not be shown or stored."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from sloth.errors import CallError
from sloth.payload.kernel.content import TEXT_LIMIT
from sloth.payload.kernel.redact import Redactor
from sloth.state.keys import Keys
from sloth.state.vault import FILE, Vault
from sloth.transport import Asset


class Revealed:
    """secret() of a site: $SLOTH_SECRET_<NAME>, else the vault beside the site; every value is masked from then on."""

    def __init__(self, directory: Path, keys: Keys) -> None:
        """directory: the site's; keys: of the vault there."""
        self._directory = directory
        self._keys = keys
        self._values: dict[str, str] = {}
        self._mask = Redactor()

    def secret(self, name: str) -> str:
        """The value of a secret. Raises CallError when there is none, StateError when the vault cannot be opened."""
        if name not in self._values:
            self._values[name] = self._find(name)
            self._mask.add([self._values[name]])
        return self._values[name]

    def _find(self, name: str) -> str:
        variable = "SLOTH_SECRET_" + re.sub(r"\W", "_", name).upper()
        value = os.environ.get(variable)
        if value is not None:
            return value
        path = self._directory / FILE
        if not path.exists():
            hint = f"sloth-runner secret set {name}, or set the environment variable {variable}"
            raise CallError(f"there is no secret {name}", hint=hint)
        return Vault(path, self._keys).get(name)

    @property
    def revealed(self) -> Collection[str]:
        """The values so far."""
        return [value for value in self._values.values() if value]

    def mask(self, text: str) -> str:
        """`text` without them."""
        return str(self._mask.text(text))

    def is_in(self, args: Mapping[str, Any], assets: Sequence[Asset]) -> bool:
        """Whether a call has a secret in its arguments, or in a content of a size at which texts are shown."""
        if not self._values:
            return False
        if self._mask.contains(dict(args)):
            return True
        return any(self._holds(asset) for asset in assets if asset.open is not None and asset.size <= TEXT_LIMIT)

    def _holds(self, asset: Asset) -> bool:
        assert asset.open is not None
        data = b"".join(asset.open())
        return bool(self._mask.contains(data.decode("utf-8", "surrogateescape")))
