"""Makes what all hosts of a run share, from what a run is given; a worker shares some of it with other processes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from sloth.engine.assets import Shipper
from sloth.engine.context import RunContext
from sloth.engine.delegates import Delegates
from sloth.engine.modules import module_names, named_calls
from sloth.engine.other_hosts import OtherHosts
from sloth.engine.sessions import Purpose, Sessions
from sloth.engine.turns import Turns
from sloth.playbook.group_names import GroupNames

if TYPE_CHECKING:
    from sloth.engine.barriers import Barriers
    from sloth.engine.emitter import Emitter
    from sloth.engine.options import Options
    from sloth.engine.plans.file import SavedPlan
    from sloth.engine.plans.recorder import Recorder
    from sloth.engine.prune import Pruning
    from sloth.engine.secrets import Secrets
    from sloth.engine.stepping import Stepping
    from sloth.inventory import Host, Inventory
    from sloth.playbook import Site
    from sloth.state.memory import Memory
    from sloth.state.shared import Shared


def make_context(
    *,
    run_id: str,
    site: Site,
    options: Options,
    inventory: Inventory,
    hosts: Sequence[Host],
    others: Collection[str] = (),
    out: Emitter,
    memory: Memory,
    shared: Shared,
    secrets: Secrets,
    barriers: Barriers,
    pruning: Pruning,
    stepping: Stepping,
    pause: Callable[[], AbstractAsyncContextManager[None]],
    tags: dict[str, frozenset[str]] | None = None,
    delegates: Callable[[Sessions], Delegates] | None = None,
    turns: Turns | None = None,
    recorder: Recorder | None = None,
    saved: SavedPlan | None = None,
) -> RunContext:
    """Return the context of hosts. others: names of hosts of this run that other processes work on."""
    identity = site.identity
    purpose = Purpose(
        run=run_id,
        site=identity,
        check=options.check,
        adopt=options.adopt,
        lock_wait=options.lock_wait,
        shared=any(b"delegate_to" in file.source for file in site.files),
        passwords=options.passwords,
        custom=options.custom,
        calls=named_calls(site),
    )
    sessions = Sessions(purpose, memory, inventory.hosts.values() if purpose.shared else hosts)
    return RunContext(
        run_id=run_id,
        site=site,
        identity=identity,
        options=options,
        inventory=inventory,
        modules=module_names(),
        emit=out.emit,
        note_facts=out.note_facts,
        pause=pause,
        barriers=barriers,
        pruning=pruning,
        secrets=secrets,
        shared=shared,
        shipper=Shipper(memory),
        sessions=sessions,
        tags={} if tags is None else tags,
        group_names=GroupNames({name: group.hosts for name, group in inventory.groups.items()}),
        stepping=stepping,
        others=OtherHosts({*(host.name for host in hosts), *others}),
        delegates=delegates(sessions) if delegates is not None else Delegates(sessions, out.emit),
        recorder=recorder,
        saved=saved,
        refused=out.refused,
        complete=out.complete,
        turns=turns or Turns(),
    )
