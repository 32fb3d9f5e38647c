"""The command line as the record of a run keeps it."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sloth.cli.run import SiteOptions


def command_line(
    given: SiteOptions, check: bool, prune: bool, start_at: str | None, resume: str | None, plan: str = ""
) -> tuple[str, ...]:
    """Return the words that do the same as a run; of -e only the names, since any value may be a secret.

    plan: what the check is saved as.
    """
    pairs = [
        *(("-i", path) for path in given.inventory),
        *(("-f", path) for path in given.site),
        *(("-l", pattern) for pattern in given.limit),
        *(("-t", tags) for tags in given.tags),
        *(("--skip-tags", tags) for tags in given.skip_tags),
        *(("-e", f"{text.partition('=')[0].strip()}=…" if "=" in text else "…") for text in given.extra),
        *(("--values", path) for path in given.values),
    ]
    pairs += [("--start-at", start_at)] if start_at is not None else []
    pairs += [("--resume", resume)] if resume is not None else []
    flags = [name for name, is_given in (("--check", check), ("--prune", prune)) if is_given]
    words = chain.from_iterable(pairs)
    return ("plan", *words, "-o", plan) if plan else ("run", *words, *flags)


def applying(
    plan: Path, inventory: Sequence[str], limit: Sequence[str], *, allow_unknown: bool, check: bool
) -> tuple[str, ...]:
    """Return the words that apply a saved plan in the same way."""
    pairs = [*(("-i", path) for path in inventory), *(("-l", pattern) for pattern in limit)]
    flags = (("--allow-unknown", allow_unknown), ("--check", check))
    return ("apply", str(plan), *chain.from_iterable(pairs), *(name for name, is_given in flags if is_given))
