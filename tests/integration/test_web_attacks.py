"""More attacks on the web UI, besides test_web_security.py: on logins, proxies, protocols, streams and exports."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import os
import re
import socket
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from sloth.state.run_records import RunHost, RunResult
from tests.support.web import TOKEN, Server, raw, record_run, segment, serve

RUN = "20260101-000000-aaaaaa"
FORM = {"Content_Type": "application/x-www-form-urlencoded"}


def log_in(server: Server, **headers: str) -> str:
    """Log in by the form; return the cookie."""
    headers.setdefault("Origin", server.base)
    answer = server.request("/login", "POST", f"token={TOKEN}".encode(), token=None, **FORM, **headers)
    assert answer.status == 303, answer.status
    return answer.headers["set-cookie"].partition(";")[0]


def test_nobody_is_logged_in_by_another_site(tmp_path: Path) -> None:
    """Login CSRF: a foreign page that sends a form, or leads to a login address, gives its victim no session."""
    with serve(tmp_path) as server:
        body = f"token={TOKEN}".encode()
        for headers in (
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {},
            {"Referer": "https://evil.example/"},
        ):
            answer = server.request("/login", "POST", body, token=None, **FORM, **headers)
            assert answer.status == 403, headers
            assert "set-cookie" not in answer.headers
        code = server.site.logins.code
        frame = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors", "Sec_Fetch_Dest": "image"}
        assert server.request(f"/login?code={code}", token=None, **frame).status == 403
        assert server.site.logins.code == code, "an image of another site does not use it up"
        # HEAD of a chat that looks at links, and of a virus scanner: the address still works once.
        assert server.request(f"/login?code={code}", "HEAD", token=None).status != 303
        assert server.request(f"/login?code={code}", token=None).status == 303


def test_a_session_is_always_a_new_one(tmp_path: Path) -> None:
    """Session fixation; rundeck #7884, chef automate #4973."""
    with serve(tmp_path) as server:
        planted = f"sloth={'a' * 43}"
        mine = log_in(server, Cookie=planted)
        assert mine != planted
        assert server.request("/", token=None, Cookie=planted).status == 401
        again = log_in(server, Cookie=mine)
        assert again not in (mine, planted)
        assert server.request("/", token=None, Cookie=mine).status == 401, "the session before has ended"
        # Of two cookies of one name, which a foreign subdomain or path may have set, the foreign one decides nothing.
        for cookies in (f"{planted}; {again}", f"{again}; {planted}"):
            assert server.request("/", token=None, Cookie=cookies).status in (200, 401)
        assert server.request("/logout", "POST", b"", token=None, Cookie=again, Origin=server.base).status == 303
        assert server.request("/", token=None, Cookie=again).status == 401


def test_after_logging_out_the_back_button_shows_nothing(tmp_path: Path) -> None:
    """Metasploit-framework #7004."""
    with serve(tmp_path) as server:
        cookie = log_in(server)
        out = server.request("/logout", "POST", b"", token=None, Cookie=cookie, Origin=server.base)
        assert out.headers["clear-site-data"] == '"cache"'
        assert server.request("/", token=None).headers["cache-control"] == "no-store"


def test_no_proxy_or_browser_keeps_what_needs_a_login(tmp_path: Path) -> None:
    record_run(tmp_path, RUN)
    with serve(tmp_path) as server:
        for path in ("/", f"/runs/{RUN}", "/api/v1/runs", "/metrics", "/login", "/nope", f"/runs/{RUN}/events"):
            answer = server.request(path)
            assert answer.headers["cache-control"] == "no-store", path
            assert "cookie" in answer.headers.get("vary", "").lower(), path
            assert "etag" not in answer.headers, path
        # Web cache deception: a page under the name of a static file is no page.
        for path in ("/runs/x.css", f"/runs/{RUN}%2Fx.css", "/static/..%2fruns", "/runs/static/x.css"):
            assert server.request(path).status in (400, 404), path


def test_the_code_and_the_token_are_in_no_log_and_no_referer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Chef automate #4764: an address that logs in may be logged anywhere, so it works once; ours are not logged."""
    caplog.set_level(logging.DEBUG)
    with serve(tmp_path) as server:
        code = server.site.logins.code
        answer = server.request(f"/login?code={code}", token=None)
        assert answer.headers["referrer-policy"] == "same-origin"
        assert code not in answer.headers["location"]
        log_in(server)
        server.request(f"/login?token={TOKEN}", token=None)
        server.request(f"/runs?q={TOKEN[:5]}")
        assert server.request(f"/api/v1/runs?token={TOKEN}", token=None).status == 401, "no token in an address"
    out, err = capfd.readouterr()
    for text in (caplog.text, out, err):
        assert code not in text
        assert TOKEN not in text


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "TRACK", "DEBUG", "PROPFIND", "get", "GET "])
def test_odd_methods_get_nothing(tmp_path: Path, method: str) -> None:
    record_run(tmp_path, RUN)
    with serve(tmp_path) as server:
        for path in ("/", "/api/v1/runs", "/metrics", f"/runs/{RUN}/events"):
            head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nCookie: sloth=x\r\nX-Secret: abc\r\n"
            answer = raw(server, head + "Connection: close\r\n\r\n")
            assert answer[9:12] in (b"401", b"403", b"405", b"400", b"501"), answer[:100]
            assert b"X-Secret" not in answer, "TRACE sends headers back"
            assert b"access-control-allow" not in answer.lower()
            # With a login, HEAD has the headers of GET and no body.
            if method == "HEAD" and "events" not in path:
                answered = server.request(path, "HEAD")
                assert (answered.status, answered.body) == (200, b"")


@pytest.mark.parametrize(
    "head",
    [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: -1\r\n",
        "X: y\r\n Content-Length: 5\r\n",
        "X\0: y\r\n",
    ],
)
def test_no_second_request_is_smuggled(tmp_path: Path, head: str) -> None:
    """What two servers understand differently is refused, or answered once."""
    with serve(tmp_path) as server:
        second = f"GET /api/v1/runs HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        host = f"Host: 127.0.0.1:{server.port}\r\nOrigin: {server.base}\r\n"
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
            client.sendall(f"POST /login HTTP/1.1\r\n{host}{head}\r\n0\r\n\r\n{second}".encode())
            client.settimeout(10)
            found = b""
            with contextlib.suppress(OSError):
                while piece := client.recv(65536):
                    found += piece
                    if b'"rows"' in found:
                        break
        first = found[9:12]
        assert first in (b"", b"400", b"403", b"411", b"413"), found[:200]
        assert b'"rows"' not in found, found


def test_forwarded_headers_are_believed_by_nobody(tmp_path: Path) -> None:
    """Without --behind-proxy and with it: the name, the scheme and the address come from our own settings."""
    with serve(tmp_path, prefix="/sloth") as server:
        evil = {
            "X_Forwarded_Host": "evil.example", "X_Forwarded_Proto": "https", "X_Forwarded_For": "10.0.0.1",
            "X_Forwarded_Prefix": "/evil", "Forwarded": "host=evil.example;proto=https", "X_Original_URL": "/metrics",
            "X_Rewrite_URL": "/metrics", "X_HTTP_Method_Override": "DELETE", "X_Forwarded_User": "root",
        }  # fmt: skip
        for path in ("/sloth/", "/sloth/login", "/sloth/runs", "/sloth/nope"):
            answer = server.request(path, **evil)
            assert "evil" not in answer.text + str(answer.all_headers), path
        assert server.request("/sloth/api/v1/runs", token=None, **evil).status == 401
        location = server.request(f"/sloth/login?code={server.site.logins.code}", token=None, **evil).headers[
            "location"
        ]
        assert location == "/sloth/"


@pytest.mark.parametrize(
    "target", ["//evil.example", "//evil.example/%2e%2e", "/\\evil.example", "/%5Cevil.example", "/%2F%2Fevil.example",
               "http://evil.example/", "/login/..//evil.example", "/./", "/static//", "/runs//", "/%0d%0aX: y"],
)  # fmt: skip
def test_no_address_leads_to_another_server(tmp_path: Path, target: str) -> None:
    with serve(tmp_path) as server:
        head = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        answer = raw(server, head).partition(b"\r\n\r\n")[0].decode("latin-1").lower()
        found = re.search(r"^location: (.*)$", answer, re.M)
        assert found is None or re.match(rf"(http://127\.0\.0\.1:{server.port})?/(?![/\\])", found[1]), answer
        assert "\nx: y" not in answer


@pytest.mark.parametrize("name", ["next", "url", "redirect", "return_to"])
def test_a_login_leads_nowhere_but_to_the_start(tmp_path: Path, name: str) -> None:
    with serve(tmp_path) as server:
        code = server.site.logins.code
        answer = server.request(f"/login?code={code}&{name}={quote('//evil.example', safe='')}", token=None)
        assert answer.headers["location"] == "/"
        body = f"token={TOKEN}&{name}=//evil.example".encode()
        answer = server.request("/login", "POST", body, token=None, Origin=server.base, **FORM)
        assert answer.headers["location"] == "/"


def test_a_websocket_gets_nothing(tmp_path: Path) -> None:
    record_run(tmp_path, RUN)
    with serve(tmp_path) as server:
        upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        upgrade += "Sec-WebSocket-Version: 13\r\n"
        for path, login in (("/", ""), (f"/runs/{RUN}/events", ""), ("/", f"Authorization: Bearer {TOKEN}\r\n")):
            head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n{login}{upgrade}\r\n"
            answer = raw(server, head)
            assert answer[9:12] != b"101"
            assert login or answer[9:12] == b"401"
        assert server.request("/").status == 200


def test_streams_do_not_use_up_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rundeck #6309 in kind: one who follows with many tabs, or opens streams and never reads, keeps nobody out."""
    from sloth.web import live

    record_run(tmp_path, RUN, status=None, hosts=[RunHost("web1", "changed", 1.0)])
    monkeypatch.setattr(live, "MOST", 20)
    with serve(tmp_path) as server:
        head = (
            f"GET /runs/{RUN}/events HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        )
        clients = []
        try:
            for _ in range(20):
                client = socket.create_connection(("127.0.0.1", server.port), timeout=30)
                client.sendall(head.encode())
                assert client.recv(4096).startswith(b"HTTP/1.1 200")
                clients.append(client)
            over = server.request(f"/runs/{RUN}/events")
            assert (over.status, "retry-after" in over.headers) == (503, True)
            begun = time.monotonic()
            assert server.request("/").status == 200
            assert time.monotonic() - begun < 30
            assert server.request(f"/runs/{RUN}/events", token=None).status == 401
        finally:
            for client in clients:
                client.close()
        end = time.monotonic() + 60
        while server.site.streams.count:
            assert time.monotonic() < end, "streams of those who have gone end"
            time.sleep(0.1)


def test_a_stream_ends_with_the_login(tmp_path: Path) -> None:
    record_run(tmp_path, RUN, status=None)
    with serve(tmp_path) as server:
        cookie = log_in(server)
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("GET", f"/runs/{RUN}/events", headers={"Cookie": cookie})
        response = connection.getresponse()
        assert response.status == 200
        assert b"retry" in response.readline()
        assert server.request("/logout", "POST", b"", token=None, Cookie=cookie, Origin=server.base).status == 303
        begun = time.monotonic()
        while response.readline():
            assert time.monotonic() - begun < 50
        connection.close()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Accept-Language", "../../../../etc/passwd"),
        ("Accept-Language", "en;q=" + "9" * 5000),
        ("Accept", "text/x-python"),
        ("Accept-Encoding", "gzip, " * 200),
        ("Range", "bytes=0-0," * 500 + "1-1"),
        ("Range", "bytes=99999999999999999999-"),
        ("If-Range", "x"),
        ("If-None-Match", "*"),
        ("If-Modified-Since", "Mon, 99 Foo 99999 99:99:99 GMT"),
        ("Expect", "100-continue"),
        ("Last-Event-ID", "\x00../x"),
    ],
)
def test_odd_headers_change_nothing(tmp_path: Path, name: str, value: str) -> None:
    record_run(tmp_path, RUN)
    with serve(tmp_path) as server:
        for path in ("/runs", "/static/style.css", f"/runs/{RUN}/events"):
            with contextlib.suppress(ValueError):  # http.client refuses to send some of them
                answer = server.request(path, **{name.replace("-", "_"): value})
                assert answer.status in (200, 206, 304, 400, 416), (path, answer.status)
                assert len(answer.body) < 200_000
                assert "root:" not in answer.text


def test_ranges_of_a_page_with_secrets_are_not_served_apart(tmp_path: Path) -> None:
    with serve(tmp_path) as server:
        assert server.request("/", Range="bytes=0-10").status == 200
        assert server.request("/", Range="bytes=0-10").headers.get("accept-ranges") is None


def test_an_export_writes_only_into_its_directory(tmp_path: Path) -> None:
    """Through links, over other people's files, and with names that hosts and sites choose."""
    from sloth.errors import SlothError
    from sloth.web.app import Site
    from sloth.web.export import Exporter
    from sloth.web.settings import Settings

    home = tmp_path / "home"
    names = (
        "../../outside",
        "..",
        "a/../../b",
        "CON",
        "x\n.html",
        "-rf",
        "/etc/passwd",
        "static",
        "index.html",
        "\u202egpj",
    )
    record_run(home, RUN, results=[RunResult(one, "t", one, "changed", "", "", "") for one in names],
               hosts=[RunHost(one, "changed", 1.0) for one in names])  # fmt: skip
    outside = tmp_path / "outside"
    outside.mkdir()
    victim = outside / "style.css"
    victim.write_text("mine")
    site = Site(Settings(directory=home, token="", hosts=()))
    try:
        site.refresh_now()
        # A link that somebody has planted in a directory that others may write to.
        target = tmp_path / "report"
        target.mkdir()
        (target / "static").symlink_to(outside)
        (target / "index.html").symlink_to(victim)
        with pytest.raises(SlothError, match="link"):
            Exporter(site, target, 300).write(())
        assert victim.read_text() == "mine"
        assert [one.name for one in outside.iterdir()] == ["style.css"]
        # A directory with something else in it is left alone; one that an earlier export has made is written again.
        other = tmp_path / "other"
        other.mkdir()
        (other / "thesis.tex").write_text("mine")
        with pytest.raises(SlothError, match="not empty"):
            Exporter(site, other, 300).write(())
        assert [one.name for one in other.iterdir()] == ["thesis.tex"]
        clean = tmp_path / "clean"
        for _ in range(2):
            assert Exporter(site, clean, 300).write(())[0] > len(names)
        before = {path for path in tmp_path.rglob("*") if clean not in path.parents}
        assert not [path for path in before if path.name.endswith(".html") and path.parent != target], before
        for path in clean.rglob("*"):
            assert re.fullmatch(r"[A-Za-z0-9._-]+", path.name), path
            assert not path.name.startswith(("-", ".")) or path.name == ".sloth-runner-export", path
            assert path.is_dir() or path.stat().st_mode & 0o111 == 0
        assert "<html" in (clean / "index.html").read_text()
        assert "h1 {" in (clean / "static" / "style.css").read_text()
    finally:
        site.close()


def test_json_is_data_wherever_it_lands(tmp_path: Path) -> None:
    """JSON injection: prototype pollution, line separators, closing tags, spreadsheets, other character sets."""
    evil = [
        "__proto__",
        "</script><script>alert(1)</script>",
        "\u2028\u2029",
        "=cmd|' /C calc'!A0",
        "+ADw-script+AD4-",
        '"}]}',
    ]
    record_run(tmp_path, RUN, results=[RunResult(one, one, one, "changed", one, "", "") for one in evil])
    with serve(tmp_path) as server:
        answer = server.request(f"/api/v1/runs/{RUN}")
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.body.isascii()
        assert b"</script" not in answer.body
        rows = json.loads(answer.body)["results"]["rows"]
        assert {row["task"] for row in rows} >= set(evil) - {"\u2028\u2029"}
        for path in (f"/runs/{RUN}", f"/api/v1/runs/{RUN}?callback=alert", f"/runs/{segment('../' + RUN)}"):
            assert "content-disposition" not in server.request(path).headers, "no page names a file"


def test_what_is_secret_is_not_in_the_list_of_processes(tmp_path: Path) -> None:
    """The token comes from a file, the environment or chance, and no option takes it."""
    from click.testing import CliRunner

    from sloth.cli.web import web

    text = CliRunner().invoke(web, ["--help"]).output
    assert "--token " not in text.replace("--token-file", "")
    refused = CliRunner().invoke(web, ["--token", TOKEN])
    assert refused.exit_code == 2
    assert os.environ.get("SLOTH_WEB_TOKEN") is None
