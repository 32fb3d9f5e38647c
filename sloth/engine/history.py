"""How long runs of a site usually take, from the controller's records of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from statistics import median

from sloth.engine.options import Options
from sloth.inventory import Host
from sloth.playbook import Site
from sloth.state.memory import Memory

RECENT = 5  # runs that count


def usual_seconds(memory: Memory, site: Site, options: Options, hosts: Sequence[Host]) -> float | None:
    """Return how long the newest runs like this one took; None when there was none.

    A run is like this one when it was of the same site, hosts and tags, and ended well. Checks are not recorded, and
    other runs do not tell how long one takes.
    """
    if options.check or options.resume is not None or site.adhoc:
        return None
    this = {
        "identity": site.identity,
        "tags": list(options.tags),
        "skip_tags": list(options.skip_tags),
        "hosts": [host.name for host in hosts],
    }
    found = []
    for seconds, given in memory.runs.durations(site.title, len(hosts), 4 * RECENT):
        recorded = json.loads(given)
        if all(recorded.get(name) == value for name, value in this.items()):
            found.append(seconds)
    return median(found[:RECENT]) if found else None
