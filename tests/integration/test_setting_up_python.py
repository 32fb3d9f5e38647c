"""`bootstrap` over SSH: what login shells print before, what no answer means, and who is asked for a password."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from sloth.engine.python_setup import Outcome, Setup, set_up_python
from sloth.inventory import Inventory
from sloth.passwords import Passwords
from sloth.transport.loopback import LoopbackFleet


async def outcomes(inventory: Inventory) -> dict[str, Outcome]:
    """Return what a check finds on web1 and web2."""
    hosts = inventory.select("web*")
    return {found.host: found for found in await set_up_python(hosts, Passwords(), 5, check=True)}


async def test_what_a_login_shell_prints_is_no_answer(servers: LoopbackFleet, inventory: Inventory) -> None:
    servers.shell = ("/bin/sh", "-c", 'echo Welcome; echo "to sloth-bootstrap:failed:x"; exec /bin/sh -c "$1"', "sh")
    assert {found.status for found in (await outcomes(inventory)).values()} == {Setup.PRESENT}
    servers.shell = ("/bin/sh", "-c", "echo This account is not available; exit 1", "sh")
    for name, found in (await outcomes(inventory)).items():
        assert found.status is Setup.FAILED
        assert "This account is not available" in found.detail
        assert name in found.detail


@pytest.mark.skipif(shutil.which("sudo") is None or os.geteuid() != 0, reason="needs root and sudo")
async def test_hosts_that_share_a_command_for_the_password_run_it_once(servers: LoopbackFleet, tmp_path: Path) -> None:
    command = f"echo asked >> {tmp_path}/asked; echo password"
    become = f'[defaults]\nbecome = "root"\nbecome_password_command = "{command}"'
    (tmp_path / "become.toml").write_text(servers.inventory_toml().replace("[defaults]", become))
    found = await outcomes(Inventory.read(tmp_path / "become.toml"))
    assert {one.status for one in found.values()} == {Setup.PRESENT}
    assert (tmp_path / "asked").read_text() == "asked\n"
