"""The record of a run in a backend: written when the run begins, while it goes on, and when it has ended."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import asdict
from typing import TYPE_CHECKING

from sloth.state.backends.backend import Backend, Damaged
from sloth.state.backends.documents import KEEP, Change, change
from sloth.state.backends.untrusted import MALFORMED
from sloth.state.run_records import StoredRun
from sloth.state.sync import entries
from sloth.state.sync.entries import next_version, run_key, versions_of, with_versions

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json, JsonObject


async def deliver(backend: Backend, run: StoredRun, by: JsonObject) -> None:
    """Bring the record of a run in a backend up to ours. Raises BackendError.

    Only the controller of a run writes it. What a slow delivery brings never replaces what is further on.
    """
    key = run_key(run.record.run)
    state = await asyncio.to_thread(_plain, run)
    rank = _rank(state)

    def decide(content: Json, now: float) -> tuple[Change, None]:
        found = versions_of(backend, key, content)
        if found and _rank(found[0]) >= rank:
            return KEEP, None
        version = next_version(found)
        # What it was in mid-run is worth no version of its own: the first one is kept, and each that has ended.
        former = [one for one in found if one.get("has_ended") or one.get("version") == 1]
        # How it was called is the same in each, but at its end more is known of what is a secret.
        for one in former:
            if isinstance(one.get("record"), dict):
                one["record"] = {**one["record"], "about": state["record"]["about"]}
        return Change(with_versions(content, [{**by, "version": version, "at": now, **state}, *former])), None

    await change(backend, key, decide)


def _plain(run: StoredRun) -> JsonObject:
    rows = {
        "progress": [list(row) for row in run.progress],
        "results": [asdict(row) for row in run.results],
        "hosts": [asdict(row) for row in run.hosts],
    }
    record = {name: value for name, value in asdict(run.record).items() if name != "source"}
    return {
        "record": record,
        "given": run.given,
        "has_ended": run.record.status is not None,
        "steps": len(run.progress) + len(run.results),
        "rows": base64.b64encode(entries.pack(rows)).decode("ascii"),
    }


def _rank(state: JsonObject) -> tuple[bool, int]:
    return bool(state.get("has_ended")), int(state.get("steps", 0))


def read(backend: Backend, key: str, versions: list[JsonObject]) -> StoredRun | None:
    """Return the newest version of a run's record; None if there is none. Raises Damaged."""
    if not versions:
        return None
    try:
        state = versions[0]
        if state["record"]["run"] != entries.name_in(key):
            raise ValueError("it is the record of another run")
        rows = entries.unpack(base64.b64decode(state["rows"], validate=True))
        return StoredRun.read({**state["record"], "source": backend.url}, state["given"], rows)
    except MALFORMED:
        raise Damaged(f"{backend.url}: {key} is damaged", hint=entries.HOW_TO_MEND) from None
