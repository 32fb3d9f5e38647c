"""The secrets of a site, encrypted in a file beside it: one line for each, so that git can merge them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Iterator
from dataclasses import field, replace
from pathlib import Path

from sloth.errors import StateError
from sloth.frozen import frozen
from sloth.state.keys import Damaged, KeyHeader, Keyring, Keys
from sloth.state.private import replacing
from sloth.suggest import did_you_mean

FILE = "secrets.vault"
MAGIC = "SLOTH-SECRETS"
VERSION = 1
_NAME = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*")


@frozen
class _Content:
    """What is in the file: tokens by the names of their secrets."""

    keys: KeyHeader = field(default_factory=KeyHeader)
    tokens: dict[str, str] = field(default_factory=dict)


class Vault:
    """A file of secrets.

    It begins with the magic word and version, and the header (JSON); then follow lines of `name token`, sorted by name.
    A token contains its name too, so that nobody can put one secret in the place of another.
    """

    def __init__(self, path: Path, keys: Keys) -> None:
        """Open nothing yet; keys are read when a value is."""
        self.path = path
        self._keys = keys

    def names(self) -> list[str]:
        """Return the names of all secrets, sorted. No key is needed. Raises StateError."""
        return sorted(self._read().tokens)

    def get(self, name: str) -> str:
        """Return the value of a secret. Raises StateError: not found, no key, a wrong key, or damaged."""
        content = self._read()
        if name not in content.tokens:
            hint = did_you_mean(name, content.tokens) or f"sloth-runner secret set {name}"
            raise StateError(f"secret {name} not found in {self.path}", hint=hint)
        return self._open(self._keys.for_reading(content.keys, str(self.path)), name, content.tokens[name])

    def all(self) -> dict[str, str]:
        """Return the values of all secrets by name. Raises StateError."""
        content = self._read()
        if not content.tokens:
            return {}
        ring = self._keys.for_reading(content.keys, str(self.path))
        return {name: self._open(ring, name, token) for name, token in sorted(content.tokens.items())}

    def set(self, values: dict[str, str | None], before: dict[str, str | None] | None = None) -> None:
        """Set secrets (None removes one), all of them or none. Raises StateError.

        before: the values that they must have now; otherwise nothing is set.
        """
        for name in values:
            if not _NAME.fullmatch(name):
                raise StateError(
                    f"{name!r} cannot be the name of a secret",
                    hint="use letters, digits, ., _ and -, in parts separated by /",
                )
        with self._locked():
            content = self._read()
            tokens = content.tokens
            if tokens:
                ring, keys = self._keys.for_reading(content.keys, str(self.path)), content.keys
            else:
                ring, keys = self._keys.for_writing()
            for name, value in (before or {}).items():
                if (self._open(ring, name, tokens[name]) if name in tokens else None) != value:
                    raise StateError(f"the secret {name} was changed by another process", hint="edit it again")
            for name, value in values.items():
                if value is not None:
                    tokens[name] = _token(ring, name, value)
                elif name in tokens:
                    del tokens[name]
                else:
                    raise StateError(f"secret {name} not found in {self.path}", hint=did_you_mean(name, tokens))
            if ring.ids[0] not in keys.keys:
                keys = replace(keys, keys=(*keys.keys, ring.ids[0]))
            self._write(keys, tokens, ring)

    def rekey(self, new: Keys) -> str:
        """Encrypt everything again, with the first key of `new`; return its id. After a StateError nothing changed."""
        with self._locked():
            values = self.all()
            ring, keys = new.for_writing()
            self._write(keys, {name: _token(ring, name, value) for name, value in values.items()}, ring)
        return ring.ids[0]

    def _open(self, ring: Keyring, name: str, token: str) -> str:
        try:
            entry = json.loads(ring.decrypt(token.encode("ascii", "replace")))
        except (Damaged, ValueError):
            raise Damaged(f"{self.path}: the secret {name} is damaged, or was encrypted with another key") from None
        if not isinstance(entry, dict) or entry.get("name") != name or not isinstance(entry.get("value"), str):
            raise Damaged(f"{self.path}: the line of {name} is another secret's")
        return str(entry["value"])

    def _read(self) -> _Content:
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return _Content()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise StateError(f"cannot read {self.path}: {why}") from error
        if any(line.startswith(("<<<<<<< ", ">>>>>>> ", "=======")) for line in lines):
            raise StateError(f"{self.path} has an unresolved merge conflict", hint="resolve it with git")
        magic, _, version = (lines[0] if lines else "").partition(" ")
        if magic != MAGIC or not version.isdigit() or int(version) < 1:
            raise StateError(f"{self.path} is not a file of secrets", hint="sloth-runner secret set creates one")
        if int(version) > VERSION:
            raise StateError(
                f"{self.path} has format {version}, but this sloth-runner supports formats up to {VERSION}",
                hint="upgrade sloth-runner",
            )
        try:
            keys = KeyHeader.read(json.loads(lines[1]))
        except (IndexError, ValueError):
            keys = None
        if keys is None:
            raise Damaged(f"{self.path}: the header (line 2) is damaged")
        tokens: dict[str, str] = {}
        for number, line in enumerate(lines[2:], 3):
            name, _, token = line.partition(" ")
            if not line.strip():
                continue
            if not _NAME.fullmatch(name) or not token or name in tokens:
                raise Damaged(f"{self.path}: line {number} is damaged")
            tokens[name] = token
        return _Content(keys, tokens)

    def _write(self, keys: KeyHeader, tokens: dict[str, str], ring: Keyring) -> None:
        for name, token in tokens.items():
            self._open(ring, name, token)  # never write what could not be read again
        lines = [f"{MAGIC} {VERSION}", json.dumps(keys.plain(), sort_keys=True)]
        lines += [f"{name} {tokens[name]}" for name in sorted(tokens)]
        path = self.path.resolve()  # a symbolic link stays one
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
        with replacing(path, mode) as file:
            file.write(("\n".join(lines) + "\n").encode("utf-8"))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes from setting secrets at the same time, so that nobody's change is lost."""
        try:
            descriptor = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise StateError(f"cannot write {self.path}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _token(ring: Keyring, name: str, value: str) -> str:
    return ring.encrypt(json.dumps({"name": name, "value": value}).encode("ascii")).decode("ascii")
