"""Containers and root directories as hosts: what the tools are told, and why one cannot be used.

docker, podman and systemd's tools are scripts that note their arguments and run the command on this machine; the real
ones are used on the fleet, by test_engines.py. chroot is the real one.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sloth.errors import ConnectError
from sloth.inventory import Host, Inventory
from sloth.transport.engines import PATH, EngineConnection

# Notes its arguments, a line each, and runs what begins with /bin/sh.
RUNS = """#!/bin/sh
printf '%s\\n' "$@" >"$0.told"
while [ "$1" != /bin/sh ]; do shift; done
exec "$@"
"""
# Knows the containers web (which runs), old (which does not) and slow (about which it says nothing, for ever).
KNOWS = """#!/bin/sh
case "$1 $3" in
"inspect web") echo true ;;
"inspect old") echo false ;;
"inspect slow") exec sleep 600 ;;
inspect*) echo "a warning" >&2; echo "Error: no such object: $3" >&2; exit 1 ;;
*) exec "${0%/*}/run" "$@" ;;
esac
"""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the tools, which is first in the PATH."""
    directory = tmp_path / "tools"
    directory.mkdir()
    for name, text in (
        ("docker", KNOWS), ("podman", KNOWS), ("run", RUNS), ("systemd-nspawn", RUNS), ("systemd-run", RUNS)
    ):  # fmt: skip
        (directory / name).write_text(text)
        (directory / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    return directory


def host(directory: Path, connection: str, address: str, more: str = "") -> Host:
    path = directory / "inventory.toml"
    path.write_text(f'[hosts.one]\nconnection = "{connection}"\naddress = "{address}"\n{more}\n')
    (found,) = Inventory.read(path).select("all")
    return found


async def answer(target: Host) -> tuple[str, int | None]:
    """What a command prints on a host, given what it reads; and its exit status."""
    connection = EngineConnection(target)
    await connection.open()
    process = await connection.start("read -r line; echo $((line * 7)); exit 3")
    await process.write(b"6\n")
    printed = await process.read(100)
    status = await process.wait()
    await connection.close()
    return printed.decode(), status


@pytest.mark.parametrize(
    ("connection", "address", "user", "told"),
    [
        ("docker", "web", "", "exec -i web"),
        ("docker", "web", "ann", "exec -i -u ann web"),
        ("podman", "web", "ann", "exec -i -u ann web"),
        ("nspawn", "build-1.x", "", "--quiet --pipe --wait --machine=build-1.x"),
        ("nspawn", "build", "ann", "--quiet --pipe --wait --uid=ann --machine=build"),
        ("nspawn", "/", "", "--quiet --register=no --keep-unit --pipe --directory=/"),
        ("nspawn", "/", "ann", "--quiet --register=no --keep-unit --pipe --user=ann --directory=/"),
    ],
)
async def test_what_a_tool_is_told(tools: Path, connection: str, address: str, user: str, told: str) -> None:
    if address == "/" and os.geteuid() != 0:
        pytest.skip("needs root")
    assert await answer(host(tools, connection, address, f'user = "{user}"' if user else "")) == ("42\n", 3)
    tool = "run" if connection != "nspawn" else "systemd-nspawn" if address == "/" else "systemd-run"
    words = (tools / f"{tool}.told").read_text().splitlines()
    assert words[: words.index("/bin/sh")] == told.split()
    assert words[words.index("/bin/sh") + 1] == "-c"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("user", ["", "nobody"])
async def test_chroot(tmp_path: Path, user: str) -> None:
    """Nothing of the controller's environment gets in."""
    target = host(tmp_path, "chroot", "/", f'user = "{user}"' if user else "")
    connection = EngineConnection(target)
    await connection.open()
    process = await connection.start('echo "$(id -un) $PATH $HOME."')
    assert await process.read(1000) == f"{user or 'root'} {PATH} .\n".encode()
    assert await process.wait() == 0
    await connection.close()


@pytest.mark.parametrize(
    ("connection", "address", "more", "message", "hint"),
    [
        ("docker", "old", "", "the container old does not run", "docker start old"),
        ("podman", "gone", "", "podman: Error: no such object: gone", "see `podman ps -a`"),
        ("docker", "slow", "connect_timeout = 0.3", "no answer from docker within 0.3 seconds", ""),
        ("docker", "--privileged", "", "'--privileged' is not the name of a container", ""),
        ("podman", "web x", "", "'web x' is not the name of a container", ""),
        ("podman", "web", 'user = "--help"', "'--help' is not the name of an account", ""),
        ("nspawn", "a/b", "", "'a/b' is not the name of a machine", ""),
        ("chroot", "srv/root", "", "srv/root is not the absolute path of a system's root directory", ""),
        ("chroot", "/proc", "", "/proc is not the absolute path of a system's root directory", ""),
        ("nspawn", "/proc", "", "/proc is not the absolute path of a system's root directory", ""),
    ],
)
async def test_what_cannot_be_used(
    tools: Path, connection: str, address: str, more: str, message: str, hint: str
) -> None:
    with pytest.raises(ConnectError) as caught:
        await EngineConnection(host(tools, connection, address, more)).open()
    assert (caught.value.message, caught.value.hint) == (f"one: {message}", hint)


async def test_a_tool_that_is_not_installed(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tools))
    for name in ("docker", "systemd-run", "systemd-nspawn"):
        (tools / name).unlink()
    for connection, address, tool in (
        ("docker", "web", "docker"), ("nspawn", "web", "systemd-run"), ("nspawn", "/", "systemd-nspawn"),
        ("chroot", "/", "chroot"),
    ):  # fmt: skip
        with pytest.raises(ConnectError) as caught:
            await EngineConnection(host(tools, connection, address)).open()
        assert caught.value.message == f"one: {tool} was not found on this machine"
        assert caught.value.hint == "install it, or change `connection`"


async def test_a_directory_needs_root(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    for connection, tool in (("chroot", "chroot"), ("nspawn", "systemd-nspawn")):
        with pytest.raises(ConnectError) as caught:
            await EngineConnection(host(tools, connection, "/")).open()
        assert (caught.value.message, caught.value.hint) == (f"one: {tool} needs root", "run sloth-runner as root")
