"""Where the backend is said to be: on the command line, in the environment, in the inventory; and every mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command import sloth

INVENTORY = '[hosts.a]\nconnection = "local"\n[backend]\n'


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('ulr = "etcd://h/x"', "inventory.toml:4: unknown key 'ulr' in [backend]; hint: did you mean \"url\"?"),
        ("hosts = []", "inventory.toml:4: unknown key 'hosts' in [backend]; hint: a group is [groups.backend]"),
        ("url = 5", "inventory.toml:4: url must be a URL"),
        ('encrypt = "yes"', "inventory.toml:4: encrypt must be true or false, not 'yes'"),
        ('url = "etdc://h/x"', 'inventory.toml:4: unknown backend "etdc"; hint: did you mean "etcd"?'),
        ('url = "etcd://ann:secret@h/x"', "inventory.toml:4: the backend etcd://...: credentials do not belong"),
    ],
)
@pytest.mark.parametrize("command", [["runs", "list"], ["exec", "a", "--", "touch", "mark"]])
def test_a_mistake_in_the_inventory_is_found_before_anything_is_touched(
    tmp_path: Path, lines: str, said: str, command: list[str]
) -> None:
    (tmp_path / "inventory.toml").write_text(INVENTORY + lines + "\n")
    done = sloth(tmp_path, *command)
    assert done.returncode == 2, done.stdout + done.stderr
    assert said in done.stderr
    assert "secret" not in done.stderr
    assert not (tmp_path / "mark").exists()


def test_the_command_line_wins_over_the_environment_and_that_over_the_inventory(tmp_path: Path) -> None:
    (tmp_path / "inventory.toml").write_text(INVENTORY + 'url = "wrong-1://"\n')
    said = sloth(tmp_path, "runs", "list").stderr
    assert 'inventory.toml:4: unknown backend "wrong-1"' in said
    environment = {"SLOTH_BACKEND": "wrong-2://"}
    assert '$SLOTH_BACKEND: unknown backend "wrong-2"' in sloth(tmp_path, "runs", "list", extra=environment).stderr
    said = sloth(tmp_path, "runs", "list", "--backend", "wrong-3://", extra=environment).stderr
    assert '--backend: unknown backend "wrong-3"' in said
    assert sloth(tmp_path, "runs", "list", "--backend", "none", extra=environment).returncode == 0


def test_a_group_called_backend_of_ansible_is_a_group(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("[backend]\na connection=local\n")
    assert "@backend" in sloth(tmp_path, "inventory", "list", "-i", "hosts").stdout
    (tmp_path / "hosts.yml").write_text("backend:\n  hosts:\n    a: {}\n")
    assert "@backend" in sloth(tmp_path, "inventory", "list", "-i", "hosts.yml").stdout


@pytest.mark.parametrize("url", ["consul://consul..example:8500", f"etcd://{'x' * 64}.example:2379"])
def test_a_name_that_no_resolver_takes_is_a_server_that_cannot_be_reached(tmp_path: Path, url: str) -> None:
    """Python has an error of its own for it, which is none of the system."""
    done = sloth(tmp_path, "state", "backend", "check", "--backend", url)
    assert done.returncode == 1
    assert "cannot reach " in done.stderr
    assert "is empty or too long; hint: check the address" in done.stderr
    assert "Traceback" not in done.stderr
