"""The secrets of a site, encrypted in a file beside it that is kept in git: a line each, so that git can merge them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sloth.errors import StateError
from sloth.state.keys import Damaged, Keyring, Keys
from sloth.state.private import written
from sloth.suggest import did_you_mean

FILE = "secrets.vault"
MAGIC = "SLOTH-SECRETS"
VERSION = 1
_NAME = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*")


class Vault:
    """One such file: the magic and version, the header (JSON), then `name token` lines sorted by name.

    A token holds its name, too, so that one cannot stand for another.
    """

    def __init__(self, path: Path, keys: Keys) -> None:
        """Opens nothing yet; keys are asked for when a value is."""
        self.path = path
        self._keys = keys

    def names(self) -> list[str]:
        """The names of all secrets; needs no key. Raises StateError."""
        return sorted(self._read()[1])

    def get(self, name: str) -> str:
        """The value of a secret. Raises StateError: there is none, no key, a wrong key, damage."""
        header, tokens = self._read()
        if name not in tokens:
            hint = did_you_mean(name, tokens) or f"sloth-runner secret set {name}"
            raise StateError(f"there is no secret {name} in {self.path}", hint=hint)
        return self._open(self._keys.reading(header, str(self.path)), name, tokens[name])

    def all(self) -> dict[str, str]:
        """Every secret's value, by name."""
        header, tokens = self._read()
        if not tokens:
            return {}
        ring = self._keys.reading(header, str(self.path))
        return {name: self._open(ring, name, token) for name, token in sorted(tokens.items())}

    def set(self, values: dict[str, str | None], before: dict[str, str | None] | None = None) -> None:
        """Set secrets (None removes one), all of them or none. Raises StateError.

        before: what they must be now, or nothing is set.
        """
        for name in values:
            if not _NAME.fullmatch(name):
                raise StateError(f"{name!r} cannot be a secret's name", hint="letters, digits, . _ - and / between")
        with self._locked():
            header, tokens = self._read()
            if tokens:
                ring = self._keys.reading(header, str(self.path))
            else:
                ring, header = self._keys.writing()
            for name, value in (before or {}).items():
                if (self._open(ring, name, tokens[name]) if name in tokens else None) != value:
                    raise StateError(f"the secret {name} was changed by somebody else meanwhile", hint="edit it again")
            for name, value in values.items():
                if value is not None:
                    tokens[name] = _token(ring, name, value)
                elif name in tokens:
                    del tokens[name]
                else:
                    hint = did_you_mean(name, tokens)
                    raise StateError(f"there is no secret {name} in {self.path}", hint=hint)
            if ring.ids[0] not in header["keys"]:
                header = {**header, "keys": [*header["keys"], ring.ids[0]]}
            self._write(header, tokens, ring)

    def rekey(self, new: Keys) -> str:
        """Encrypt everything under the first key of `new`; return its id. Raises StateError; then it is as it was."""
        with self._locked():
            values = self.all()
            ring, header = new.writing()
            self._write(header, {name: _token(ring, name, value) for name, value in values.items()}, ring)
        return ring.ids[0]

    def _open(self, ring: Keyring, name: str, token: str) -> str:
        try:
            entry = json.loads(ring.decrypt(token.encode("ascii", "replace")))
        except (Damaged, ValueError):
            raise Damaged(f"{self.path}: the secret {name} is damaged, or was encrypted with another key") from None
        if not isinstance(entry, dict) or entry.get("name") != name or not isinstance(entry.get("value"), str):
            raise Damaged(f"{self.path}: what stands at {name} is another secret")
        return str(entry["value"])

    def _read(self) -> tuple[dict[str, Any], dict[str, str]]:
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return {}, {}
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not text"
            raise StateError(f"{self.path} cannot be read: {why}") from error
        if any(line.startswith(("<<<<<<< ", ">>>>>>> ", "=======")) for line in lines):
            raise StateError(f"{self.path} has an unresolved merge conflict", hint="keep the right lines, in git")
        magic, _, version = (lines[0] if lines else "").partition(" ")
        if magic != MAGIC or not version.isdigit() or int(version) < 1:
            raise StateError(f"{self.path} is no file of secrets", hint="sloth-runner secret set makes one")
        if int(version) > VERSION:
            raise StateError(
                f"{self.path} has format {version}, and this sloth-runner knows up to {VERSION}", hint="upgrade it"
            )
        try:
            header = json.loads(lines[1])
        except (IndexError, ValueError):
            header = None
        if not isinstance(header, dict) or not isinstance(header.get("keys"), list):
            raise Damaged(f"{self.path}: the header (line 2) is damaged")
        tokens: dict[str, str] = {}
        for number, line in enumerate(lines[2:], 3):
            name, _, token = line.partition(" ")
            if not line.strip():
                continue
            if not _NAME.fullmatch(name) or not token or name in tokens:
                raise Damaged(f"{self.path}: line {number} is damaged")
            tokens[name] = token
        return header, tokens

    def _write(self, header: dict[str, Any], tokens: dict[str, str], ring: Keyring) -> None:
        for name, token in tokens.items():
            self._open(ring, name, token)  # what is written can be read again
        lines = [f"{MAGIC} {VERSION}", json.dumps(header, sort_keys=True)]
        lines += [f"{name} {tokens[name]}" for name in sorted(tokens)]
        path = self.path.resolve()  # a link stays a link
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
        with written(path, mode) as file:
            file.write(("\n".join(lines) + "\n").encode("utf-8"))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone with the file: two that set secrets at once lose neither."""
        try:
            descriptor = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise StateError(f"{self.path} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _token(ring: Keyring, name: str, value: str) -> str:
    return ring.encrypt(json.dumps({"name": name, "value": value}).encode("ascii")).decode("ascii")
