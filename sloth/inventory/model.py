"""Hosts and groups as the rest of the program uses them: everything resolved, nothing left to look up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

from sloth.frozen import frozen

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json


class BecomeMethod(StrEnum):
    """How a session becomes another account."""

    SUDO = "sudo"
    SU = "su"
    DOAS = "doas"


class HostKeyPolicy(StrEnum):
    """What to do about a host key that is not known yet."""

    STRICT = "strict"  # refuse it
    ACCEPT_NEW = "accept-new"  # remember it; a changed key is refused all the same


class ConnectionType(StrEnum):
    """How a host is reached."""

    SSH = "ssh"
    LOCAL = "local"  # it is this machine
    # A container that runs on this machine:
    DOCKER = "docker"
    PODMAN = "podman"
    CHROOT = "chroot"  # a directory with a system in it
    NSPAWN = "nspawn"  # such a directory, or the name of a running machine


@frozen(eq=False)
class Host:
    """A host of the inventory, with every setting resolved. Hosts are compared by identity.

    Attributes:
        become: the account that tasks run as; None for the account of the login.
        become_password_command: a shell command of this machine that prints the password for that.
        connect_timeout: in seconds.
        ssh_config: the path of a configuration file; None for the user's own, False for none.
        origins: the origin of each setting, of each variable as "vars.NAME": "inventory.toml:12 (group web)", and as
            "name" where the host is defined, in each file that does.
        vars: plain data, or Templated or Encrypted (see templated.py).
        sealed: files of variables for it that ansible-vault has encrypted.
        source: the path of the file that defines it first; None: of a list of hosts, or of standard input.
    """

    name: str
    address: str
    port: int | None = None
    user: str | None = None
    identity_files: tuple[str, ...] = ()
    python: str | None = None
    become: str | None = None
    become_method: BecomeMethod = BecomeMethod.SUDO
    become_password_command: str | None = None
    host_keys: HostKeyPolicy = HostKeyPolicy.STRICT
    known_hosts: str | None = None
    proxy_jump: str | None = None
    ssh_config: str | Literal[False] | None = None
    connect_timeout: float = 15.0
    connection: ConnectionType = ConnectionType.SSH
    password_env: str | None = None
    tags: tuple[str, ...] = ()
    vars: Mapping[str, Json] = field(default_factory=dict)
    sealed: tuple[str, ...] = ()
    source: str | None = None
    groups: tuple[str, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict)


@frozen
class Group:
    """A group of the inventory.

    Attributes:
        hosts: all its members, those of its child groups too, in inventory order.
        groups: its child groups.
        origins: as those of Host.
    """

    name: str
    hosts: tuple[str, ...]
    groups: tuple[str, ...]
    vars: Mapping[str, Json]
    origins: Mapping[str, str] = field(default_factory=dict)
