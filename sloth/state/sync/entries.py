"""The names of what is kept in a backend, and what all its documents have in common.

    runs/RUN                 the record of a run, with its former versions
    replicas/AGENT/head      where the copy of a host's state is, in versions, and of which pieces each consists
    replicas/AGENT/PIECE     a piece: a whole state, or what changed in one between two sequence numbers
    plans/NAME               a saved plan

A document is {"format": 1, "versions": [{"version": 3, "at": ..., "by": ..., ...}, ...]}, the newest version first.
Fields that we do not know are kept where a document is changed.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from sloth.state.backends.backend import Backend, BackendError, Damaged
from sloth.state.backends.documents import load
from sloth.state.backends.untrusted import MALFORMED, decompress, moment, whole

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json, JsonObject

FORMAT = 1
KEPT = 20  # versions of a document
RUNS, REPLICAS, PLANS = "runs/", "replicas/", "plans/"
_HEAD = "/head"


class NewerFormat(BackendError):
    """An entry was written by a later version of sloth-runner."""


def run_key(run: str) -> str:
    """Return the key of a run's record."""
    return RUNS + _encoded(run)


def head_key(agent: str) -> str:
    """Return the key of the head of an agent's replica."""
    return REPLICAS + _encoded(agent) + _HEAD


def piece_key(agent: str, piece: str) -> str:
    """Return the key of a piece of an agent's replica."""
    return REPLICAS + _encoded(agent) + "/" + piece


def plan_key(name: str) -> str:
    """Return the key of a saved plan."""
    return PLANS + _encoded(name)


def is_head(key: str) -> bool:
    """Return whether a key is that of a head."""
    return key.startswith(REPLICAS) and key.endswith(_HEAD)


def is_piece(key: str) -> bool:
    """Return whether a key is that of a piece of a replica."""
    return key.startswith(REPLICAS) and not is_head(key)


def name_in(key: str) -> str:
    """Return the run, agent or plan that a key is about."""
    return unquote(key.split("/")[1])


def is_agent(name: str) -> bool:
    """Return whether a name can be that of an agent: a server must not choose the paths of our files."""
    return bool(name) and not name.startswith(".") and "/" not in name and "\0" not in name and len(name) < 240


def _encoded(name: str) -> str:
    encoded = quote(name, safe="@")
    return "%2E" + encoded[1:] if encoded.startswith(".") else encoded  # ".." is no name on every server


async def load_versions(backend: Backend, key: str) -> list[JsonObject]:
    """Return the versions of a document, the newest first; none if there is no such document. Raises BackendError."""
    return versions_of(backend, key, await load(backend, key))


def versions_of(backend: Backend, key: str, content: Json) -> list[JsonObject]:
    """Return the versions in a document's content. Raises Damaged, and BackendError for a newer format."""
    if content is None:
        return []
    if not isinstance(content, dict) or not isinstance(content.get("format"), int):
        raise Damaged(f"{backend.url}: {key} is damaged", hint=HOW_TO_MEND)
    if content["format"] > FORMAT:
        has = f"has format {content['format']}, but this sloth-runner supports formats up to {FORMAT}"
        raise NewerFormat(
            f"{backend.url}: {key} {has}",
            hint="upgrade sloth-runner",
        )
    versions = content.get("versions")
    if not isinstance(versions, list) or not all(map(_is_version, versions)):
        raise Damaged(f"{backend.url}: {key} is damaged", hint=HOW_TO_MEND)
    return versions


def next_version(versions: list[JsonObject]) -> int:
    """Return the number of the version that follows these."""
    return 1 + max((one["version"] for one in versions), default=0)


def _is_version(one: Json) -> bool:
    """Return whether a version has what all of them have, so that their readers need not doubt it."""
    try:
        whole(one["version"])
        moment(one.get("at", 0))
        whole(one.get("steps", 0))
        for piece in one.get("pieces", ()):
            whole(piece["size"])
            if not isinstance(piece["id"], str) or "/" in piece["id"]:  # it is a part of a key
                return False
        return isinstance(one.get("record", {}), dict)
    except MALFORMED:
        return False


HOW_TO_MEND = "sloth-runner state backend push, on a controller that has it, writes it anew"


def with_versions(content: Json, versions: Iterable[JsonObject]) -> JsonObject:
    """Return a document's content with other versions, of which the newest KEPT stay."""
    known = content if isinstance(content, dict) else {}
    return {**known, "format": FORMAT, "versions": list(versions)[:KEPT]}


def pack(value: Json) -> bytes:
    """Return a value as compressed JSON."""
    return zlib.compress(json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode("ascii"), 1)


def unpack(data: bytes) -> Json:
    """Return what pack() was given. Raises ValueError."""
    try:
        value: Json = json.loads(decompress(data))  # as deep as it likes: of a replica, the parts are texts
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return value
