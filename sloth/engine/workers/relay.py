"""What runs inside a worker of Dask: it starts a process as `--workers` does, and passes its messages on, unread.

Dask's own process stays free of a run's environment, secrets and crashes, and several runs can share it.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import hashlib
import importlib.util
import json
import os
import shutil
import socket
import struct
import sys
from pathlib import Path

from sloth import __version__
from sloth.engine.workers.channel import FULL, READ, read_frame
from sloth.engine.workers.child import Child, start_child

MARK = struct.Struct(">BQ")  # which of the two sockets, and the size
MAIN, LINE, GONE = 0, 1, 2
SILENCE = 40.0  # seconds without a poll of the run after which it is taken as gone
BEAT = 4.0  # seconds between two signs of life for the process: Dask's own may be stopped, or hang
NEEDED = (
    "asyncssh",
    "click",
    "cryptography",
    "jinja2",
    "lupa",
    "rich",
    "yaml",
)  # modules that sloth-runner is installed with
PRIVATE = "sloth-runner-"
MEMORY = Path("/dev/shm")


class Relay:
    """The actor. The run calls its methods, of which begin() is the first and works once.

    Dask drops it when the run has left the cluster, or was killed: then its process is to end. So nothing that is
    under way may hold the relay itself.
    """

    def __init__(self) -> None:
        self._share = Share()

    async def begin(self, is_here: bool) -> bytes:
        """See Share."""
        return await self._share.begin(is_here)

    async def send(self, data: bytes) -> bytes:
        """See Share."""
        return await self._share.send(data)

    async def poll(self, seconds: float) -> bytes:
        """See Share."""
        share = self._share
        del self
        return await share.poll(seconds)

    async def end(self) -> bytes:
        """See Share."""
        return await self._share.end()

    def __del__(self) -> None:
        self._share.give_up()


class Share:
    """The process that works on a share of the hosts."""

    def __init__(self) -> None:
        self._child: Child | None = None
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._waiting = bytearray()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._last_poll = 0.0
        self.has_begun = False
        self.directory: Path | None = None

    async def begin(self, is_here: bool) -> bytes:
        """Start the process; return the directory in memory for files that it gets ("": it is on the run's machine).

        Raises OSError.
        """
        if self.has_begun:
            raise OSError("the worker has begun already")
        self.has_begun = True
        if not is_here:
            self.directory = private_directory()
        self._child, *ends = await start_child(str(self.directory or ""), has_beat=True)
        self._last_poll = asyncio.get_running_loop().time()
        for mark, end in enumerate(ends):
            end.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=end, limit=READ)
            self._writers.append(writer)
            self._tasks.append(asyncio.create_task(self._read(mark, reader)))
        self._tasks.append(asyncio.create_task(self._watch(self._child)))
        return str(self.directory or "").encode()

    async def send(self, data: bytes) -> bytes:
        """Pass on parts of what the run sends. Raises OSError."""
        if self._child is None:  # Dask has made another one in place of a lost one
            raise OSError("the worker has been lost")
        data, at = bytes(data), 0
        written = set()
        while at < len(data):
            mark, size = MARK.unpack_from(data, at)
            at += MARK.size
            self._writers[mark].write(data[at : at + size])
            written.add(mark)
            at += size
        with contextlib.suppress(OSError):
            for mark in written:  # the process may not read the other one now
                await self._writers[mark].drain()
        return b""

    async def poll(self, seconds: float) -> bytes:
        """Return what the process has sent, after some seconds even if that is nothing. Raises OSError."""
        if self._child is None:
            raise OSError("the worker has been lost")
        self._last_poll = asyncio.get_running_loop().time()
        if not self._waiting:
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._news.wait()
        data, self._waiting = bytes(self._waiting), bytearray()
        self._room.set()
        return data

    async def end(self) -> bytes:
        """Let the process end, kill it when it takes too long; return how it has ended."""
        child, self._child = self._child, None
        for writer in self._writers:
            writer.close()
        if child is None:
            return b"it is not there any more"
        how = await child.end()
        for task in self._tasks:
            task.cancel()
        if self.directory is not None:
            remove(self.directory)
        return how.encode()

    async def _read(self, mark: int, reader: asyncio.StreamReader) -> None:
        """Keep what comes from one socket until it is polled, as much as may wait."""
        try:
            while True:
                frame = await read_frame(reader)
                self._waiting += MARK.pack(mark, len(frame)) + frame
                self._news.set()
                while len(self._waiting) > FULL:
                    self._room.clear()
                    await self._room.wait()
        except (EOFError, OSError):
            if mark == MAIN:
                self._waiting += MARK.pack(GONE, 0)
                self._news.set()

    def give_up(self) -> None:
        """Let the process end: it sees its sockets close, and ends the hosts' work."""
        for writer in self._writers:
            writer.close()

    async def _watch(self, child: Child) -> None:
        """Give up when the run does not ask for messages any more, and clean up when the process has ended."""
        loop = asyncio.get_running_loop()
        waiting = asyncio.ensure_future(child.wait())
        while not waiting.done() and loop.time() - self._last_poll < SILENCE:
            child.beat()
            await asyncio.wait({waiting}, timeout=BEAT)
        if not waiting.done():
            self.give_up()
            await waiting
        if self.directory is not None:
            remove(self.directory)


def private_directory() -> Path:
    """Return a new directory in memory that is this user's own; those of processes that have ended are removed.

    Raises OSError where there is none.
    """
    if not any(line.split()[1:3] == [str(MEMORY), "tmpfs"] for line in Path("/proc/mounts").read_text().splitlines()):
        raise OSError(f"{MEMORY} is not in memory, and files of a site are not written to a disk")
    prefix = f"{PRIVATE}{os.getuid()}-"
    for old in MEMORY.glob(prefix + "*"):
        pid = old.name.removeprefix(prefix).partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists() and old.stat().st_uid == os.getuid():
            remove(old)
    path = MEMORY / f"{prefix}{os.getpid()}-{os.urandom(8).hex()}"
    path.mkdir(mode=0o700)
    return path


def remove(directory: Path) -> None:
    """Remove a directory of ours with all that is in it: a site may have directories that nobody may write."""
    for path, names, _ in os.walk(directory):
        for inside in (path, *(os.path.join(path, name) for name in names)):
            if not os.path.islink(inside):
                with contextlib.suppress(OSError):
                    os.chmod(inside, 0o700)
    shutil.rmtree(directory, ignore_errors=True)


def about() -> bytes:
    """Return what a run must know of the worker of Dask in which this is called, as JSON.

    Raises ModuleNotFoundError when something is missing that the process of a worker needs.
    """
    for name in NEEDED:
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}")
    return json.dumps(describe_process()).encode()


def describe_process() -> dict[str, str]:
    """Return which program this process runs, and where."""
    return {
        "version": __version__,
        "code": code_hash(),
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
        "machine": machine(),
        "host": socket.gethostname(),
        "user": _user(),
    }


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def machine() -> str:
    """Return what two processes have in common that see the same files and network, as the same user; "": unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        root = os.stat("/")
        spaces = [os.readlink(f"/proc/self/ns/{name}") for name in ("mnt", "net", "pid")]
    except OSError:
        return ""
    return " ".join((boot, f"{root.st_dev}:{root.st_ino}", *spaces, str(os.geteuid())))


def code_hash() -> str:
    """Return a hash of this program's sources: both ends must be the same."""
    digest = hashlib.sha256()
    root = Path(__file__).parents[2]
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
