"""The pages of the web UI and their JSON: what they show of what was recorded."""

from __future__ import annotations

import json
from pathlib import Path

from sloth.state.run_records import RunCounts, RunHost, RunResult
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
