"""The secrets that a run has read, and the one function that everything which leaves the engine passes.

Events, run records and errors are redacted here and nowhere else; `report` may cut texts for display afterwards.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sloth.engine.events import CallFinished, CallOutput, Event, HostFinished
from sloth.errors import CallError
from sloth.payload.kernel.content import TEXT_LIMIT
from sloth.payload.kernel.redact import Redactor
from sloth.payload.kernel.value import Value
from sloth.state.keys import Keys
from sloth.state.vault import FILE, Vault
from sloth.transport import Asset

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Arguments, Json

T = TypeVar("T")
# Bytes that are not UTF-8 by themselves; at the end of a piece they may be the beginning of a character.
_ESCAPED = "[\udc80-\udcff]"
_INCOMPLETE = "[\udc80-\udcff]{0,3}\\Z"


class Secrets:
    """secret() of a site: $SLOTH_SECRET_<NAME>, else the vault beside the site; every value is hidden from then on."""

    def __init__(self, directories: Sequence[Path], keys: Keys) -> None:
        """directories: of the site's files, each with a vault or without; keys: of the vaults."""
        self._directories = tuple(directories)
        self._keys = keys
        self._values: dict[tuple[Path, str], str] = {}
        self._redactor = Redactor()
        self._streams: dict[tuple[str, str, str, str], _Stream] = {}

    def get(self, name: str, directory: Path) -> str:
        """Return the value of a secret, from the vault in `directory`; without one there, from the others.

        Raises CallError when there is none, StateError when the vault cannot be opened.
        """
        key = (directory, name)
        if key not in self._values:
            self._values[key] = self._find(name, directory)
            self._redactor.add([self._values[key]])
        return self._values[key]

    def _find(self, name: str, directory: Path) -> str:
        variable = "SLOTH_SECRET_" + re.sub(r"\W", "_", name).upper()
        value = os.environ.get(variable)
        if value is not None:
            return value
        for candidate in (directory, *self._directories):
            path = candidate / FILE
            if path.exists():
                return Vault(path, self._keys).get(name)
        hint = f"sloth-runner secret set {name}, or set the environment variable {variable}"
        raise CallError(f"there is no secret {name}", hint=hint)

    def learn(self, values: Sequence[str]) -> None:
        """Hide values from now on that came from elsewhere: another run has shared them."""
        known = set(self._values.values())
        for value in values:
            if value not in known:
                self._values[(Path(), value)] = value
        self._redactor.add(values)

    def held_by(self, value: Json) -> set[str]:
        """Return the secrets that plain data has in it."""
        if not self._values or not self._redactor.contains(value):
            return set()
        return {secret for secret in self._values.values() if Redactor([secret]).contains(value)}

    @property
    def named(self) -> dict[tuple[Path, str], str]:
        """The secrets that were read by their names, by directory and name."""
        return {key: value for key, value in self._values.items() if key[0] != Path()}

    # What a call holds

    def found_in(self, args: Arguments, assets: Sequence[Asset]) -> set[str]:
        """Return the values that a call has in its arguments, or in a content of a size at which texts are shown."""
        if not self._values:
            return set()
        texts = (_text(asset) for asset in assets if asset.open is not None and asset.size <= TEXT_LIMIT)
        held = [part for part in (dict(args), *texts) if self._redactor.contains(part)]
        if not held:
            return set()
        return {value for value in self._values.values() if Redactor([value]).contains(held)}

    # What leaves the engine

    def redact(self, value: T) -> T:
        """Return any value of the engine without secrets: texts, containers, dataclasses, typed values of the wire."""
        return value if not self._values else self._redacted(value)

    def _redacted(self, value: T) -> T:
        result: object = value
        if isinstance(value, str):
            # An enumeration's member is its own word, and no text of anybody's.
            result = value if type(value) is not str else self._redactor.text(value)
        elif isinstance(value, Mapping):
            result = {self._redacted(key): self._redacted(item) for key, item in value.items()}
        elif isinstance(value, (list, tuple)):
            result = type(value)(self._redacted(item) for item in value)
        elif isinstance(value, Value):
            names = type(value).fields
            result = value.replace(**{name: self._redacted(getattr(value, name)) for name in names})
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = dataclasses.fields(value)
            result = type(value)(**{field.name: self._redacted(getattr(value, field.name)) for field in fields})
        return result  # type: ignore[return-value]  # each branch keeps the type

    def events(self, event: Event) -> list[Event]:
        """Return what may be shown of an event: nothing while it could be a part of a secret, more when it is not."""
        if not self._values:
            return [event]
        if isinstance(event, CallOutput):
            key = (event.host, event.task, event.call, event.stream)
            data = self._streams.setdefault(key, _Stream(event)).feed(event.data, self._redactor)
            return [dataclasses.replace(self._redacted(event), data=data)] if data else []
        ended: list[Event] = []
        if isinstance(event, (CallFinished, HostFinished)):
            for key in [key for key in self._streams if key[0] == event.host]:
                stream = self._streams.pop(key)
                rest = stream.end(self._redactor)
                if rest:
                    ended.append(dataclasses.replace(self._redacted(stream.event), data=rest))
        return [*ended, self._redacted(event)]


def _text(asset: Asset) -> str:
    assert asset.open is not None
    return b"".join(asset.open()).decode("utf-8", "surrogateescape")


def _joined(text: str) -> str:
    """Return `text` with the characters whole whose bytes came in two pieces."""
    if re.search(_ESCAPED, text) is None:
        return text
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that is no escaped byte: it belongs to no character
        return text


class _Stream:
    """What a command prints in pieces: held back where it may be the beginning of a secret."""

    def __init__(self, event: CallOutput) -> None:
        self.event = event
        self._held = ""

    def feed(self, data: str, redactor: Redactor) -> str:
        """Take a piece; return what can be shown now."""
        text = _joined(self._held + data)
        whole = len(text) - len(re.search(_INCOMPLETE, text).group())  # type: ignore[union-attr]  # it always matches
        shown, held = redactor.stream(text[:whole])
        self._held = held + text[whole:]
        return shown

    def end(self, redactor: Redactor) -> str:
        """Return what was held back, now that nothing follows it."""
        return redactor.text(self._held)
