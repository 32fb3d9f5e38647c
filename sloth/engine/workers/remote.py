"""What the hosts of a worker share with those of other workers: asked of the run's process."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sloth.engine.barriers import END, Barriers, Pause, is_limited
from sloth.engine.delegates import Delegates
from sloth.engine.emitter import Emitter
from sloth.engine.events import HostFinished, Skip
from sloth.engine.prune import Pruning
from sloth.engine.secrets import Secrets
from sloth.engine.turns import Turns
from sloth.engine.workers.channel import Channel
from sloth.errors import BecomeError, HostError
from sloth.payload.kernel.findings import Restored
from sloth.playbook import Task
from sloth.state.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Callable

    from sloth.engine.events import Event
    from sloth.engine.sessions import Sessions
    from sloth.payload.kernel.values import JsonObject

SHORT = 0.05  # seconds for which a host that waits keeps its slot
_ERRORS = {"HostError": HostError, "BecomeError": BecomeError}


class Questions:
    """Asks the run's process, and gets its answers."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._numbers = itertools.count(1)
        self._open: dict[int, asyncio.Future[object]] = {}

    async def ask(self, op: str, *args: object) -> object:
        """Return the answer. Raises HostError or BecomeError."""
        number = next(self._numbers)
        answer = self._open[number] = asyncio.get_running_loop().create_future()
        self.channel.send("ask", number, op, args, is_urgent=True)
        try:
            return await answer
        except asyncio.CancelledError:
            self.channel.send("withdraw", number)
            raise
        finally:
            self._open.pop(number, None)

    def answered(self, number: int, value: object) -> None:
        """Take an answer."""
        answer = self._open.get(number)
        if answer is not None and not answer.done():
            answer.set_result(value)

    def refused(self, number: int, kind: str, message: str, hint: str) -> None:
        """Take an error in place of an answer."""
        answer = self._open.get(number)
        if answer is not None and not answer.done():
            answer.set_exception(_ERRORS[kind](message, hint=hint))


class RemoteBarriers(Barriers):
    """The barriers of all hosts of the run, which are in its own process."""

    def __init__(self, questions: Questions, linear: bool, is_stepping: bool) -> None:
        super().__init__((), linear)
        self._questions = questions
        self._is_linear = linear
        self._is_stepping = is_stepping
        self._numbers: dict[tuple[object, ...], int] = {}
        self.tags: dict[str, frozenset[str]] = {}

    def stopped(self, skip: Skip) -> None:
        """Take note that no host begins another task."""
        self._fatal = skip

    def loaded(self, host: str, plan: Iterable[str], declared: Iterable[str] = ()) -> None:
        tags = self.tags.pop(host, frozenset())
        self._questions.channel.send("loaded", host, tuple(plan), tuple(declared), tags)

    def passed(self, host: str, task: Task, failed: bool) -> None:
        self._questions.channel.send("passed", host, self._number(task), failed)

    def ended(self, host: str) -> None:
        self._questions.channel.send("ended", host)

    async def enter(self, host: str, task: Task, pause: Pause) -> Skip | None:
        if not (task.depends_on or task.run_once or self._is_linear or is_limited(task) or self._is_stepping):
            self._number(task)  # the run must know it, should this process be lost in it
            return self._fatal
        question = asyncio.ensure_future(self._questions.ask("enter", host, self._number(task)))
        try:
            await asyncio.wait({question}, timeout=SHORT)
            if not question.done():
                async with pause():
                    await asyncio.wait({question})
            answer = await question
        except asyncio.CancelledError:
            question.cancel()
            raise
        assert answer is None or isinstance(answer, Skip)
        return answer

    async def join(self, host: str, pause: Pause) -> None:
        if self._is_linear:
            await self.enter(host, END, pause)

    def _number(self, task: Task) -> int:
        """Return the number by which the run knows a task; it is sent once."""
        key = (
            task.name, task.depends_on, task.serial, task.throttle, task.max_fail, task.any_errors_fatal, task.run_once,
        )  # fmt: skip
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._numbers)
            light = Task(
                name=task.name, where=task.where, index=task.index, depends_on=task.depends_on, serial=task.serial,
                throttle=task.throttle, max_fail=task.max_fail, any_errors_fatal=task.any_errors_fatal,
                run_once=task.run_once,
            )  # fmt: skip
            self._questions.channel.send("task", number, light)
        return number


class RemotePruning(Pruning):
    """The agreement of all hosts of the run; that a host has ended is sent by RemoteBarriers."""

    def __init__(self, questions: Questions) -> None:
        super().__init__((), lambda found: False)
        self._questions = questions

    async def agreed(self, host: str, orphans: Iterable[Restored]) -> bool:
        return bool(await self._questions.ask("agreed", host, list(orphans)))

    async def ended(self, host: str) -> None:
        pass


class RemoteSecrets(Secrets):
    """Lets the run's process know what must be hidden, before anything in which it could be."""

    def __init__(self, directories: Sequence[Path], keys: Keys, channel: Channel, known: Sequence[str]) -> None:
        super().__init__(directories, keys)
        self._channel = channel
        self._sent: set[str] = set()
        super().learn(known)
        self._sent.update(known)

    def get(self, name: str, directory: Path) -> str:
        value = super().get(name, directory)
        self._send([value])
        return value

    def learn(self, values: Sequence[str]) -> None:
        super().learn(values)
        self._send(values)

    def _send(self, values: Sequence[str]) -> None:
        new = [value for value in values if value not in self._sent]
        if new:
            self._sent.update(new)
            self._channel.send("secrets", new)


class RemoteTurns(Turns):
    """Lets no program go on while the run's process is behind with what it was sent."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel

    async def wait(self) -> None:
        await self._channel.has_room()
        await super().wait()


class RemoteDelegates(Delegates):
    """Sessions with delegates, of which only one worker at a time makes calls: as if there were one session."""

    def __init__(self, sessions: Sessions, emit: Callable[[Event], None], questions: Questions) -> None:
        super().__init__(sessions, emit)
        self._questions = questions
        self._calls: dict[str, int] = {}  # delegate -> calls under way
        self._turns: dict[str, asyncio.Lock] = {}

    async def begin_call(self, delegate: str) -> None:
        async with self._turns.setdefault(delegate, asyncio.Lock()):
            if not self._calls.get(delegate):
                try:
                    await self._questions.ask("delegate", delegate)
                except asyncio.CancelledError:  # its turn may have come meanwhile
                    self._questions.channel.send("delegated", delegate, is_urgent=True)
                    raise
            self._calls[delegate] = self._calls.get(delegate, 0) + 1

    def end_call(self, delegate: str) -> None:
        self._calls[delegate] -= 1
        if not self._calls[delegate]:
            self._questions.channel.send("delegated", delegate, is_urgent=True)


class RemoteEmitter(Emitter):
    """Sends events, without their secrets, to the run's process, which counts and records them."""

    def __init__(self, secrets: Secrets, channel: Channel) -> None:
        super().__init__(secrets, lambda event: channel.send("event", event), check=True)
        self._channel = channel
        self.complete = Marks(channel, "complete")
        self.refused = Marks(channel, "refused")

    def note_facts(self, host: str, facts: JsonObject) -> None:
        self._channel.send("facts", host, self.redact(facts))

    def _count(self, event: Event) -> None:
        if isinstance(event, HostFinished):
            self.ended.add(event.host)


class Marks(set[str]):
    """A set of hosts whose members the run's process gets to know."""

    def __init__(self, channel: Channel, kind: str) -> None:
        super().__init__()
        self._channel = channel
        self._kind = kind

    def add(self, host: str) -> None:
        super().add(host)
        self._channel.send(self._kind, host)
