"""`sloth-runner web` as its users have it: the command, and a browser in so far as tests need one."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from tests.support.paths import ROOT


class Client:
    """A browser, in so far as it has a cookie and an origin."""

    def __init__(self, address: str, context: ssl.SSLContext | None = None) -> None:
        self.parts = urlsplit(address)
        self.base = f"{self.parts.scheme}://{self.parts.netloc}"
        self.context = context
        self.cookie = ""

    def request(
        self, path: str, method: str = "GET", form: dict[str, str] | None = None, **headers: str
    ) -> tuple[int, str, dict[str, str]]:
        kind = http.client.HTTPSConnection if self.context is not None else http.client.HTTPConnection
        settings = {"context": self.context} if self.context is not None else {}
        connection = kind(self.parts.hostname or "", self.parts.port, timeout=120, **settings)
        given = {"Cookie": self.cookie} if self.cookie else {}
        if method == "POST":
            given["Origin"] = self.base
        if form is not None:
            given["Content-Type"] = "application/x-www-form-urlencoded"
        body = urlencode(form or {}).encode() if method == "POST" else None
        connection.request(method, path, body, {**given, **headers})
        answer = connection.getresponse()
        text = answer.read().decode()
        found = {name.lower(): value for name, value in answer.getheaders()}
        if "set-cookie" in found:
            self.cookie = found["set-cookie"].partition(";")[0]
        connection.close()
        return answer.status, text, found

    def log_in(self) -> None:
        status, _, _ = self.request(f"{self.parts.path}?{self.parts.query}")
        assert status == 303

    def page(self, path: str) -> str:
        status, text, _ = self.request(path)
        assert status == 200, (path, text)
        return text

    def json(self, path: str) -> dict[str, object]:
        return json.loads(self.page("/api/v1" + path))


@contextlib.contextmanager
def serving(path: Path, *words: str, token: str = "") -> Iterator[str]:
    """Run the command; yield the address that it prints."""
    command = [sys.executable, "-m", "sloth", "web", "--port", "0", *words]
    env = {**os.environ, "HOME": str(path), "PYTHONPATH": str(ROOT), "SLOTH_WEB_TOKEN": token}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=path, env=env, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
            _, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors
