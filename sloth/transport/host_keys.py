"""Host keys: which are trusted, and what happens to one that is not."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING, Any

from sloth.errors import HostKeyError
from sloth.inventory import Host
from sloth.inventory.model import HostKeyPolicy
from sloth.transport.ssh_config import Target

if TYPE_CHECKING:
    import asyncssh

    from sloth.transport.ssh import Connector


class HostKeys:
    """The trusted keys of one host. refused: why the key that the host has shown is not accepted."""

    def __init__(self, connector: Connector, host: Host, target: Target, title: str) -> None:
        self._connector = connector
        self._host = host
        self._target = target
        self._title = title
        self._files = (host.known_hosts,) if host.known_hosts else target.known_hosts
        self._new_keys = host.known_hosts or target.new_keys
        self.refused: HostKeyError | None = None

    def match(self, *_: object) -> Any:
        """Return the keys that are trusted, looked up as ssh does: by name or alias, and not by address.

        asyncssh calls this, and defines the result.
        """
        target = self._target
        port = None if target.is_alias or target.port == 22 else target.port
        return self._connector.known_hosts(self._files).match(target.known_name, "", port)

    def has_authority(self) -> bool:
        """Return whether certificates of some authority are trusted for this host."""
        return bool(self.match()[1])

    def accept(self, key: asyncssh.SSHKey) -> bool:
        """Decide about a host key that is not among the trusted ones: refuse it with a reason, or add it to them."""
        target = self._target
        fingerprint = key.get_fingerprint("sha256")
        name = target.known_name
        if not target.is_alias and target.port != 22:
            name = f"[{name}]:{target.port}"
        files = self._new_keys or " ".join(self._files)
        if self.match()[0]:
            self.refused = HostKeyError(
                f"{self._title}: the host key has CHANGED: it is now {fingerprint}, and {files} has another",
                hint=f"if you know why, remove the old one: ssh-keygen -R '{name}' -f {files}",
            )
            return False
        if self._host.host_keys != HostKeyPolicy.ACCEPT_NEW:
            self.refused = HostKeyError(
                f"{self._title}: the host key is unknown: {fingerprint}",
                hint=f"compare it, then add it: ssh-keyscan -p {target.port} {target.host} >> {files}; "
                'or set host_keys = "accept-new"',
            )
            return False
        if not self._new_keys:
            self.refused = HostKeyError(
                f"{self._title}: the new host key {fingerprint} cannot be added: UserKnownHostsFile is none"
            )
            return False
        try:
            _append(self._new_keys, name, key)
        except OSError as error:
            self.refused = HostKeyError(f"{self._title}: the new host key cannot be added to {files}: {error.strerror}")
            return False
        self._connector.forget_known_hosts()
        return True


def _append(path: str, name: str, key: asyncssh.SSHKey) -> None:
    """Add a key to a known_hosts file, under a lock: other controllers may do the same. Raises OSError."""
    words = key.export_public_key("openssh").decode("ascii").split()
    directory = os.path.dirname(path)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        size = os.fstat(file.fileno()).st_size
        is_cut = size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"
        file.write(b"\n" * is_cut + f"{name} {words[0]} {words[1]}\n".encode())
