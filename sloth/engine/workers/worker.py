"""The process of a worker: works on its share of a run's hosts, and ends when the run's process does."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sloth.engine.host import END, GRACE
from sloth.engine.making import make_context
from sloth.engine.prompts import Prompts
from sloth.engine.shard import Shard
from sloth.engine.stepping import Stepping
from sloth.engine.workers import elsewhere
from sloth.engine.workers.asking import Password
from sloth.engine.workers.channel import READ, Channel, Line
from sloth.engine.workers.files import place
from sloth.engine.workers.job import read_inventory
from sloth.engine.workers.messages import Answer, Done, HostList, Interrupt, Job, Message, Refusal, SiteFiles, Stopped
from sloth.engine.workers.questions import Questions
from sloth.engine.workers.relay import BEAT, MEMORY, SILENCE
from sloth.engine.workers.remote import (
    RemoteBackend,
    RemoteBarriers,
    RemoteDelegates,
    RemoteEmitter,
    RemotePruning,
    RemoteSealer,
    RemoteSecrets,
    RemoteTurns,
)
from sloth.state.storage import memory_of, shared_over

if TYPE_CHECKING:
    from sloth.state.memory import Memory

COLLECT = 20_000  # objects between two looks of the garbage collector, as in the run's process
LAST = 5.0  # seconds after the second interrupt until a worker without its run ends, whatever its hosts do


class Worker:
    """One worker. Its run's process sends it a Job, and interrupts it."""

    def __init__(self, channel: Channel, line: Line, directory: str) -> None:
        """directory: in memory, for files that come from the run's machine; "": this is that machine."""
        self._directory = directory
        self._channel = channel
        self._questions = Questions(channel, line)
        self._barriers: RemoteBarriers | None = None
        self._shard: Shard | None = None
        self._is_ended_by_others = False
        self._is_interrupted = False  # before there was a shard

    async def run(self) -> None:
        """Do what the job says."""
        pending: list[Message] = []
        try:
            while not any(isinstance(message, Job) for message in pending):
                pending += await self._channel.receive()
        except (EOFError, OSError):
            return
        known = next(message for message in pending if isinstance(message, HostList))
        job = next(message for message in pending if isinstance(message, Job))
        if self._directory:
            files = next(message for message in pending if isinstance(message, SiteFiles))
            try:
                place(files, Path(self._directory))
            except OSError as error:
                why = error.strerror or error
                sys.exit(f"nothing was done: the files of the site cannot be put into {MEMORY}: {why}")
            elsewhere.show_variables(job.environment, known)
            job = elsewhere.settle(job, Path(self._directory), self._questions)
        else:
            os.environ.clear()
            os.environ.update(job.environment)
        job.cwd.mkdir(parents=True, exist_ok=True)
        os.chdir(job.cwd)
        for message in pending:
            self._take(message)
        listening = asyncio.create_task(self._listen())
        failed = await self._work(job, known)
        self._channel.send(Done(failed or self._is_ended_by_others))
        await self._channel.close()
        listening.cancel()

    async def _work(self, job: Job, known: HostList) -> bool:
        """Work on the hosts; return whether something failed that no host's end says."""
        channel, questions = self._channel, self._questions
        options = dataclasses.replace(job.options, prompts=_prompts(job))
        inventory = read_inventory(known)
        hosts = [inventory.hosts[name] for name in job.hosts]
        shard = self._shard = Shard(hosts, job.forks)
        secrets = RemoteSecrets(questions, job.secrets)
        out = (elsewhere.ElsewhereEmitter if self._directory else RemoteEmitter)(secrets, channel)
        self._barriers = RemoteBarriers(questions, options.linear, job.is_stepping)
        memory: Memory
        if self._directory:
            inventory = elsewhere.move_inventory(inventory, job.home)
            memory = elsewhere.RemoteMemory(Path(self._directory), job.known, channel)
        else:
            assert job.directory is not None
            memory = memory_of(job.directory, job.replicate_to)
            memory.do_not_block()
        shared = shared_over(RemoteBackend(questions, job.backend, job.backend_limit), job.clock_error)
        shared.sealer = RemoteSealer(questions, secrets)
        context = make_context(
            run_id=job.run_id,
            site=job.site,
            options=options,
            inventory=inventory,
            hosts=hosts,
            others=job.others,
            out=out,
            memory=memory,
            shared=shared,
            secrets=secrets,
            barriers=self._barriers,
            pruning=RemotePruning(questions),
            stepping=Stepping(None),
            pause=shard.pause,
            tags=self._barriers.tags,
            delegates=lambda sessions: RemoteDelegates(sessions, out.emit, questions),
            turns=RemoteTurns(channel),
        )
        context.sessions.print_password = self._print_password
        context.sessions.came_from(job.who, job.origin)
        if self._directory:
            context.sessions.worker = socket.gethostname()
        shard.interrupted = self._is_interrupted
        await shard.run(context, out)
        await shard.close(context, out)
        memory.close()
        return out.failed

    async def _print_password(self, command: str) -> str:
        return str(await self._questions.ask(Password(command)))

    async def _listen(self) -> None:
        """Take messages, until the run's process is gone: then the hosts' work is ended."""
        try:
            while True:
                for message in await self._channel.receive():
                    self._take(message)
        except (EOFError, OSError):
            self._end(None)

    def _take(self, message: Message) -> None:
        match message:
            case Answer():
                self._questions.answered(message)
            case Refusal():
                self._questions.refused(message)
            case Stopped() if self._barriers is not None:
                self._barriers.stopped(message.skip)
            case Interrupt():
                self._interrupt()

    def _end(self, number: int | None) -> None:
        """End the hosts' work within seconds: the run's process is gone, or a signal wants it (number)."""
        self._is_ended_by_others = True
        self._interrupt()
        loop = asyncio.get_running_loop()
        loop.call_later(GRACE + END, self._interrupt)
        loop.call_later(GRACE + END + LAST, os._exit, 1)

    def _interrupt(self) -> None:
        if self._shard is None:
            self._is_interrupted = True
        else:
            self._shard.interrupt()

    async def mind_the_relay(self) -> None:
        """End the hosts' work when Dask's process has shown no life for a while, by which time the run has given up."""
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        silent = 0.0
        while silent < SILENCE:  # added up, so that a time in which this process itself stood still counts once
            try:
                async with asyncio.timeout(2 * BEAT):
                    if not await reader.read(READ):
                        return  # it has ended, which its sockets tell, too
                silent = 0.0
            except TimeoutError:
                silent += 2 * BEAT
        self._end(None)

    def listen_to_signals(self) -> None:
        """End the hosts' work when somebody ends this process."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._end, signal.SIGTERM)


def _prompts(job: Job) -> Prompts:
    """Return what answers the questions of the site: nobody is asked here."""
    prompts = Prompts(job.given)
    prompts.answers.update(job.answers)
    prompts.secrets.update(job.typed)
    return prompts


def main() -> None:
    """Connect to the run's process by the sockets whose descriptors are the arguments, and work."""
    gc.freeze()  # what is loaded by now stays loaded
    gc.set_threshold(COLLECT)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    end, line = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    is_relayed = len(sys.argv) > 3
    directory = sys.argv[3] if is_relayed else ""

    async def work() -> None:
        worker = Worker(await Channel.over(end, directory), Line(line, directory), directory)
        worker.listen_to_signals()
        minding = asyncio.create_task(worker.mind_the_relay()) if is_relayed else None
        await worker.run()
        if minding is not None:
            minding.cancel()

    asyncio.run(work())
