"""SHA-256 without loading OpenSSL, which takes longer than hashing all that a usual run reads; canonical JSON."""

from sloth.payload.kernel import plain_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Protocol

    class Digest(Protocol):
        """A hash object of hashlib's form."""

        def update(self, data: "bytes") -> "None": ...

        def digest(self) -> "bytes": ...

        def hexdigest(self) -> "str": ...


LARGE = 4 * 1024 * 1024  # bytes from which on OpenSSL, which is several times faster, is worth loading


def _built_in() -> "Callable[..., Digest]":
    """Return Python's own SHA-256: _sha256 up to 3.11, _sha2 since; a Python may be built without."""
    for name in ("_sha2", "_sha256"):
        try:
            found: "Callable[..., Digest]" = __import__(name).sha256
            return found
        except ImportError:
            continue
    import hashlib

    return hashlib.sha256


sha256 = _built_in()
_encode = plain_json.encoder((",", ":"), sort_keys=True)


def sha256_for(size: "int") -> "Digest":
    """Return a new hash object for about `size` bytes."""
    if size < LARGE:
        return sha256()
    import hashlib

    return hashlib.sha256()


def canonical(value: "object") -> "str":
    """Return the canonical JSON text of plain data: sorted keys, no spaces, ASCII."""
    return _encode(value)


def fingerprint(text: "str") -> "str":
    """Return the SHA-256 of an ASCII text, as hex."""
    return sha256(text.encode("ascii")).hexdigest()


def as_utf8(text: "str") -> "str":
    r"""Return `text` with \udcXX for a byte that is not UTF-8: keys and things are stored, sent and shown."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
