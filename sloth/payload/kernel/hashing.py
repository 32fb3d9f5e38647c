"""SHA-256 without loading OpenSSL: that takes longer than hashing all that a usual run looks at."""

import importlib

LARGE = 4 * 1024 * 1024  # bytes from which on OpenSSL, which is several times faster, is worth its loading


def _own():
    """Python's own SHA-256: _sha256 up to 3.11, _sha2 since; a Python may be built without."""
    for name in ("_sha2", "_sha256", "hashlib"):
        try:
            return importlib.import_module(name).sha256
        except ImportError:
            continue
    raise ImportError("this Python has no SHA-256")


sha256 = _own()


def sha256_for(size):
    """Return a new hash object for about `size` bytes."""
    if size < LARGE:
        return sha256()
    import hashlib

    return hashlib.sha256()
