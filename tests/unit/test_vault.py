"""The secrets beside a site: kept by git, read by those who have the key."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sloth.errors import StateError
from sloth.state.keys import Damaged, Keys, WrongKey, generate
from sloth.state.vault import Vault
from tests.support.paths import ROOT

PEM = "-----BEGIN-----\nabc\n-----END-----\n"


def test_values_come_back_and_names_need_no_key(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    vault.set({"db/password": "hünter2", "key": PEM, "empty": ""})
    assert [vault.get(name) for name in vault.names()] == ["hünter2", "", PEM]
    assert vault.all()["key"] == PEM
    assert stat.S_IMODE(vault.path.stat().st_mode) == 0o600
    assert "hünter2" not in vault.path.read_text()
    vault.set({"empty": None})
    monkeypatch.delenv("SLOTH_KEY")
    assert vault.names() == ["db/password", "key"]
    with pytest.raises(StateError, match="SLOTH_KEY"):
        vault.get("key")


def test_one_secret_is_one_line_so_that_git_can_merge(vault: Vault) -> None:
    vault.set({"a": "1", "b": "2", "c": "3"})
    before = vault.path.read_text().splitlines()
    vault.set({"b": "other"})
    after = vault.path.read_text().splitlines()
    assert [one == two for one, two in zip(before, after, strict=True)] == [True, True, True, False, True]


def test_every_mistake_has_its_own_words(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    vault.set({"password": "one", "other": "two"})
    with pytest.raises(StateError, match='did you mean "password"'):
        vault.get("pasword")
    for name in ("", "a b", "../x y", "a//b", "a\n"):
        with pytest.raises(StateError, match="cannot be the name of a secret"):
            vault.set({name: "x"})
    text = vault.path.read_text()
    one, two = (line.partition(" ")[2] for line in text.splitlines()[2:])
    vault.path.write_text(text.replace(one, "<>").replace(two, one).replace("<>", two))
    with pytest.raises(Damaged, match="is another secret's"):
        vault.get("password")
    for wrong, said in (
        (text.replace(one, one[:-9] + "AAAAAAAA="), "is damaged"),
        ("<<<<<<< HEAD\n" + text, "merge conflict"),
        (text.replace("SECRETS 1", "SECRETS 2"), "upgrade"),
        ("hello", "not a file of secrets"),
        (text + "password x\n", "line 5 is damaged"),
    ):
        vault.path.write_text(wrong)
        with pytest.raises(StateError, match=said):
            vault.all()
    vault.path.write_text(text)
    monkeypatch.setenv("SLOTH_KEY", generate())
    with pytest.raises(WrongKey):
        vault.get("password")
    with pytest.raises(WrongKey):
        vault.set({"new": "value"})
    assert vault.path.read_text() == text


def test_keys_change_in_three_steps(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = os.environ["SLOTH_KEY"], generate()
    vault.set({"a": "1"})
    monkeypatch.setenv("SLOTH_KEY", f"{new} {old}")
    vault.set({"b": "2"})
    assert vault.all() == {"a": "1", "b": "2"}
    vault.rekey(Keys())
    monkeypatch.setenv("SLOTH_KEY", new)
    assert vault.all() == {"a": "1", "b": "2"}


def test_an_edit_loses_nothing_and_leaves_nothing(vault: Vault, tmp_path: Path) -> None:
    vault.set({"a": "old-value-of-it"})
    script = "#!/bin/sh\\nprintf other | python -m sloth secret set a --stdin 2>/dev/null; echo mine > $1\\n"
    (tmp_path / "editor").write_text(script.replace("python", sys.executable).replace("\\n", chr(10)))
    (tmp_path / "editor").chmod(0o755)
    environment = {**os.environ, "EDITOR": str(tmp_path / "editor"), "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "sloth", "secret", "edit", "a"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "was changed by another process" in done.stderr
    assert vault.get("a") == "other"
    (tmp_path / "editor").write_text("#!/bin/sh\nkill -TERM $PPID; sleep 1\n")
    subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True)
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path.name not in ("secrets.vault", "editor")]
    assert [path for path in left if b"other" in path.read_bytes()] == []
    assert list(tmp_path.glob("sloth-*")) == []


def test_a_vault_keeps_its_mode_and_its_link(vault: Vault, tmp_path: Path) -> None:
    vault.set({"a": "1"})
    vault.path.rename(tmp_path / "real.vault")
    (tmp_path / "real.vault").chmod(0o644)
    vault.path.symlink_to("real.vault")
    vault.set({"a": "2"})
    assert vault.path.is_symlink()
    assert stat.S_IMODE((tmp_path / "real.vault").stat().st_mode) == 0o644
    assert vault.get("a") == "2"
