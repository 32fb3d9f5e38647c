"""The values of -e and --values as the record of a run keeps them: short, and without what may be a secret.

Secrets that the run has read are hidden by whoever writes the record. What else may be one is known by its name, or by
its form: a private key, or credentials in a URL.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sloth.payload.kernel.redact import MASK

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json, JsonObject

LONGEST = 1000  # characters of the JSON of a value
MOST = 16 * 1024  # of all values of a run
DEEPEST = 20  # tables within tables
# Words of a name: "db_password", "apiKey", "TOKEN".
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_SECRET = re.compile(
    r"pass|passwd|passwort|pwd?|pw|psk|pin|otp|pat|salt|.*(password|passphrase|passwd|secret|token|apikey|credential).*"
    r"|keys?|cred|creds|auth|authorization|cookie|bearer|jwt|private|vault|dsn"
)
_PRIVATE = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----|^\$ANSIBLE_VAULT;")
_CREDENTIALS = re.compile(r"(?<=://)[^/?#\s]*@")


def used_values(extra: Mapping[str, Json]) -> JsonObject:
    """Return values by name, as they may be recorded."""
    found: JsonObject = {}
    left = MOST
    for name in sorted(extra):
        value = _short(_masked(name, extra[name], 0), min(LONGEST, left))
        left = max(0, left - len(name) - len(_dumps(value)))
        found[name] = value
    return found


def may_be_secret(name: str) -> bool:
    """Return whether a value of this name is hidden, whatever it is."""
    words = [word.lower() for word in _WORD.findall(name)]
    return any(_SECRET.fullmatch(word) for word in (*words, "".join(words)))


def _masked(name: str, value: Json, depth: int) -> Json:
    if value is None or isinstance(value, bool):
        return value
    if may_be_secret(name) or depth > DEEPEST:
        return MASK
    if isinstance(value, Mapping):
        return {str(key): _masked(str(key), item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_masked("", item, depth + 1) for item in value]
    if isinstance(value, str):
        return MASK if _PRIVATE.search(value) else _CREDENTIALS.sub(MASK + "@", value)
    return value


def _short(value: Json, limit: int) -> Json:
    """Return a value, or the beginning of its text when its JSON has more than `limit` characters."""
    text = _dumps(value)
    if len(text) <= limit:
        return value if isinstance(value, (str, int, float, bool, type(None))) else json.loads(text)
    shown = value if isinstance(value, str) else text
    return f"{shown[: limit // 2]}… ({len(shown)} characters)"


def _dumps(value: Json) -> str:
    return json.dumps(value, default=str, sort_keys=True)
