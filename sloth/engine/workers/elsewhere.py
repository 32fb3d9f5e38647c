"""What is different for a worker on another machine than that of the run."""

from __future__ import annotations

import dataclasses
import getpass
import os
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sloth import reading
from sloth.engine import fetch
from sloth.engine.events import UNREACHABLE, Event, HostFinished
from sloth.engine.workers.asking import HashOf, StoreBegin, StoreEnd, StorePart
from sloth.engine.workers.files import absolute, at_home, below
from sloth.engine.workers.messages import Remember
from sloth.engine.workers.remote import RemoteEmitter
from sloth.errors import StateError
from sloth.inventory import Inventory
from sloth.state.memory import Known, Memory, Replicated, Seen

if TYPE_CHECKING:
    from sloth.engine.secrets import Secrets
    from sloth.engine.workers.channel import Channel
    from sloth.engine.workers.messages import HostList, Job
    from sloth.engine.workers.questions import Questions
    from sloth.playbook import Site

GATHERED = 1024 * 1024  # bytes of a fetched file that are sent at a time


class RemoteMemory(Memory):
    """What the controller remembers of hosts: it was sent, and what is learned goes back."""

    def __init__(self, directory: Path, known: Mapping[str, Known], channel: Channel) -> None:
        self.directory = directory
        self._known = known
        self._channel = channel

    def close(self) -> None:
        pass

    def known(self, names: Iterable[str]) -> dict[str, Known]:
        return dict(self._known)

    def replicate(self, seen: Seen) -> Replicated:
        self._channel.send(Remember(seen))
        return Replicated(seen.name, seen.payload, seen.assets, seen.replica, None)

    def keep(self, several: Iterable[Replicated]) -> None:
        """Do nothing: the run's process keeps what it was sent."""

    def hash_of(self, path: str, info: os.stat_result) -> str | None:
        return None

    def keep_hash(self, path: str, info: os.stat_result, sha256: str) -> None:
        pass


class RemoteStore(fetch.Store):
    """Files of the run's machine, which hosts send through this one."""

    def __init__(self, questions: Questions) -> None:
        self._questions = questions

    def hash_of(self, path: Path) -> str | None:
        found = self._questions.ask_now(HashOf(path))
        return None if found is None else str(found)

    def sink(self, path: Path) -> fetch.Sink:
        return RemoteSink(self._questions, path)


class RemoteSink(fetch.Sink):
    """Takes the bytes of one file, and sends many at a time: each time, this process waits and does nothing else."""

    def __init__(self, questions: Questions, path: Path) -> None:
        self._questions = questions
        self._gathered = bytearray()
        self._number = self._ask(StoreBegin(path))

    def _ask(self, question: StoreBegin | StorePart | StoreEnd) -> int:
        try:
            return int(self._questions.ask_now(question) or 0)  # type: ignore[call-overload,no-any-return]  # a number
        except StateError as error:
            raise OSError(0, error.message) from None

    def write(self, data: bytes) -> None:
        self._gathered += data
        if len(self._gathered) >= GATHERED:
            self._send()

    def _send(self) -> None:
        data, self._gathered = bytes(self._gathered), bytearray()
        self._ask(StorePart(self._number, data))

    def finish(self) -> None:
        if self._gathered:
            self._send()
        self._ask(StoreEnd(self._number, True))

    def abort(self) -> None:
        self._ask(StoreEnd(self._number, False))


class ElsewhereEmitter(RemoteEmitter):
    """Says which worker could not reach a host: keys and agents are those of its user."""

    def __init__(self, secrets: Secrets, channel: Channel) -> None:
        super().__init__(secrets, channel)
        try:
            user = getpass.getuser()
        except (KeyError, OSError):
            user = str(os.getuid())
        self._worker = f"tried by the worker {socket.gethostname()}, with the keys and the agent of its user {user}"

    def emit(self, event: Event) -> None:
        if isinstance(event, HostFinished) and event.status is UNREACHABLE:
            event = dataclasses.replace(event, error=f"{event.error} ({self._worker})")
        super().emit(event)


def move_site(site: Site, root: Path, cwd: Path) -> Site:
    """Return a site whose files are below a directory. cwd: where the run was started."""
    return dataclasses.replace(
        site,
        path=str(below(root, Path(site.path))) if site.path.startswith("/") else site.path,
        directory=below(root, site.directory),
        more=tuple(move_site(file, root, cwd) for file in site.more),
        roles_path=tuple(below(root, absolute(cwd / path)) for path in site.roles_path),
    )


def move_inventory(inventory: Inventory, home: str) -> Inventory:
    """Return an inventory whose identity files and the like are looked for in the home of this user."""
    hosts = {}
    for name, host in inventory.hosts.items():
        known, config = host.known_hosts, host.ssh_config
        hosts[name] = dataclasses.replace(
            host,
            identity_files=at_home(host.identity_files, home),
            known_hosts=at_home([known], home)[0] if known else known,
            ssh_config=at_home([config], home)[0] if isinstance(config, str) else config,
        )
    return Inventory(inventory.paths, hosts, inventory.groups)


def show_variables(environment: Mapping[str, str], known: HostList) -> None:
    """Let sites see variables of the run's environment; what this process needs (HOME, SSH_AUTH_SOCK) stays its own."""
    passwords = {host.password_env for host in known.hosts}
    for name, value in environment.items():
        if name in passwords:
            os.environ[name] = value
        else:
            os.putenv(name, value)  # Lua asks C's library, and Python does not


def settle(job: Job, root: Path, questions: Questions) -> Job:
    """Let this process read and store files as that of the run would; return the job with paths of this machine."""
    reading.root, reading.home = root, job.home
    fetch.store = RemoteStore(questions)
    return dataclasses.replace(job, site=move_site(job.site, root, job.cwd), cwd=below(root, job.cwd))
