"""Which worker of an engine gets which hosts: those near it, if hosts say what is near, and as many as the others."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from sloth.errors import UsageError
from sloth.frozen import frozen

_ONE_OF_SEVERAL = re.compile(r"-[0-9]+")  # what Dask adds to the name when one command starts several workers


@frozen
class Found:
    """A worker of an engine.

    Attributes:
        names: its name and its resources, which hosts may know it by.
        facts: what describe_process() has returned there.
    """

    address: str
    names: frozenset[str]
    facts: Mapping[str, str]

    def is_near(self, wanted: Sequence[str]) -> bool:
        """Return whether it has one of these names."""
        return any(name in self.names or any(_is_one_of(own, name) for own in self.names) for name in wanted)


@frozen
class Share:
    """The hosts that one worker works on."""

    worker: Found
    hosts: tuple[str, ...]


def refuse_far(hosts: Sequence[str], near: Mapping[str, tuple[str, ...]], workers: Sequence[Found]) -> None:
    """Raise UsageError when a host has no worker near it."""
    far = [host for host in hosts if not any(worker.is_near(near.get(host, ())) for worker in workers)]
    if not far:
        return
    named = ", ".join(f"{host} ({' or '.join(near[host])})" if host in near else host for host in far[:5])
    more = f" and {len(far) - 5} more" if len(far) > 5 else ""
    known = ", ".join(sorted({name for worker in workers for name in worker.names}))
    raise UsageError(
        f"no worker of the engine is near {named}{more}",
        hint=f"workers are known as {known}; start one with --name or --resources, or leave out only_near of [engine]",
    )


def deal(
    hosts: Sequence[str], workers: Sequence[Found], count: int, near: Mapping[str, tuple[str, ...]]
) -> list[Share]:
    """Deal the hosts out in `count` shares, to each worker in turn; return the shares that have hosts.

    A host gets a worker that is near it, if there is one: there are more shares if not all such workers had one.
    """
    every = range(len(workers))
    close = {names: [at for at in every if workers[at].is_near(names)] for names in {*near.values()}}
    slots = [at % len(workers) for at in range(count)]
    for ats in close.values():
        if ats and not any(at in slots for at in ats):
            slots.append(ats[0])
    dealt: list[list[str]] = [[] for _ in slots]
    anywhere = list(range(len(slots)))
    choices = {names: [slot for slot in anywhere if slots[slot] in ats] for names, ats in close.items()}
    # Those that can be anywhere come last, and fill up what has fewer.
    for host in sorted(hosts, key=lambda host: not choices.get(near.get(host, ()))):
        slot = min(choices.get(near.get(host, ())) or anywhere, key=lambda slot: len(dealt[slot]))
        dealt[slot].append(host)
    return [Share(workers[at], tuple(names)) for at, names in zip(slots, dealt, strict=True) if names]


def _is_one_of(own: str, name: str) -> bool:
    """Return whether a worker's name is that of one of several which one command has started under `name`."""
    return own.startswith(name) and _ONE_OF_SEVERAL.fullmatch(own[len(name) :]) is not None
