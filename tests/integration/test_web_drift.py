"""Drift in the web UI, actions and metrics: what pages and numbers say of what was recorded, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from sloth.state.run_records import RunHost, RunKind, RunResult
from tests.support.web import TOKEN, Server, record_run, serve

KEY = "file:copy:/etc/motd"
DIFF = json.dumps({"mode": {"before": "0644", "after": "0600"}})


def changed(host: str, at: float, key: str = KEY, reason: str = "new") -> RunResult:
    return RunResult(host, "t", key, "changed", reason, "site.sloth:3", "", None, 0.1, at)


def found(host: str, at: float, key: str = KEY) -> RunResult:
    return RunResult(host, "t", key, "drift", "", "site.sloth:3", "", DIFF, None, at)


def record(path: Path, run: str, kind: RunKind, status: str, at: float, *results: RunResult) -> None:
    hosts = [RunHost("web1", status, at, 1.0)]
    record_run(path, run, kind=kind, results=results, hosts=hosts)


def drift_rows(server: Server, query: str = "") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(server.request(f"/api/v1/drift{query}").body)["rows"]["rows"]
    return rows


def test_what_is_found_again_is_one_finding_and_what_was_put_back_is_no_drift(tmp_path: Path) -> None:
    record(tmp_path, "20260101-000000-aaaaaa", RunKind.RUN, "changed", 100.0, changed("web1", 100.5))
    record(tmp_path, "20260101-000100-aaaaaa", RunKind.DRIFT, "drift", 200.0, found("web1", 200.5))
    record(tmp_path, "20260101-000200-aaaaaa", RunKind.DRIFT, "drift", 300.0, found("web1", 300.5))
    with serve(tmp_path) as server:
        (row,) = drift_rows(server)
        assert (row["state"], row["at"], row["seen"], row["by"]) == ("open", 200.5, 300.5, "hand")
        assert row["since"] == 101.0  # the end of the run that had applied it
        assert drift_rows(server, "?days=1") == []  # it was first found long ago
        record(
            tmp_path, "20260101-000300-aaaaaa", RunKind.RUN, "changed", 400.0, changed("web1", 400.5, reason="drift")
        )
        server.site.refresh_now()
        (row,) = drift_rows(server)
        assert (row["state"], row["at"], row["seen"]) == ("corrected", 200.5, 400.5)
        assert json.loads(server.request("/api/v1/drift").body)["open"] == 0
        assert json.loads(server.request("/api/v1/overview").body)["drifted"] == 0
        assert "sloth_host_drifted_resources" in server.request("/metrics").text


def test_what_another_call_of_ours_has_changed_is_not_blamed_on_a_person(tmp_path: Path) -> None:
    record(tmp_path, "20260101-000000-aaaaaa", RunKind.RUN, "changed", 100.0, changed("web1", 100.5))
    other = changed("web1", 200.5, "file:template:/etc/motd")
    record(tmp_path, "20260101-000100-bbbbbb", RunKind.RUN, "changed", 200.0, other)
    record(tmp_path, "20260101-000200-aaaaaa", RunKind.DRIFT, "drift", 300.0, found("web1", 300.5))
    with serve(tmp_path) as server:
        (row,) = drift_rows(server)
        assert (row["by"], row["by_run"]) == ("us", "20260101-000100-bbbbbb")


def test_labels_of_metrics_are_escaped(tmp_path: Path) -> None:
    host = 'web"1\n} sloth_evil{\\'
    record_run(tmp_path, "20260101-000000-aaaaaa", hosts=[RunHost(host, "failed", 5.0, 1.0, "x")], status=1)
    with serve(tmp_path) as server:
        text = server.request("/metrics").text
        assert 'sloth_host_last_run_success{host="web\\"1\\n} sloth_evil{\\\\"} 0\n' in text
        for line in text.splitlines():
            assert re.match(
                r'(# (HELP|TYPE) sloth_|sloth_[a-z_]+\{[a-z]+="(\\.|[^"\\])*"(,[a-z]+="[^"]*")?\} \S+$)', line
            ), line
        assert server.request("/metrics", token=None).status == 401


class Recorder:
    """Actions that only write down what they are to do."""

    def __init__(self) -> None:
        self.done: list[tuple[str, ...]] = []

    def hosts(self, pattern: str) -> tuple[str, ...]:
        return ("web1",)

    def drift(self, pattern: str, by: str) -> str:
        self.done.append(("drift", pattern, by))
        return "20260101-000000-aaaaaa"

    def holder(self, lock: str, number: int) -> str:
        return "ann has it since today"

    def unlock(self, lock: str, number: int) -> str:
        self.done.append(("unlock", lock, str(number)))
        return f"released {lock}"

    def freeze(self, host: str, key: str, until: str, why: str) -> str:
        self.done.append(("freeze", host, key, until, why))
        return "froze"

    def unfreeze(self, host: str, key: str) -> str:
        self.done.append(("unfreeze", host, key))
        return "thawed"


def test_an_action_needs_a_login_a_question_and_a_name_and_is_written_down(tmp_path: Path) -> None:
    actions = Recorder()
    with serve(tmp_path, actions=actions) as server:
        origin = {"Origin": server.base, "Content_Type": "application/x-www-form-urlencoded"}
        form = b"action=unlock&lock=deploy&number=3"
        assert server.request("/actions/ask").status == 405
        assert server.request("/actions/do", "POST", form, **origin).status == 401  # the token only reads
        login = server.request("/login", "POST", f"token={TOKEN}".encode(), token=None, **origin)
        cookie = {"Cookie": login.headers["set-cookie"].partition(";")[0], **origin}
        foreign = {**cookie, "Origin": "http://evil.example"}
        assert server.request("/actions/ask", "POST", form, token=None, **foreign).status == 403
        question = server.request("/actions/ask", "POST", form, token=None, **cookie)
        csrf = re.search(r'name="csrf" value="([0-9a-f.]+)"', question.text)
        assert csrf is not None
        proof = f"&csrf={csrf[1]}".encode()
        assert server.request("/actions/do", "POST", form + b"&who=ann", token=None, **cookie).status == 403
        other = b"action=unlock&lock=other&number=3" + proof + b"&who=ann"
        assert server.request("/actions/do", "POST", other, token=None, **cookie).status == 403
        assert server.request("/actions/do", "POST", form + proof, token=None, **cookie).status == 400  # no name
        assert actions.done == []
        assert server.request("/actions/do", "POST", form + proof + b"&who=ann", token=None, **cookie).status == 303
        assert actions.done == [("unlock", "deploy", "3")]
        assert server.request("/actions/do", "POST", form + proof + b"&who=ann", token=None, **cookie).status == 303
        assert len(actions.done) == 1, "a second click does nothing more"
        rows = json.loads(server.request("/api/v1/actions").body)["rows"]
        assert [(row["who"], row["what"], row["outcome"]) for row in rows] == [
            ("ann", "unlock", "released deploy"),
            ("ann", "unlock", "begun"),
        ]
        assert (tmp_path / "web-actions.jsonl").stat().st_mode & 0o077 == 0
    with serve(tmp_path) as server:  # off by default
        origin["Origin"] = server.base
        login = server.request("/login", "POST", f"token={TOKEN}".encode(), token=None, **origin)
        cookie = {"Cookie": login.headers["set-cookie"].partition(";")[0], **origin}
        assert server.request("/actions/ask", "POST", form, token=None, **cookie).status == 404
