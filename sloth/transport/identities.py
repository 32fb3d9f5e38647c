"""Private keys, their certificates and the agent: what to offer to a host. Each file is read once a run."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

from sloth.errors import AuthError
from sloth.frozen import mutable
from sloth.inventory import Host
from sloth.transport.ssh_config import Target

if TYPE_CHECKING:
    import asyncssh


@mutable
class _Identity:
    """What an identity file holds. problem: why there is no private key; public: by what an agent knows it."""

    key: asyncssh.SSHKey | None = None
    certificate: asyncssh.SSHCertificate | None = None
    public: bytes | None = None
    problem: str = ""
    hint: str = ""


class Identities:
    """The keys of a run."""

    def __init__(self) -> None:
        self._files: dict[str, _Identity] = {}
        self._certificates: dict[str, asyncssh.SSHCertificate | None] = {}

    def options(self, host: Host, target: Target) -> dict[str, Any]:
        """Return options of asyncssh.connect(). Raises AuthError for a key of the inventory that cannot be used."""
        files, named = _files(host, target)
        found = [(path, self._identity(path)) for path in files]
        for path, identity in found:
            # The agent may have a key that we cannot read; ssh is as patient with keys of its own configuration.
            if named and identity.problem and not (target.identity_agent and identity.hint):
                raise AuthError(
                    f"the identity file {path} {identity.problem}",
                    hint=identity.hint or "check identity_file in the inventory",
                )
        certificates = [self._certificate(path) for path in target.certificate_files]
        keys: list[object] = []
        for _, identity in found:
            if identity.key is None:
                continue
            for certificate in (identity.certificate, *certificates):
                if certificate is not None and certificate.key.public_data == identity.key.public_data:
                    keys.append((identity.key, certificate))
            keys.append(identity.key)
        blobs = [identity.public for _, identity in found if identity.public is not None]
        agent = target.identity_agent
        identities: list[bytes] | None = None
        if target.identities_only:
            identities = blobs
            agent = agent if blobs else ""
        # An empty list would mean the usual keys to asyncssh.
        return {"client_keys": keys or iter(()), "agent_path": agent, "agent_identities": identities}

    def describe(self, host: Host, target: Target) -> tuple[list[str], str]:
        """Return what was tried, for people, and a hint if a key could not be used."""
        files, _ = _files(host, target)
        usable = [path for path in files if self._identity(path).key is not None]
        tried = []
        if usable:
            tried.append(f"the key{'s' * (len(usable) > 1)} {', '.join(usable)}")
        if target.identity_agent:
            tried.append("those of the agent" if usable else "the keys of the agent")
        hints = [self._identity(path).hint for path in files if self._identity(path).hint]
        return tried or ["no key: there is none that can be read"], hints[0] if hints else ""

    def _identity(self, path: str) -> _Identity:
        if path not in self._files:
            self._files[path] = _read(path)
        return self._files[path]

    def _certificate(self, path: str) -> asyncssh.SSHCertificate | None:
        if path not in self._certificates:
            self._certificates[path] = _read_certificate(path)
        return self._certificates[path]


def _files(host: Host, target: Target) -> tuple[tuple[str, ...], bool]:
    """Return the identity files to use for a target, and whether the inventory names them.

    The inventory's are for the host itself; on the way there, what ssh_config names for a jump host comes first.
    """
    is_host = target.name == host.address
    if host.identity_files and (is_host or not target.has_identities):
        return host.identity_files, True
    return target.identity_files, False


def _read(path: str) -> _Identity:
    import asyncssh

    found = _Identity(public=_public(path), certificate=_read_certificate(f"{path}-cert.pub"))
    try:
        info = os.stat(path)
        if info.st_uid == os.getuid() and info.st_mode & 0o077:  # as ssh does: the owner can mend it
            found.problem = f"is open to others (mode {stat.S_IMODE(info.st_mode):04o}) and not used, as with ssh"
            found.hint = f"chmod 600 {path}"
            return found
        found.key = asyncssh.read_private_key(path)
        found.public = found.key.public_data
    except FileNotFoundError:
        found.problem = "does not exist"
        found.hint = "" if found.public is None else f"load it with: ssh-add {path}"
    except (asyncssh.KeyEncryptionError, asyncssh.KeyImportError, OSError) as error:
        # asyncssh has no error of its own for a key that needs a passphrase when none is given.
        if isinstance(error, asyncssh.KeyEncryptionError) or "passphrase" in str(error).lower():
            found.problem = "is protected by a passphrase"
            found.hint = f"load it with: ssh-add {path}"
        elif found.public is not None:
            found.problem = "is a public key, and no agent is used"
            found.hint = "load the private key into an agent: ssh-add"
        else:
            found.problem = f"cannot be read: {error}"
    return found


def _public(path: str) -> bytes | None:
    """Return the public key beside a private one, or in the file itself."""
    import asyncssh

    for name in (f"{path}.pub", path):
        try:
            return asyncssh.read_public_key(name).public_data
        except (asyncssh.KeyImportError, OSError):
            continue
    return None


def _read_certificate(path: str) -> asyncssh.SSHCertificate | None:
    import asyncssh

    try:
        return asyncssh.read_certificate(path)
    except (asyncssh.KeyImportError, OSError):
        return None
