"""Makes a plan of a check that was recorded, and a site of a plan."""

from __future__ import annotations

import secrets as random
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from sloth import __version__
from sloth.engine.events import UNREACHABLE
from sloth.engine.options import Options
from sloth.engine.plans.file import SavedPlan
from sloth.engine.plans.recorder import Recorder
from sloth.engine.plans.values import Plan
from sloth.engine.secrets import Secrets
from sloth.inventory import Host
from sloth.playbook import Site
from sloth.state.author import who


def make_plan(recorder: Recorder, hosts: Sequence[Host], site: Site, options: Options, secrets: Secrets) -> Plan:
    """Return the plan of a check that has ended. Raises StateError for a secret that it cannot refer to."""
    reached = [host for host in hosts if recorder.status(host.name) is not UNREACHABLE]
    return Plan(
        id=time.strftime("%Y%m%d-%H%M%S-") + random.token_hex(8),
        created=time.time(),
        who=who(),
        origin=socket.gethostname(),
        version=__version__,
        site=site.title,
        identity=site.identity,
        adhoc=site.adhoc,
        directories=tuple(str(directory) for directory in site.directories),
        custom=options.custom,
        hosts={host.name: recorder.plan(host, secrets) for host in reached},
        unreachable=tuple(host.name for host in hosts if host not in reached),
    )


def site_of(saved: SavedPlan) -> Site:
    """Return what stands for the site while a plan is applied: it has its title and its identity, and no Lua."""
    plan = saved.plan
    return Site(plan.site, b"", Path.cwd(), adhoc=plan.adhoc, remembered=plan.identity)
