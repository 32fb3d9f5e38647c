"""Attacks on the web UI, each by what an attacker would send: nothing may get in, out, or change anything."""

from __future__ import annotations

import json
import re
import socket
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sloth.inventory import Inventory
from sloth.payload.kernel.record import ReplicaChange
from sloth.state.memory import Memory, Seen
from sloth.state.run_records import RunCounts, RunHost, RunResult
from tests.support.web import TOKEN, Server, raw, record_run, segment, serve

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{7*7}}\x1b[31mred\x1b]0;title\x07\u202egnp.exe"
RUN = "20260101-000000-aaaaaa"
READ_ONLY = r"readonly|attempt to write"


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A controller's directory in which everything that hosts and sites control is hostile."""
    directory = tmp_path_factory.mktemp("evil")
    diff = json.dumps({
        EVIL: {"before": EVIL, "after": {"x": EVIL}},
        "content": {"unified": f"--- before\n+++ after\n@@ -1 +1 @@\n-{EVIL}\n+{EVIL}\n@@ -{'9' * 5000} +1 @@\n x\n"},
        "cut": {"cut": 5},
        "odd": {"before": ["\ud800", None, 1e308]},
    })  # fmt: skip
    about = {name: [EVIL] for name in ("command", "inventory", "tags", "skip_tags", "values")}
    results = [
        RunResult(EVIL, EVIL, EVIL, status, EVIL, EVIL, EVIL, diff, 0.5, 1.0) for status in ("changed", "failed", EVIL)
    ]
    spans = json.dumps([["call", EVIL, 0, 1, EVIL], ["evil", "x", 0, 1, ""], ["task", "x", 1e300, 1, ""], [1], {}])
    record_run(
        directory, RUN, site=EVIL, who=EVIL,
        about=json.dumps({**about, "limit": EVIL, "origin": EVIL, "used": {EVIL: EVIL}}),
        results=results, hosts=[RunHost(EVIL, EVIL, 1.0, 0.5, EVIL, spans), RunHost("web1", "failed", 1.0, 0.5, EVIL)],
        counts=RunCounts(changed=1, failed=1), status=1,
    )  # fmt: skip
    record_run(directory, EVIL, about="[1]", results=results)
    row = dict.fromkeys(("key", "module", "type", "id", "checksum", "site", "task", "place", "run"), EVIL)
    row |= {"desired": json.dumps({EVIL: EVIL}), "observed": json.dumps({EVIL: EVIL}), "superseded_by": EVIL}
    row |= {"created_at": 1, "changed_at": 1, "checked_at": 1, "seq": 1, "orphaned": 1, "calls": None}
    row |= {"before_first_change": None, "other_sites": None}
    memory = Memory(directory)
    replica = ReplicaChange(id="s", seq=1, removed=[], whole=True)
    memory.remember(Seen("web1", "p", frozenset(), replica, (row,)))
    memory.keep_facts({"web1": {EVIL: {EVIL: EVIL}}, EVIL: {"os": EVIL}})
    memory.close()
    return directory


class Page(HTMLParser):
    """Finds what in a page could run, and what its attributes are."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.attributes: list[str] = []
        self.addresses: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        values = dict(attrs)
        if tag == "script":
            self.scripts.append(values.get("src") or "")
        self.attributes += [name for name, _ in attrs]
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src", "action", "data-from")]


def pages(server: Server) -> list[str]:
    found = [
        "/",
        "/runs",
        "/hosts",
        "/hosts?by=group",
        "/hosts?by=fact%3Aos",
        "/search?q=script",
        "/drift",
        "/resources",
    ]
    for run in (RUN, EVIL):
        at = f"/runs/{segment(run)}"
        found += [at, f"{at}/hosts", f"{at}/rollback", *(f"{at}/changes/{number}" for number in range(1, 7))]
    for host in ("web1", EVIL):
        at = f"/hosts/{segment(host)}"
        found += [at, f"{at}/history", f"{at}/facts", f"{at}/variables"]
    name = segment(EVIL)
    found += [f"/resource?key={name}", f"/runs?who={name}", f"/runs?q={name}", f"/hosts?q={name}", f"/search?q={name}"]
    found += [
        f"/runs?end={name}",
        f"/runs?{name}=1",
        f"/runs?sort={name}",
        f"/runs/{name}x",
        f"/hosts/{name}x",
        f"/{name}",
    ]
    return found


def test_nothing_that_a_host_or_site_controls_runs_in_a_page(evil: Path, tmp_path: Path) -> None:
    inventory = tmp_path / "inventory.toml"
    inventory.write_text(
        f"[hosts.web1]\naddress = \"127.0.0.1\"\n[hosts.web1.vars]\nx = {json.dumps(EVIL)}\ndb_password = 'hunter2'\n"
    )
    with serve(evil, lambda: Inventory.read(inventory)) as server:
        seen = 0
        for path in pages(server):
            answer = server.request(path)
            assert answer.status in (200, 400, 404), (path, answer.status)
            if answer.headers["content-type"].startswith("text/plain"):
                continue
            page = Page()
            page.feed(answer.text)
            assert all(re.fullmatch(r"/static/\w+\.js\?\w+", script) for script in page.scripts), path
            assert not [name for name in page.attributes if name.startswith("on") or name == "style"], path
            assert not {"img", "iframe", "object", "embed", "base", "style"} & page.tags, path
            assert all(re.match(r"/(?!/)|\?|#", address) for address in page.addresses), (path, page.addresses)
            assert "<script>alert" not in answer.text, path
            assert "\x1b" not in answer.text, path
            assert "\u202e" not in answer.text, path
            assert "hunter2" not in answer.text, path
            assert ">49<" not in answer.text, path
            seen += "&lt;script&gt;" in answer.text
        assert seen > 20  # it is there, as text


def test_every_page_is_json_that_is_no_page(evil: Path) -> None:
    with serve(evil) as server:
        for path in pages(server):
            answer = server.request("/api/v1" + ("/overview" if path == "/" else path))
            assert answer.status in (200, 400, 404), path
            assert answer.headers["content-type"] == "application/json"
            assert "\x1b" not in answer.text
            json.loads(answer.body)


def test_every_answer_has_the_headers(tmp_path: Path) -> None:
    with serve(tmp_path) as server:
        for path, token in (("/", TOKEN), ("/nope", TOKEN), ("/", None), ("/login", None), ("/static/script.js", None)):
            headers = server.request(path, token=token).headers
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"
            assert "server" not in headers
            assert path.startswith("/static/") or headers["cache-control"] == "no-store"


def test_nothing_but_the_login_without_a_token(evil: Path) -> None:
    with serve(evil) as server:
        paths = [*pages(server), "/api/v1/runs", "/api/v1/openapi.json", "/metrics", "/events", "/healthz", "/logout"]
        for path in paths:
            for token in (None, "wrong", "", TOKEN[:-1], TOKEN + "x"):
                answer = server.request(path, token=token)
                assert answer.status == 401, (path, token)
                assert "script" not in answer.text.replace("/static/script.js", "")
        basic = server.request("/api/v1/runs", token=None, Authorization=f"Basic {TOKEN}")
        assert basic.status == 401
        assert server.request("/api/v1/runs", token=None, Cookie=f"sloth={TOKEN}").status == 401, "no token in a cookie"


def test_tokens_cannot_be_guessed_quickly(tmp_path: Path) -> None:
    with serve(tmp_path) as server:
        for number in range(30):
            assert server.request("/api/v1/runs", token=f"guess-{number}").status == 401
        assert server.request("/api/v1/runs").status == 401, "even the right one, for the rest of the minute"


def test_a_login_address_works_once_and_its_cookie_is_guarded(tmp_path: Path) -> None:
    with serve(tmp_path) as server:
        code = server.site.logins.code
        answer = server.request(f"/login?code={code}", token=None)
        assert (answer.status, answer.headers["location"]) == (303, "/")
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "samesite=strict" in cookie.lower()
        assert "Domain" not in cookie
        assert TOKEN not in cookie
        session = cookie.partition(";")[0]
        assert server.request("/", token=None, Cookie=session).status == 200
        assert server.request(f"/login?code={code}", token=None).status == 403
        assert server.request("/login?code=", token=None).status in (200, 403)
        out = server.request("/logout", "POST", b"", token=None, Cookie=session, Origin=server.base)
        assert out.status == 303
        assert server.request("/", token=None, Cookie=session).status == 401


def test_a_foreign_host_is_refused(tmp_path: Path) -> None:
    """DNS rebinding: a page of evil.example, whose name now leads here, sends its own name."""
    with serve(tmp_path) as server:
        port = server.port
        for host in (
            "evil.example", f"evil.example:{port}", f"127.0.0.1.evil.example:{port}", "localhost", "0.0.0.0", "[::1]",
            f"127.0.0.1:{port}@evil.example", f"127.0.0.1:{port + 1}", f"evil.example,127.0.0.1:{port}",
        ):  # fmt: skip
            answer = raw(server, f"GET / HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 4"), host
        for head in ("", f"Host: 127.0.0.1:{server.port}\r\nHost: evil.example\r\n"):
            answer = raw(server, f"GET / HTTP/1.1\r\n{head}Authorization: Bearer {TOKEN}\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 4"), head
        assert raw(server, f"GET http://evil.example/ HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n")[9:12] in (
            b"400",
            b"401",
            b"404",
            b"421",
        )
        assert server.request("/", Host=f"LOCALHOST:{server.port}").status == 200


def test_requests_of_other_sites_are_refused(tmp_path: Path) -> None:
    with serve(tmp_path) as server:
        session = server.site.logins.log_in(TOKEN)
        cookie = f"sloth={session}"
        for origin in (
            "https://evil.example",
            "null",
            f"http://localhost:{server.port}",
            f"https://127.0.0.1:{server.port}",
        ):
            for method, path in (("GET", "/"), ("GET", "/api/v1/runs"), ("POST", "/logout"), ("POST", "/login")):
                assert server.request(path, method, b"", token=None, Cookie=cookie, Origin=origin).status == 403
        assert server.request("/logout", "POST", b"", token=None, Cookie=cookie).status == 403, (
            "a write needs an Origin"
        )
        for mode in ("cors", "no-cors"):
            answer = server.request(
                "/api/v1/runs", token=None, Cookie=cookie, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode=mode
            )
            assert answer.status == 403
            assert "access-control-allow-origin" not in answer.headers
        assert server.request("/", "OPTIONS", Origin="https://evil.example").status in (403, 405)
        link = server.request("/", token=None, Cookie=cookie, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")
        assert link.status == 200, "a link from elsewhere, which brings the cookie in browsers without SameSite"


def test_nothing_is_written_by_get_or_by_a_bearer_token(tmp_path: Path) -> None:
    record_run(tmp_path, RUN)
    with serve(tmp_path) as server:
        before = (tmp_path / "controller.db").read_bytes()
        for method in ("POST", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT"):
            for path in ("/", "/runs", f"/runs/{RUN}", "/api/v1/runs"):
                if method != "CONNECT":
                    assert server.request(path, method, b"x=1", Origin=server.base).status in (401, 403, 405), (
                        method,
                        path,
                    )
        assert server.request("/logout").status == 405
        assert (tmp_path / "controller.db").read_bytes() == before
        connection = server.site.source.database
        with pytest.raises(Exception, match=READ_ONLY):
            connection.rows("DELETE FROM runs")
        with pytest.raises(Exception, match=READ_ONLY):
            connection.rows("INSERT INTO cache.marks VALUES ('x', 1)")


@pytest.mark.parametrize(
    "path",
    ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static/%2e%2e%2f%2e%2e%2f__init__.py",
     "/static//etc/passwd", "/static/%00", "/hosts/..%2f..%2fetc%2fpasswd", "/hosts/%2e%2e",
     "/runs/..%2f..%2fcontroller.db",
     "/static/....//app.py", "/static/..\\app.py"],
)  # fmt: skip
def test_paths_lead_nowhere_else(tmp_path: Path, path: str) -> None:
    with serve(tmp_path) as server:
        answer = raw(
            server,
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n",
        )
        assert answer[9:12] in (b"404", b"400", b"307", b"405"), answer[:200]
        assert b"root:" not in answer
        assert b"from __future__" not in answer


def test_headers_cannot_be_injected(tmp_path: Path) -> None:
    with serve(tmp_path) as server:
        for path in (
            "/login?code=x%0d%0aSet-Cookie:%20a=b",
            "/%0d%0aSet-Cookie:%20a=b",
            "/runs?q=%0d%0aX-Evil:%201",
            "//evil.example/",
            "/runs/",
        ):
            answer = server.request(path)
            assert "x-evil" not in answer.headers
            assert "set-cookie" not in answer.headers
            assert "evil.example" not in answer.headers.get("location", "")


def test_sql_is_only_text(tmp_path: Path) -> None:
    record_run(tmp_path, RUN)
    with serve(tmp_path) as server:
        for text in ("' OR 1=1 --", '" OR 1=1', "%", "_", "\\", "*", "a' UNION SELECT 1"):
            for name in ("q", "who", "site", "host"):
                assert json.loads(server.request(f"/api/v1/runs?{name}={segment(text)}").body)["total"] == 0, (
                    name,
                    text,
                )
        assert server.request("/api/v1/runs?sort=started;DROP").status == 400
        assert server.request("/api/v1/runs?page=99999999999999999999").status == 400
        assert server.request("/api/v1/runs?size=1000000&page=2147483647").status == 200


def test_what_is_too_large_is_refused_or_cut(tmp_path: Path) -> None:
    huge = json.dumps({"content": {"unified": "@@ -1 +1 @@\n" + "+" + "x" * 100_000_000 + "\n"}})
    many = json.dumps({"content": {"unified": "@@ -1 +1 @@\n" + "+x\n" * 1_000_000}})
    error = "e" * 20_000_000
    record_run(tmp_path, RUN, results=[
        RunResult("web1", "t", "k", "changed", "", "", "", huge),
        RunResult("web1", "t", "k", "changed", "", "", "", many),
        RunResult("web1", "t", "k", "failed", "", "", error),
    ], hosts=[RunHost("web1", "failed", 1.0, 1.0, error)])  # fmt: skip
    with serve(tmp_path) as server:
        begun = time.monotonic()
        at = f"/runs/{RUN}"
        for path in (
            at, f"{at}/changes/1", f"{at}/changes/2", f"{at}/changes/3", f"{at}/hosts", "/hosts/web1",
            "/hosts/web1/history", f"/api/v1{at}", "/hosts",
        ):  # fmt: skip
            answer = server.request(path)
            assert answer.status == 200
            assert len(answer.body) < 3_000_000, path
        assert time.monotonic() - begun < 60
        long = server.request("/runs?q=" + "x" * 20_000)
        assert long.status in (400, 414, 431)
        assert server.request("/runs?q=" + "x" * 600).status == 400
        assert (
            server.request("/login", "POST", b"token=" + b"x" * 200_000, token=None, Origin=server.base).status == 413
        )
        head = f"POST /login HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nOrigin: {server.base}\r\n"
        head += "Transfer-Encoding: chunked\r\n\r\n"
        chunk = "10000\r\n" + "x" * 0x10000 + "\r\n"
        answer = raw(server, head + chunk * 20)
        assert not answer or answer[9:12] in (b"400", b"403", b"413", b"500")
        fields = b"&".join(b"a%d=1" % number for number in range(1000))
        assert server.request("/login", "POST", fields, token=None, Origin=server.base).status in (400, 403)


def test_a_slow_client_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("uvicorn", reason="the extra `web` is not installed")
    from sloth.web import server as limits

    monkeypatch.setattr(limits, "REQUEST_SECONDS", 1.0)
    with serve(tmp_path) as server:
        for sent in (
            b"",
            b"GET / HTTP/1.1\r\nX: ",
            b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nab",
        ):
            with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
                client.sendall(sent)
                begun = time.monotonic()
                while client.recv(4096):
                    pass
                assert time.monotonic() - begun < 50
        assert server.request("/").status == 200
