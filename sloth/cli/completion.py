"""`sloth-runner completion`: prints what makes a shell complete our command lines, and answers that shell.

click does the work. Its scripts for bash and fish have limits that our words meet: colons (state keys), commas (host
patterns) and blanks (names of tasks).
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import Any

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ZshComplete,
    get_completion_class,
    split_arg_string,
)

VARIABLE = "_SLOTH_RUNNER_COMPLETE"  # click's name for the one by which a shell asks
_SPECIAL = r"[^\w@%+=:,./!*-]"  # what a shell would not take as a part of a word
_BASH = r"""%(complete_func)s() {
    local IFS=$'\n' response kind value
    response=$(env COMP_LINE="${COMP_LINE:0:COMP_POINT}" COMP_WORDBREAKS="$COMP_WORDBREAKS" \
        %(complete_var)s=bash_complete "$1")
    COMPREPLY=()
    for line in $response; do
        kind=${line%%%%,*} value=${line#*,}
        case $kind in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            part) compopt -o nospace; COMPREPLY+=("$value") ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""
_FISH = r"""function %(complete_func)s
    set -l response (env %(complete_var)s=fish_complete COMP_WORDS=(commandline -cp | string collect) \
        COMP_CWORD=(commandline -t | string collect) %(prog_name)s)
    for completion in $response
        set -l metadata (string split -m 1 "," -- $completion)
        switch $metadata[1]
            case dir
                __fish_complete_directories $metadata[2]
            case file
                __fish_complete_path $metadata[2]
            case plain
                echo $metadata[2]
        end
    end
end
complete --no-files --command %(prog_name)s --arguments "(%(complete_func)s)"
"""


class Bash(BashComplete):
    """Completion for bash, which splits words at colons and more, and inserts what it is given as it is."""

    source_template = _BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        line = os.environ.get("COMP_LINE", "")
        words = split_arg_string(line)
        self._is_quoted = line.count('"') % 2 == 1 or line.count("'") % 2 == 1
        incomplete = words.pop() if len(words) > 1 and not (line[-1:].isspace() and not self._is_quoted) else ""
        breaks = os.environ.get("COMP_WORDBREAKS", "")
        ends = [at for at, letter in enumerate(incomplete) if letter in breaks and not self._is_quoted]
        # bash replaces only what comes after the last of them; an @ belongs to the word that it begins.
        self._dropped = 0 if not ends else ends[-1] + (incomplete[ends[-1]] != "@")
        return words[1:], incomplete

    def format_completion(self, item: CompletionItem[Any]) -> str:
        kind = "part" if item.type == "plain" and item.value.endswith("=") else item.type
        value = item.value[self._dropped :] if item.type == "plain" else item.value
        return f"{kind}," + (value if self._is_quoted else re.sub(_SPECIAL, r"\\\g<0>", value))


class Fish(FishComplete):
    """Completion for fish, with commas in values."""

    source_template = _FISH


def answer_shell() -> None:
    """Make click answer the shell with our classes, and without a word when something is wrong with the line."""
    click.shell_completion.add_completion_class(_quiet(Bash), "bash")
    click.shell_completion.add_completion_class(_quiet(ZshComplete), "zsh")
    click.shell_completion.add_completion_class(_quiet(Fish), "fish")


def _quiet(cls: type[click.shell_completion.ShellComplete]) -> type[click.shell_completion.ShellComplete]:
    class Quiet(cls):  # type: ignore[valid-type,misc]  # a class of click that the caller chooses
        def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
            with contextlib.suppress(click.ClickException):
                found: list[CompletionItem[str]] = super().get_completions(args, incomplete)
                return found
            return []

    return Quiet


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that makes a shell complete commands, hosts, groups, tasks, tags, keys and runs.

    \b
    bash  sloth-runner completion bash > ~/.local/share/bash-completion/completions/sloth-runner
    zsh   sloth-runner completion zsh > "${fpath[1]}/_sloth-runner"
    fish  sloth-runner completion fish > ~/.config/fish/completions/sloth-runner.fish

    For the running bash or zsh only: source <(sloth-runner completion bash)
    """
    answer_shell()
    cls = get_completion_class(shell)
    assert cls is not None  # one of the choices
    source = cls(click.get_current_context().find_root().command, {}, "sloth-runner", VARIABLE)
    click.echo(source.source_template % source.source_vars(), nl=False)
