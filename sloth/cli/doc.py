"""`sloth-runner doc`: the modules, from their declarations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from sloth.cli import parameters
from sloth.engine import custom
from sloth.engine.modules import Call, all_calls
from sloth.errors import UsageError
from sloth.report import documentation
from sloth.suggest import did_you_mean


@click.command()
@click.argument("name", default="")
@parameters.MODULES
@click.option("--markdown", is_flag=True, help="The whole reference, as docs/modules.md has it.")
@click.option("--lua-types", is_flag=True, help="A definition file for Lua language servers.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def doc(name: str, modules: str | None, markdown: bool, lua_types: bool, output: str) -> None:
    """Show the documentation of modules.

    \b
    sloth-runner doc               all modules, a line each
    sloth-runner doc file          those of a namespace
    sloth-runner doc file.copy     arguments, results and an example

    Your own modules (./modules or --modules) are shown with the built-in ones. For completion and checks in an
    editor: sloth-runner doc --lua-types > sloth.lua, and name that file in the language server's library.
    """
    own = parameters.modules_directory(modules, Path.cwd())
    custom.load(own if modules or not markdown else None)
    classes = all_calls()
    if markdown:
        click.echo(documentation.markdown(classes), nl=False)
        return
    if lua_types:
        click.echo(documentation.lua_types(classes), nl=False)
        return
    chosen = [cls for cls in classes if not name or name in (cls.name, cls.name.partition(".")[0])]
    if not chosen:
        names = {cls.name for cls in classes} | {cls.name.partition(".")[0] for cls in classes}
        raise UsageError(f"there is no module {name}", hint=did_you_mean(name, names) or "see sloth-runner doc")
    if output == "json":
        click.echo(json.dumps(documentation.document(chosen), indent=2))
    elif name and chosen[0].name == name:
        _page(chosen[0])
    else:
        _list(chosen)


def _list(classes: list[type[Call]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(ratio=1)
    for cls in classes:
        table.add_row(cls.name, escape(documentation.summary(cls)))
    Console().print(table)


def _page(cls: type[Call]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.padding import Padding
    from rich.syntax import Syntax
    from rich.table import Table

    console = Console()
    console.print(f"[bold]{cls.name}[/bold]\n")
    for text in documentation.paragraphs(cls):
        console.print(escape(text) + "\n")
    console.print(f"[dim]{escape(documentation.kind(cls))}[/dim]")
    declared: list[tuple[str, Any]] = [("Arguments", cls.fields), ("Results", cls.returns)]
    for heading, fields in declared:
        if not fields:
            continue
        console.print(f"\n[bold]{heading}[/bold]")
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
        table.add_column(no_wrap=True, style="cyan")
        table.add_column(no_wrap=True, style="dim")
        table.add_column(ratio=1)
        for field in documentation.fields(fields):
            value = documentation.default(field) if heading == "Arguments" else ""
            more = f" [dim]\\[{escape(value)}][/dim]" if value and value != "required" else ""
            star = "[red]*[/red]" if heading == "Arguments" and field.required else ""
            table.add_row(field.name + star, field.type, escape(documentation.described(field)) + more)
        console.print(table)
    console.print("\n[bold]Example[/bold]")
    if console.is_terminal:
        console.print(Padding(Syntax(cls.example, "lua", background_color="default", word_wrap=True), (0, 2)))
    else:  # nothing is cut or folded for a pipe
        click.echo("".join(f"  {line}\n" for line in cls.example.splitlines()), nl=False)
