"""The file of a saved plan: checksummed and, if wanted, encrypted, frame by frame, as an export of a state is."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sloth.engine.plans.values import (
    HostPlan,
    Pause,
    Plan,
    PlannedAsset,
    PlannedCall,
    PlannedTask,
    Step,
    plain_task,
    read_task,
)
from sloth.errors import StateError
from sloth.frozen import frozen
from sloth.payload.kernel.status import Status
from sloth.state.export import Format, Reader, writing
from sloth.state.keys import Damaged, Keys
from sloth.transport import Asset

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json, JsonObject

FORMAT = Format("SLOTH-PLAN", 1, "a saved plan", "sloth-runner plan -o FILE makes one")
PIECE = 1024 * 1024  # bytes of a content in one frame
IN_MEMORY = 64 * 1024 * 1024  # bytes of contents that are kept in memory


def write_plan(path: Path, plan: Plan, contents: Mapping[str, Asset], keys: Keys | None) -> None:
    """Write a plan, as a whole or not at all, for its owner only. Raises StateError, CallError.

    contents: the assets by hash; keys: encrypt it.
    """
    about = {"by": plan.who, "origin": plan.origin}
    with writing(path, list(plan.hosts), keys, about, int(plan.created), FORMAT) as file:
        file.frame({"plan": _plain_head(plan)})
        for host in plan.hosts.values():
            head = {"name": host.name, "address": host.address, "is_partial": host.is_partial}
            file.frame({"host": {**head, "orphans": list(host.orphans)}})
            for kind, tasks in (("task", host.tasks), ("handler", host.handlers)):
                for task in tasks:
                    file.frame({kind: _plain_task(task)})
                    for name, steps in (("step", task.steps), ("always", task.always)):
                        for step in steps:
                            file.frame({name: _plain_step(step)})
        for sha256, asset in contents.items():
            assert asset.open is not None
            digest = hashlib.sha256()
            try:
                for data in asset.open():
                    for start in range(0, len(data), PIECE):
                        piece = data[start : start + PIECE]
                        digest.update(piece)
                        file.frame({"content": sha256, "data": base64.b64encode(piece).decode("ascii")})
            except OSError as error:
                raise StateError(f"{asset.name} on the controller cannot be read: {error.strerror}") from error
            if digest.hexdigest() != sha256:
                raise StateError(f"{asset.name} has changed while the plan was made", hint="make the plan again")


def _plain_head(plan: Plan) -> JsonObject:
    names = ("id", "created", "who", "origin", "version", "site", "identity", "adhoc")
    head: JsonObject = {name: getattr(plan, name) for name in names}
    custom = {name: base64.b64encode(source).decode("ascii") for name, source in plan.custom.items()}
    lists = {"directories": list(plan.directories), "unreachable": list(plan.unreachable)}
    return {**head, **lists, "custom": custom}


def _plain_task(task: PlannedTask) -> JsonObject:
    return {
        "task": plain_task(task.task),
        "is_skipped": task.is_skipped,
        "is_planned": task.is_planned,
        "unknown": task.unknown,
        "status": task.status.value,
    }


def _plain_step(step: Step) -> JsonObject:
    if isinstance(step, Pause):
        return {"sleep": step.seconds, "where": step.where}
    found: JsonObject = {}
    for each in dataclasses.fields(step):
        value = getattr(step, each.name)
        found[each.name] = value.value if isinstance(value, Status) else value
    found["assets"] = [{each.name: getattr(one, each.name) for each in dataclasses.fields(one)} for one in step.assets]
    return found


@frozen(eq=False)
class SavedPlan:
    """A plan that was read from a file, and its contents."""

    plan: Plan
    spool: Spool
    path: Path

    @property
    def directories(self) -> tuple[Path, ...]:
        """Where vaults are looked for: beside the site, if it is there, beside the plan, and here."""
        return tuple(dict.fromkeys((*map(Path, self.plan.directories), self.path.resolve().parent, Path.cwd())))

    def contents(self, sha256: str) -> Callable[[], Iterator[bytes]]:
        """Return what opens the content with a hash."""
        return lambda: self.spool.read(sha256)


class Spool:
    """Contents by hash: in memory, and in a nameless temporary file when they are many."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115  see close()
        self._pieces: dict[str, list[tuple[int, int]]] = {}
        self._digests: dict[str, hashlib._Hash] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Forget all contents."""
        self._file.close()

    def add(self, sha256: str, data: bytes) -> None:
        """Append to the content with a hash."""
        self._digests.setdefault(sha256, hashlib.sha256()).update(data)
        self._pieces.setdefault(sha256, []).append((self._file.seek(0, os.SEEK_END), len(data)))
        self._file.write(data)

    def read(self, sha256: str) -> Iterator[bytes]:
        """Yield the content with a hash, piece by piece."""
        for offset, size in self._pieces.get(sha256, ()):
            with self._lock:
                self._file.seek(offset)
                data = self._file.read(size)
            yield data

    def check(self, sha256: str, size: int) -> None:
        """Raise ValueError unless a content has this size, and is what its hash says."""
        found = self._digests.get(sha256, hashlib.sha256())
        if found.hexdigest() != sha256 or sum(length for _, length in self._pieces.get(sha256, ())) != size:
            raise ValueError(f"the content {sha256} is missing or damaged")


def read_plan(path: Path, keys: Keys) -> SavedPlan:
    """Read a plan and check all of it. Raises StateError: not found, no plan, damaged, altered, or a newer format."""
    reader = Reader(path, keys, format=FORMAT)
    builder = _Builder()
    try:
        for frame in reader.frames():
            builder.add(frame)
        plan = builder.finish()
    except BaseException as error:
        builder.spool.close()
        if not isinstance(error, (KeyError, TypeError, ValueError, AttributeError, AssertionError)):
            raise
        raise Damaged(f"{path} is not a plan that this sloth-runner can read: {error}", hint="make it again") from error
    return SavedPlan(plan, builder.spool, path)


class _Builder:
    """Puts a plan together from its frames."""

    def __init__(self) -> None:
        self._head: JsonObject = {}
        self._hosts: dict[str, HostPlan] = {}
        self._host: JsonObject | None = None
        self._tasks: dict[str, list[PlannedTask]] = {"task": [], "handler": []}
        self._task: tuple[str, JsonObject] | None = None
        self._steps: dict[str, list[Step]] = {"step": [], "always": []}
        self.spool = Spool()

    def add(self, frame: JsonObject) -> None:
        """Add a frame."""
        if "plan" in frame:
            self._head = dict(frame["plan"])
        elif "host" in frame:
            self._end_host()
            self._host = dict(frame["host"])
        elif "task" in frame or "handler" in frame:
            self._end_task()
            kind = "task" if "task" in frame else "handler"
            self._task = (kind, dict(frame[kind]))
        elif "step" in frame or "always" in frame:
            kind = "step" if "step" in frame else "always"
            assert self._task is not None
            self._steps[kind].append(_read_step(frame[kind]))
        elif "content" in frame:
            self.spool.add(str(frame["content"]), base64.b64decode(frame["data"], validate=True))

    def finish(self) -> Plan:
        """Return the plan. Raises ValueError when a content is not what its hash says."""
        self._end_host()
        for host in self._hosts.values():
            for _, call in host.calls():
                for asset in call.assets:
                    if not asset.dir and asset.parts is None:
                        self.spool.check(asset.sha256, asset.size)
        head = self._head
        return Plan(
            id=str(head["id"]), created=float(head["created"]), who=str(head["who"]), origin=str(head["origin"]),
            version=str(head["version"]), site=str(head["site"]), identity=str(head["identity"]),
            adhoc=bool(head["adhoc"]), directories=tuple(map(str, head["directories"])),
            custom={name: base64.b64decode(text, validate=True) for name, text in head["custom"].items()},
            hosts=self._hosts, unreachable=tuple(map(str, head["unreachable"])),
        )  # fmt: skip

    def _end_task(self) -> None:
        if self._task is None:
            return
        kind, data = self._task
        task = PlannedTask(
            read_task(data["task"]), tuple(self._steps["step"]), tuple(self._steps["always"]),
            bool(data["is_skipped"]), bool(data["is_planned"]), str(data["unknown"]), Status(data["status"]),
        )  # fmt: skip
        self._tasks[kind].append(task)
        self._task = None
        self._steps = {"step": [], "always": []}

    def _end_host(self) -> None:
        self._end_task()
        if self._host is None:
            return
        host = self._host
        name = str(host["name"])
        tasks, handlers = tuple(self._tasks["task"]), tuple(self._tasks["handler"])
        orphans = tuple(map(str, host["orphans"]))
        self._hosts[name] = HostPlan(name, str(host["address"]), bool(host["is_partial"]), tasks, handlers, orphans)
        self._tasks = {"task": [], "handler": []}
        self._host = None


def _read_step(data: JsonObject) -> Step:
    if "sleep" in data:
        return Pause(float(data["sleep"]), str(data["where"]))
    values: dict[str, Json] = dict(data)
    values["assets"] = tuple(PlannedAsset(**asset) for asset in data["assets"])
    values["status"] = Status(data["status"])
    return PlannedCall(**values)
