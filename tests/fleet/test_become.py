"""Becoming another account by su and doas, with a password and without; sudo is in the other files."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from sloth.engine.options import Options
from sloth.inventory import Inventory
from sloth.passwords import Passwords
from tests.support.command import sloth
from tests.support.machines import Fleet
from tests.support.running import finished_hosts, results, run_site

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(300)]

HOST = "host4"
# What an earlier task's account has is not that of the next one.
SITE = """
task({ name = "a", become = false, run = function() exec.run({ cmd = "id -un", read_only = true }) end })
task({ name = "b", become = "ACCOUNT", run = function()
    file.copy({ content = "x\\n", dest = "~/became" })
    exec.run({ cmd = "id -un; echo ~; cat ~/became; echo $LC_ALL", read_only = true })
end })
"""
DOAS = Path("/usr/bin/doas")


@pytest.fixture(scope="module")
def doas(fleet: Fleet) -> Iterator[None]:
    """Doas on the host: deploy may become anybody without a password, ops may become root with its own."""
    if not DOAS.exists():
        pytest.skip("doas is not installed on this machine, from which the host would get it")
    root = fleet.roots[HOST]
    shutil.copy(DOAS, root / "usr/bin/doas")
    (root / "usr/bin/doas").chmod(0o4755)
    shutil.copy("/etc/pam.d/doas", root / "etc/pam.d/doas")
    (root / "etc/doas.conf").write_text("permit nopass deploy\npermit ops as root\n")
    yield
    for path in ("usr/bin/doas", "etc/pam.d/doas", "etc/doas.conf"):
        (root / path).unlink()


async def run(
    fleet: Fleet, tmp_path: Path, method: str, user: str, account: str, password: str | None, host: str = HOST
) -> list[str]:
    """Return what a command printed on the host that ran as `account`, or as one line the error."""
    text = fleet.inventory(user=user, become="false").replace("[defaults]", f'[defaults]\nbecome_method = "{method}"')
    (tmp_path / "inventory.toml").write_text(text)
    (tmp_path / "site.sloth").write_text(SITE.replace("ACCOUNT", account))
    inventory = Inventory.read(tmp_path / "inventory.toml")
    options = Options(passwords=Passwords(become=password))
    events = await run_site(tmp_path / "site.sloth", inventory, tmp_path / "controller", options, host)
    end = finished_hosts(events)[host]
    assert password is None or password not in repr(events).replace(str(tmp_path), "")
    if end.error is not None:
        return [end.error]
    fleet.shell(host, f"rm ~{account}/became")
    return str(results(events)[-1].values["stdout"]).splitlines()


@pytest.mark.parametrize(
    ("user", "account", "password"), [("root", "ops", None), ("deploy", "ops", "secret"), ("root", "ops", "not needed")]
)
async def test_su(fleet: Fleet, tmp_path: Path, user: str, account: str, password: str | None) -> None:
    assert (await run(fleet, tmp_path, "su", user, account, password))[:3] == [account, f"/home/{account}", "x"]


@pytest.mark.usefixtures("doas")
@pytest.mark.parametrize(
    ("user", "account", "password"),
    [("deploy", "root", None), ("deploy", "ops", None), ("ops", "root", "secret"), ("deploy", "ops", "not needed")],
)
async def test_doas(fleet: Fleet, tmp_path: Path, user: str, account: str, password: str | None) -> None:
    home = "/root" if account == "root" else f"/home/{account}"
    assert (await run(fleet, tmp_path, "doas", user, account, password))[:3] == [account, home, "x"]


@pytest.mark.usefixtures("doas")
@pytest.mark.parametrize(
    ("method", "user", "account", "password", "message"),
    [
        ("su", "deploy", "ops", None, "su requires a password; hint: give --ask-become-pass; it is that of ops"),
        (
            "su",
            "deploy",
            "ops",
            "wrong-one",
            "su does not accept the become password; hint: type it again; it is that of",
        ),
        ("su", "root", "nobody-there", None, "the account nobody-there, which is to be become, does not exist"),
        ("doas", "ops", "root", None, "doas requires a password; hint: give --ask-become-pass"),
        ("doas", "ops", "root", "wrong-one", "doas does not accept the become password"),
        ("doas", "ops", "deploy", "secret", "the account may not become that user by doas"),
        ("doas", "deploy", "nobody-there", None, "the account nobody-there, which is to be become, does not exist"),
    ],
)
async def test_refusals(
    fleet: Fleet, tmp_path: Path, method: str, user: str, account: str, password: str | None, message: str
) -> None:
    (error,) = await run(fleet, tmp_path, method, user, account, password)
    assert message in error


@pytest.mark.parametrize(
    ("command", "outcome"),
    [
        ("printf 'secret\\n and more'", ["root", "/root", "x"]),
        ("echo wrong-one", "sudo does not accept the become password"),
        ("exit 3", "become_password_command ended with exit status 3; hint: it is: exit 3"),
        ("true", "become_password_command printed nothing"),
    ],
)
async def test_a_command_that_prints_the_password(
    fleet: Fleet, tmp_path: Path, command: str, outcome: str | list[str]
) -> None:
    text = fleet.inventory(user="ops", become="false")
    settings = f"[defaults]\nbecome_password_command = {json.dumps(command)}"
    (tmp_path / "inventory.toml").write_text(text.replace("[defaults]", settings))
    (tmp_path / "site.sloth").write_text(SITE.replace("ACCOUNT", "root"))
    inventory = Inventory.read(tmp_path / "inventory.toml")
    events = await run_site(tmp_path / "site.sloth", inventory, tmp_path / "controller", None, HOST)
    if isinstance(outcome, str):
        assert outcome in (finished_hosts(events)[HOST].error or "")
    else:
        assert str(results(events)[-1].values["stdout"]).splitlines()[:3] == outcome
        fleet.shell(HOST, "rm /root/became")


async def test_an_ssh_password_for_all_hosts(fleet: Fleet, tmp_path: Path) -> None:
    lines = fleet.inventory(user="ops", become="false").splitlines()
    (tmp_path / "inventory.toml").write_text("\n".join(line for line in lines if "identity_file" not in line))
    (tmp_path / "site.sloth").write_text('task({ name = "t", run = function() exec.run("true") end })')
    inventory = Inventory.read(tmp_path / "inventory.toml")
    for number, (password, status) in enumerate(
        (("secret", "changed"), ("wrong-one", "unreachable"), (None, "unreachable"))
    ):
        options = Options(passwords=Passwords(login=password))
        memory = tmp_path / f"controller{number}"
        with mock.patch.dict(os.environ, {"HOME": str(tmp_path)}):
            events = await run_site(tmp_path / "site.sloth", inventory, memory, options, HOST)
        end = finished_hosts(events)[HOST]
        assert end.status == status
        assert ("and the password)" in (end.error or "")) == (password == "wrong-one"), end.error


def test_without_a_terminal_nobody_is_asked(tmp_path: Path) -> None:
    (tmp_path / "inventory.toml").write_text('[hosts.a]\nconnection = "local"\n')
    for option in ("-k", "-K"):
        done = sloth(tmp_path, "exec", "-i", "inventory.toml", option, "a", "true", start_new_session=True)
        assert done.returncode == 2
        assert f"there is no terminal to ask for the password of {option} on" in done.stderr


async def test_a_tool_that_is_not_there(fleet: Fleet, tmp_path: Path) -> None:
    for password in (None, "secret"):
        (error,) = await run(fleet, tmp_path, "doas", "deploy", "root", password, "host5")
        assert "doas was not found on the host" in error
