"""A small fleet for the web UI: SSH servers on loopback with an /etc/ssh and a /srv each, and real runs over them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from sloth.transport.loopback import LoopbackFleet
from tests.support.command import sloth
from tests.support.paths import ROOT

# Each command sees its host's own /etc/ssh and /srv, and nothing else that differs from this machine.
ISOLATED = (
    "unshare", "--mount", "/bin/sh", "-c",
    'mount --make-rprivate / && mount --bind "$HOME/ssh" /etc/ssh && mount --bind "$HOME/srv" /srv &&'
    ' exec /bin/sh -c "$1"',
    "sh",
)  # fmt: skip
HAND_WRITTEN = "Port 22\nPermitRootLogin yes\nPasswordAuthentication no\n"


def can_isolate() -> bool:
    """Return whether this machine lets us give a process its own mounts."""
    try:
        command = ["unshare", "--mount", "mount", "--make-rprivate", "/"]
        return subprocess.run(command, capture_output=True, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


class World:
    """A controller in `path`, and its hosts."""

    def __init__(self, path: Path, fleet: LoopbackFleet) -> None:
        self.path = path
        self.fleet = fleet

    def __call__(self, *words: str, status: int = 0) -> str:
        """Run a command; it must end with `status`."""
        done = sloth(self.path, *words, timeout=300)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def write(self, name: str, text: str) -> None:
        (self.path / name).write_text(text)

    def edit_by_hand(self, host: str, text: str = HAND_WRITTEN) -> None:
        """Change a host's sshd_config as its administrator would."""
        (self.fleet.homes[host] / "ssh" / "sshd_config").write_text(text)

    @contextlib.contextmanager
    def web(self, *words: str) -> Iterator[str]:
        """Serve it with `sloth-runner web` until the block ends; yield the address that logs in."""
        environment = {**os.environ, "HOME": str(self.path), "PYTHONPATH": str(ROOT)}
        environment.pop("SLOTH_INVENTORY", None)
        with subprocess.Popen(
            [sys.executable, "-m", "sloth", "web", "-i", "inventory.toml", "--port", "0", *words],
            cwd=self.path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as server:  # fmt: skip
            try:
                assert server.stdout is not None
                address = server.stdout.readline().strip()
                assert address.startswith("http"), server.communicate(timeout=60)
                yield address
            finally:
                server.terminate()
                server.communicate(timeout=60)


@contextlib.contextmanager
def open_world(path: Path, names: Sequence[str], isolated: bool = True) -> Iterator[World]:
    """Start SSH servers of these names in a thread of their own."""
    path.mkdir(parents=True, exist_ok=True)
    fleet = LoopbackFleet(names, path / "fleet")
    if isolated:
        fleet.shell = ISOLATED
    for home in fleet.homes.values():
        for name in ("ssh", "srv"):
            (home / name).mkdir(parents=True)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(fleet.__aenter__(), loop).result(120)
    groups = '\n[groups.web]\nhosts = ["web*"]\n'
    (path / "inventory.toml").write_text(fleet.inventory_toml() + groups)
    try:
        yield World(path, fleet)
    finally:
        asyncio.run_coroutine_threadsafe(fleet.__aexit__(None, None, None), loop).result(120)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()
