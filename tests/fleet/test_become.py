"""Becoming another account by su and doas, with a password and without; sudo is in the other files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sloth.engine.options import Options
from sloth.inventory import Inventory
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
    options = Options(become_password=password)
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


async def test_a_tool_that_is_not_there(fleet: Fleet, tmp_path: Path) -> None:
    for password in (None, "secret"):
        (error,) = await run(fleet, tmp_path, "doas", "deploy", "root", password, "host5")
        assert "doas was not found on the host" in error
