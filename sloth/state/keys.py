"""The keys that exported states and secrets are encrypted with: where they come from, and which one a file wants."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import stat
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sloth.errors import StateError, UsageError

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

KEYS = "SLOTH_KEY"
KEY_FILE = "SLOTH_KEY_FILE"
PASSPHRASE = "SLOTH_PASSPHRASE"

KEY_BYTES = 32
SALT_BYTES = 16
KEY_FILE_LIMIT = 65536  # bytes: a larger one is some other file
_ID_DOMAIN = b"sloth-runner key id 1\0"  # an id must not be a hash that the key bytes have anywhere else
# What a file's header may ask of us: neither more memory or time than a derivation is worth, nor so little that
# whoever wrote the header could try passphrases cheaply on what we encrypt next.
_COST = (2**14, 2**18)
_MEMORY_LIMIT = 256 * 1024 * 1024  # bytes
_PARALLEL_LIMIT = 4


class NoKey(UsageError):
    """Something is encrypted, or is to be, and no key was given."""


class BadKey(UsageError):
    """A key, key file or passphrase that was given is not one."""


class WrongKey(StateError):
    """Something is encrypted with a key that is not among those given."""


class Damaged(StateError):
    """Something is not what was written."""


@dataclass(frozen=True)
class Derivation:
    """How a passphrase becomes a key: scrypt. salt: 16 to 64 bytes; cost, block, parallel: scrypt's n, r, p."""

    salt: bytes
    cost: int = 2**15
    block: int = 8
    parallel: int = 1

    @classmethod
    def fresh(cls) -> Derivation:
        """One with a new random salt."""
        return cls(os.urandom(SALT_BYTES))

    @classmethod
    def from_header(cls, header: Any, what: str) -> Derivation:
        """Read what header() wrote; `what` names the file. Raises Damaged, also for what no honest file asks for."""
        try:
            if not isinstance(header, Mapping) or header.keys() != {"name", "n", "r", "p", "salt"}:
                raise ValueError
            cost, block, parallel = header["n"], header["r"], header["p"]
            salt = base64.b64decode(header["salt"], validate=True)
            good = (
                header["name"] == "scrypt"
                and all(type(value) is int for value in (cost, block, parallel))
                and _COST[0] <= cost <= _COST[1]
                and cost & (cost - 1) == 0
                and 8 <= block <= 32
                and 128 * cost * block <= _MEMORY_LIMIT
                and 1 <= parallel <= _PARALLEL_LIMIT
                and SALT_BYTES <= len(salt) <= 64
            )
            if not good:
                raise ValueError
        except (ValueError, TypeError, binascii.Error):
            raise Damaged(
                f"{what}: its header asks for a passphrase in a way that sloth-runner never writes",
                hint="the header was altered: restore the file from a backup",
            ) from None
        return cls(salt, cost, block, parallel)

    def header(self) -> dict[str, Any]:
        """Itself as plain data, to be kept in a file's header."""
        salt = base64.b64encode(self.salt).decode("ascii")
        return {"name": "scrypt", "n": self.cost, "r": self.block, "p": self.parallel, "salt": salt}

    def key(self, passphrase: str) -> bytes:
        """The key, 32 bytes. Takes about 0.1 s and 32 MiB by intent. Raises BadKey."""
        from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

        if not passphrase:
            raise BadKey("the passphrase is empty", hint="give one, or use a key: sloth-runner key generate")
        # The same letters typed on two systems may come as different code points.
        secret = unicodedata.normalize("NFC", passphrase).encode("utf-8", "surrogateescape")
        return Scrypt(salt=self.salt, length=KEY_BYTES, n=self.cost, r=self.block, p=self.parallel).derive(secret)


class Keyring:
    """Some keys: the first one encrypts, all of them decrypt. derivation: set when it came from a passphrase."""

    def __init__(self, keys: Sequence[bytes], derivation: Derivation | None = None) -> None:
        """keys: each 32 bytes, at least one."""
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise ValueError("a keyring is made of keys of 32 bytes")
        self._keys = {_key_id(key): key for key in keys}
        self._ciphers: dict[str, Fernet] = {}
        self.derivation = derivation

    @classmethod
    def find(
        cls, key_file: Path | None = None, passphrase: str | None = None, derivation: Derivation | None = None
    ) -> Keyring:
        """The keys that the user has given us.

        derivation: of the file to be read, if a passphrase is what it wants. Then a passphrase that was given comes
        first, $SLOTH_PASSPHRASE next, and keys are the last resort. Without it: key_file, passphrase, $SLOTH_KEY,
        $SLOTH_KEY_FILE, $SLOTH_PASSPHRASE, and a passphrase gets a fresh derivation.

        Raises NoKey when there is none of them, BadKey for what is not a key, UsageError for two answers at once.
        """
        if key_file is not None and passphrase is not None:
            raise UsageError("a key file and a passphrase were given", hint="give one of them")
        if key_file is not None:
            return cls.from_file(key_file)
        if passphrase is not None:
            return cls.from_passphrase(passphrase, derivation)
        if derivation is not None and os.environ.get(PASSPHRASE):
            return cls.from_passphrase(os.environ[PASSPHRASE], derivation)
        if os.environ.get(KEYS, "").strip(", \t\n"):
            return cls.from_environment()
        if os.environ.get(KEY_FILE):
            return cls.from_file(Path(os.environ[KEY_FILE]))
        if os.environ.get(PASSPHRASE):
            return cls.from_passphrase(os.environ[PASSPHRASE])
        if derivation is not None:
            raise NoKey("there is no passphrase", hint=f"give --passphrase to be asked, or set ${PASSPHRASE}")
        raise NoKey(
            "there is no key",
            hint=f"give --key-file or --passphrase, or set ${KEYS}; sloth-runner key generate makes a key",
        )

    @classmethod
    def from_environment(cls) -> Keyring:
        """The keys in $SLOTH_KEY, separated by commas or white space. Raises NoKey, BadKey."""
        words = re.split(r"[\s,]+", os.environ.get(KEYS, "").strip(", \t\n"))
        if words == [""]:
            raise NoKey(f"${KEYS} is not set", hint="sloth-runner key generate makes a key")
        named = f"the key in ${KEYS}" if len(words) == 1 else f"key {{}} of {len(words)} in ${KEYS}"
        return cls([_key(word, named.format(number)) for number, word in enumerate(words, 1)])

    @classmethod
    def from_file(cls, path: Path) -> Keyring:
        """The keys of a file: one a line, # begins a comment. Raises NoKey, BadKey."""
        try:
            # Whatever is not a regular file (a pipe that a password store writes to) has no permissions to look at.
            with open(path, "rb") as file:
                status = os.fstat(file.fileno())
                if stat.S_ISREG(status.st_mode) and status.st_mode & 0o077:
                    raise BadKey(
                        f"the key file {path} is open to others (mode {status.st_mode & 0o7777:04o})",
                        hint=f"chmod 600 {path}, and think of a new key if others were here",
                    )
                content = file.read(KEY_FILE_LIMIT + 1)
        except FileNotFoundError:
            raise NoKey(f"there is no key file {path}", hint=f"sloth-runner key generate -o {path} makes one") from None
        except OSError as error:
            raise NoKey(f"the key file {path} cannot be read: {error.strerror}", hint="see its permissions") from error
        if len(content) > KEY_FILE_LIMIT:
            raise BadKey(f"{path} is too large for a key file", hint="is it another file?")
        lines = content.decode("ascii", "replace").splitlines()
        keys = [
            _key(word, f"{path}:{number}")
            for number, line in enumerate(lines, 1)
            if (word := line.partition("#")[0].strip())
        ]
        if not keys:
            raise NoKey(f"there is no key in the key file {path}", hint="sloth-runner key generate makes one")
        return cls(keys)

    @classmethod
    def from_passphrase(cls, passphrase: str, derivation: Derivation | None = None) -> Keyring:
        """The one key that a passphrase makes; without a derivation, with a fresh one. Raises BadKey."""
        derivation = derivation or Derivation.fresh()
        return cls([derivation.key(passphrase)], derivation)

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the keys, in their order: 16 hexadecimal digits each; they tell nothing of the keys."""
        return tuple(self._keys)

    @property
    def primary_id(self) -> str:
        """The id of the key that encrypts."""
        return self.ids[0]

    def primary(self) -> Keyring:
        """A keyring of the first key alone."""
        return Keyring([self._keys[self.primary_id]], self.derivation)

    def encrypt(self, data: bytes) -> bytes:
        """`data` as a Fernet token (URL-safe base64, one line), by the first key."""
        return self._cipher(self.primary_id).encrypt(data)

    def need(self, key_id: str, what: str, *, passphrase: bool = False) -> None:
        """See to it that the key `key_id` is here. what: what it is needed for. passphrase: it was made from one.

        Raises WrongKey.
        """
        if key_id in self._keys:
            return
        if passphrase and self.derivation is not None:
            raise WrongKey(f"{what}: wrong passphrase", hint="try again; upper and lower case matter")
        if passphrase:
            hint = f"give --passphrase to be asked, or set ${PASSPHRASE}"
            raise WrongKey(f"{what} is encrypted with a passphrase, and a key was given", hint=hint)
        given = "a passphrase" if self.derivation else " and ".join(self.ids)
        raise WrongKey(
            f"{what} is encrypted with the key {key_id}, and {given} was given",
            hint=f"give that key, by --key-file or in ${KEYS}; sloth-runner key id shows which is which",
        )

    def decrypt(self, token: bytes, key_id: str, what: str, *, passphrase: bool = False) -> bytes:
        """What encrypt() was given. key_id: the key it was encrypted with; what: names it in errors.

        Raises WrongKey, Damaged.
        """
        from cryptography.fernet import InvalidToken

        self.need(key_id, what, passphrase=passphrase)
        try:
            # base64 has several spellings of the same bytes, and Python skips what is no base64: one spelling is ours.
            if base64.urlsafe_b64encode(base64.urlsafe_b64decode(token)) != token:
                raise InvalidToken
            return self._cipher(key_id).decrypt(token)
        except (InvalidToken, binascii.Error, ValueError):
            raise Damaged(f"{what} is damaged: it is not what was encrypted", hint="restore it from a backup") from None

    def _cipher(self, key_id: str) -> Fernet:
        if key_id not in self._ciphers:
            from cryptography.fernet import Fernet

            self._ciphers[key_id] = Fernet(base64.urlsafe_b64encode(self._keys[key_id]))
        return self._ciphers[key_id]


KeySource = Callable[[Derivation | None], Keyring]
"""Finds the keys for a file, given how its passphrase becomes a key (None: it wants a key, or is new)."""


def generate() -> str:
    """A new random key as text: 44 characters, URL-safe base64."""
    return base64.urlsafe_b64encode(os.urandom(KEY_BYTES)).decode("ascii")


def _key(text: str, where: str) -> bytes:
    """The bytes of a key; `where` it is. The key itself is never shown. Raises BadKey."""
    try:
        key = base64.urlsafe_b64decode(text.encode("ascii"))
        if len(key) == KEY_BYTES and base64.urlsafe_b64encode(key) == text.encode("ascii"):
            return key
    except (ValueError, binascii.Error):
        pass
    raise BadKey(
        f"{where} is not a key",
        hint=f"a key is 44 characters of URL-safe base64, this has {len(text)}; sloth-runner key generate makes one",
    )


def _key_id(key: bytes) -> str:
    return hashlib.sha256(_ID_DOMAIN + key).hexdigest()[:16]
