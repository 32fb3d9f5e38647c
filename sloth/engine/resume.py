"""Goes on where a run has stopped: what is recorded of it while it runs, and what is left to do on each host."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING

from sloth.engine.events import (
    CHANGED,
    FAILED,
    SKIPPED,
    UNCHANGED,
    Event,
    Handled,
    HostFinished,
    TaskFinished,
)
from sloth.engine.options import Options
from sloth.errors import UsageError
from sloth.frozen import frozen
from sloth.inventory import Host
from sloth.payload.kernel.hashing import sha256
from sloth.playbook import Site
from sloth.state.memory import Memory
from sloth.state.run_records import Progress, RunRecord

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json, JsonObject

STOPPED = "stopped"  # of a host that has not come to its end
HELD = "held"  # of a task that was not begun because something failed
_DONE = frozenset({CHANGED.value, UNCHANGED.value, SKIPPED.value, Handled.IGNORED.value})
_ENDED = frozenset({CHANGED.value, UNCHANGED.value, SKIPPED.value})


@frozen
class Resume:
    """What has been done in a run that is resumed.

    Attributes:
        run: its id.
        done: the tasks that need not run on a host, by host.
        once: the tasks that have run on some host, which matters for those with run_once.
        finished: the hosts that have come to their end, with what was recorded of each.
        changes: what is not as it was in that run, for people.
    """

    run: str
    done: Mapping[str, frozenset[str]] = field(default_factory=dict)
    once: frozenset[str] = frozenset()
    finished: Mapping[str, Sequence[Progress]] = field(default_factory=dict)
    changes: tuple[str, ...] = ()

    def is_done(self, host: str, task: str, run_once: bool) -> bool:
        """Return whether a task need not run on a host."""
        return task in self.done.get(host, ()) or (run_once and task in self.once)

    def given(self, text: str | None) -> str | None:
        """Return what is recorded of the run that resumes, with the hosts that it leaves out."""
        about = json.loads(text) if text else None
        if about is None:
            return None
        about["hosts"] += [host for host in self.finished if host not in about["hosts"]]
        return json.dumps(about, sort_keys=True)

    def rows(self) -> list[Progress]:
        """Return the progress of finished hosts, as that of the run which resumes theirs."""
        return [row for rows in self.finished.values() for row in rows]


def progress_of(event: Event, complete: Collection[str]) -> Progress | None:
    """Return what an event adds to the progress of a run; complete: the hosts that have come to their end."""
    if isinstance(event, TaskFinished) and not event.handler:
        if event.skip is not None and event.skip.is_failure:
            return event.host, event.task, HELD
        word = Handled.IGNORED.value if event.status is FAILED and event.ignored else event.status.value
        return event.host, event.task, word
    if isinstance(event, HostFinished):
        return event.host, "", event.status.value if event.host in complete else STOPPED
    return None


def given(site: Site, options: Options, hosts: Sequence[Host]) -> str:
    """Return what a run is of, as it is recorded: hashes of the site and of the values, and the names of the hosts."""
    return json.dumps(
        {
            "identity": site.identity,
            "site": {file.path: _hash(file.source) for file in site.files},
            # Of a secret that was typed not even a hash is kept.
            "values": {
                name: _value_hash(value)
                for name, value in options.extra.items()
                if not (isinstance(value, str) and value in options.prompts.secrets)
            },
            "tags": list(options.tags),
            "skip_tags": list(options.skip_tags),
            "hosts": [host.name for host in hosts],
        },
        sort_keys=True,
    )


def _hash(data: bytes) -> str:
    return sha256(data).hexdigest()


def _value_hash(value: Json) -> str:
    return _hash(json.dumps(value, sort_keys=True, default=repr).encode("utf-8", "surrogateescape"))[:16]


def find_run(memory: Memory, name: str, site: Site) -> RunRecord:
    """Return the run that is to be resumed; "" and "last": the newest of this site. Raises StateError, UsageError."""
    if name not in ("", "last"):
        return memory.runs.find(name)
    for found in memory.runs.newest(-1):
        if _recorded(memory, found).get("identity") == site.identity:
            return found
    raise UsageError("no run of this site is recorded", hint="see sloth-runner runs list")


def _recorded(memory: Memory, run: RunRecord) -> JsonObject:
    text = memory.runs.given(run.run)
    found = json.loads(text) if text else {}
    return found if isinstance(found, dict) else {}


def read(memory: Memory, run: RunRecord, site: Site, options: Options) -> tuple[Resume, tuple[str, ...]]:
    """Return what has been done in a run, and the names of its hosts. Raises UsageError when it cannot be resumed."""
    recorded = _recorded(memory, run)
    if not recorded:
        raise UsageError(f"run {run.run} cannot be resumed: it is from an older sloth-runner, or no run of a site")
    if recorded["identity"] != site.identity:
        raise UsageError(f"run {run.run} was one of {recorded['identity']}, not of {site.identity}")
    done: dict[str, set[str]] = {}
    rows: dict[str, list[Progress]] = {name: [] for name in recorded["hosts"]}
    ended: dict[str, str] = {}
    once: set[str] = set()
    for host, task, status in memory.runs.progress(run.run):
        rows.setdefault(host, []).append((host, task, status))
        if not task:
            ended[host] = status
        elif status in _DONE:
            done.setdefault(host, set()).add(task)
            if status != SKIPPED.value:
                once.add(task)
    finished = {
        host: found
        for host, found in rows.items()
        if ended.get(host) in _ENDED and all(status in _DONE for _, task, status in found if task)
    }
    resume = Resume(
        run.run,
        {host: frozenset(names) for host, names in done.items()},
        frozenset(once),
        finished,
        tuple(_changes(recorded, site, options)),
    )
    return resume, tuple(recorded["hosts"])


def _changes(recorded: JsonObject, site: Site, options: Options) -> Iterable[str]:
    """Yield what is not as it was."""
    now = json.loads(given(site, options, ()))
    if sorted(now["site"].values()) != sorted(recorded["site"].values()):
        yield "the site has changed: tasks that had ended are not run again, even where they have changed"
    was, values = recorded["values"], now["values"]
    names = sorted(name for name in {*was, *values} if was.get(name) != values.get(name))
    if names:
        yield f"other values are given for {', '.join(names)}: the tasks that are left use the new ones"
    for option in ("tags", "skip_tags"):
        if now[option] != recorded[option]:
            yield f"--{option.replace('_', '-')} is not what it was: it decides about the tasks that are left"
