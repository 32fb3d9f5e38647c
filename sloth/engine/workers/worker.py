"""The process of a worker: works on its share of a run's hosts, and ends when the run's process does."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys

from sloth.engine.host import END, GRACE
from sloth.engine.making import make_context
from sloth.engine.sealing import SecretSealer
from sloth.engine.shard import Shard
from sloth.engine.stepping import Stepping
from sloth.engine.workers.channel import Channel
from sloth.engine.workers.job import Job
from sloth.engine.workers.remote import (
    Questions,
    RemoteBarriers,
    RemoteDelegates,
    RemoteEmitter,
    RemotePruning,
    RemoteSecrets,
    RemoteTurns,
)

COLLECT = 20_000  # objects between two looks of the garbage collector, as in the run's process
LAST = 5.0  # seconds after the second interrupt until a worker without its run ends, whatever its hosts do


class Worker:
    """One worker. Its run's process sends it a Job, and interrupts it."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._questions = Questions(channel)
        self._barriers: RemoteBarriers | None = None
        self._shard: Shard | None = None
        self._is_ended_by_others = False
        self._is_interrupted = False  # before there was a shard

    async def run(self) -> None:
        """Do what the job says."""
        try:
            (_, job), *more = await self._channel.receive()
        except (EOFError, OSError):
            return
        assert isinstance(job, Job)
        os.environ.clear()
        os.environ.update(job.environment)
        for message in more:
            self._take(message)
        listening = asyncio.create_task(self._listen())
        failed = await self._work(job)
        self._channel.send("done", failed or self._is_ended_by_others)
        await self._channel.close()
        listening.cancel()

    async def _work(self, job: Job) -> bool:
        """Work on the hosts; return whether something failed that no host's end says."""
        channel, options = self._channel, job.options
        inventory = job.inventory.inventory()
        hosts = [inventory.hosts[name] for name in job.hosts]
        shard = self._shard = Shard(hosts, job.forks)
        secrets = RemoteSecrets(job.site.directories, options.keys, channel, job.secrets)
        out = RemoteEmitter(secrets, channel)
        self._barriers = RemoteBarriers(self._questions, options.linear, job.is_stepping)
        storage = job.storage()
        memory, shared = storage.memory(), storage.shared()
        memory.do_not_block()
        shared.sealer = SecretSealer(secrets, options.keys)
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
            pruning=RemotePruning(self._questions),
            stepping=Stepping(None),
            pause=shard.pause,
            tags=self._barriers.tags,
            delegates=lambda sessions: RemoteDelegates(sessions, out.emit, self._questions),
            turns=RemoteTurns(channel),
        )
        context.sessions.print_password = self._print_password
        shard.interrupted = self._is_interrupted
        await shard.run(context, out)
        await shard.close(context, out)
        await storage.close()
        memory.close()
        return out.failed

    async def _print_password(self, command: str) -> str:
        return str(await self._questions.ask("password", command))

    async def _listen(self) -> None:
        """Take messages, until the run's process is gone: then the hosts' work is ended."""
        try:
            while True:
                for message in await self._channel.receive():
                    self._take(message)
        except (EOFError, OSError):
            self._end(None)

    def _take(self, message: tuple[object, ...]) -> None:
        match message:
            case ("answer", int(number), value):
                self._questions.answered(number, value)
            case ("refuse", int(number), str(kind), str(text), hint):
                self._questions.refused(number, kind, text, str(hint))
            case ("stopped", skip) if self._barriers is not None:
                self._barriers.stopped(skip)  # type: ignore[arg-type]  # it is the Skip of Barriers.fatal
            case ("interrupt",):
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

    def listen_to_signals(self) -> None:
        """End the hosts' work when somebody ends this process."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._end, signal.SIGTERM)


def main() -> None:
    """Connect to the run's process by the socket whose descriptor is the argument, and work."""
    gc.freeze()  # what is loaded by now stays loaded
    gc.set_threshold(COLLECT)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    end = socket.socket(fileno=int(sys.argv[1]))

    async def work() -> None:
        worker = Worker(await Channel.over(end))
        worker.listen_to_signals()
        await worker.run()

    asyncio.run(work())
