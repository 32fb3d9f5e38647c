"""The program of one host: the site in Lua, the site with its requests recorded, or a saved plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from sloth.engine.context import RunContext, lua_host
from sloth.inventory import Host
from sloth.playbook import Program

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json


def make_program(context: RunContext, host: Host, variables: Mapping[str, Json]) -> Program:
    """Return the site, loaded for the host, or what is planned for it."""
    recorder, saved = context.recorder, context.saved
    if saved is not None:
        from sloth.engine.plans.program import PlannedProgram

        return PlannedProgram(saved.plan.hosts[host.name], saved.contents, saved.plan.site, recorder)
    make: Callable[..., Program] = Program
    if recorder is not None:
        from sloth.engine.plans.recorder import RecordedProgram

        make = partial(RecordedProgram, recorder, host.name)
    return make(
        context.site,
        host=lua_host(host),
        groups=context.group_names,
        vars=variables,
        modules=context.modules,
        check=context.options.check,
    )
