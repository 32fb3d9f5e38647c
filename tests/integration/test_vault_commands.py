"""The commands around a vault of secrets, and a site that reads it."""

from __future__ import annotations

import multiprocessing
import os
import stat
import subprocess
import sys
from pathlib import Path

from sloth.state.keys import Keys
from sloth.state.vault import Vault
from tests.support.command import sloth
from tests.support.paths import ROOT


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
    assert "secret db/password not found" in run("get", "db/password", status=1)
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
