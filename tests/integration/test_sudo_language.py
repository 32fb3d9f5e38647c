"""sudo speaks the language of the host; what it refuses is recognised all the same, and what it runs keeps its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from sloth.inventory import Inventory
from sloth.transport.loopback import LoopbackFleet
from tests.support.running import finished_hosts, results, run_site

# Speaks German, unless it is told not to, as sudo with a German locale does.
SUDO = """#!/bin/sh
case "$LC_ALL" in
C) echo "sudo: ENGLISH" >&2 ;;
*) echo "sudo: DEUTSCH" >&2 ;;
esac
exit 1
"""
RUNNING = """#!/bin/sh
while [ "$1" != -- ]; do shift; done
shift
exec "$@"
"""
SITE = 'task({name = "t", become = true, run = function() exec.run({cmd = "echo $LC_ALL/$LANG"}) end})'


async def end_with(servers: LoopbackFleet, directory: Path, program: str, locale: dict[str, str]) -> tuple[str, str]:
    """Run SITE on web1, where sudo is `program`; return the error, and what its command printed."""
    programs = directory / "programs"
    programs.mkdir()
    (programs / "sudo").write_text(program)
    (programs / "sudo").chmod(0o755)
    servers.environment = {**servers.environment, **locale, "PATH": f"{programs}:{servers.environment['PATH']}"}
    site = directory / "site.sloth"
    site.write_text(SITE)
    inventory = Inventory.read(directory / "inventory.toml")
    events = await run_site(site, inventory, directory / "controller", None, "web1")
    return str(finished_hosts(events)["web1"].error), "".join(str(r.values.get("stdout")) for r in results(events))


@pytest.mark.parametrize(
    ("english", "german", "message"),
    [
        (
            "1 incorrect password attempt",
            "1 Fehlversuch bei der Passwort-Eingabe",
            "does not accept the become password",
        ),
        ("a password is required", "Ein Passwort ist notwendig", "sudo requires a password"),
        ("ann is not in the sudoers file.", "ann ist nicht in der sudoers-Datei.", "may not use sudo"),
    ],
)
async def test_a_refusal_is_recognised(
    servers: LoopbackFleet, tmp_path: Path, english: str, german: str, message: str
) -> None:
    program = SUDO.replace("ENGLISH", english).replace("DEUTSCH", german)
    error, _ = await end_with(servers, tmp_path, program, {"LANG": "de_DE.UTF-8", "LC_ALL": "de_DE.UTF-8"})
    assert message in error


@pytest.mark.parametrize("locale", [{"LC_ALL": "de_DE.UTF-8"}, {}, {"LC_ALL": "C"}])
async def test_commands_keep_their_locale(servers: LoopbackFleet, tmp_path: Path, locale: dict[str, str]) -> None:
    error, printed = await end_with(servers, tmp_path, RUNNING, {"LANG": "C.UTF-8", **locale})
    assert error == "None"
    assert printed == f"{locale.get('LC_ALL', '')}/C.UTF-8"
