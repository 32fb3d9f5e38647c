"""What the hosts of a worker share with those of other workers: asked of the run's process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sloth.engine.barriers import END, Barriers, Pause, is_limited
from sloth.engine.delegates import Delegates
from sloth.engine.emitter import Emitter
from sloth.engine.events import HostFinished, Skip
from sloth.engine.prune import Pruning
from sloth.engine.sealing import check_name
from sloth.engine.secrets import Secrets
from sloth.engine.turns import Turns
from sloth.engine.workers.asking import (
    Agreed,
    Clock,
    Delegate,
    Enter,
    EntryNames,
    ForgetEntry,
    OpenSealed,
    ReadEntry,
    ReadSecret,
    Seal,
    WriteEntry,
)
from sloth.engine.workers.messages import (
    Complete,
    Declared,
    Delegated,
    Ended,
    Happened,
    HostFacts,
    Learned,
    Loaded,
    Passed,
    Refused,
)
from sloth.payload.kernel.findings import Restored
from sloth.playbook import Task
from sloth.state.backends.backend import Entry, Unsupported
from sloth.state.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Callable

    from sloth.engine.events import Event
    from sloth.engine.sessions import Sessions
    from sloth.engine.workers.channel import Channel
    from sloth.engine.workers.questions import Questions
    from sloth.payload.kernel.values import Json, JsonObject

SHORT = 0.05  # seconds for which a host that waits keeps its slot


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
        self._questions.channel.send(Loaded(host, tuple(plan), tuple(declared), tags))

    def passed(self, host: str, task: Task, failed: bool) -> None:
        self._questions.channel.send(Passed(host, self._number(task), failed))

    def ended(self, host: str) -> None:
        self._questions.channel.send(Ended(host))

    async def enter(self, host: str, task: Task, pause: Pause) -> Skip | None:
        if not (task.depends_on or task.run_once or self._is_linear or is_limited(task) or self._is_stepping):
            self._number(task)  # the run must know it, should this process be lost in it
            return self._fatal
        question = asyncio.ensure_future(self._questions.ask(Enter(host, self._number(task))))
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
            self._questions.channel.send(Declared(number, light))
        return number


class RemotePruning(Pruning):
    """The agreement of all hosts of the run; that a host has ended is sent by RemoteBarriers."""

    def __init__(self, questions: Questions) -> None:
        super().__init__((), lambda found: False)
        self._questions = questions

    async def agreed(self, host: str, orphans: Iterable[Restored]) -> bool:
        return bool(await self._questions.ask(Agreed(host, tuple(orphans))))

    async def ended(self, host: str) -> None:
        pass


class RemoteSecrets(Secrets):
    """Secrets that the run's process reads; what a worker learns besides, it lets the run know before it is used."""

    def __init__(self, questions: Questions, known: Sequence[str]) -> None:
        super().__init__((), Keys())
        self._questions = questions
        self._sent: set[str] = set(known)
        super().learn(known)

    def _find(self, name: str, directory: Path) -> str:
        value = str(self._questions.ask_now(ReadSecret(name, directory)))
        self._sent.add(value)
        return value

    def learn(self, values: Sequence[str]) -> None:
        super().learn(values)
        new = tuple(value for value in values if value not in self._sent)
        if new:
            self._sent.update(new)
            self._questions.channel.send(Learned(new))


class RemoteSealer:
    """Has shared values sealed and opened by the run's process, which has the keys."""

    def __init__(self, questions: Questions, secrets: Secrets) -> None:
        self._questions = questions
        self._secrets = secrets

    def seal(self, name: str, value: Json) -> str | None:
        """Return the text to store for a value; None when no secret is in it. Raises StateError."""
        self.check_name(name)
        if not self._secrets.held_by(value):
            return None
        return str(self._questions.ask_now(Seal(name, value)))

    def open(self, name: str, text: str) -> Json:
        """Return the value of a sealed text. Raises StateError."""
        opened = self._questions.ask_now(OpenSealed(name, text))
        assert isinstance(opened, list)
        value: Json
        value, held = opened
        self._secrets.learn(list(map(str, held)))
        return value

    def check_name(self, name: str) -> None:
        """Raise StateError when there is a secret in a name."""
        check_name(name, self._secrets)


class RemoteBackend:
    """The backend of shared values, which the run's process has opened: no credentials for it travel."""

    def __init__(self, questions: Questions, url: str, limit: int) -> None:
        self.url = url
        self.limit = limit
        self._questions = questions

    async def read(self, key: str) -> Entry | None:
        """See Backend."""
        found = await self._questions.ask(ReadEntry(key))
        assert found is None or isinstance(found, Entry)
        return found

    async def write(self, key: str, value: bytes, expected: str | None) -> str | None:
        """See Backend."""
        version = await self._questions.ask(WriteEntry(key, value, expected))
        return None if version is None else str(version)

    async def names(self, prefix: str) -> list[str]:
        """See Backend."""
        names = await self._questions.ask(EntryNames(prefix))
        assert isinstance(names, list)
        return names

    async def forget(self, key: str) -> None:
        """See Backend."""
        await self._questions.ask(ForgetEntry(key))

    async def remove(self, key: str, expected: str) -> bool:
        """See Backend. Only the run's process sweeps."""
        raise Unsupported(f"{self.url}: a worker removes no entries")

    async def clock(self) -> float:
        """See Backend."""
        now = await self._questions.ask(Clock())
        assert isinstance(now, (int, float))
        return now

    async def close(self) -> None:
        """See Backend. The run's process closes it."""


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
                    await self._questions.ask(Delegate(delegate))
                except asyncio.CancelledError:  # its turn may have come meanwhile
                    self._questions.channel.send(Delegated(delegate), is_urgent=True)
                    raise
            self._calls[delegate] = self._calls.get(delegate, 0) + 1

    def end_call(self, delegate: str) -> None:
        self._calls[delegate] -= 1
        if not self._calls[delegate]:
            self._questions.channel.send(Delegated(delegate), is_urgent=True)


class RemoteEmitter(Emitter):
    """Sends events, without their secrets, to the run's process, which counts and records them."""

    def __init__(self, secrets: Secrets, channel: Channel) -> None:
        super().__init__(secrets, lambda event: channel.send(Happened(event)), check=True)
        self._channel = channel
        self.complete = Marks(channel, Complete)
        self.refused = Marks(channel, Refused)

    def note_facts(self, host: str, facts: JsonObject) -> None:
        self._channel.send(HostFacts(host, self.redact(facts)))

    def _count(self, event: Event) -> None:
        if isinstance(event, HostFinished):
            self.ended.add(event.host)


class Marks(set[str]):
    """A set of hosts whose members the run's process gets to know."""

    def __init__(self, channel: Channel, kind: type[Complete | Refused]) -> None:
        super().__init__()
        self._channel = channel
        self._kind = kind

    def add(self, host: str) -> None:
        super().add(host)
        self._channel.send(self._kind(host))
