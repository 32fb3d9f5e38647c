"""The command line: a command's module is imported only when the command is used, so that it starts quickly."""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib
import io
import os
import sys
from typing import NoReturn

from sloth import __version__
from sloth.cli import lazy

lazy.install()  # before click and all else that imports them

import click  # noqa: E402  see above

COMMANDS = {
    "run": "run",
    "plan": "plan",
    "apply": "plan",
    "validate": "validate",
    "call": "adhoc",
    "exec": "adhoc",
    "bootstrap": "bootstrap",
    "facts": "facts",
    "doc": "doc",
    "inventory": "inventory",
    "drift": "drift",
    "rollback": "rollback",
    "runs": "runs",
    "state": "state",
    "web": "web",
    "secret": "secret",
    "key": "key",
    "init": "init",
    "completion": "completion",
    "demo": "demo",
}

FUNCTIONS = {"exec": "exec_"}  # where a function cannot have the name of its command


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)  # with a file's name it would be about that
COLLECT = 20_000  # new objects between two garbage collections: Python's 700 cost 3 % of a run, which has few cycles


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is used: `--version` and `--help` import none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"sloth.cli.{COMMANDS[cmd_name]}")
        if not gc.isenabled():  # see command_line(); what is loaded by now stays loaded
            gc.freeze()
            gc.set_threshold(COLLECT)
            gc.enable()
        command: click.Command = getattr(module, FUNCTIONS.get(cmd_name, cmd_name))
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from sloth.suggest import did_you_mean

            hint = did_you_mean(args[0], COMMANDS) or "see sloth-runner --help"
            ctx.fail(f"unknown command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, SUMMARIES[name]) for name in COMMANDS])


# Kept here so that --help imports no command; a test compares them with the commands' docstrings.
SUMMARIES = {
    "run": "Run a site's tasks on the hosts of an inventory.",
    "plan": "Show what a run of a site would change, and what the site no longer names. Nothing is changed.",
    "apply": "Do what a saved plan says, and nothing else. The site is not needed; the inventory and the secrets are.",
    "validate": "Find mistakes in a site and its inventory, without connecting to a host.",
    "call": "Make one call on some hosts, and record it like one of a site.",
    "exec": "Run a command on some hosts; hosts with the same output are shown together.",
    "bootstrap": "Install Python on hosts that have none, by plain commands over SSH.",
    "facts": "Show facts of hosts. A site finds them in the global `facts`.",
    "doc": "Show the documentation of modules, task options, Lua and the inventory.",
    "inventory": "Show the inventory, explain its values, and import others.",
    "drift": "Show what no longer matches what was last applied. No site is needed, and nothing is changed.",
    "rollback": "Take back what a run has changed.",
    "runs": "Show the runs of this controller, or those that hosts have recorded.",
    "state": "Show and edit the recorded states of hosts.",
    "web": "Serve the web UI: runs, hosts and their states in a browser, and as a JSON API.",
    "secret": "Manage a site's secrets, which are encrypted in a file beside it.",
    "key": "Create keys that encrypt secrets and exported states.",
    "init": "Create a directory with a site, an inventory and tests, ready to run.",
    "completion": "Print the script that makes a shell complete commands, hosts, groups, tasks, tags, keys and runs.",
    "demo": "Show runs over three temporary SSH servers on this machine.",
}


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="sloth-runner")
def sloth_runner() -> None:
    """Configure Linux hosts over SSH, with nothing installed on them but Python.

    sloth-runner run -i inventory.toml -f site.sloth
    """


def command_line() -> None:
    """Run main() without what Python does for processes that live long; this is what the shell starts.

    Garbage is not collected while modules are loaded, and loaded modules are not freed at the end: both take longer
    than a short run. Everything durable has been written by then.
    """
    gc.disable()
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by who called; what is opened next must not take its place
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  until the end
    for stream in (sys.stdout, sys.stderr):
        # A terminal of Latin-1 cannot show every name or output: what it cannot is written as \u2192, and not lost.
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
    status: object = 1
    try:
        main()
    except SystemExit as ended:
        status = ended.code
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (BrokenPipeError, ValueError):  # the reader of the pipe is gone
            pass
        except OSError as error:
            status = status or 1
            with contextlib.suppress(OSError):
                os.write(2, f"error: the output cannot be written: {error.strerror}\n".encode())
    os._exit(status if isinstance(status, int) else 0 if status is None else 1)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command and exit with its status; write errors that are meant for people to stderr."""
    if "_SLOTH_RUNNER_COMPLETE" in os.environ:  # a shell asks
        from sloth.cli.completion import answer_shell

        answer_shell()
    try:
        status = sloth_runner.main(args=arguments, prog_name="sloth-runner", standalone_mode=False)
    except click.exceptions.Abort:
        print("Aborted.", file=sys.stderr)
        sys.exit(130)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2 if isinstance(error, click.UsageError) else error.exit_code)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _FULL and error.filename is None:
            print(f"error: the output cannot be written: {error.strerror}", file=sys.stderr)
            sys.exit(1)
        sys.exit(_explain(error))
    sys.exit(status if isinstance(status, int) else 0)


def _explain(error: Exception) -> int:
    """Write a SlothError and return its exit status; any other exception is a defect and keeps its traceback."""
    from sloth.errors import SlothError, Unreachable, UsageError
    from sloth.report.text import neutral  # a server, a host or a file may have part in it

    if not isinstance(error, SlothError):
        raise error
    click.secho("error: ", fg="red", bold=True, nl=False, err=True)
    click.echo(neutral(str(error)), err=True)
    return 2 if isinstance(error, UsageError) else 4 if isinstance(error, Unreachable) else 1
