"""Reaching hosts: keys that are wrong, silent ports, every Python, state over SSH, jump hosts."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import asyncssh
import pytest

from sloth.errors import UsageError
from sloth.inventory import Inventory
from sloth.transport import Become, bootstrap, bundle
from sloth.transport.loopback import LoopbackFleet
from tests.support.command import sloth
from tests.support.paths import PYTHONS
from tests.support.programs import SITE
from tests.support.running import finished_hosts, reasons, run_site

TRUE = 'task({ name = "t", run = function() exec.run("true") end })'


@pytest.fixture
def one_task(tmp_path: Path) -> Path:
    path = tmp_path / "site.sloth"
    path.write_text(TRUE)
    return path


async def end_of(text: str, one_task: Path, tmp_path: Path, host: str = "web1") -> tuple[str, str]:
    """How the host ended with this inventory text: status and error."""
    (tmp_path / "tried.toml").write_text(text)
    inventory = Inventory.read(tmp_path / "tried.toml")
    event = finished_hosts(await run_site(one_task, inventory, tmp_path / "controller", None, host))[host]
    return event.status, str(event.error)


async def test_a_key_that_the_host_refuses(servers: LoopbackFleet, one_task: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(other)
    other.chmod(0o600)
    status, error = await end_of(
        servers.inventory_toml().replace(str(servers.key_file), str(other)), one_task, tmp_path
    )
    assert status == "unreachable"
    assert "does not let" in error
    assert str(other) in error


async def test_a_key_that_others_can_read_is_not_used(servers: LoopbackFleet, one_task: Path, tmp_path: Path) -> None:
    """As with ssh: it may be known to others, and its owner can mend it."""
    servers.key_file.chmod(0o644)
    status, error = await end_of(servers.inventory_toml(), one_task, tmp_path)
    assert status == "unreachable"
    assert f"{servers.key_file} is open to others (mode 0644)" in error
    assert f"chmod 600 {servers.key_file}" in error
    servers.key_file.chmod(0o400)
    status, error = await end_of(servers.inventory_toml(), one_task, tmp_path)
    assert status == "changed", error


async def test_a_changed_host_key_is_refused_even_with_accept_new(
    servers: LoopbackFleet, one_task: Path, tmp_path: Path
) -> None:
    public = " ".join(asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().split()[:2])
    servers.known_hosts.write_text(f"[127.0.0.1]:{servers.ports['web1']} {public}\n")
    text = servers.inventory_toml().replace("[defaults]", '[defaults]\nhost_keys = "accept-new"')
    status, error = await end_of(text, one_task, tmp_path)
    assert (status, "has CHANGED" in error) == ("unreachable", True)
    status, error = await end_of(text, one_task, tmp_path, "web2")
    assert status == "changed", error
    assert f"]:{servers.ports['web2']} " in servers.known_hosts.read_text()


async def test_a_port_that_says_nothing_has_a_deadline(one_task: Path, tmp_path: Path) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = f'address = "127.0.0.1"\nport = {port}\nssh_config = false\nconnect_timeout = 1'
    status, error = await end_of(f"[hosts.web1]\n{settings}\n", one_task, tmp_path)
    server.close()
    await server.wait_closed()
    assert (status, "took longer than 1 seconds" in error) == ("unreachable", True), error


async def test_through_a_jump_host_every_hop_is_checked(servers: LoopbackFleet, one_task: Path, tmp_path: Path) -> None:
    text = servers.inventory_toml() + f'proxy_jump = "127.0.0.1:{servers.ports["web1"]}"\n'
    status, error = await end_of(text, one_task, tmp_path, "db1")
    assert status == "changed", error
    known = servers.known_hosts.read_text().splitlines()
    servers.known_hosts.write_text(
        "\n".join(line for line in known if f"]:{servers.ports['web1']} " not in line) + "\n"
    )
    status, error = await end_of(text, one_task, tmp_path, "db1")
    assert (status, "host key is unknown" in error) == ("unreachable", True)


async def test_noise_from_a_login_shell_is_skipped(servers: LoopbackFleet, one_task: Path, tmp_path: Path) -> None:
    fake = tmp_path / "bin"
    fake.mkdir()
    (fake / "sh").write_text('#!/bin/sh\necho "Welcome to this host"\nexec /bin/sh "$@"\n')
    (fake / "sh").chmod(0o755)
    servers.environment["PATH"] = f"{fake}:{servers.environment['PATH']}"
    status, error = await end_of(servers.inventory_toml(), one_task, tmp_path)
    assert status == "changed", error


async def test_a_wrong_guess_about_the_payload_is_mended(
    servers: LoopbackFleet, one_task: Path, tmp_path: Path
) -> None:
    assert (await end_of(servers.inventory_toml(), one_task, tmp_path))[0] == "changed"
    home = servers.homes["web1"] / ".sloth-runner"
    (home / "payload").rename(home / "gone")
    status, error = await end_of(servers.inventory_toml(), one_task, tmp_path)
    assert status == "changed", error
    assert [path.name for path in (home / "payload").iterdir()] == [bundle.build().sha256]


async def test_code_that_others_can_write_is_not_run(servers: LoopbackFleet, one_task: Path, tmp_path: Path) -> None:
    (servers.homes["web1"] / ".sloth-runner").mkdir()
    (servers.homes["web1"] / ".sloth-runner").chmod(0o777)
    status, error = await end_of(servers.inventory_toml(), one_task, tmp_path)
    assert (status, "only its owner can write" in error) == ("failed", True)


@pytest.mark.parametrize("python", PYTHONS, ids=lambda path: path.parts[-3])
async def test_the_payload_runs_under_every_python(
    python: Path, servers: LoopbackFleet, one_task: Path, tmp_path: Path
) -> None:
    one_task.write_text(SITE + 'task({ name = "f", run = function() print(facts.python) end })')
    text = servers.inventory_toml().replace("[defaults]", f'[defaults]\npython = "{python}"')
    (tmp_path / "p.toml").write_text(text)
    inventory = Inventory.read(tmp_path / "p.toml")
    first = await run_site(one_task, inventory, tmp_path / "controller", None, "web1")
    assert finished_hosts(first)["web1"].status == "changed", finished_hosts(first)["web1"].error
    second = await run_site(one_task, inventory, tmp_path / "controller", None, "web1")
    assert reasons(second) == {("unchanged", ""): 5}


async def test_state_over_ssh_and_from_the_replica(servers: LoopbackFleet, one_task: Path, tmp_path: Path) -> None:
    one_task.write_text('task({ name = "t", run = function() file.copy({ dest = "~/a", content = "a" }) end })')
    (tmp_path / "inventory.toml").write_text(servers.inventory_toml())
    arguments = ("-i", "inventory.toml")

    async def cli(*words: str) -> tuple[int, str, str]:
        done = await asyncio.to_thread(sloth, tmp_path, *words)
        return done.returncode, done.stdout, done.stderr

    assert (await cli("run", *arguments, "-f", "site.sloth"))[0] == 0
    key = f"file:copy:{servers.homes['web1']}/a"
    asked = await cli("state", "list", "--agent", "web1", *arguments, "--output", "json")
    cached = await cli("state", "list", "--agent", "web1", "--cached", "--output", "json")
    assert [row["key"] for row in json.loads(asked[1])] == [key]
    assert asked[1] == cached[1]
    assert (await cli("state", "delete", key, "--yes", "--agent", "web1", *arguments))[0] == 0
    assert json.loads((await cli("state", "list", "--agent", "web1", *arguments, "--output", "json"))[1]) == []
    await servers.stop("web1")
    assert (await cli("state", "list", "--agent", "web1", *arguments))[0] == 4
    assert (await cli("state", "list", "--agent", "wbe1", *arguments))[0] == 2


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
        bootstrap.command(None, Become(name))
