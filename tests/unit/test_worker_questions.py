"""What workers ask of their run: over real sockets, with a real backend; and how errors come back as what they were."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sloth import errors
from sloth.engine.workers import asking, channel
from sloth.engine.workers.answers import Answers
from sloth.engine.workers.channel import HEADER, Channel, Line
from sloth.engine.workers.messages import CODEC, Answer, Ask, Refusal, Withdraw
from sloth.engine.workers.questions import Questions, refusal
from sloth.errors import HostError, SlothError, StateError
from sloth.state import keys
from sloth.state.backends import backend
from sloth.state.backends.sqlite import SQLite


class Ends:
    """A worker's end of its sockets, and the run's."""

    def __init__(self, worker: Channel, run: Channel, line: socket.socket, run_line: socket.socket) -> None:
        self.questions = Questions(worker, Line(line))
        self.worker = worker
        self.run = run
        self.run_line = run_line

    def answer_line(self, answer: Answer | Refusal | None) -> threading.Thread:
        """Answer the next question on the line as the run does, or close it."""

        def serve() -> None:
            (size,) = HEADER.unpack(self.run_line.recv(HEADER.size, socket.MSG_WAITALL))
            self.run_line.recv(size, socket.MSG_WAITALL)
            if answer is not None:
                data = CODEC.encode([answer])
                self.run_line.sendall(HEADER.pack(len(data)) + data)
            else:
                self.run_line.close()

        thread = threading.Thread(target=serve)
        thread.start()
        return thread


@pytest.fixture
async def worker_ends() -> AsyncIterator[Ends]:
    main, line = socket.socketpair(), socket.socketpair()
    ends = Ends(await Channel.over(main[0]), await Channel.over(main[1]), *line)
    yield ends
    await ends.worker.close()
    await ends.run.close()
    for one in line:
        one.close()


ERRORS = [
    errors.BecomeError("web1: no", hint="do"), errors.CallError("no", hint="do"), errors.HostError("web1: no"),
    errors.StateError("no"), errors.UsageError("no", hint="do"), backend.BackendError("no"),
    backend.BackendUnavailable("no", hint="do"), backend.Unsure("no"), backend.Damaged("no"), keys.Damaged("no"),
]  # fmt: skip


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: f"{type(error).__module__}.{type(error).__name__}")
async def test_an_error_comes_back_as_what_it_was(worker_ends: Ends, error: SlothError) -> None:
    """Whoever asks decides by its class whether to try again, and by which words."""
    asked = asyncio.create_task(worker_ends.questions.ask(asking.Clock()))
    (message,) = await worker_ends.run.receive()
    assert message == Ask(1, asking.Clock())
    worker_ends.run.send(refusal(1, error), is_urgent=True)
    (answer,) = await worker_ends.worker.receive()
    assert isinstance(answer, Refusal)
    worker_ends.questions.refused(answer)
    with pytest.raises(type(error)) as caught:
        await asked
    assert (type(caught.value), caught.value.message, caught.value.hint) == (type(error), error.message, error.hint)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (backend.Unsupported("no"), backend.BackendError),
        (keys.WrongKey("no"), StateError),
        (errors.LockedError("no"), HostError),
        (errors.SlothError("no"), HostError),
    ],
)
async def test_an_error_of_no_use_to_a_worker_is_the_next_more_general_one(
    worker_ends: Ends, error: SlothError, kind: type[SlothError]
) -> None:
    asked = asyncio.create_task(worker_ends.questions.ask(asking.Clock()))
    await worker_ends.run.receive()
    worker_ends.questions.refused(refusal(1, error))
    with pytest.raises(kind) as caught:
        await asked
    assert type(caught.value) is kind


async def test_a_question_that_is_given_up_is_withdrawn_and_its_answer_ignored(worker_ends: Ends) -> None:
    asked = asyncio.create_task(worker_ends.questions.ask(asking.Enter("web1", 3)))
    assert await worker_ends.run.receive() == [Ask(1, asking.Enter("web1", 3))]
    asked.cancel()
    assert await worker_ends.run.receive() == [Withdraw(1)]
    worker_ends.questions.answered(Answer(1, "too late"))
    worker_ends.questions.refused(refusal(1, HostError("too late")))
    again = asyncio.create_task(worker_ends.questions.ask(asking.Clock()))
    assert await worker_ends.run.receive() == [Ask(2, asking.Clock())]
    worker_ends.questions.answered(Answer(2, 7.5))
    worker_ends.questions.answered(Answer(2, 8.5))
    worker_ends.questions.refused(refusal(2, HostError("twice")))
    assert await again == 7.5


async def test_a_question_that_everything_waits_for(worker_ends: Ends) -> None:
    ask = worker_ends.questions.ask_now
    serving = worker_ends.answer_line(Answer(1, "s3cret"))
    assert ask(asking.ReadSecret("db", Path("/site"))) == "s3cret"
    serving.join()
    serving = worker_ends.answer_line(refusal(2, StateError("db is not there", hint="add it")))
    with pytest.raises(StateError, match="db is not there") as caught:
        ask(asking.ReadSecret("db", Path("/site")))
    assert caught.value.hint == "add it"
    serving.join()
    serving = worker_ends.answer_line(None)
    with pytest.raises(HostError, match="the process of the run is gone"):
        ask(asking.Clock())
    serving.join()


async def test_who_sends_much_waits_until_it_is_read(worker_ends: Ends) -> None:
    await worker_ends.run.has_room()
    for number in range(40):
        worker_ends.run.send(Answer(number, "x" * 300_000))
    worker_ends.run.flush()
    waiting = asyncio.create_task(worker_ends.run.has_room())
    await asyncio.sleep(0.05)
    assert not waiting.done()
    received = 0
    while received < 40:
        received += len(await worker_ends.worker.receive())
    await waiting


async def test_a_frame_of_any_size_is_not_awaited() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(HEADER.pack(channel.LARGEST + 1))
    with pytest.raises(OSError, match="1073741825 bytes of messages at once"):
        await channel.read_frame(reader)


class Sealer:
    """Seals as the run's does, so that one can see it."""

    def seal(self, name: str, value: object) -> str:
        return f"sealed:{name}:{value}"

    def open(self, name: str, text: str) -> object:
        return text.removeprefix(f"sealed:{name}:")


def answers_of(directory: Path, sealer: Sealer | None) -> Answers:
    held = SimpleNamespace(held_by=lambda value: {f"held {value}"}, get=lambda name, where: f"{name} of {where}")
    shared = SimpleNamespace(backend=SQLite(directory / "shared.db"), sealer=sealer)
    context: Any = SimpleNamespace(shared=shared, secrets=held)
    return Answers(context)


LINK: Any = object()
OTHER: Any = object()


async def test_the_backend_of_the_run_answers_its_workers(tmp_path: Path) -> None:
    answers = answers_of(tmp_path, Sealer())

    async def ask(question: asking.Question) -> Any:
        return await answers.answer(LINK, question)

    assert await ask(asking.ReadEntry("a/b")) is None
    version = await ask(asking.WriteEntry("a/b", b"1", None))
    assert (await ask(asking.ReadEntry("a/b"))).value == b"1"
    assert await ask(asking.WriteEntry("a/b", b"2", "another version")) is None
    await ask(asking.WriteEntry("a/c", b"3", None))
    assert version
    assert sorted(await ask(asking.EntryNames("a/"))) == ["a/b", "a/c"]
    await ask(asking.ForgetEntry("a/c"))
    assert await ask(asking.Clock()) > 1.7e9
    assert await ask(asking.ReadSecret("db", tmp_path)) == f"db of {tmp_path}"
    assert await ask(asking.Seal("n", "v")) == "sealed:n:v"
    assert await ask(asking.OpenSealed("n", "sealed:n:v")) == ["v", ["held v"]]
    with pytest.raises(HostError, match="an unknown question of a worker: Seal"):
        await answers_of(tmp_path, None).answer(LINK, asking.Seal("n", "v"))


@pytest.mark.parametrize("end", ["kept", "given up", "worker lost", "another worker lost"])
async def test_a_fetched_file_is_whole_or_not_there(tmp_path: Path, end: str) -> None:
    answers = answers_of(tmp_path, None)
    path = tmp_path / "files" / "fetched"
    number: Any = await answers.answer(LINK, asking.StoreBegin(path))
    assert await answers.answer(LINK, asking.StorePart(number, b"con")) is None
    if "lost" in end:
        answers.forget(LINK if end == "worker lost" else OTHER)
    if end != "worker lost":
        await answers.answer(LINK, asking.StorePart(number, b"tent"))
        await answers.answer(LINK, asking.StoreEnd(number, end != "given up"))
    expected = {"fetched": b"content"} if end in ("kept", "another worker lost") else {}
    assert {one.name: one.read_bytes() for one in path.parent.iterdir()} == expected, "no part of it is left"
    assert await answers.answer(LINK, asking.HashOf(path)) == (
        "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73" if expected else None
    )


async def test_a_file_that_cannot_be_stored_is_an_error_of_the_call(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="Not a directory"):
        await answers_of(tmp_path, None).answer(LINK, asking.StoreBegin(tmp_path / "file" / "files" / "fetched"))
