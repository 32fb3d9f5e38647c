"""http.request and wait_for, against a server of this machine."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sloth.engine.events import Event, Log
from sloth.engine.options import Options
from tests.support.running import finished_hosts, results, run_local


class Api(BaseHTTPRequestHandler):
    """Answers with what it was asked for; /ready becomes ready at the third request."""

    asked: list[tuple[str, str]]

    def _answer(self) -> None:
        self.asked.append((self.command, self.path))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        code, kind, text = 200, "application/json", b""
        if self.path == "/ready":
            text = json.dumps({"ready": len(self.asked) > 2}).encode()
        elif self.path == "/moved":
            code = 302
        elif self.path == "/big":
            text = b"x" * 2_000_000
        elif self.path == "/odd":
            text = b'{"a": NaN}'
        elif self.path.startswith("/code/"):
            code, kind, text = int(self.path[6:]), "text/plain", b"no such thing"
        else:
            seen = {name: self.headers.get(name) for name in ("Authorization", "X-One", "Content-Type")}
            text = json.dumps({"method": self.command, "body": body.decode(), **seen}).encode()
        self.send_response(code)
        self.send_header("Content-Type", kind)
        if code == 302:
            self.send_header("Location", "/other")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _answer

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def api() -> Iterator[str]:
    """The address of a running Api."""
    handler = type("OneApi", (Api,), {"asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


async def run(body: str, tmp_path: Path, options: Options | None = None, task: str = "") -> list[Event]:
    (tmp_path / "home").mkdir(exist_ok=True)
    source = f'task({{ name = "t", {task} run = function()\n{body}\nend }})'
    return await run_local(source, tmp_path / "home", options)


def printed(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Log)]


async def test_a_request_and_its_answer(api: str, tmp_path: Path) -> None:
    user = base64.b64encode(b"me:x y").decode()
    events = await run(
        f"""
local r = http.request({{ url = "{api}/a?b=1", headers = {{ ["X-One"] = "1" }}, user = "me", password = "x y" }})
print(r.status_code, r.success, r.json.method, r.json["X-One"], r.json.Authorization, r.headers["content-type"])
local p = http.request({{ url = "{api}/b", method = "POST", json = {{ list = {{ 1, 2 }}, name = "ü" }} }})
print(p.json.method, p.json.body, p.json["Content-Type"], p.changed, r.changed)
print(http.request({{ url = "{api}/c", method = "PUT", body = "plain" }}).json.body)
print(http.request({{ url = "{api}/d", method = "HEAD" }}).body == "")
""",
        tmp_path,
    )
    first, second, third, fourth = printed(events)
    assert first == f"200\ttrue\tGET\t1\tBasic {user}\tapplication/json"
    assert second == 'POST\t{"list": [1, 2], "name": "\\u00fc"}\tapplication/json\ttrue\tfalse'
    assert (third, fourth) == ("plain", "true")
    assert [result.status for result in results(events)] == ["unchanged", "changed", "changed", "unchanged"]


async def test_codes_redirects_and_answers_that_are_too_large(api: str, tmp_path: Path) -> None:
    events = await run(
        f"""
local r = http.request({{ url = "{api}/code/404", status = {{ 200, 404 }} }})
print(r.status_code, r.success, r.body, r.json)
print(http.request({{ url = "{api}/code/500", fail = false }}).success)
print(http.request({{ url = "{api}/moved" }}).json.method)
print(http.request({{ url = "{api}/moved", method = "POST", status = 302 }}).status_code)
print(http.request({{ url = "{api}/odd" }}).json)
print(pcall(function() return http.request({{ url = "{api}/big" }}) end))
print(pcall(function() return http.request({{ url = "{api}/code/503" }}) end))
print(pcall(function() return http.request({{ url = "http://127.0.0.1:1/" }}) end))
""",
        tmp_path,
    )
    lines = printed(events)
    assert lines[:5] == ["404\ttrue\tno such thing\tnil", "false", "GET", "302", "nil"]
    assert "is larger than 1048576 bytes; hint: http.download" in lines[5]
    assert "answered 503" in lines[6]
    assert "cannot be reached: Connection refused" in lines[7]


async def test_a_check_sends_only_what_changes_nothing(api: str, tmp_path: Path) -> None:
    events = await run(
        f"""
print(http.request({{ url = "{api}/a" }}).json.method)
http.request({{ url = "{api}/b", method = "DELETE" }})
""",
        tmp_path,
        Options(check=True),
    )
    assert printed(events) == ["GET"]
    assert [result.status for result in results(events)] == ["unchanged", "changed"]


async def test_a_health_check_is_repeated_until_it_is_right(api: str, tmp_path: Path) -> None:
    events = await run(
        f'return http.request({{ url = "{api}/ready" }})',
        tmp_path,
        task="retries = 5, delay = 0, until = function(r) return r.json.ready end,",
    )
    assert finished_hosts(events)["local"].status == "unchanged"
    assert len(results(events)) == 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("http.request('ftp://x')", "url must begin with http:// or https://"),
        ("http.request({url = 'http://x', method = 'FETCH'})", "method"),
        ("http.request({url = 'http://x', body = 'a', json = {}})", "give either body or json"),
        ("http.request({url = 'http://x', status = 'ok'})", "status must be codes"),
        ("http.request({url = 'http://x', headers = {a = 'b\\nc'}})", "control character"),
        ("wait_for({})", "wait_for needs either port or path"),
        ("wait_for({port = 1, path = '/x'})", "wait_for needs either port or path"),
        ("wait_for({port = 70000})", "port must be a number from 1 to 65535"),
        ("wait_for({path = '/x', state = 'drained'})", "needs a port"),
        ("wait_for({path = '/x', search_regex = '('})", "is no regular expression"),
        ("wait_for({path = '/x', sate = 'absent'})", 'did you mean "state"?'),
        ("print(host.wait_fro)", 'did you mean "wait_for"?'),
        ("host:wait_for({path = '/x'})", "must be written with a dot"),
    ],
)
async def test_wrong_arguments(tmp_path: Path, call: str, message: str) -> None:
    assert message in (finished_hosts(await run(call, tmp_path))["local"].error or "")


async def test_waiting_for_a_port(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]

        def answer() -> None:
            time.sleep(0.5)
            listener.listen()
            for _ in range(3):
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(b"220 mail.example.org\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        events = await run(
            f"""
wait_for({{ port = {port}, sleep = 0.05, timeout = 60 }})
local r = host.wait_for({{ port = {port}, search_regex = "^220 .*org", timeout = 60, connect_timeout = 30 }})
print(r.elapsed < 60, r.changed)
local never = {{ port = {port}, search_regex = "never", timeout = 0.1, msg = "no mail" }}
print(pcall(function() return wait_for(never) end))
""",
            tmp_path,
        )
        thread.join()
    lines = printed(events)
    assert lines[0] == "true\tfalse"
    assert "no mail" in lines[1]
    assert {result.status for result in results(events)} == {"unchanged", "failed"}
    gone = await run(f"wait_for({{ port = {port}, state = 'stopped', timeout = 60 }})", tmp_path)
    assert finished_hosts(gone)["local"].status == "unchanged"


async def test_waiting_for_a_port_to_be_drained(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        free = await run(f"wait_for({{ port = {port}, state = 'drained', timeout = 30 }})", tmp_path)
        assert finished_hosts(free)["local"].status == "unchanged"
        with socket.create_connection(("127.0.0.1", port)):
            call = f"wait_for({{ port = {port}, state = 'drained', timeout = 0.2, sleep = 0.1 EXCLUDED }})"
            busy = await run(call.replace("EXCLUDED", ""), tmp_path)
            assert f"127.0.0.1:{port} is not drained after 0.2 seconds" in (finished_hosts(busy)["local"].error or "")
            spared = await run(call.replace("EXCLUDED", ", exclude_hosts = {'127.0.0.1'}"), tmp_path)
            assert finished_hosts(spared)["local"].status == "unchanged"


async def test_waiting_for_a_path(tmp_path: Path) -> None:
    path = tmp_path / "log"
    events = await run(
        f"""
exec.run("(sleep 0.3; echo starting > {path}; sleep 0.3; echo ready >> {path}) >/dev/null 2>&1 &")
wait_for({{ path = "{path}", sleep = 0.05, timeout = 60 }})
wait_for({{ path = "{path}", search_regex = "^ready$", sleep = 0.05, timeout = 60 }})
wait_for({{ path = "{path}.pid", state = "absent" }})
""",
        tmp_path,
    )
    assert path.read_text() == "starting\nready\n"
    assert [result.status for result in results(events)] == ["changed", "unchanged", "unchanged", "unchanged"]
    checked = await run('wait_for({ path = "/nonexistent" })', tmp_path, Options(check=True))
    assert [result.status for result in results(checked)] == ["unknown"]


async def test_a_task_s_timeout_ends_the_waiting(tmp_path: Path) -> None:
    begun = time.monotonic()
    events = await run('wait_for({ path = "/nonexistent/x" })', tmp_path, task="timeout = 6,")
    error = finished_hosts(events)["local"].error or ""
    assert "did not end within 6 seconds" in error or "the run was cancelled while waiting" in error
    assert time.monotonic() - begun < 60


async def test_this_machine_is_neither_rebooted_nor_waited_for(tmp_path: Path) -> None:
    for call in ("host.reboot()", "host.wait()"):
        events = await run_local(f'task({{ name = "t", run = function() {call} end }})', tmp_path)
        assert "is not connected to by SSH" in str(finished_hosts(events)["local"].error)
    events = await run_local('task({ name = "t", run = function() host.reboot() end })', tmp_path, Options(check=True))
    assert [(result.status, result.msg) for result in results(events)] == [("changed", "would reboot")]
