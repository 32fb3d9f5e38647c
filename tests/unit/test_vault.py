"""The secrets beside a site: kept by git, read by those who have the key."""

from __future__ import annotations

import multiprocessing
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sloth.errors import StateError
from sloth.state.keys import Damaged, Keys, WrongKey, generate
from sloth.state.vault import Vault
from tests.support.command import sloth
from tests.support.paths import ROOT

PEM = "-----BEGIN-----\nabc\n-----END-----\n"


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Vault:
    monkeypatch.setenv("SLOTH_KEY", generate())
    return Vault(tmp_path / "secrets.vault", Keys())


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
        with pytest.raises(StateError, match="cannot be a secret"):
            vault.set({name: "x"})
    text = vault.path.read_text()
    one, two = (line.partition(" ")[2] for line in text.splitlines()[2:])
    vault.path.write_text(text.replace(one, "<>").replace(two, one).replace("<>", two))
    with pytest.raises(Damaged, match="is another secret"):
        vault.get("password")
    for wrong, said in (
        (text.replace(one, one[:-9] + "AAAAAAAA="), "is damaged"),
        ("<<<<<<< HEAD\n" + text, "merge conflict"),
        (text.replace("SECRETS 1", "SECRETS 2"), "upgrade"),
        ("hello", "no file of secrets"),
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


def _set(path: Path, name: str) -> None:
    for number in range(10):
        Vault(path, Keys()).set({f"{name}{number}": "x"})


def test_two_that_set_secrets_at_once_lose_neither(vault: Vault) -> None:
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=_set, args=(vault.path, name)) for name in "ab"]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert len(vault.names()) == 20


def test_the_commands(vault: Vault, tmp_path: Path) -> None:
    def run(*words: str, status: int = 0, **more: str) -> str:
        done = sloth(tmp_path, "secret", *words, **more)
        assert done.returncode == status, done.stdout + done.stderr
        assert "hunter2" not in done.stderr
        return done.stdout + done.stderr

    run("set", "db/password", "--stdin", input="hunter2")
    assert run("get", "db/password") == "hunter2"
    assert run("list") == "db/password\n"
    (tmp_path / "site").mkdir()
    assert "no secret" in run("list", "-f", "site/site.sloth")
    assert "no terminal" in run("set", "x", status=2)
    run("set", "x", "hunter2", status=2)  # a value on the command line is no value
    (tmp_path / "editor").write_text(
        '#!/bin/sh\ngrep -q hunter2 "$1" || exit 3\nstat -c %a "$1" > mode; echo new > "$1"\n'
    )
    (tmp_path / "editor").chmod(0o755)
    os.environ["EDITOR"] = str(tmp_path / "editor")
    run("edit", "db/password")
    assert run("get", "db/password") == "new\n"
    assert (tmp_path / "mode").read_text() == "600\n"
    assert "ended with status 3" in run("edit", "db/password", status=1)
    del os.environ["EDITOR"]
    run("remove", "db/password", "--yes")
    assert "there is no secret" in run("get", "db/password", status=1)
    assert sloth(tmp_path, "key", "generate", "-o", "key").returncode == 0
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert "already" in sloth(tmp_path, "key", "generate", "-o", "key").stderr
    assert len(sloth(tmp_path, "key", "generate").stdout) == 45


def test_a_site_reads_it(vault: Vault, tmp_path: Path) -> None:
    vault.set({"db/password": "hunter2-of-the-vault"})
    (tmp_path / "t.j2").write_text("{{ secret('db/password') }}")
    (tmp_path / "site.sloth").write_text(
        'task({name = "t", run = function() print(secret("db/password")) '
        'file.template({src = "t.j2", dest = "~/out"}) end})'
    )
    done = sloth(tmp_path, "run", "-f", "site.sloth", "--diff")
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "out").read_text() == "hunter2-of-the-vault"
    assert "hunter2" not in done.stdout + done.stderr
    assert "********" in done.stdout
    (tmp_path / "site.sloth").write_text('task({name = "t", run = function() print(secret("db/pasword")) end})')
    done = sloth(tmp_path, "run", "-f", "site.sloth")
    assert 'did you mean "db/password"' in done.stdout


def test_looking_at_help_does_not_load_cryptography() -> None:
    script = "import sys, sloth.cli.run, sloth.cli.secret, sloth.cli.key; print('cryptography' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.stdout == "False\n", done.stderr


def test_an_edit_loses_nothing_and_leaves_nothing(vault: Vault, tmp_path: Path) -> None:
    vault.set({"a": "old-value-of-it"})
    script = "#!/bin/sh\\nprintf other | python -m sloth secret set a --stdin 2>/dev/null; echo mine > $1\\n"
    (tmp_path / "editor").write_text(script.replace("python", sys.executable).replace("\\n", chr(10)))
    (tmp_path / "editor").chmod(0o755)
    environment = {**os.environ, "EDITOR": str(tmp_path / "editor"), "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "sloth", "secret", "edit", "a"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "by somebody else meanwhile" in done.stderr
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
