"""What the hosts of a run share, whichever workers work on them: the run's process answers what workers ask."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from sloth.engine.barriers import END as END_TASKS
from sloth.engine.events import FAILED, HostFinished, TaskStarted
from sloth.engine.workers.answers import Answers
from sloth.engine.workers.asking import Agreed, Delegate, Enter, Password
from sloth.engine.workers.messages import (
    Answer,
    Ask,
    Complete,
    Declared,
    Delegated,
    Done,
    Ended,
    Happened,
    HostFacts,
    Learned,
    Loaded,
    Passed,
    Refused,
    Remember,
    Stopped,
    Withdraw,
)
from sloth.engine.workers.questions import refusal
from sloth.errors import SlothError
from sloth.state.patience import patiently
from sloth.transport import printed_password

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from sloth.engine.context import RunContext
    from sloth.engine.emitter import Emitter
    from sloth.engine.workers.asking import Question
    from sloth.engine.workers.channel import Batch
    from sloth.engine.workers.link import Link
    from sloth.engine.workers.messages import Message
    from sloth.playbook import Task
    from sloth.state.memory import Memory


class Hub:
    """Takes the messages of all workers of a run."""

    def __init__(self, context: RunContext, out: Emitter, memory: Memory, is_interrupted: Callable[[], bool]) -> None:
        """memory: keeps what workers on other machines remember."""
        self._context = context
        self._out = out
        self._memory = memory
        self._is_interrupted = is_interrupted
        self._answers = Answers(context)
        self._links: tuple[Link, ...] = ()
        self._passwords: dict[str, asyncio.Task[str]] = {}
        self._turns: dict[str, asyncio.Lock] = {}
        self._holders: dict[str, Link] = {}
        self._is_fatal = False
        self._pending: set[asyncio.Task[None]] = set()

    def connect(self, links: Sequence[Link]) -> None:
        """Know the workers from now on."""
        self._links = tuple(links)

    async def settle(self) -> None:
        """Wait until what messages have begun is done."""
        while self._pending:
            await asyncio.gather(*self._pending)

    def take(self, link: Link, reply: Batch, messages: Sequence[Message]) -> None:
        """Do what messages of a worker say; reply: takes the answers to what it asks."""
        for message in messages:
            match message:
                case Happened(event=event):
                    if isinstance(event, TaskStarted) and event.task in link.names:
                        link.current[event.host] = link.names[event.task]
                    self._out.emit(event)
                case Ask():
                    self._ask(link, reply, message)
                case Declared(number=number, task=task):
                    link.tasks[number] = link.names[task.name] = task
                case Passed(host=host, number=number, failed=failed):
                    link.current.pop(host, None)
                    self._passed(host, link.tasks[number], failed)
                case _:
                    self._take_rare(link, message)

    def _take_rare(self, link: Link, message: Message) -> None:
        """Do what a message says of which a host has one or two."""
        context = self._context
        match message:
            case Loaded(host=host):
                context.tags[host] = message.tags
                context.barriers.loaded(host, message.plan, message.declared)
            case Ended(host=host):
                self._begin(self._ended(link, host))
            case Complete(host=host):
                context.complete.add(host)
            case Refused(host=host):
                context.refused.add(host)
            case HostFacts(host=host):
                self._out.note_facts(host, message.facts)
            case Learned():
                context.secrets.learn(message.values)
            case Delegated():
                self._release(link, message.delegate)
            case Withdraw():
                question = link.questions.pop(message.number, None)
                if question is not None:
                    question.cancel()
            case Remember():
                self._begin(self._remember(message))
            case Done():
                self._out.failed |= message.failed
                link.is_done = True

    def _begin(self, coroutine: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    def _passed(self, host: str, task: Task, failed: bool) -> None:
        barriers = self._context.barriers
        barriers.passed(host, task, failed)
        if barriers.fatal is not None and not self._is_fatal:
            self._is_fatal = True
            for link in self._links:
                link.send(Stopped(barriers.fatal))

    async def _ended(self, link: Link, host: str) -> None:
        link.left.pop(host, None)
        link.current.pop(host, None)
        self._context.barriers.ended(host)
        await self._context.pruning.ended(host)

    async def _remember(self, message: Remember) -> None:
        try:
            await patiently(partial(self._memory.remember, message.seen), self._is_interrupted)
        except SlothError as problem:  # it is only a memory, and the next run asks the host again
            self._out.warn(f"{message.seen.name}: the controller cannot remember this run: {problem}")

    # Questions

    def _ask(self, link: Link, reply: Batch, message: Ask) -> None:
        question = link.questions[message.number] = asyncio.create_task(self._answer(link, reply, message))
        question.add_done_callback(lambda _: link.questions.pop(message.number, None))

    async def _answer(self, link: Link, reply: Batch, message: Ask) -> None:
        try:
            answer = await self._answer_to(link, message.question)
        except SlothError as error:
            reply.send(refusal(message.number, error), is_urgent=True)
        else:
            reply.send(Answer(message.number, answer), is_urgent=True)

    async def _answer_to(self, link: Link, question: Question) -> object:
        context = self._context
        match question:
            case Enter(host=host, number=number):
                task = link.tasks[number]
                if task.name == END_TASKS.name:  # no task that anybody is asked about
                    return await context.barriers.enter(host, task, contextlib.nullcontext)
                skip = await context.enter(host, task)
                if skip is None:
                    link.current[host] = task
                return skip
            case Agreed(host=host):
                return await context.pruning.agreed(host, question.orphans)
            case Password(command=command):
                if command not in self._passwords:  # all hosts share it, and the user may be asked for something
                    self._passwords[command] = asyncio.create_task(printed_password(command))
                return await asyncio.shield(self._passwords[command])
            case Delegate(delegate=delegate):
                await self._turns.setdefault(delegate, asyncio.Lock()).acquire()
                self._holders[delegate] = link
                return None
        return await self._answers.answer(link, question)

    def _release(self, link: Link, delegate: str) -> None:
        if self._holders.get(delegate) is link:
            del self._holders[delegate]
            self._turns[delegate].release()

    # The end of a worker

    async def disconnect(self, link: Link, how: str) -> None:
        """Forget a worker that has ended, and end what is still its own. how: it has ended, for people."""
        for question in list(link.questions.values()):
            question.cancel()
        self._answers.forget(link)
        for delegate in [name for name, holder in self._holders.items() if holder is link]:
            self._release(link, delegate)
        if link.left or not link.is_done:
            await self._lose(link, how)

    async def _lose(self, link: Link, how: str) -> None:
        """End the hosts of a worker that is lost. None of them is worked on again in this run."""
        if link.channel is None:
            what, done = "no process could work on this host", "nothing was done"
        else:
            what, done = "the process that worked on this host is gone", "what it was doing may have been done"
        text = f"worker lost: {what}: {how}; hint: {done}; {link.advice}, and go on with --resume"
        self._out.failed = True
        hosts = list(link.left)
        for host in hosts:
            if host not in self._out.ended:
                self._out.emit(HostFinished(time.time(), host, FAILED, 0.0, text))
            task = link.current.get(host)
            if task is not None:
                self._passed(host, task, failed=True)
            await self._ended(link, host)
        if not hosts:
            self._out.error("", f"a worker did not come to its end: {how}")
