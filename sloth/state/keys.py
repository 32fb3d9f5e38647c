"""Encryption keys: from $SLOTH_KEY, a key file, or a passphrase. The first key encrypts, every key decrypts."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import stat
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from sloth.errors import StateError
from sloth.frozen import frozen

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json, JsonObject

SCRYPT_MEMORY = 256 * 1024 * 1024  # bytes that a file's header may make us use
MOST_KEYS = 100  # that a header names: errors list them
KEY_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
HOW_TO_GIVE_A_KEY = "set $SLOTH_KEY, or use --key-file or --passphrase; sloth-runner key generate creates a key"
HOW_TO_CREATE = "sloth-runner key generate creates one"


class WrongKey(StateError):
    """Something was encrypted with another key."""


class Damaged(StateError):
    """Something was encrypted with one of our keys, and has been altered since."""


def generate() -> str:
    """Return a new Fernet key."""
    from cryptography.fernet import Fernet

    return Fernet.generate_key().decode("ascii")


def key_id(key: bytes) -> str:
    """Return the id of a key that a file's header shows, which tells a wrong key from a damaged file."""
    return hashlib.sha256(b"sloth-runner key id\0" + key).hexdigest()[:16]


class Keyring:
    """One or more Fernet keys.

    Attributes:
        ids: the ids of the keys.
    """

    def __init__(self, keys: Sequence[str], source: str) -> None:
        """keys: as `key generate` prints them; source: where they are from, for errors. Raises StateError."""
        from cryptography.fernet import Fernet, MultiFernet

        self._keys = []
        for number, key in enumerate(keys, 1):
            try:
                self._keys.append(Fernet(key.encode("ascii", "replace")))
            except ValueError:
                raise StateError(f"key {number} of {source} is not a Fernet key", hint=HOW_TO_CREATE) from None
        if not self._keys:
            raise StateError(f"no key in {source}", hint=HOW_TO_CREATE)
        self._fernet = MultiFernet(self._keys)
        self.ids = [key_id(key.encode("ascii")) for key in keys]

    def encrypt(self, data: bytes) -> bytes:
        """Return a token (ASCII, without newlines), encrypted with the first key."""
        return self._fernet.encrypt(data)

    def decrypt(self, token: bytes) -> bytes:
        """Return the data of a token. Raises Damaged."""
        from cryptography.fernet import InvalidToken

        try:
            # Python's base64 skips invalid characters, so a token that has some in it would seem unaltered.
            if base64.urlsafe_b64encode(base64.urlsafe_b64decode(token)) != token:
                raise InvalidToken
            return self._fernet.decrypt(token)
        except (InvalidToken, TypeError, ValueError):
            raise Damaged("cannot be decrypted") from None


@frozen
class Scrypt:
    """How a file's key is derived from a passphrase: a salt (base64), and the cost.

    The cost comes from the file's header, so it is bounded: not so cheap that a copied file is easy to attack, and not
    so expensive that a hostile file exhausts this machine.
    """

    salt: str
    n: int = 2**15  # with r=8: 32 MB, and about 0.1 s
    r: int = 8
    p: int = 1

    @classmethod
    def new(cls) -> Scrypt:
        """Return one with a new salt."""
        return cls(base64.b64encode(os.urandom(16)).decode("ascii"))

    @classmethod
    def read(cls, header: JsonObject) -> Scrypt:
        """Return that of a header. Raises StateError when it is invalid, or outside the bounds."""
        try:
            found = cls(str(header["salt"]), int(header["n"]), int(header["r"]), int(header["p"]))
            salt = base64.b64decode(found.salt, validate=True)
        except (KeyError, OverflowError, ValueError, TypeError):
            raise StateError("the header has no valid salt and cost for a passphrase") from None
        power_of_two = found.n > 1 and found.n & (found.n - 1) == 0
        bounded = 2**14 <= found.n <= 2**20 and 8 <= found.r <= 32 and 1 <= found.p <= 4
        bounded = bounded and 128 * found.n * found.r <= SCRYPT_MEMORY
        if header.get("name") != "scrypt" or not power_of_two or not bounded or len(salt) < 16:
            raise StateError("the header asks for an unsupported key derivation", hint="upgrade sloth-runner")
        return found

    def plain(self) -> JsonObject:
        """Return it as a header's JSON."""
        return {"name": "scrypt", **asdict(self)}

    def keyring(self, passphrase: str) -> Keyring:
        """Return the Keyring of a passphrase."""
        text = unicodedata.normalize("NFC", passphrase)  # keyboards differ in how they compose letters
        key = hashlib.scrypt(
            text.encode("utf-8", "surrogateescape"), salt=base64.b64decode(self.salt), n=self.n, r=self.r, p=self.p,
            dklen=32, maxmem=256 * self.n * self.r + 1024 * 1024,
        )  # fmt: skip
        return Keyring([base64.urlsafe_b64encode(key).decode("ascii")], "the passphrase")


@frozen
class KeyHeader:
    """What the header of an encrypted file says about its keys.

    Attributes:
        keys: the ids of the keys that encrypt it.
        kdf: how the key is derived, where it is a passphrase.
    """

    keys: tuple[str, ...] = ()
    kdf: JsonObject | None = None

    @classmethod
    def read(cls, header: Json) -> KeyHeader | None:
        """Return that of a header's JSON; None when the header is invalid."""
        if not isinstance(header, dict) or not isinstance(header.get("keys"), list):
            return None
        ids, kdf = header["keys"], header.get("kdf")
        if len(ids) > MOST_KEYS or not all(isinstance(one, str) and KEY_ID.fullmatch(one) for one in ids):
            return None
        return cls(tuple(ids), kdf if isinstance(kdf, dict) else None)

    def plain(self) -> JsonObject:
        """Return it as JSON."""
        return {"keys": list(self.keys), "kdf": self.kdf}


def read_key_file(path: Path) -> list[str]:
    """Return the keys of a key file: one per line, comments after #. Raises StateError."""
    try:
        mode = path.stat().st_mode
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise StateError(f"cannot read the key file {path}: {why}") from error
    if stat.S_ISREG(mode) and mode & 0o077:
        raise StateError(f"the key file {path} is readable by others", hint=f"chmod 600 {path}")
    return [line.partition("#")[0].strip() for line in lines if line.partition("#")[0].strip()]


@frozen
class Keys:
    """The keys that the user provides: by --key-file, --passphrase or the environment.

    Nothing is read, and no passphrase is asked for, before it is needed.

    Attributes:
        key_file: the file that --key-file names.
        passphrase: asks for the passphrase, for --passphrase.
    """

    key_file: Path | None = None
    passphrase: Callable[[], str] | None = None

    @property
    def is_explicit(self) -> bool:
        """Whether an option of this command provides a key, rather than the environment."""
        return self.key_file is not None or self.passphrase is not None

    def for_writing(self) -> tuple[Keyring, KeyHeader]:
        """Return the Keyring to encrypt with, and its header. Raises StateError when there is no key."""
        ring = self._key_ring()
        if ring is not None:
            return ring, KeyHeader(tuple(ring.ids[:1]))
        passphrase = self._ask_passphrase()
        if not passphrase:
            raise StateError("no key to encrypt with", hint=HOW_TO_GIVE_A_KEY)
        kdf = Scrypt.new()
        ring = kdf.keyring(passphrase)
        return ring, KeyHeader(tuple(ring.ids), kdf.plain())

    def for_reading(self, header: KeyHeader, file: str) -> Keyring:
        """Return the Keyring that decrypts a file with this header. Raises WrongKey, StateError when there is no key.

        file: its name, for errors.
        """
        if header.kdf is not None:
            passphrase = self._ask_passphrase()
            if not passphrase:
                raise StateError(f"{file} needs a passphrase", hint="use --passphrase, or set $SLOTH_PASSPHRASE")
            ring = Scrypt.read(header.kdf).keyring(passphrase)
            if not set(header.keys) & set(ring.ids):
                raise WrongKey(f"wrong passphrase for {file}")
            return ring
        needed = ", ".join(header.keys)
        found = self._key_ring()
        if found is None:
            raise StateError(f"{file} is encrypted with the key {needed}", hint=HOW_TO_GIVE_A_KEY)
        if not set(header.keys) & set(found.ids):
            raise WrongKey(f"{file} is encrypted with the key {needed}, not with {', '.join(found.ids)}")
        return found

    def _key_ring(self) -> Keyring | None:
        """Return the Keyring of a key file or $SLOTH_KEY; None when there is none, or a passphrase takes its place."""
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

    def _ask_passphrase(self) -> str | None:
        return self.passphrase() if self.passphrase is not None else os.environ.get("SLOTH_PASSPHRASE") or None
