"""Types of options whose value must not be empty: `--log "$LOG"`, where LOG is not set, must not mean no log."""

from __future__ import annotations

from typing import Any

import click

WHY = "it is empty; leave the option out, or say which"


class FilledPath(click.Path):
    """The path of a file, which need not be there."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail(WHY, param, ctx)
        return super().convert(value, param, ctx)


class FilledText(click.types.StringParamType):
    """A text."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail(WHY, param, ctx)
        return super().convert(value, param, ctx)
