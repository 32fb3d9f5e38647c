"""A run's side of its workers: starts them, answers what they ask, and ends what is theirs when one is lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sloth.engine.barriers import END as END_TASKS
from sloth.engine.events import FAILED, HostFinished, TaskStarted
from sloth.engine.workers.channel import Channel, Message
from sloth.engine.workers.job import Job, Known, bare_environment, travelling, travelling_keys
from sloth.errors import SlothError
from sloth.playbook import Task
from sloth.transport import printed_password

if TYPE_CHECKING:
    from sloth.engine.context import RunContext
    from sloth.engine.emitter import Emitter
    from sloth.inventory import Host
    from sloth.state.storage import Storage

CODE = """import ast, sys
sys.path[:] = ast.literal_eval(sys.argv.pop(1))
from sloth.engine.workers.worker import main
main()"""
KEEP = 1.0  # seconds between two records of how far hosts have come
END = 5.0  # seconds that a worker has to end when it has nothing left to do
STDERR = 2000  # bytes of what a lost worker printed that are shown


class Worker:
    """One process, as the run sees it.

    Attributes:
        hosts: those that it works on.
        left: those of which it has not sent yet that they have ended.
        tasks: what it has sent of tasks, by number; names: the same by name.
        current: host -> the task that it is in.
    """

    def __init__(self, number: int, hosts: Sequence[str]) -> None:
        self.number = number
        self.hosts = tuple(hosts)
        self.left = dict.fromkeys(hosts)
        self.tasks: dict[int, Task] = {}
        self.names: dict[str, Task] = {}
        self.current: dict[str, Task] = {}
        self.questions: dict[int, asyncio.Task[None]] = {}
        self.is_done = False
        self.channel: Channel | None = None
        self.process: asyncio.subprocess.Process | None = None
        self._printing: asyncio.Task[None] | None = None
        self._printed = b""

    async def start(self, job: Job) -> None:
        """Start the process and send it its job. Raises OSError."""
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                CODE,
                repr(sys.path),
                str(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                env=bare_environment(),
                pass_fds=[theirs.fileno()],
                process_group=0,  # Ctrl-C is for the run's process, which passes it on
            )
        self._printing = asyncio.create_task(self._read(self.process))
        self.channel = await Channel.over(ours)
        self.channel.send("job", job, is_urgent=True)

    def send(self, *message: object) -> None:
        """Send it a message, if it is there."""
        if self.channel is not None:
            self.channel.send(*message, is_urgent=True)

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        """Keep the end of what the process prints to stderr."""
        assert process.stderr is not None
        while data := await process.stderr.read(STDERR):
            self._printed = (self._printed + data)[-STDERR:]

    async def end(self) -> str:
        """Wait for the end of the process, kill it when it takes too long; return how it ended."""
        if self.channel is not None:
            await self.channel.close()
        process = self.process
        if process is None:
            return "it could not be started"
        try:
            async with asyncio.timeout(END):
                status = await process.wait()
        except TimeoutError:
            process.kill()
            status = await process.wait()
        if self._printing is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(END):
                    await self._printing
        with contextlib.suppress(ValueError):
            if status < 0:
                return f"it was ended by {signal.Signals(-status).name}"
        text = self._printed.decode("utf-8", "replace").strip()
        return f"it ended with exit status {status}" + (f": {text}" if text else "")


class Workers:
    """All workers of a run; its hosts are dealt out to them like cards."""

    def __init__(
        self, context: RunContext, out: Emitter, hosts: Sequence[Host], storage: Storage, is_stepping: bool
    ) -> None:
        self._context = context
        self._out = out
        self._storage = storage
        self._is_stepping = is_stepping
        options = context.options
        self.count = max(1, min(options.workers, options.forks, len(hosts)))
        names = [host.name for host in hosts]
        self._workers = [Worker(number, names[number :: self.count]) for number in range(self.count)]
        self._passwords: dict[str, asyncio.Task[str]] = {}
        self._turns: dict[str, asyncio.Lock] = {}
        self._holders: dict[str, Worker] = {}
        self._interrupts = 0
        self._is_fatal = False
        self._endings: set[asyncio.Task[None]] = set()

    async def run(self, keep: Callable[[], None]) -> None:
        """Let all workers work on their hosts. keep: is called every second."""
        watch = asyncio.create_task(_watch(keep))
        try:
            jobs = _jobs(self._context, self._storage, self._workers, self._is_stepping)
            await asyncio.gather(*(self._serve(one, job) for one, job in zip(self._workers, jobs, strict=True)))
            await asyncio.gather(*self._endings)
        finally:
            watch.cancel()

    def interrupt(self) -> None:
        """Pass on that the user has interrupted the run, or has done so again."""
        self._interrupts += 1
        for worker in self._workers:
            worker.send("interrupt")

    async def _serve(self, worker: Worker, job: Job) -> None:
        """Work through what a worker sends, until it has done all or is lost."""
        try:
            await worker.start(job)
            assert worker.channel is not None
            for _ in range(self._interrupts):
                worker.send("interrupt")
            while not worker.is_done:
                for message in await worker.channel.receive():
                    self._take(worker, message)
                await asyncio.sleep(0)
        except (EOFError, OSError):
            pass
        how = await worker.end()
        for question in worker.questions.values():
            question.cancel()
        for delegate in [name for name, holder in self._holders.items() if holder is worker]:
            self._release(worker, delegate)
        if worker.left or not worker.is_done:
            await self._lose(worker, how)

    async def _lose(self, worker: Worker, how: str) -> None:
        """End the hosts of a worker that is lost. None of them is worked on again in this run."""
        text = (
            f"worker lost: the process that worked on this host is gone: {how}; hint: what it was doing may have been "
            "done; look at the machine's memory (dmesg), and go on with --resume"
        )
        self._out.failed = True
        for host in list(worker.left):
            if host not in self._out.ended:
                self._out.emit(HostFinished(time.time(), host, FAILED, 0.0, text))
            task = worker.current.get(host)
            if task is not None:
                self._passed(host, task, failed=True)
            await self._ended(worker, host)
        if not worker.left:
            self._out.error("", f"a worker did not come to its end: {how}")

    # Messages

    def _take(self, worker: Worker, message: Message) -> None:
        """Do what a message of a worker says."""
        getattr(self, f"_on_{message[0]}")(worker, *message[1:])

    def _on_event(self, worker: Worker, event: object) -> None:
        if isinstance(event, TaskStarted) and event.task in worker.names:
            worker.current[event.host] = worker.names[event.task]
        self._out.emit(event)  # type: ignore[arg-type]  # it is one of the engine's events

    def _on_task(self, worker: Worker, number: int, task: Task) -> None:
        worker.tasks[number] = worker.names[task.name] = task

    def _on_loaded(
        self, worker: Worker, host: str, plan: tuple[str, ...], declared: tuple[str, ...], tags: frozenset[str]
    ) -> None:
        self._context.tags[host] = tags
        self._context.barriers.loaded(host, plan, declared)

    def _on_passed(self, worker: Worker, host: str, number: int, failed: bool) -> None:
        worker.current.pop(host, None)
        self._passed(host, worker.tasks[number], failed)

    def _passed(self, host: str, task: Task, failed: bool) -> None:
        barriers = self._context.barriers
        barriers.passed(host, task, failed)
        if barriers.fatal is not None and not self._is_fatal:
            self._is_fatal = True
            for worker in self._workers:
                worker.send("stopped", barriers.fatal)

    def _on_ended(self, worker: Worker, host: str) -> None:
        ending = asyncio.create_task(self._ended(worker, host))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)

    async def _ended(self, worker: Worker, host: str) -> None:
        worker.left.pop(host, None)
        worker.current.pop(host, None)
        self._context.barriers.ended(host)
        await self._context.pruning.ended(host)

    def _on_complete(self, worker: Worker, host: str) -> None:
        self._context.complete.add(host)

    def _on_refused(self, worker: Worker, host: str) -> None:
        self._context.refused.add(host)

    def _on_facts(self, worker: Worker, host: str, facts: dict[str, object]) -> None:
        self._out.note_facts(host, facts)

    def _on_secrets(self, worker: Worker, values: list[str]) -> None:
        self._context.secrets.learn(values)

    def _on_delegated(self, worker: Worker, delegate: str) -> None:
        self._release(worker, delegate)

    def _on_withdraw(self, worker: Worker, number: int) -> None:
        question = worker.questions.pop(number, None)
        if question is not None:
            question.cancel()

    def _on_done(self, worker: Worker, failed: bool) -> None:
        self._out.failed |= failed
        worker.is_done = True

    def _on_ask(self, worker: Worker, number: int, op: str, args: tuple[object, ...]) -> None:
        question = worker.questions[number] = asyncio.create_task(self._answer(worker, number, op, args))
        question.add_done_callback(lambda _: worker.questions.pop(number, None))

    async def _answer(self, worker: Worker, number: int, op: str, args: tuple[object, ...]) -> None:
        try:
            answer: object = await getattr(self, f"_answer_{op}")(worker, *args)
        except SlothError as error:
            worker.send("refuse", number, type(error).__name__, error.message, error.hint)
        else:
            worker.send("answer", number, answer)

    async def _answer_enter(self, worker: Worker, host: str, number: int) -> object:
        task = worker.tasks[number]
        context = self._context
        if task.name == END_TASKS.name:  # no task that anybody is asked about
            return await context.barriers.enter(host, task, contextlib.nullcontext)
        skip = await context.enter(host, task)
        if skip is None:
            worker.current[host] = task
        return skip

    async def _answer_agreed(self, worker: Worker, host: str, orphans: list[object]) -> object:
        return await self._context.pruning.agreed(host, orphans)  # type: ignore[arg-type]  # as RemotePruning sent it

    async def _answer_password(self, worker: Worker, command: str) -> object:
        if command not in self._passwords:  # all hosts share it, and the user may be asked for something
            self._passwords[command] = asyncio.create_task(printed_password(command))
        return await asyncio.shield(self._passwords[command])

    async def _answer_delegate(self, worker: Worker, delegate: str) -> object:
        await self._turns.setdefault(delegate, asyncio.Lock()).acquire()
        self._holders[delegate] = worker
        return None

    def _release(self, worker: Worker, delegate: str) -> None:
        if self._holders.get(delegate) is worker:
            del self._holders[delegate]
            self._turns[delegate].release()


def _jobs(context: RunContext, storage: Storage, workers: Sequence[Worker], is_stepping: bool) -> list[Job]:
    """Return what each worker is to do."""
    known = Known.of(context.inventory)
    options = travelling(context.options)
    keys = travelling_keys(storage.keys)
    share, more = divmod(options.forks, len(workers))
    names = frozenset(name for worker in workers for name in worker.hosts)
    return [
        Job(
            run_id=context.run_id,
            site=context.site,
            options=options,
            inventory=known,
            hosts=worker.hosts,
            others=names,
            forks=share + (worker.number < more),
            is_stepping=is_stepping,
            secrets=tuple(sorted(options.prompts.secrets)),
            directory=storage.directory,
            location=storage.location,
            keys=keys,
            environment=dict(os.environ),
        )
        for worker in workers
    ]


async def _watch(keep: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(KEEP)
        keep()
