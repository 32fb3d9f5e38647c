"""The site that a command is about: its files, and where its roles and modules are."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import click

from sloth.errors import UsageError
from sloth.playbook import Site

_NAME = re.compile(r"[A-Za-z0-9_.@-][A-Za-z0-9_.:/@ +-]{0,199}")
SITE_NAME = click.option(
    "--site-name",
    metavar="NAME",
    help="The name by which hosts and other controllers know the site; no other site may have it.  "
    "[default: that of its file in its git remote, else its path]",
)
ROLES_PATH = click.option(
    "--roles-path",
    multiple=True,
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False),
    help="A directory of roles, besides roles/ beside the site and $SLOTH_ROLES_PATH.",
)


def site_modules(option: str | None, site: Site) -> list[Path]:
    """Return the directories of a site's modules: that of --modules, else those beside its files; and its roles'."""
    own = [Path(option)] if option else [directory / "modules" for directory in site.directories]
    return list(dict.fromkeys([*own, *site.role_modules]))


def read_site(names: Sequence[str], roles_path: Sequence[str], name: str | None = None) -> Site:
    """Return the site of --file, whose roles may be in --roles-path or $SLOTH_ROLES_PATH. Raises SiteError, UsageError.

    name: that of --site-name.
    """
    if name is not None and (not _NAME.fullmatch(name) or " + " in name):
        hint = "letters, digits, spaces and . _ - : / @, not / first, and at most 200 of them"
        raise UsageError(f"--site-name {name!r} cannot be a name", hint=hint)
    return Site.read(*names, roles_path=roles_path_of(roles_path), name=name or "")


def roles_path_of(given: Sequence[str]) -> list[Path]:
    """Return the directories of --roles-path and of $SLOTH_ROLES_PATH."""
    names = [*given, *filter(None, os.environ.get("SLOTH_ROLES_PATH", "").split(os.pathsep))]
    return [Path(name).expanduser() for name in names]
