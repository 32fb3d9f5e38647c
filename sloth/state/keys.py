"""Where encryption keys come from: $SLOTH_KEY, a key file, or a passphrase; the first one encrypts, all decrypt."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import stat
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sloth.errors import StateError

COST = {"n": 2**15, "r": 8, "p": 1}  # scrypt: 32 MB and about 0.1 s
LOWEST = {"n": 2**14, "r": 8, "p": 1}  # of a file's header: what we add to it shall not be cheap to guess
HIGHEST = {"n": 2**20, "r": 32, "p": 4}  # and a hostile one shall not eat the machine,
MEMORY = 256 * 1024 * 1024  # bytes of it
WANTED = "set $SLOTH_KEY, or give --key-file or --passphrase; sloth-runner key generate makes a key"


class WrongKey(StateError):
    """None of our keys is the one that encrypted this."""


class Damaged(StateError):
    """It was encrypted with one of our keys, and is not what it was."""


def generate() -> str:
    """Return a new Fernet key."""
    from cryptography.fernet import Fernet

    return Fernet.generate_key().decode("ascii")


def key_id(key: bytes) -> str:
    """What a file's header says of a key, so that a wrong key is told apart from a damaged file."""
    return hashlib.sha256(b"sloth-runner key id\0" + key).hexdigest()[:16]


class Keyring:
    """One or more Fernet keys."""

    def __init__(self, keys: Sequence[str], source: str) -> None:
        """keys: as `key generate` prints them; source: for messages. Raises StateError for one that is none."""
        from cryptography.fernet import Fernet, MultiFernet

        self._keys = []
        for number, key in enumerate(keys, 1):
            try:
                self._keys.append(Fernet(key.encode("ascii", "replace")))
            except ValueError:
                raise StateError(
                    f"key {number} of {source} is no Fernet key", hint="sloth-runner key generate makes one"
                ) from None
        if not self._keys:
            raise StateError(f"there is no key in {source}", hint="sloth-runner key generate makes one")
        self._fernet = MultiFernet(self._keys)
        self.ids = [key_id(key.encode("ascii")) for key in keys]

    def encrypt(self, data: bytes) -> bytes:
        """Return a token (ASCII, without newlines), made with the first key."""
        return self._fernet.encrypt(data)

    def decrypt(self, token: bytes) -> bytes:
        """Return what encrypt() was given. Raises Damaged."""
        from cryptography.fernet import InvalidToken

        try:
            # Python's base64 skips what does not belong into it; a file with that in it is not what was written.
            if base64.urlsafe_b64encode(base64.urlsafe_b64decode(token)) != token:
                raise InvalidToken
            return self._fernet.decrypt(token)
        except (InvalidToken, TypeError, ValueError):
            raise Damaged("it does not decrypt") from None


def derived(passphrase: str, kdf: Mapping[str, Any]) -> Keyring:
    """The Keyring that a passphrase stands for; kdf: a header's, as new_kdf() made it. Raises StateError."""
    try:
        salt = base64.b64decode(str(kdf["salt"]), validate=True)
        cost = {name: int(kdf[name]) for name in COST}
    except (KeyError, ValueError, TypeError):
        raise StateError("the header's salt and cost of the passphrase cannot be read") from None
    power_of_two = cost["n"] > 1 and cost["n"] & (cost["n"] - 1) == 0
    bounded = len(salt) >= 16 and all(LOWEST[name] <= cost[name] <= HIGHEST[name] for name in cost)
    bounded = bounded and 128 * cost["n"] * cost["r"] <= MEMORY
    if kdf.get("name") != "scrypt" or not power_of_two or not bounded:
        raise StateError("the header asks for a key derivation that this sloth-runner does not do", hint="upgrade it")
    memory = 256 * cost["n"] * cost["r"] + 1024 * 1024
    said = unicodedata.normalize("NFC", passphrase)  # keyboards differ in how they compose letters
    key = hashlib.scrypt(said.encode("utf-8", "surrogateescape"), salt=salt, dklen=32, maxmem=memory, **cost)
    return Keyring([base64.urlsafe_b64encode(key).decode("ascii")], "the passphrase")


def new_kdf() -> dict[str, Any]:
    """A new salt, and what deriving costs, for a file's header."""
    return {"name": "scrypt", "salt": base64.b64encode(os.urandom(16)).decode("ascii"), **COST}


def read_key_file(path: Path) -> list[str]:
    """The keys of a key file: one a line, # begins a comment. Raises StateError."""
    try:
        mode = path.stat().st_mode
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise StateError(f"the key file {path} cannot be read: {why}") from error
    if stat.S_ISREG(mode) and mode & 0o077:
        raise StateError(f"the key file {path} can be read by others", hint=f"chmod 600 {path}")
    return [line.partition("#")[0].strip() for line in lines if line.partition("#")[0].strip()]


@dataclass(frozen=True)
class Keys:
    """What the user offers: key_file, passphrase (asks for it, once it is needed), or the environment.

    A key file and a passphrase that are asked for come before $SLOTH_KEY, $SLOTH_KEY_FILE and $SLOTH_PASSPHRASE.
    """

    key_file: Path | None = None
    passphrase: Callable[[], str] | None = None

    @property
    def named(self) -> bool:
        """Whether the user named a key for this command, and did not only have one in the environment."""
        return self.key_file is not None or self.passphrase is not None

    def _plain(self) -> Keyring | None:
        """The Keyring of keys that are no passphrase."""
        if self.key_file is not None:
            return Keyring(read_key_file(self.key_file), f"the key file {self.key_file}")
        if self.passphrase is not None:
            return None
        if os.environ.get("SLOTH_KEY"):
            return Keyring(re.split(r"[\s,]+", os.environ["SLOTH_KEY"].strip()), "$SLOTH_KEY")
        if os.environ.get("SLOTH_KEY_FILE"):
            path = Path(os.environ["SLOTH_KEY_FILE"])
            return Keyring(read_key_file(path), f"the key file {path}")
        return None

    def _said(self) -> str | None:
        return self.passphrase() if self.passphrase is not None else os.environ.get("SLOTH_PASSPHRASE") or None

    def writing(self) -> tuple[Keyring, dict[str, Any]]:
        """The Keyring to encrypt with, and what the header must say of it. Raises StateError when there is no key."""
        plain = self._plain()
        if plain is not None:
            return plain, {"keys": plain.ids[:1], "kdf": None}
        said = self._said()
        if not said:
            raise StateError("there is no key to encrypt with", hint=WANTED)
        kdf = new_kdf()
        ring = derived(said, kdf)
        return ring, {"keys": ring.ids, "kdf": kdf}

    def reading(self, header: Mapping[str, Any], what: str) -> Keyring:
        """The Keyring for something whose header is given. Raises WrongKey, StateError when there is none.

        what: the file, for messages.
        """
        kdf = header.get("kdf")
        if isinstance(kdf, Mapping):
            said = self._said()
            if not said:
                raise StateError(f"{what} wants a passphrase", hint="give --passphrase, or set $SLOTH_PASSPHRASE")
            ring: Keyring | None = derived(said, kdf)
        else:
            ring = self._plain()
        wanted = [str(one) for one in header.get("keys") or ()]
        if ring is None:
            raise StateError(f"{what} is encrypted with the key {', '.join(wanted)}", hint=WANTED)
        if not set(wanted) & set(ring.ids):
            if isinstance(kdf, Mapping):
                raise WrongKey(f"the passphrase is not that of {what}")
            raise WrongKey(f"{what} is encrypted with the key {', '.join(wanted)}, and ours is {', '.join(ring.ids)}")
        return ring
