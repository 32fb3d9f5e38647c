"""`sloth-runner doc`: shows the documentation of modules, tasks, Lua and inventories, from their declarations."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sloth.cli import parameters, sites
from sloth.cli.completed import Completed, completed
from sloth.cli.output import write_json
from sloth.engine import custom
from sloth.engine.modules import Call, Field, all_calls
from sloth.errors import UsageError
from sloth.playbook.roles import Roles
from sloth.report import documentation
from sloth.suggest import did_you_mean

if TYPE_CHECKING:
    from sloth.playbook.lua_globals import Global


@click.command()
@click.argument("name", default="", shell_complete=completed(Completed.TOPICS))
@click.argument("role", metavar="", default="")
@parameters.MODULES
@sites.ROLES_PATH
@click.option("--markdown", is_flag=True, help="The whole reference of these in Markdown, as in docs/.")
@click.option("--lua-types", is_flag=True, help="A definition file for Lua language servers.")
@parameters.TEXT_OR_JSON
def doc(
    name: str,
    role: str,
    modules: str | None,
    roles_path: tuple[str, ...],
    markdown: bool,
    lua_types: bool,
    output: str,
) -> None:
    """Show the documentation of modules, task options, Lua and the inventory.

    \b
    sloth-runner doc               all modules, one per line
    sloth-runner doc file          those of a namespace
    sloth-runner doc file.copy     arguments, results and an example
    sloth-runner doc task          the options of tasks and handlers
    sloth-runner doc lua           what Lua can use besides modules
    sloth-runner doc state.cas     one of these
    sloth-runner doc inventory     the settings of hosts and groups
    sloth-runner doc role NAME     what a role does, and its arguments (of ./roles, --roles-path or a package)

    Your own modules (./modules or --modules) are shown with the built-in ones. For completion and checks in an
    editor, run `sloth-runner doc --lua-types > sloth.lua` and add that file to the language server's library.
    """
    if name == "role":
        _show_role(Roles((Path("roles"), *sites.roles_path_of(roles_path))), role, output)
        return
    if role:
        raise click.UsageError(f"one name is enough: leave out {role}")
    if name in _TOPICS:
        _TOPICS[name](markdown, output)
        return
    if modules or not markdown:
        custom.load(*parameters.modules_directories(modules, Path.cwd()))
    classes = all_calls()
    if markdown:
        click.echo(documentation.markdown(classes), nl=False)
        return
    if lua_types:
        from sloth.playbook.lua_types import lua_types as site_types

        click.echo(documentation.lua_types(classes, site_types()), nl=False)
        return
    chosen = [cls for cls in classes if not name or name in (cls.name, cls.name.partition(".")[0])]
    if not chosen and _show_globals(name, output):
        return
    if not chosen:
        from sloth.playbook.reference import global_names

        names = {
            *_TOPICS,
            "role",
            *global_names(),
            *(word for cls in classes for word in (cls.name, cls.name.split(".")[0])),
        }
        raise UsageError(f"unknown module {name}", hint=did_you_mean(name, names) or "see sloth-runner doc")
    if output == "json":
        write_json(documentation.document(chosen))
    elif name and chosen[0].name == name:
        _show_page(chosen[0])
    else:
        _show_rows([(cls.name, documentation.summary(cls)) for cls in chosen])


def _show_role(roles: Roles, name: str, output: str) -> None:
    """Show a role, or without a name list all of them."""
    if not name:
        found = [roles.find(known) for known in roles.names()]
        if output == "json":
            write_json([{"name": role.name, "description": role.description} for role in found])
        elif found:
            _show_rows([(role.name, role.description) for role in found])
        else:
            click.echo("no role found")
        return
    role = roles.find(name)
    if output == "json":
        declared = documentation.fields(role.arguments or ())
        arguments = None if role.arguments is None else [documentation.plain(field) for field in declared]
        description = {"name": role.name, "directory": str(role.directory), "description": role.description}
        write_json({**description, "arguments": arguments})
        return
    click.secho(f"role {role.name}\n", bold=True)
    if role.description:
        click.echo("\n".join(textwrap.wrap(role.description, _width())) + "\n")
    click.secho(f"It is in {role.directory}.", dim=True)
    if role.arguments:
        _show_fields("Arguments", role.arguments, is_input=True)
    elif role.arguments is None:
        click.echo("\nIts arguments are not declared: it takes any.")


def _show_inventory(markdown: bool, output: str) -> None:
    from sloth.inventory import reference

    if markdown:
        click.echo(reference.markdown(), nl=False)
        return
    if output == "json":
        write_json(reference.document())
        return
    for section in reference.reference():
        click.secho(f"{section.title}\n", bold=True)
        click.echo("\n".join(textwrap.wrap(section.text, min(_width(), 120))) + "\n")
        rows = []
        for entry in section.entries:
            default = f" [{entry.default}]" if entry.default else ""
            text = f"{entry.help} ({entry.value})" if entry.help else entry.value
            rows.append((entry.name, text + default))
        _show_rows(rows, indent=2)
        click.echo()


def _show_task(markdown: bool, output: str) -> None:
    from sloth.playbook import reference

    if markdown:
        click.echo(reference.task_markdown(), nl=False)
    elif output == "json":
        write_json(reference.task_document())
    else:
        click.secho("Options of tasks and handlers\n", bold=True)
        _show_rows(reference.task_rows(), indent=2)
        click.echo("\n" + "\n".join(textwrap.wrap(reference.handler_sentence(), min(_width(), 120))))


def _show_lua(markdown: bool, output: str) -> None:
    from sloth.playbook import lua_globals, reference

    if markdown:
        click.echo(reference.lua_markdown(), nl=False)
        return
    if output == "json":
        write_json(reference.lua_document())
        return
    for group in lua_globals.GROUPS:
        click.secho(f"{group.title}\n", bold=True)
        if group.text:
            click.echo("\n".join(textwrap.wrap(group.text, min(_width(), 120))) + "\n")
        for one in group.globals:
            _show_global(one)
        click.echo()
    click.echo("\n".join(textwrap.wrap(reference.STANDARD, min(_width(), 120))))


def _show_globals(name: str, output: str) -> bool:
    """Show the global of Lua with this name, or those of a table such as `state`; return whether there is any."""
    from sloth.playbook import lua_globals, reference

    found = [one for group in lua_globals.GROUPS for one in group.globals if name in (one.name, one.name.split(".")[0])]
    if output == "json" and found:
        write_json([reference.global_document(one) for one in found])
        return True
    for one in found:
        _show_global(one)
    return bool(found)


def _show_global(one: Global) -> None:
    _show_rows([(one.signature, one.help)], indent=2)
    click.echo(f"      {one.example}")


_TOPICS: Mapping[str, Callable[[bool, str], None]] = {
    "inventory": _show_inventory,
    "task": _show_task,
    "lua": _show_lua,
}


def _width() -> int:
    """Return the number of columns to fit into: those of the terminal; nothing is folded for a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize


def _show_rows(rows: Sequence[tuple[str, str]], indent: int = 0) -> None:
    """Write terms and their explanations in two columns."""
    left = max(len(term) for term, _ in rows) + 2
    for term, text in rows:
        first, *more = textwrap.wrap(text, max(20, _width() - left - indent)) or [""]
        click.echo(" " * indent + click.style(term, bold=True) + f"{'':<{left - len(term)}}{first}".rstrip())
        for line in more:
            click.echo(" " * (indent + left) + line)


def _show_fields(heading: str, declared: Sequence[Field], is_input: bool) -> None:
    """Write arguments (is_input) or results, a line each."""
    click.secho(f"\n{heading}", bold=True)
    fields = documentation.fields(declared)
    width = max(len(field.name) for field in fields) + 1
    rows = []
    for field in fields:
        default = documentation.default(field) if is_input else ""
        more = f" [{default}]" if default not in ("", "required") else ""
        star = "*" if is_input and field.required else ""
        rows.append((f"{field.name + star:<{width}}  {field.type}", documentation.explanation(field) + more))
    _show_rows(rows, indent=2)


def _show_page(cls: type[Call]) -> None:
    click.secho(f"{cls.name}\n", bold=True)
    for text in documentation.paragraphs(cls):
        click.echo("\n".join(textwrap.wrap(text, _width())) + "\n")
    click.secho(documentation.kind(cls), dim=True)
    for heading, declared, is_input in (("Arguments", cls.fields, True), ("Results", cls.returns, False)):
        if declared:
            _show_fields(heading, declared, is_input)
    click.secho("\nOptions of every call", bold=True)
    click.echo(
        "\n".join(textwrap.wrap(", ".join(documentation.option_names(cls)), max(20, _width() - 2), initial_indent="  "))
    )
    click.secho("\nExample", bold=True)
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.padding import Padding
        from rich.syntax import Syntax

        Console().print(Padding(Syntax(cls.example, "lua", background_color="default", word_wrap=True), (0, 2)))
    else:
        click.echo(textwrap.indent(cls.example, "  "))
