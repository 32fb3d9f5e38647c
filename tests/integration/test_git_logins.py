"""A password in a repository's URL: git gets it, and nobody else: not its arguments, not the working copy."""

from __future__ import annotations

import base64
import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from tests.support.execs import OPTIONS, command_lines
from tests.support.home import Home

PASSWORD = "pass wörd/@7"


class Handler(http.server.SimpleHTTPRequestHandler):
    """The files of a directory, for those who know the password."""

    def do_GET(self) -> None:
        expected = "Basic " + base64.b64encode(f"me:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") == expected:
            super().do_GET()
            return
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="x"')
        self.end_headers()

    def log_message(self, *words: object) -> None:
        """Print nothing."""


@pytest.fixture
def protected_repository(tmp_path: Path) -> Iterator[str]:
    """A repository behind a password, and its URL without it."""
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always")
    work = tmp_path / "served" / "work"
    subprocess.run([*git, "init", "-q", "-b", "main", str(work)], check=True)
    subprocess.run([*git, "-C", str(work), "commit", "-q", "--allow-empty", "-m", "one"], check=True)
    subprocess.run([*git, "clone", "-q", "--bare", str(work), str(tmp_path / "served" / "x.git")], check=True)
    subprocess.run([*git, "-C", str(tmp_path / "served" / "x.git"), "update-server-info"], check=True)
    handler = functools.partial(Handler, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}/x.git"
        server.shutdown()
        thread.join()


def clone(home: Home, url: str, log: Path) -> str:
    """Clone with the password in the URL, and return what was printed; log: of all command lines."""
    quoted = urllib.parse.quote(PASSWORD, safe="")
    wrapper = home.path / "python"
    wrapper.write_text(f'#!/bin/sh\nexec strace {" ".join(OPTIONS)} -o {log} {sys.executable} "$@"\n')
    wrapper.chmod(0o755)
    (home.path / "inventory.toml").write_text(f'[hosts.web1]\nconnection = "local"\npython = "{wrapper}"\n')
    home.site(f'git.clone({{repo = "http://me:" .. secret("git") .. "@{url}", dest = "FILES/clone"}})')
    with mock.patch.dict(os.environ, {"SLOTH_SECRET_GIT": quoted}):
        return home.run("-vv", "--diff")


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace shows what git is started with")
@pytest.mark.timeout(120)
def test_a_password_of_a_url_reaches_git_alone(home: Home, protected_repository: str, tmp_path: Path) -> None:
    quoted = urllib.parse.quote(PASSWORD, safe="")
    assert "changed" in clone(home, protected_repository, tmp_path / "first")
    lines = command_lines(tmp_path / "first")
    assert any(line[:1] == [b"git"] and b"clone" in line for line in lines), "the log has what git was started with"
    for line in lines:
        assert not [word for word in line if quoted.encode() in word or PASSWORD.encode() in word], line
    config = home.files / "clone" / ".git" / "config"
    assert f"url = http://{protected_repository}" in config.read_text()
    # A working copy that was made with the password in its configuration loses it.
    config.write_text(config.read_text().replace("http://", f"http://me:{quoted}@"))
    shown = clone(home, protected_repository, tmp_path / "second")
    assert "remote" in shown
    assert quoted not in config.read_text() + shown
    assert "unchanged" in clone(home, protected_repository, tmp_path / "third")


def test_a_wrong_password_is_an_error_without_it(home: Home, protected_repository: str) -> None:
    home.site(f'git.clone({{repo = "http://me:not-the-password@{protected_repository}", dest = "FILES/clone"}})')
    shown = home.run(status=1)
    assert "git ls-remote" in shown
    assert "not-the-password" not in shown
