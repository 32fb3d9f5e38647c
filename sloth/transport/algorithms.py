"""The algorithms to offer: in our order, or as an ssh_config lists them, without those that asyncssh lacks."""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import cache

from sloth.errors import ConnectError

# These come first, then whatever else asyncssh has: an order, not a ban. They were measured to need the least CPU time.
FAST_KEX = ("curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256")
FAST_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com")


@cache
def chosen(keyword: str, setting: str | None) -> list[str]:
    """Return the names for a keyword of ssh_config, such as `ciphers`; setting: its value. Raises ConnectError."""
    possible, usual = _names(keyword)
    if setting is None:
        fast = {"kexalgorithms": FAST_KEX, "ciphers": FAST_CIPHERS}.get(keyword, ())
        return [name for name in fast if name in usual] + [name for name in usual if name not in fast]
    sign = setting[:1] if setting[:1] in "^+-" else ""
    patterns = setting[len(sign) :].split(",")
    named = [name for pattern in patterns for name in possible if fnmatchcase(name, pattern)]
    if sign == "-":
        named = [name for name in usual if name not in named]
    elif sign == "+":
        named = usual + named
    elif sign == "^":
        named += usual
    if not named:
        raise ConnectError(f"asyncssh has none of the algorithms {keyword} {setting}")
    return list(dict.fromkeys(named))


def _names(keyword: str) -> tuple[list[str], list[str]]:
    """Return the names that asyncssh has, and those that it offers by default."""
    from asyncssh import encryption, kex, mac, public_key

    tables = {
        "kexalgorithms": (kex.get_kex_algs, kex.get_default_kex_algs),
        "ciphers": (encryption.get_encryption_algs, encryption.get_default_encryption_algs),
        "macs": (mac.get_mac_algs, mac.get_default_mac_algs),
        "hostkeyalgorithms": (
            lambda: public_key.get_certificate_algs() + public_key.get_public_key_algs(),
            lambda: public_key.get_default_certificate_algs() + public_key.get_default_public_key_algs(),
        ),
        "pubkeyacceptedalgorithms": (public_key.get_public_key_algs, public_key.get_default_public_key_algs),
    }
    possible, usual = tables[keyword]
    return [name.decode("ascii") for name in possible()], [name.decode("ascii") for name in usual()]
