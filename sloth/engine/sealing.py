"""Encryption of shared values that hold secrets, with the key of the site's secrets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sloth.engine.secrets import Secrets
from sloth.errors import StateError
from sloth.state.keys import Damaged, KeyHeader, Keys
from sloth.state.shared import SEALED

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json


class SecretSealer:
    """Seals shared values that hold secrets of this run, and tells the run which secrets are in those of others."""

    def __init__(self, secrets: Secrets, keys: Keys) -> None:
        self._secrets = secrets
        self._keys = keys

    def seal(self, name: str, value: Json) -> str | None:
        """Return the text to store for a value; None when no secret is in it. Raises StateError without a key."""
        self.check_name(name)
        held = sorted(self._secrets.held_by(value))
        if not held:
            return None
        try:
            ring, header = self._keys.for_writing()
        except StateError as error:
            raise StateError(
                f"state.set {name}: it has a secret in it, and there is no key to encrypt it with",
                hint=error.hint,
            ) from None
        data = json.dumps({"name": name, "value": value, "secrets": held}).encode("ascii")
        return SEALED + json.dumps({"key": header.plain(), "token": ring.encrypt(data).decode("ascii")})

    def open(self, name: str, text: str) -> Json:
        """Return the value of a text that begins with SEALED. Raises StateError: no key, a wrong one, damaged."""
        about = f"the shared value {name}"
        try:
            stored = json.loads(text.removeprefix(SEALED))
            header = KeyHeader.read(stored["key"])
            if header is None:
                raise ValueError
            data = json.loads(self._keys.for_reading(header, about).decrypt(stored["token"].encode("ascii", "replace")))
            value, held = data["value"], list(map(str, data["secrets"]))
            if data["name"] != name:
                raise ValueError
        except (Damaged, ValueError, KeyError, TypeError, AttributeError):
            raise Damaged(f"{about} is damaged", hint="set it again") from None
        self._secrets.learn(held)
        opened: Json = value
        return opened

    def check_name(self, name: str) -> None:
        """Raise StateError when there is a secret in a name, which is stored and listed as it is."""
        check_name(name, self._secrets)


def check_name(name: str, secrets: Secrets) -> None:
    """Raise StateError when a secret is in the name of a shared value."""
    if secrets.held_by(name):
        raise StateError("a secret cannot be in the name of a shared value, or in a lock", hint="use another name")
