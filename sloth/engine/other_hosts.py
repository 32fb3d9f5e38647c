"""What a host's program learns about the other hosts: `hostvars`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection
from typing import TYPE_CHECKING

from sloth.engine.context import RunContext, lua_host
from sloth.errors import CallError, SlothError
from sloth.inventory import Host
from sloth.inventory.resolve import magic
from sloth.inventory.templated import Encrypted, Templated
from sloth.suggest import did_you_mean

if TYPE_CHECKING:
    from sloth.payload.kernel.values import JsonObject
    from sloth.playbook.rendering import Templates


class OtherHosts:
    """Answers for all hosts of a run; each host's facts are gathered once, by a session that only looks."""

    def __init__(self, names: Collection[str]) -> None:
        """names: the hosts of the run."""
        self._names = names
        self._facts: dict[str, asyncio.Task[JsonObject]] = {}

    def variables(self, context: RunContext, name: str) -> JsonObject:
        """Return a host's variables, and as `host` what that global is for it. Raises CallError."""
        host = self._find(context, name)
        return {**host.vars, **context.options.extra, "host": lua_host(host)}

    def unevaluated(self, context: RunContext, name: str) -> tuple[JsonObject, JsonObject]:
        """Return the same, and what variables with Jinja in them may use besides. Raises CallError."""
        host = self._find(context, name)
        seen = {**magic(name, host.groups, host.source), "groups": context.groups, "sealed_files": host.sealed}
        return self.variables(context, name), seen

    async def evaluated(self, context: RunContext, name: str, templates: Templates) -> JsonObject:
        """Return the same, with what has Jinja in it evaluated; what cannot be, since it needs facts, is left out."""
        variables = self.variables(context, name)
        lazy = {key: value for key, value in variables.items() if isinstance(value, (Templated, Encrypted))}
        if lazy:
            seen = self.unevaluated(context, name)[1]
            seen |= {**variables, "groups": seen["groups"]}
            for key, value in lazy.items():
                del variables[key]
                with contextlib.suppress(CallError):
                    variables[key] = await templates.evaluate(key, value, seen)
        return variables

    async def facts(self, context: RunContext, name: str) -> JsonObject:
        """Return a host's facts. Raises CallError when it is not in the run, or does not answer."""
        host = self._find(context, name)
        if name not in self._names:
            raise CallError(
                f"the facts of {name} are not known: it is not among the hosts of this run",
                hint="hostvars has the facts of hosts that --limit and the site select",
            )
        if name not in self._facts:
            self._facts[name] = asyncio.create_task(_gather(context, host))
        try:
            return await asyncio.shield(self._facts[name])
        except SlothError as error:
            raise CallError(f"the facts of {name} cannot be gathered: {error.message}", hint=error.hint) from error

    async def close(self) -> None:
        """End what is still under way."""
        for task in self._facts.values():
            task.cancel()
        await asyncio.gather(*self._facts.values(), return_exceptions=True)

    def _find(self, context: RunContext, name: str) -> Host:
        host = context.inventory.hosts.get(name)
        if host is None:
            hint = did_you_mean(name, context.inventory.hosts) or "`groups` has the names of all hosts"
            raise CallError(f"the inventory has no host {name}", hint=hint)
        return host


async def _gather(context: RunContext, host: Host) -> JsonObject:
    from sloth.engine.query import Agent, Query  # few sites ask for other hosts

    options = context.options
    query = Query(passwords=options.passwords, custom=options.custom)
    (answer,) = (await query.calls([Agent(host)], "facts.gather")).values()
    if isinstance(answer, SlothError):
        raise answer
    return answer
