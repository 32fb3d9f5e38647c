"""Options of run besides what it does: lists, where it begins, what it asks, what it writes down."""

from __future__ import annotations

import gzip
import http.server
import json
import re
import socket
import stat
import threading
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any, ClassVar

import jsonschema
import pytest

from sloth.transport.loopback import LoopbackFleet
from tests.support.command import sloth
from tests.support.home import Home
from tests.support.paths import ROOT
from tests.support.terminal import Terminal

SITE = """
task({ name = "base", tags = "system", run = function()
    file.copy({ content = "base\\n", dest = "FILES/" .. host.name .. ".base" })
end })
task({ name = "web", hosts = "web2", depends_on = "base", tags = { "app", "never" }, run = function() end })
task({ name = "app", depends_on = "base", tags = "app", notify = "reload", run = function()
    file.copy({ content = "app\\n", dest = "FILES/" .. host.name .. ".app" })
    if host.name == "web2" and vars.breaks then fail({ msg = "broken\\non purpose, 100%" }) end
end })
handler({ name = "reload", run = function() exec.run("echo reloaded >> FILES/" .. host.name .. ".log") end })
"""


@pytest.fixture
def steps(home: Home) -> Home:
    (home.path / "site.sloth").write_text(SITE.replace("FILES", str(home.files)))
    return home


def names(home: Home) -> set[str]:
    return {path.name for path in home.files.iterdir()}


def test_lists_touch_nothing(steps: Home) -> None:
    assert steps.json("run", "-f", "site.sloth", "--list-tags") == ["app", "system"]
    shown = steps("run", "-f", "site.sloth", "--list-tasks")
    rows = [re.split(r"\s{2,}", line) for line in shown.splitlines() if "site.sloth:" in line]
    assert [row[:3] for row in rows] == [["base", "web1, web2", "system"], ["app", "web1, web2", "app"]]
    listed = steps.json("run", "-f", "site.sloth", "--list-tasks", "-t", "app,never", "--limit", "web2")
    assert [(task["name"], task["hosts"]) for task in listed] == [("web", ["web2"]), ("app", ["web2"])]
    assert steps.json("run", "-f", "site.sloth", "--list-hosts", "--limit", "!web1") == ["web2"]
    assert steps.json("run", "-f", "site.sloth", "--list-tags", "--start-at", "app") == ["app"]
    assert not names(steps)
    assert "no run is recorded" in steps("runs", "list")


def test_a_run_begins_where_it_is_told(steps: Home) -> None:
    steps("run", "-f", "site.sloth", "--start-at", "app")
    assert names(steps) == {"web1.app", "web2.app", "web1.log", "web2.log"}
    shown = steps("run", "-f", "site.sloth", "--start-at", "ap", status=2)
    assert 'no task has the name "ap"; hint: did you mean "app"?' in shown
    shown = steps("run", "-f", "site.sloth", "--start-at", "app", "--prune", "--yes", status=2)
    assert "leave out --start-at" in shown


def test_what_comes_before_the_start_is_not_orphaned(steps: Home) -> None:
    steps("run", "-f", "site.sloth")
    assert "orphaned" not in steps("run", "-f", "site.sloth", "--start-at", "app")
    assert steps.json("state", "list", "orphaned", "--agent", "web1") == []


def test_each_step_is_asked_for_once(steps: Home) -> None:
    with Terminal(["-m", "sloth", "run", "-f", "site.sloth", "--step"], steps.path) as terminal:
        terminal.wait_for(r"Run task base\? \[N\]o/\(y\)es/\(c\)ontinue: ")
        assert not names(steps)
        terminal.press("\n")
        terminal.wait_for(r"Run task app\? ")
        terminal.press("y\n")
        assert terminal.end() == 0
    assert names(steps) == {"web1.app", "web2.app", "web1.log", "web2.log"}
    assert terminal.text.count("Run task") == 2


def test_continue_asks_no_more_and_an_interrupt_ends_the_question(steps: Home) -> None:
    with Terminal(["-m", "sloth", "run", "-f", "site.sloth", "--step"], steps.path) as terminal:
        terminal.wait_for("Run task base")
        terminal.press("c\n")
        assert terminal.end() == 0
    assert {"web1.base", "web2.app"} <= names(steps)
    with Terminal(["-m", "sloth", "run", "-f", "site.sloth", "--step"], steps.path) as terminal:
        terminal.wait_for("Run task base")
        terminal.press("\x03")
        assert terminal.end(20) == 130


def test_step_needs_a_terminal(steps: Home) -> None:
    assert "no terminal to ask on" in steps("run", "-f", "site.sloth", "--step", status=2)


def test_hosts_of_earlier_runs_are_patterns(steps: Home) -> None:
    steps("run", "-f", "site.sloth", "-e", "breaks=1", status=1)
    listing = ("run", "-f", "site.sloth", "--list-hosts", "--limit")
    assert steps.json(*listing, "@failed") == ["web2"]
    assert steps.json(*listing, "all,!@failed") == ["web1"]
    assert steps.json(*listing, "@changed") == ["web1", "web2"]
    failed = steps.json("runs", "list")[0]["run"]
    shown = steps("run", "-f", "site.sloth", "--limit", "@failed")
    assert shown.count("1 host: ") == 1
    assert steps.json(*listing, f"@failed:{failed}") == ["web2"]
    assert f"run {steps.json('runs', 'list')[0]['run']} failed on no host" in steps(*listing, "@failed", status=2)
    assert steps.json(*listing, "all,!@unreachable") == ["web1", "web2"]
    assert "run nonsense not found" in steps(*listing, "@failed:nonsense", status=1)
    with (steps.path / "inventory.toml").open("a") as file:
        file.write('[groups.failed]\nhosts = ["web1"]\n')
    assert steps.json(*listing, "@failed") == ["web1"]  # a group of the inventory comes first
    assert steps.json(*listing, f"@failed:{failed}") == ["web2"]


def test_a_log_keeps_the_events_of_all_runs_and_no_secret(steps: Home) -> None:
    log = steps.path / "log.jsonl"
    steps.site('exec.run({ cmd = "echo " .. secret("token") })', name="secret.sloth")
    environment = {"SLOTH_SECRET_TOKEN": "correct-horse-battery"}
    done = sloth(steps.path, "run", "-f", "secret.sloth", "--log", "log.jsonl", "-v", extra=environment)
    assert done.returncode == 0, done.stderr
    steps("run", "-f", "site.sloth", "--log", "log.jsonl")
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert "correct-horse-battery" not in log.read_text()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    schema = json.loads((ROOT / "sloth" / "report" / "schema_ndjson.json").read_text())
    for line in lines:
        assert line.pop("run_id")
        event = {**line, **({"run_id": "x"} if line["event"] in ("run_started", "run_finished") else {})}
        jsonschema.validate(event, schema)
    assert [line["event"] for line in lines].count("run_finished") == 2
    opened = [line for line in lines if line["event"] == "session_opened"]
    assert {line["host"] for line in opened} == {"web1", "web2"}
    assert all(line["start"] > 0 for line in opened)


@pytest.mark.parametrize("option", ["--log", "--profile"])
def test_a_file_that_cannot_be_written_is_an_error_before_the_run(steps: Home, option: str) -> None:
    shown = steps("run", "-f", "site.sloth", option, "none/here", status=2)
    assert f"none/here cannot be written: No such file or directory; hint: see {option}" in shown
    assert not names(steps)


def test_a_log_that_cannot_be_kept_fails_the_run_and_not_its_work(steps: Home) -> None:
    shown = steps("run", "-f", "site.sloth", "--log", "/dev/full", status=1)
    assert "the report cannot be written: No space left on device" in shown
    assert "web1.app" in names(steps)


async def test_a_profile_shows_where_the_time_went(servers: LoopbackFleet, tmp_path: Path) -> None:
    (tmp_path / "site.sloth").write_text(
        'task({ name = "slow", run = function() exec.run("sleep 0.4") facts = facts exec.run("true") end })'
    )
    import asyncio

    done = await asyncio.to_thread(
        sloth, tmp_path, "run", "-i", "inventory.toml", "-f", "site.sloth", "--profile", "times.svg"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row[0]: row for row in (re.split(r"\s{2,}", line) for line in done.stdout.splitlines()) if row}
    assert rows["HOST"] == ["HOST", "TOTAL", "CONNECT", "AUTHENTICATE", "START", "CALLS", "REST"]
    for host in ("web1", "web2", "db1"):
        total, *parts = (float(cell.removesuffix(" s")) for cell in rows[host][1:])
        assert parts[3] >= 0.4
        assert min(parts[0], parts[2]) > 0  # to authenticate takes less than is shown
        assert abs(total - sum(parts)) < 0.1
    picture = ET.parse(tmp_path / "times.svg").getroot()
    titles = [title.text or "" for title in picture.iter("{http://www.w3.org/2000/svg}title")]
    for what in ("connect", "authenticate", "start of the payload", "exec:run:sleep 0.4"):
        assert any(title.startswith(f"web1: {what}") for title in titles), what


def test_a_profile_of_names_that_are_markup_is_a_picture(home: Home) -> None:
    home.site('exec.run("true # <script>&\\"\\27[31m")')
    home("run", "-f", "site.sloth", "--profile", "times.svg")
    text = (home.path / "times.svg").read_text()
    ET.fromstring(text)
    assert "<script" not in text


def test_failures_are_annotations_in_a_workflow_of_github(steps: Home) -> None:
    words = ("run", "-f", "site.sloth", "-e", "breaks=1")
    done = sloth(steps.path, *words, extra={"GITHUB_ACTIONS": "true"})
    found = [line for line in done.stdout.splitlines() if line.startswith("::")]
    assert len(found) == 1
    assert found[0].startswith("::error file=site.sloth,line=8,title=app on web2::")
    assert "broken%0Aon purpose, 100%25" in found[0]
    assert "::error" not in sloth(steps.path, *words).stdout
    document = sloth(steps.path, *words, "-o", "json", extra={"GITHUB_ACTIONS": "true"})
    assert json.loads(document.stdout)["summary"]["failed"] == 1
    assert "::error" in document.stderr


class _Collector(http.server.BaseHTTPRequestHandler):
    """Keeps the spans that are sent to it."""

    spans: ClassVar[list[Any]] = []

    def do_POST(self) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        data = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            data = gzip.decompress(data)
        sent = ExportTraceServiceRequest.FromString(data)
        for scope in (scope for resource in sent.resource_spans for scope in resource.scope_spans):
            self.spans.extend(scope.spans)
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def test_a_run_is_a_trace(steps: Home) -> None:
    _Collector.spans.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = sloth(
            steps.path, "run", "-f", "site.sloth", "-e", "breaks=1", "--traces",
            extra={
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
                "TRACEPARENT": f"00-{'ab' * 16}-{'cd' * 8}-01",
            },
        )  # fmt: skip
        server.shutdown()
    assert done.returncode == 1, done.stderr
    spans = {span.span_id: span for span in _Collector.spans}
    assert {span.trace_id.hex() for span in spans.values()} == {"ab" * 16}

    def path(span: Any) -> list[str]:
        parent = spans.get(span.parent_span_id)
        return [*(path(parent) if parent else []), span.name]

    paths = {"/".join(path(span)): span for span in spans.values()}
    for expected in ("run", "run/web1", "run/web1/start", "run/web1/base/file.copy", "run/web2/app"):
        assert expected in paths, sorted(paths)
    assert paths["run/web2/app"].status.message.startswith("site.sloth:8: ")
    assert paths["run/web1/app"].status.message == ""
    for span in spans.values():
        assert span.start_time_unix_nano <= span.end_time_unix_nano


def test_a_collector_that_is_away_is_reported_at_the_end(steps: Home) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        done = sloth(steps.path, "run", "-f", "site.sloth", "--traces", extra={"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint})
    assert done.returncode == 1
    assert "2 hosts: 6 changed" in done.stdout
    assert done.stderr.count("collector") == 1
    assert "Traceback" not in done.stderr
