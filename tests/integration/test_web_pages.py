"""The pages of the web UI and their JSON: what they show of what was recorded."""

from __future__ import annotations

import json
import time
from pathlib import Path

from sloth.state.run_records import RunCounts, RunHost, RunKind, RunResult
from tests.support.web import record_run, serve


def test_an_empty_controller_has_calm_pages(tmp_path: Path) -> None:
    with serve(tmp_path) as server:
        for path in ("/", "/runs"):
            assert server.request(path).status == 200
        assert "No run is recorded yet" in server.request("/").text
        assert server.request("/runs/last").status == 404
        assert json.loads(server.request("/api/v1/runs").body)["total"] == 0


def test_runs_and_one_run(tmp_path: Path) -> None:
    failed = RunResult("web2", "setup", "file:copy:/etc/motd", "failed", "", "site.sloth:4", "no space left", None, 0.2)
    record_run(
        tmp_path, "20260101-000000-aaaaaa", results=[failed], counts=RunCounts(failed=1), status=1,
        hosts=[RunHost("web1", "unchanged", 1.0, 0.5), RunHost("web2", "failed", 1.0, 0.5, "no space left")],
    )  # fmt: skip
    with serve(tmp_path) as server:
        row = json.loads(server.request("/api/v1/runs").body)["rows"][0]
        assert (row["end"], row["hosts"], row["failed"], row["who"]) == ("failed", 2, 1, "ann")
        page = server.request("/runs/20260101-000000-aaaaaa").text
        assert "no space left" in page
        assert "site.sloth:4" in page
        assert server.request("/runs?end=failed").text.count("20260101-000000-aaaaaa") == 2  # the address and its text
        assert json.loads(server.request("/api/v1/runs?end=changed").body)["total"] == 0


def test_wrong_parameters_are_refused_with_the_right_word(tmp_path: Path) -> None:
    with serve(tmp_path) as server:
        for path, text in (
            ("/api/v1/runs?end=failde", "end must be one of"),
            ("/api/v1/runs?ende=failed", "unknown parameter 'ende'"),
            ("/api/v1/runs?page=x", "page must be a whole number"),
            ("/api/v1/runs?sort=nothing", "there is no column 'nothing'"),
            ("/api/v1/runs?q=a&q=b", "'q' is given twice"),
        ):
            answer = server.request(path)
            assert (answer.status, text in json.loads(answer.body)["error"]) == (400, True), path
            assert server.request(path.replace("/api/v1", "")).status == 400


def test_the_openapi_document_has_every_view(tmp_path: Path) -> None:
    with serve(tmp_path) as server:
        document = json.loads(server.request("/api/v1/openapi.json").body)
        for view in server.site.views:
            assert view.api_path in document["paths"]
        assert "RunRow" in document["components"]["schemas"]


def test_what_users_of_others_complained_of(tmp_path: Path) -> None:
    """ARA #28, #193, #218, #331, #354, #484; puppetboard #463, #1402; semaphore #865; AWX #4092."""
    web1, day = "web1.example.org", 86400
    drifted = RunResult(web1, "t", "k", "changed", "drift", "s:1", "", None, 1.0, 5.0)
    ignored = RunResult("web2", "t", "k", "ignored", "", "s:1", "never mind")
    record_run(
        tmp_path, "20260101-1", about='{"origin": "ctl1"}', results=[drifted, ignored], status=1,
        counts=RunCounts(changed=500, failed=1, ignored=1),
        hosts=[RunHost(web1, "changed", time.time() - 30 * day), RunHost("web2", "failed", time.time(), 0.1, "no")],
    )  # fmt: skip
    record_run(
        tmp_path, "20260102-2", kind=RunKind.CHECK, about='{"origin": "ctl2"}', counts=RunCounts(changed=2),
        hosts=[RunHost("web2", "changed", time.time())],
    )  # fmt: skip
    record_run(tmp_path, "20260103-3", kind=RunKind.DRIFT, hosts=[RunHost("web2", "clean", time.time())])
    record_run(tmp_path, "20260104-4", about="no JSON", status=None)
    with serve(tmp_path) as server:

        def rows(path: str, name: str = "") -> list[dict[str, object]]:
            document = json.loads(server.request(f"/api/v1{path}").body)
            found: list[dict[str, object]] = (document[name] if name else document)["rows"]
            return found

        ends = {row["run"]: (row["kind"], row["end"]) for row in rows("/runs")}
        assert ends == {
            "20260101-1": ("run", "failed"),  # never green, although much changed
            "20260102-2": ("check", "changed"),
            "20260103-3": ("drift", "unchanged"),
            "20260104-4": ("run", "running"),
        }
        assert [row["run"] for row in rows("/runs?origin=ctl2")] == ["20260102-2"]
        assert ">check<" in server.request("/runs?kind=check").text
        # Neither a check nor a look for drift hides that the newest run failed on a host.
        assert {row["host"]: row["status"] for row in rows("/hosts", "hosts")} == {web1: "changed", "web2": "failed"}
        assert [row["host"] for row in rows("/hosts?unseen=7", "hosts")] == [web1]
        assert [row["key"] for row in rows("/runs/20260101-1?status=ignored", "results")] == ["k"]
        assert web1 in server.request("/search?q=EXAMPLE.org").text
        assert [row["run"] for row in rows(f"/runs?host={web1}")] == ["20260101-1"]
        assert len(rows("/hosts?size=1", "hosts")) == 1
        assert rows("/hosts?size=1&page=2&sort=-host", "hosts")[0]["host"] == web1


def test_below_a_prefix_whether_or_not_the_proxy_removes_it(tmp_path: Path) -> None:
    record_run(tmp_path, "20260101-1")
    with serve(tmp_path, prefix="/sloth") as server:
        for path in ("/runs", "/sloth/runs"):
            page = server.request(path).text
            assert 'href="/sloth/runs/20260101-1"' in page
            assert 'src="/sloth/static/script.js?' in page
        assert server.request("/sloth/static/style.css", token=None).status == 200
        assert server.request("/sloth", token=None).status == 401
        answer = server.request(f"/sloth/login?code={server.site.logins.code}", token=None)
        assert answer.headers["location"] == "/sloth/"
        assert "Path=/sloth/" in answer.headers["set-cookie"]
        assert server.request("/slothful").status == 404
