"""What parses files that people write: each takes any of them, or refuses it by an error of ours."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from sloth.errors import SlothError
from sloth.inventory import Inventory
from sloth.inventory.variables import extra_vars
from sloth.playbook import Site, check_syntax
from sloth.playbook.template import is_plain, read_template
from sloth.state.export import Reader
from sloth.state.keys import Keys
from sloth.state.vault import Vault
from sloth.transport.ssh_config import Configuration, find_route

SECONDS = 20  # for one input, on a machine that is slow


def inventory(path: Path) -> None:
    Inventory.read(path).select("all")


def values(path: Path) -> None:
    extra_vars([], [path])
    extra_vars([f"a={path.read_bytes().decode('latin-1')}"], [])


def site(path: Path) -> None:
    check_syntax(Site.read(str(path)))


def template(path: Path) -> None:
    is_plain(*read_template(str(path)))


def vault(path: Path) -> None:
    Vault(path, Keys(None, None)).names()


def export(path: Path) -> None:
    Reader(path, Keys(None, None)).verify()


def ssh_config(path: Path) -> None:
    find_route(Configuration.read(str(path)), "web1", user="me", port=None)


PARSERS = {
    "inventory": inventory, "values": values, "site": site, "template": template, "vault": vault, "export": export,
    "ssh_config": ssh_config,
}  # fmt: skip


def parse(parser: Callable[[Path], None], path: Path) -> None:
    begun, problem = time.monotonic(), "-"
    try:
        parser(path)
    except SlothError as error:
        problem = str(error)
    assert problem
    assert "defect" not in problem
    assert time.monotonic() - begun < SECONDS
