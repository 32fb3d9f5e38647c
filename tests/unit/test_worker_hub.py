"""What hosts share when several processes work on them: both ends of the messages of workers, and how workers end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sloth.engine.barriers import END, Barriers
from sloth.engine.emitter import Emitter
from sloth.engine.events import FAILED, Event, HostFinished, Log, Skip, SkipKind, TaskStarted
from sloth.engine.prune import Pruning
from sloth.engine.secrets import Secrets
from sloth.engine.workers import asking
from sloth.engine.workers.channel import Batch
from sloth.engine.workers.hub import Hub
from sloth.engine.workers.link import Link
from sloth.engine.workers.messages import (
    CODEC,
    Answer,
    Ask,
    Complete,
    Declared,
    Delegated,
    Done,
    Ended,
    Happened,
    HostFacts,
    Interrupt,
    Learned,
    Loaded,
    Message,
    Passed,
    Refusal,
    Refused,
    Stopped,
    Withdraw,
)
from sloth.engine.workers.questions import Questions
from sloth.engine.workers.remote import (
    RemoteBackend,
    RemoteBarriers,
    RemoteDelegates,
    RemoteEmitter,
    RemoteSealer,
    RemoteSecrets,
)
from sloth.playbook import Task
from sloth.state.backends.backend import Unsupported
from sloth.state.keys import Keys

FIRST = Task(name="first", where="s:1", index=0, any_errors_fatal=True)
SECOND = Task(name="second", where="s:2", index=1, depends_on=("first",))


class Sent(Batch):
    """What the run sends to a worker, as the worker reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[object] = []

    def _write(self, data: bytes) -> None:
        self.messages += CODEC.decode(data)


class Run:
    """The run's side of two workers: a and c are of the first, b and d of the second."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.secrets = Secrets((), Keys())
        self.out = Emitter(self.secrets, self.events.append, check=False)
        self.barriers = Barriers("abcd")
        context: Any = SimpleNamespace(
            barriers=self.barriers, pruning=Pruning("abcd", lambda found: True), secrets=self.secrets, tags={},
            complete=self.out.complete, refused=self.out.refused, enter=self._enter,
            shared=SimpleNamespace(backend=None, sealer=None),
        )  # fmt: skip
        self.context = context
        memory: Any = None  # nothing is remembered here
        self.hub = Hub(context, self.out, memory, lambda: False)
        self.links = [Link(0, "ac"), Link(1, "bd")]
        for link in self.links:
            link.channel = Sent()
        self.hub.connect(self.links)
        for link in self.links:
            self.take(link, Declared(0, FIRST), Declared(1, SECOND), Declared(2, END))
            for host in link.hosts:
                self.take(link, Loaded(host, ("first", "second"), ("first", "second"), frozenset({"web"})))

    async def _enter(self, host: str, task: Task) -> Skip | None:
        return await self.barriers.enter(host, task, contextlib.nullcontext)

    def take(self, link: Link, *messages: Message) -> None:
        assert link.channel is not None
        self.hub.take(link, link.channel, messages)

    def sent(self, link: Link) -> list[object]:
        assert isinstance(link.channel, Sent)
        return link.channel.messages

    async def until(self, found: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not found():  # noqa: ASYNC110  it takes some turns of the loop
                await asyncio.sleep(0.01)


@pytest.fixture
async def sharing() -> Run:
    return Run()


async def test_what_workers_say_of_their_hosts(sharing: Run) -> None:
    first, second = sharing.links
    sharing.take(first, Complete("a"), Refused("c"), HostFacts("a", {"os": "linux"}), Learned(("s3cret",)))
    assert (sharing.out.complete, sharing.out.refused) == ({"a"}, {"c"})
    assert sharing.out.facts == {"a": {"os": "linux"}}
    assert sharing.context.tags == dict.fromkeys("abcd", frozenset({"web"}))
    sharing.out.warn("it is s3cret")
    assert isinstance(sharing.events[-1], Log)
    assert "s3cret" not in sharing.events[-1].text, "what one worker has learned is shown of no host"
    sharing.take(second, Happened(TaskStarted(1.0, "b", "first")))
    assert second.current == {"b": FIRST}
    sharing.take(second, Interrupt(), Done(True))  # the first is for workers only, and does nothing here
    assert (second.is_done, first.is_done, sharing.out.failed) == (True, False, True)


async def test_a_failure_that_ends_all_hosts_reaches_all_workers_once(sharing: Run) -> None:
    first, second = sharing.links
    sharing.take(first, Passed("a", 0, True), Passed("c", 0, True))
    stopped = Stopped(Skip(SkipKind.FATAL, "first", "a"))
    await sharing.until(lambda: bool(sharing.sent(first)) and bool(sharing.sent(second)))
    assert sharing.sent(first) == sharing.sent(second) == [stopped]
    sharing.take(second, Ask(7, asking.Enter("b", 1)))
    await sharing.until(lambda: len(sharing.sent(second)) > 1)
    assert sharing.sent(second)[1:] == [Answer(7, stopped.skip)]
    assert second.current == {}


async def test_hosts_of_one_worker_wait_for_those_of_another(sharing: Run) -> None:
    first, second = sharing.links
    sharing.take(first, Ask(1, asking.Enter("a", 1)), Ask(2, asking.Enter("c", 1)))
    sharing.take(first, Passed("a", 0, False), Passed("c", 0, False), Withdraw(2), Withdraw(99))
    sharing.take(second, Passed("b", 0, False))
    await asyncio.sleep(0.05)
    assert sharing.sent(first) == []
    sharing.take(second, Ended("d"))
    await sharing.hub.settle()
    await sharing.until(lambda: bool(sharing.sent(first)))
    assert sharing.sent(first) == [Answer(1, None)], "the other one was withdrawn"
    assert first.current == {"a": SECOND}
    sharing.take(first, Ask(3, asking.Enter("a", 2)))
    await sharing.until(lambda: len(sharing.sent(first)) > 1)
    assert sharing.sent(first)[1:] == [Answer(3, None)], "nobody is asked about the end of the tasks"


async def test_a_password_command_is_run_once_for_all_hosts(sharing: Run, tmp_path: Path) -> None:
    first, second = sharing.links
    command = f"echo asked >> {tmp_path}/log; echo s3cret"
    sharing.take(first, Ask(1, asking.Password(command)), Ask(2, asking.Password(command)))
    sharing.take(second, Ask(1, asking.Password(command)), Ask(2, asking.Password("exit 3")))
    await sharing.until(lambda: len(sharing.sent(first)) == 2 and len(sharing.sent(second)) == 2)
    assert sharing.sent(first) == [Answer(1, "s3cret"), Answer(2, "s3cret")]
    (answer,) = [one for one in sharing.sent(second) if isinstance(one, Answer)]
    (refusal,) = [one for one in sharing.sent(second) if isinstance(one, Refusal)]
    assert answer == Answer(1, "s3cret")
    assert (refusal.kind, refusal.text) == ("BecomeError", "become_password_command ended with exit status 3")
    assert (tmp_path / "log").read_text() == "asked\n"


async def test_one_worker_at_a_time_makes_calls_on_a_delegate(sharing: Run) -> None:
    first, second = sharing.links
    sharing.take(first, Ask(1, asking.Delegate("db")))
    await sharing.until(lambda: sharing.sent(first) == [Answer(1, None)])
    sharing.take(second, Ask(1, asking.Delegate("db")), Delegated("db"), Delegated("other"))
    await asyncio.sleep(0.05)
    assert sharing.sent(second) == [], "it does not have it, and so cannot give it back"
    await sharing.hub.disconnect(first, "it was ended by SIGKILL")
    await sharing.until(lambda: sharing.sent(second) == [Answer(1, None)])


@pytest.mark.parametrize("is_started", [True, False])
async def test_the_hosts_of_a_lost_worker(sharing: Run, is_started: bool) -> None:
    """Each ends once, and the task that it was in has failed; hosts of others that wait for it are told so."""
    first, second = sharing.links
    sharing.take(second, Passed("b", 0, False), Passed("d", 0, False), Ask(5, asking.Enter("b", 1)))
    sharing.take(first, Happened(TaskStarted(1.0, "a", "first")), Happened(HostFinished(1.0, "c", FAILED, 0.0, "x")))
    await asyncio.sleep(0)
    if not is_started:
        first.channel = None
    await sharing.hub.disconnect(first, "it was ended by SIGKILL")
    ends = [event for event in sharing.events if isinstance(event, HostFinished)]
    assert [event.host for event in ends] == ["c", "a"]
    error = str(ends[1].error)
    what = "the process that worked on this host is gone" if is_started else "no process could work on this host"
    assert error.startswith(f"worker lost: {what}: it was ended by SIGKILL; hint: ")
    assert ("nothing was done" in error) != is_started
    assert "--resume" in error
    await sharing.until(lambda: bool(sharing.sent(second)))
    (answer,) = [one for one in sharing.sent(second) if isinstance(one, Answer)]
    assert answer.number == 5
    assert isinstance(answer.value, Skip)
    assert sharing.out.failed
    assert first.left == {}


async def test_a_worker_that_is_lost_after_all_its_hosts(sharing: Run) -> None:
    first, second = sharing.links
    sharing.take(first, Ended("a"), Ended("c"))
    sharing.take(second, Ended("b"), Ended("d"), Done(False))
    await sharing.hub.settle()
    await sharing.hub.disconnect(second, "it ended with exit status 0")
    assert (sharing.events, sharing.out.failed) == ([], False)
    await sharing.hub.disconnect(first, "it was ended by SIGKILL")
    (event,) = sharing.events
    assert isinstance(event, Log)
    assert event.text == "a worker did not come to its end: it was ended by SIGKILL"
    assert sharing.out.failed


class ToRun(Batch):
    """A worker's way to the run, without a socket."""

    def __init__(self, run: Run, link: Link) -> None:
        super().__init__()
        self._run = run
        self._link = link

    def _write(self, data: bytes) -> None:
        self._run.take(self._link, *CODEC.decode(data))  # type: ignore[arg-type]  # they are messages


class ToWorker(Sent):
    """The run's way to a worker, which takes the answers."""

    def __init__(self, questions: Questions) -> None:
        super().__init__()
        self._questions = questions

    def _write(self, data: bytes) -> None:
        super()._write(data)
        for message in CODEC.decode(data):
            if isinstance(message, Answer):
                self._questions.answered(message)
            elif isinstance(message, Refusal):
                self._questions.refused(message)


class Waiting:
    """Answers at once what a worker waits for, as the run does over a line."""

    def exchange(self, message: Ask) -> Answer:
        question = message.question
        if isinstance(question, asking.Seal):
            return Answer(message.number, f"sealed {question.value}")
        assert isinstance(question, asking.OpenSealed)
        return Answer(message.number, ["new s3cret", ["s3cret"]])


def worker_of(run: Run, link: Link) -> Questions:
    """What a worker asks with, connected to the run."""
    channel: Any = ToRun(run, link)
    line: Any = Waiting()
    questions = Questions(channel, line)
    link.channel = ToWorker(questions)
    return questions


async def test_secrets_that_a_worker_learns_are_known_before_they_are_shown(sharing: Run) -> None:
    first, _ = sharing.links
    questions = worker_of(sharing, first)
    secrets = RemoteSecrets(questions, ["known"])
    sealer = RemoteSealer(questions, secrets)
    emitter = RemoteEmitter(secrets, questions.channel)
    assert sealer.seal("name", "plain") is None, "there is no secret in it"
    assert sealer.open("name", "sealed text") == "new s3cret"
    assert sealer.seal("name", "with s3cret") == "sealed with s3cret"
    secrets.learn(["other", "known"])
    secrets.learn(["other"])
    emitter.note_facts("a", {"x": "s3cret and other"})
    emitter.complete.add("a")
    emitter.refused.add("c")
    questions.channel.flush()
    sharing.out.warn("s3cret, other and known")
    assert isinstance(sharing.events[-1], Log)
    assert all(word not in sharing.events[-1].text for word in ("s3cret", "other"))
    assert "s3cret" not in str(sharing.out.facts["a"])
    assert (sharing.out.complete, sharing.out.refused) == ({"a"}, {"c"})


async def test_a_worker_has_a_delegate_until_its_last_call_has_ended(sharing: Run) -> None:
    sessions: Any = None  # no session is opened here
    first, second = (RemoteDelegates(sessions, lambda event: None, worker_of(sharing, link)) for link in sharing.links)
    await first.begin_call("db")
    await first.begin_call("db")
    assert sum(isinstance(one, Answer) for one in sharing.sent(sharing.links[0])) == 1, "it is asked for once"
    waiting = asyncio.create_task(second.begin_call("db"))
    first.end_call("db")
    await asyncio.sleep(0.05)
    assert not waiting.done()
    given_up = asyncio.create_task(second.begin_call("db"))
    await asyncio.sleep(0)
    given_up.cancel()
    first.end_call("db")
    await waiting
    second.end_call("db")
    await first.begin_call("db")
    first.end_call("db")


async def test_a_turn_that_comes_when_nobody_wants_it_any_more_is_given_back(sharing: Run) -> None:
    sessions: Any = None
    first, second = (RemoteDelegates(sessions, lambda event: None, worker_of(sharing, link)) for link in sharing.links)
    await first.begin_call("db")
    given_up = asyncio.create_task(second.begin_call("db"))
    await asyncio.sleep(0.02)
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    first.end_call("db")
    async with asyncio.timeout(20):
        await first.begin_call("db")
        first.end_call("db")
        await second.begin_call("db")


async def test_hosts_in_step_wait_for_those_of_other_workers(sharing: Run) -> None:
    remote = [RemoteBarriers(worker_of(sharing, link), linear=True, is_stepping=False) for link in sharing.links]
    paused: list[str] = []

    @contextlib.asynccontextmanager
    async def pause() -> AsyncIterator[None]:
        paused.append("slot")
        yield

    for one, link in zip(remote, sharing.links, strict=True):
        for host in link.hosts:
            assert await one.enter(host, FIRST, pause) is None
    paused.clear()
    entering = [asyncio.create_task(remote[0].enter(host, SECOND, pause)) for host in "ac"]
    await sharing.until(lambda: len(paused) == 2)  # other hosts have their slots meanwhile
    assert [task.done() for task in entering] == [False, False]
    for one, link in zip(remote, sharing.links, strict=True):
        for host in link.hosts:
            one.passed(host, FIRST, failed=False)
    async with asyncio.timeout(20):
        assert await asyncio.gather(*entering) == [None, None]
        await remote[1].join("b", pause)
    remote[1].stopped(Skip(SkipKind.FATAL, "first", "a"))
    assert remote[1].fatal == Skip(SkipKind.FATAL, "first", "a")


async def test_a_worker_removes_nothing_of_a_backend(sharing: Run) -> None:
    backend = RemoteBackend(worker_of(sharing, sharing.links[0]), "sqlite:///x", 100)
    with pytest.raises(Unsupported, match="sqlite:///x: a worker removes no entries"):
        await backend.remove("key", "1")
    await backend.close()
