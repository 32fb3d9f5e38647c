"""What a worker is given when it starts, over its connection: nothing of it is on a disk or in a command line."""

from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sloth.engine.workers import variables
from sloth.engine.workers.messages import HostList, Job
from sloth.errors import SlothError
from sloth.inventory import Inventory
from sloth.state.author import who

if TYPE_CHECKING:
    from sloth.engine.context import RunContext
    from sloth.inventory import Host
    from sloth.state.storage import Storage


def host_list(inventory: Inventory, without_variables: Collection[str] = ()) -> HostList:
    """Return what workers need to know of an inventory. A host that cannot be resolved is none of the run's."""
    hosts: list[Host] = []
    for name in inventory.hosts:
        try:
            hosts.append(inventory.hosts[name])
        except SlothError:
            continue
    return HostList(
        inventory.paths,
        tuple(hosts),
        tuple(inventory.groups.values()),
        tuple({} if host.name in without_variables else variables.written(host.vars) for host in hosts),
    )


def read_inventory(known: HostList) -> Inventory:
    """Return what host_list() was made of."""
    hosts = {
        host.name: dataclasses.replace(host, vars=variables.read(dict(own)))
        for host, own in zip(known.hosts, known.variables, strict=True)
    }
    return Inventory(known.paths, hosts, {group.name: group for group in known.groups})


def make_job(
    context: RunContext, storage: Storage, hosts: Sequence[str], all_hosts: Collection[str], forks: int, stepping: bool
) -> Job:
    """Return what a worker on this machine is to do."""
    options, shared = context.options, context.shared
    return Job(
        run_id=context.run_id,
        site=dataclasses.replace(context.site, remembered=context.identity),
        options=dataclasses.replace(options, workers=0, engine="", near={}),
        hosts=tuple(hosts),
        others=frozenset(all_hosts),
        forks=forks,
        is_stepping=stepping,
        secrets=tuple(sorted(options.prompts.secrets)),
        answers=options.prompts.answers,
        typed=tuple(sorted(options.prompts.secrets)),
        given=options.prompts.given,
        directory=storage.directory,
        replicate_to=storage.location.url if storage.location is not None else None,
        known={},
        backend=shared.backend.url,
        backend_limit=shared.backend.limit,
        clock_error=shared.clock_error,
        environment=dict(os.environ),
        home=os.path.expanduser("~"),
        cwd=Path.cwd(),
        who=who(),
        origin=socket.gethostname(),
    )


_BARE = ("PATH", "HOME", "TMPDIR", "LANG", "TZ")
_BARE_PREFIXES = ("PYTHON", "LD_", "LC_")


def bare_environment() -> dict[str, str]:
    """Return what a process needs to start: /proc shows it to whoever is the same user, as it was then."""
    return {name: value for name, value in os.environ.items() if name in _BARE or name.startswith(_BARE_PREFIXES)}
