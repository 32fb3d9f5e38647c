"""What options and arguments may be completed to; completing.py knows the words."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from enum import StrEnum

import click


class Completed(StrEnum):
    """What the shell may complete a word to."""

    HOSTS = "hosts"  # and groups
    TASKS = "tasks"
    TAGS = "tags"
    MODULES = "modules"
    TOPICS = "topics"  # of the documentation: modules, and the other pages
    WORDS = "words"  # NAME= of a module's arguments
    RUNS = "runs"
    KEYS = "keys"  # of recorded states


Complete = Callable[[click.Context, click.Parameter, str], list[str]]


def completed(kind: Completed) -> Complete:
    """Return the `shell_complete` of an option or argument."""

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
        # By its name: it needs what has these options, and only the shell needs it.
        words: list[str] = importlib.import_module("sloth.cli.completing").complete(kind, context.params, incomplete)
        return words

    return complete
