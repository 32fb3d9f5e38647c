"""The site that a command is about: its files, and where its roles and modules are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import click

from sloth.playbook import Site

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


def read_site(names: Sequence[str], roles_path: Sequence[str]) -> Site:
    """Return the site of --file, whose roles may be in --roles-path or $SLOTH_ROLES_PATH. Raises SiteError."""
    return Site.read(*names, roles_path=roles_path_of(roles_path))


def roles_path_of(given: Sequence[str]) -> list[Path]:
    """Return the directories of --roles-path and of $SLOTH_ROLES_PATH."""
    names = [*given, *filter(None, os.environ.get("SLOTH_ROLES_PATH", "").split(os.pathsep))]
    return [Path(name).expanduser() for name in names]
