"""Options that several commands share, and the values that they stand for."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from sloth.cli import credentials
from sloth.cli.completed import Completed, completed
from sloth.cli.filled import FilledPath
from sloth.cli.output import warn
from sloth.errors import UsageError
from sloth.inventory import Host, Inventory, find_inventory

if TYPE_CHECKING:
    from sloth.inventory.templated import Templated
    from sloth.payload.kernel.values import Json, JsonObject

# A command's function. Its parameters are those that its decorators declare, which no type can say: hence Any here.
Command = Callable[..., Any]
Decorator = Callable[[Command], Command]


class OnceOption(click.Option):
    """An option that may be given once: click itself would silently take the last of several."""

    def __init__(self, names: Sequence[str], **settings: Any) -> None:
        settings["multiple"] = True
        super().__init__(names, **settings)

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        values = super().type_cast_value(ctx, value)
        given = values if isinstance(values, tuple) else ()  # else click's mark of a value that was not given
        if len(given) > 1:
            names = "/".join(sorted(self.opts, key=len))
            raise click.UsageError(f"{names} was given {len(given)} times; it takes one file", ctx)
        if self.required and not given and not ctx.resilient_parsing:
            raise click.MissingParameter(ctx=ctx, param=self)
        return given[0] if given else None


_WHERE = "$SLOTH_INVENTORY, ./inventory.toml, or ~/.sloth-runner/inventory.toml"
_MERGED = (
    "The inventory: TOML, Ansible's INI or YAML, a directory or a program; - is stdin, and web1,web2, a list of hosts. "
    "Several are merged: for each key the last one wins."
)
INVENTORY = click.option(
    "-i",
    "--inventory",
    multiple=True,
    metavar="FILE",
    type=click.Path(),
    help=f"{_MERGED} Default: {_WHERE}; if there is none, this machine, as the agent `local`.",
)
AGENT_INVENTORY = click.option(
    "-i", "--inventory", multiple=True, metavar="FILE", type=click.Path(), help=f"{_MERGED} Default: {_WHERE}."
)


def site_option(is_required: bool) -> Decorator:
    """Return the option that names the site."""
    return click.option(
        "-f",
        "--file",
        "site",
        multiple=True,
        required=is_required,
        metavar="SITE",
        type=click.Path(),
        help="The site, a .sloth file. Several run in this order, as one site.",
    )


SITE = site_option(True)
LIMIT = click.option(
    "-l",
    "--limit",
    multiple=True,
    metavar="PATTERN",
    shell_complete=completed(Completed.HOSTS),
    help="Only these hosts: web*, @group, tag:edge, !name, comma lists; @failed, @changed, @unreachable: those of the "
    "newest run, or with :RUN of that one.",
)
EXTRA = click.option(
    "-e", "--extra", multiple=True, metavar="KEY=VALUE", help="Set a variable; it overrides all others."
)
VALUES = click.option(
    "--values",
    multiple=True,
    metavar="FILE",
    type=click.Path(),
    help="Set variables from a file: TOML, JSON or YAML, by its content.",
)
MODULES = click.option(
    "--modules",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False),
    help="The directory of your own modules. Default: modules/ beside the site; without a site, ./modules.",
)
FORKS = click.option(
    "--forks", type=click.IntRange(1), default=50, show_default=True, help="How many hosts to work on at the same time."
)
BECOME = click.option("-b", "--become", is_flag=True, help="Work as root, with sudo.")
BECOME_USER = click.option("--become-user", metavar="NAME", help="Work as this account, with sudo.")
KEY_FILE = click.option(
    "--key-file",
    metavar="FILE",
    type=FilledPath(),
    help="A file of keys, one per line.  [default: $SLOTH_KEY_FILE, or the key $SLOTH_KEY]",
)
PASSPHRASE = click.option("--passphrase", is_flag=True, help="Ask for a passphrase, and use it instead of a key.")
NEW_KEY_FILE = click.option(
    "--new-key-file",
    metavar="FILE",
    type=FilledPath(),
    help="The new key.  [default: the first key of --key-file or $SLOTH_KEY]",
)
NEW_PASSPHRASE = click.option("--new-passphrase", is_flag=True, help="Ask for a new passphrase.")
JUNIT = click.option("--junit", metavar="FILE", type=FilledPath(), help="Also write the result to FILE as JUnit XML.")
LOG = click.option(
    "--log", metavar="FILE", type=FilledPath(), help="Also append every event of the run to FILE, a line of JSON each."
)
PROFILE = click.option(
    "--profile",
    is_flag=False,
    flag_value="",
    metavar="[FILE]",
    type=click.Path(),
    help="Show at the end where the time went, for each host; with FILE, write it as a picture (SVG), too.",
)
TRACES = click.option(
    "--traces", is_flag=True, help="Also send the run as a trace of OpenTelemetry; see OTEL_EXPORTER_OTLP_ENDPOINT."
)
WEB = click.option("--web", is_flag=True, help="Print an address at which a browser can follow the run.")
CHECK = click.option("-C", "--check", is_flag=True, help="Show what would change, but change nothing.")
DIFF = click.option("-D", "--diff", is_flag=True, help="Show the differences in files and attributes.")
YES = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")


def output(*kinds: str, default: str | None = "table", name: str = "output", short: bool = True) -> Decorator:
    """Return the option for the format of the output; short: with -o."""
    return click.option(
        *(["-o"] if short else []),
        "--output",
        name,
        type=click.Choice(kinds),
        default=default,
        show_default=default is not None,
        help="The format of the output." + ("" if default else "  [default: rich on a terminal, else plain]"),
    )


TABLE_OR_JSON = output("table", "json")
TEXT_OR_JSON = output("text", "json", default="text")
REPORT = output("rich", "plain", "json", "ndjson", default=None)


def combine(*options: Decorator) -> Decorator:
    """Return a decorator that adds several options; --help lists them in this order."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def collect(parameter: str, cls: Callable[..., object], *options: Decorator) -> Decorator:
    """Return a decorator that adds options, and passes their values to the command as one object of a dataclass.

    parameter: the command's parameter for the object; cls: the dataclass, whose fields are named as the options.
    """
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]  # a dataclass

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def with_object(**given: Any) -> Any:
            collected = cls(**{name: given.pop(name) for name in names})
            return command(**{parameter: collected}, **given)

        return combine(*options)(with_object)

    return decorate


PASSWORDS = combine(
    click.option(
        "-k",
        "--ask-pass",
        is_flag=True,
        expose_value=False,
        callback=credentials.note,
        help="Ask for the SSH password, once for all hosts.",
    ),
    click.option(
        "-K",
        "--ask-become-pass",
        is_flag=True,
        expose_value=False,
        callback=credentials.note,
        help="Ask for the password of sudo, su or doas, once for all hosts.",
    ),
)


running = combine(
    FORKS,
    PASSWORDS,
    click.option(
        "--lock-wait",
        type=click.FloatRange(0),
        default=10,
        show_default=True,
        metavar="SECONDS",
        help="How long to wait for a host, or with a backend the site, that another run has locked.",
    ),
)
_VERBOSE = click.option(
    "-v",
    "--verbose",
    count=True,
    help="Also show what commands print, unchanged calls and skipped tasks; -vv: times and lines too.",
)
reporting = combine(DIFF, REPORT, _VERBOSE)


def reporting_or_saving(kind: object) -> Decorator:
    """Return the options of reports, where -o takes the format of the output or the file of a plan."""
    text = "The format of the output: rich, plain, json or ndjson; or a FILE in which the plan is saved."
    return combine(
        DIFF, click.option("-o", "--output", type=cast(Any, kind), metavar="FORMAT|FILE", help=text), _VERBOSE
    )


checking = combine(
    CHECK,
    click.option("--exit-code", is_flag=True, help="With --check: exit with status 3 when changes are pending."),
)


def words(values: Sequence[str], option: str = "") -> tuple[str, ...]:
    """Return the words of an option that may be repeated and takes comma lists.

    option: its name, if it must not be empty: a variable that is not set, as in --tags "$TAGS", must not select all.
    """
    found = tuple(word.strip() for value in values for word in value.split(",") if word.strip())
    if option and values and not found:
        raise UsageError(f"{option} is empty", hint=f"leave {option} out to select all")
    return found


def read_inventory(names: Sequence[str]) -> Inventory:
    """Return the inventory that --inventory, the environment or the current directory names; else this machine alone.

    One that neither an option nor the environment names is reported on stderr: it may be an unexpected one.
    """
    found = find_inventory(names)
    if not found:
        return Inventory.local()
    if not names:
        _report_inventory(found)
    return Inventory.read(*found, evaluate=evaluate_setting, warn=_warn)


def evaluate_setting(value: Templated, variables: JsonObject) -> Json:
    """Return what a connection setting with Jinja in it comes to. Raises SlothError."""
    from sloth.playbook.template import evaluate  # few inventories have templates among their connection settings

    return evaluate(value, variables)


def evaluate_variable(host: Host, name: str, value: Templated) -> Json:
    """Return the value that a variable with Jinja in it has for a host. Raises SlothError when it cannot be known."""
    from sloth.inventory.resolve import magic
    from sloth.playbook.template import Renderer

    seen = {
        **magic(host.name, host.groups, host.source),
        **host.vars,
        "vars": dict(host.vars),
        "sealed_files": host.sealed,
    }
    return Renderer([]).evaluate(name, value, seen)


@functools.cache
def _warn(text: str) -> None:
    """Write a warning to stderr, once."""
    warn(text)


def require_inventory(names: Sequence[str], hint: str) -> Inventory:
    """Return the inventory as read_inventory() does. Raises UsageError, with this hint, when there is none."""
    inventory = read_inventory(names)
    if not inventory.paths:
        raise UsageError("no inventory found", hint=hint)
    return inventory


@functools.cache
def _report_inventory(found: Sequence[Path]) -> None:
    """Write to stderr, once, which inventory was found, unless $SLOTH_INVENTORY names it."""
    if not os.environ.get("SLOTH_INVENTORY"):
        click.echo(f"using the inventory {', '.join(map(str, found))}", err=True)


def select(inventory: Inventory, pattern: str | Sequence[str], where: str) -> tuple[Host, ...]:
    """Return the hosts that `pattern` selects; `local` is this machine, even when the inventory does not name it.

    Raises UsageError when it selects none.
    """
    if "@" in "".join(pattern):
        from sloth.cli import past_hosts  # few commands read what was recorded of runs
        from sloth.cli.backend_option import storage

        pattern = past_hosts.expand(pattern, inventory.groups, where, storage(inventory))
    if pattern in ("local", ("local",)) and "local" not in inventory.hosts:
        inventory = Inventory.local()
    hosts = inventory.select(pattern, where)
    if not hosts:
        raise UsageError(f"{where} selects no host", hint="see sloth-runner inventory list")
    return tuple(hosts)


def limited(inventory: Inventory, limit: Sequence[str]) -> tuple[Host, ...]:
    """Return the hosts that --limit selects; all when it was not given. Raises UsageError when it selects none."""
    return select(inventory, words(limit, "--limit") or "all", "--limit")


def modules_directories(option: str | None, *beside: Path) -> list[Path]:
    """Return the directories of modules, without a site: that of --modules or `modules`, and those of roles, there."""
    own = [Path(option)] if option else [directory / "modules" for directory in beside]
    return [*own, *(path for directory in beside for path in sorted(directory.glob("roles/*/modules")))]
