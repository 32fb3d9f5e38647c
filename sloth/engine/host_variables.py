"""The variables of one host, as its site, its templates and its expressions see them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sloth.engine.context import RunContext, lua_host
from sloth.inventory import Host
from sloth.inventory.resolve import magic
from sloth.inventory.templated import Templated
from sloth.playbook import Evaluate, Render, Variable
from sloth.playbook.rendering import Others
from sloth.playbook.template import COSTLY

if TYPE_CHECKING:
    from sloth.payload.kernel.values import Json, JsonObject


class HostVariables:
    """Evaluates what needs the variables of one host."""

    def __init__(
        self,
        context: RunContext,
        host: Host,
        secret: Callable[[str, Path], str],
        gather: Callable[[], Awaitable[JsonObject]],
    ) -> None:
        """secret: looks one up for a file in a directory; gather: gathers the host's own facts."""
        self._context = context
        self._host = host
        self._secret = secret
        self._gather = gather

    def of_site(self) -> dict[str, Json]:
        """Return the host's variables with those of the command line on top."""
        return {**self._host.vars, **self._context.options.extra}

    async def facts(self, name: str) -> JsonObject:
        """Return the facts of any host of the run. Raises CallError."""
        return await (self._gather() if name == self._host.name else self._context.others.facts(self._context, name))

    async def render(self, request: Render) -> str:
        """Return the text of a template."""
        templates = self._context.shipper.templates(request.sources)
        seen = await self.seen(request.directory, await templates.needs(request.source))
        return await templates.render(request.source, {**seen, **request.args})

    async def expression(self, request: Evaluate) -> JsonObject:
        """Return the value of an expression, as {"value": ...}."""
        templates = self._context.shipper.templates((request.directory,))
        seen = await self.seen(request.directory, await templates.needs_of(request) - request.args.keys())
        return {"value": await templates.expression(request, {**seen, **request.args})}

    async def variable(self, request: Variable) -> Json:
        """Return the value of a variable of the inventory that has Jinja in it."""
        variables = await self.seen(request.directory, ())
        templates = self._context.shipper.templates((request.directory,))
        value: Json = variables.get(request.name)
        return await templates.evaluate(request.name, value, variables)

    async def seen(self, directory: Path, needs: Collection[str]) -> Mapping[str, object]:
        """Return what a template sees: vars by name and as `vars`, `host`, `groups`, and what it `needs` besides.

        What Ansible gives every host (`inventory_hostname`) is there, too, but for variables of these names.

        directory: that of the site's file, beside which secrets are looked for.
        """
        context = self._context
        variables = self.of_site()
        magical = magic(self._host.name, self._host.groups, self._host.source)
        seen: dict[str, object] = {**magical, **variables, "vars": variables}
        seen |= {"host": lua_host(self._host), "groups": context.groups}
        seen["secret"] = lambda name: self._secret(name, directory)
        templated = [value for value in variables.values() if isinstance(value, Templated)]
        if templated:
            seen["sealed_files"] = self._host.sealed
            needs = {*needs, *(name for name in COSTLY if any(name in str(value.value) for value in templated))}
        if "facts" in needs:
            seen["facts"] = await self._gather()
        if "hostvars" in needs:
            names = list(context.inventory.hosts)
            seen["hostvars"] = Others(names, partial(context.others.unevaluated, context), self.facts)
        return seen
