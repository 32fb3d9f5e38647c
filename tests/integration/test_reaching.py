"""Reaching hosts: keys that are wrong, silent ports, every Python, state over SSH, jump hosts."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import asyncssh
import pytest

from sloth.errors import UsageError
from sloth.inventory import Inventory
from sloth.transport import bootstrap, bundle
from sloth.transport.loopback import LoopbackFleet
from tests.integration.running import run_site
from tests.integration.test_contracts import sloth
from tests.integration.test_run import SITE, ended, reasons

TRUE = 'task({ name = "t", run = function() exec.run("true") end })'
PYTHONS = [*sorted(Path.home().glob(".pyenv/versions/3.*/bin/python")), Path("/usr/bin/python3")]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    path = tmp_path / "site.sloth"
    path.write_text(TRUE)
    return path


async def end_of(text: str, site: Path, tmp_path: Path, host: str = "web1") -> tuple[str, str]:
    """How the host ended with this inventory text: status and error."""
    (tmp_path / "tried.toml").write_text(text)
    inventory = Inventory.read(tmp_path / "tried.toml")
    event = ended(await run_site(site, inventory, tmp_path / "controller", None, host))[host]
    return event.status, str(event.error)


async def test_a_key_that_the_host_refuses(fleet: LoopbackFleet, site: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(other)
    other.chmod(0o600)
    status, error = await end_of(fleet.inventory_toml().replace(str(fleet.key_file), str(other)), site, tmp_path)
    assert status == "unreachable"
    assert "does not let" in error
    assert str(other) in error


async def test_a_changed_host_key_is_refused_even_with_accept_new(
    fleet: LoopbackFleet, site: Path, tmp_path: Path
) -> None:
    public = " ".join(asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().split()[:2])
    fleet.known_hosts.write_text(f"[127.0.0.1]:{fleet.ports['web1']} {public}\n")
    text = fleet.inventory_toml().replace("[defaults]", '[defaults]\nhost_keys = "accept-new"')
    status, error = await end_of(text, site, tmp_path)
    assert (status, "has CHANGED" in error) == ("unreachable", True)
    status, error = await end_of(text, site, tmp_path, "web2")
    assert status == "changed", error
    assert f"]:{fleet.ports['web2']} " in fleet.known_hosts.read_text()


async def test_a_port_that_says_nothing_has_a_deadline(site: Path, tmp_path: Path) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = f'address = "127.0.0.1"\nport = {port}\nssh_config = false\nconnect_timeout = 1'
    status, error = await end_of(f"[hosts.web1]\n{settings}\n", site, tmp_path)
    server.close()
    await server.wait_closed()
    assert (status, "took longer than 1 seconds" in error) == ("unreachable", True), error


async def test_through_a_jump_host_every_hop_is_checked(fleet: LoopbackFleet, site: Path, tmp_path: Path) -> None:
    text = fleet.inventory_toml() + f'proxy_jump = "127.0.0.1:{fleet.ports["web1"]}"\n'
    status, error = await end_of(text, site, tmp_path, "db1")
    assert status == "changed", error
    known = fleet.known_hosts.read_text().splitlines()
    fleet.known_hosts.write_text("\n".join(line for line in known if f"]:{fleet.ports['web1']} " not in line) + "\n")
    status, error = await end_of(text, site, tmp_path, "db1")
    assert (status, "host key is unknown" in error) == ("unreachable", True)


async def test_noise_from_a_login_shell_is_skipped(fleet: LoopbackFleet, site: Path, tmp_path: Path) -> None:
    fake = tmp_path / "bin"
    fake.mkdir()
    (fake / "sh").write_text('#!/bin/sh\necho "Welcome to this host"\nexec /bin/sh "$@"\n')
    (fake / "sh").chmod(0o755)
    fleet.environment["PATH"] = f"{fake}:{fleet.environment['PATH']}"
    status, error = await end_of(fleet.inventory_toml(), site, tmp_path)
    assert status == "changed", error


async def test_a_wrong_guess_about_the_payload_is_mended(fleet: LoopbackFleet, site: Path, tmp_path: Path) -> None:
    assert (await end_of(fleet.inventory_toml(), site, tmp_path))[0] == "changed"
    home = fleet.homes["web1"] / ".sloth-runner"
    (home / "payload").rename(home / "gone")
    status, error = await end_of(fleet.inventory_toml(), site, tmp_path)
    assert status == "changed", error
    assert [path.name for path in (home / "payload").iterdir()] == [bundle.build().sha256]


async def test_code_that_others_can_write_is_not_run(fleet: LoopbackFleet, site: Path, tmp_path: Path) -> None:
    (fleet.homes["web1"] / ".sloth-runner").mkdir()
    (fleet.homes["web1"] / ".sloth-runner").chmod(0o777)
    status, error = await end_of(fleet.inventory_toml(), site, tmp_path)
    assert (status, "only its owner can write" in error) == ("failed", True)


@pytest.mark.parametrize("python", [path for path in PYTHONS if path.exists()], ids=lambda path: path.parts[-3])
async def test_the_payload_runs_under_every_python(
    python: Path, fleet: LoopbackFleet, site: Path, tmp_path: Path
) -> None:
    site.write_text(SITE + 'task({ name = "f", run = function() print(facts.python) end })')
    text = fleet.inventory_toml().replace("[defaults]", f'[defaults]\npython = "{python}"')
    (tmp_path / "p.toml").write_text(text)
    inventory = Inventory.read(tmp_path / "p.toml")
    first = await run_site(site, inventory, tmp_path / "controller", None, "web1")
    assert ended(first)["web1"].status == "changed", ended(first)["web1"].error
    second = await run_site(site, inventory, tmp_path / "controller", None, "web1")
    assert reasons(second) == {("unchanged", ""): 5}


async def test_state_over_ssh_and_from_the_replica(fleet: LoopbackFleet, site: Path, tmp_path: Path) -> None:
    site.write_text('task({ name = "t", run = function() file.copy({ dest = "~/a", content = "a" }) end })')
    (tmp_path / "inventory.toml").write_text(fleet.inventory_toml())
    arguments = ("-i", "inventory.toml")

    async def cli(*words: str) -> tuple[int, str, str]:
        done = await asyncio.to_thread(sloth, tmp_path, *words)
        return done.returncode, done.stdout, done.stderr

    assert (await cli("run", *arguments, "-f", "site.sloth"))[0] == 0
    key = f"file:copy:{fleet.homes['web1']}/a"
    asked = await cli("state", "list", "--agent", "web1", *arguments, "--output", "json")
    cached = await cli("state", "list", "--agent", "web1", "--cached", "--output", "json")
    assert [row["key"] for row in json.loads(asked[1])] == [key]
    assert asked[1] == cached[1]
    assert (await cli("state", "delete", key, "--yes", "--agent", "web1", *arguments))[0] == 0
    assert json.loads((await cli("state", "list", "--agent", "web1", *arguments, "--output", "json"))[1]) == []
    await fleet.stop("web1")
    assert (await cli("state", "list", "--agent", "web1", *arguments))[0] == 4
    assert (await cli("state", "list", "--agent", "wbe1", *arguments))[0] == 2
    await fleet.start("web1")


def test_the_payload_stays_small_and_the_same() -> None:
    first = bundle.build()
    bundle._build.cache_clear()
    assert bundle.build() == first
    assert len(first.data) < 200_000


@pytest.mark.parametrize("name", ["x; rm -rf /", "$(id)", "a b", "-u root", ""])
def test_names_that_a_shell_would_read_are_refused(name: str) -> None:
    with pytest.raises(UsageError):
        bootstrap.command(name)
    with pytest.raises(UsageError):
        bootstrap.command(None, name)
