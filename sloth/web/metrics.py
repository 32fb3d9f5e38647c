"""/metrics for Prometheus: the newest run of each host and site, drift, failures and durations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from sloth.errors import SlothError
from sloth.web.data.runs import END_SQL
from sloth.web.data.source import Source

if TYPE_CHECKING:
    from sloth.web.app import Site

TYPE = "text/plain; version=0.0.4; charset=utf-8"
SITES = 500  # sites whose newest run is shown
Samples = Iterable[tuple[str, float | None]]  # labels as they are written, and the value


def route(site: Site) -> Route:
    """Return the route of /metrics."""

    async def metrics(request: Request) -> Response:
        try:
            text = await run_in_threadpool(write, site.source)
        except SlothError as error:
            return PlainTextResponse(f"{error.message}\n", 503)
        return Response(text, media_type=TYPE)

    return Route("/metrics", metrics, name="metrics")


def write(source: Source) -> str:
    """Return all metrics in the text format of Prometheus. Raises StateError."""
    database = source.database
    hosts = database.rows(
        "SELECT host, status, started, seconds, reached_at, changed_at, drift_at, drift_status FROM cache.hosts"
        " ORDER BY host"
    )
    drifts = dict(
        tuple(row) for row in database.rows("SELECT host, count(*) FROM cache.drifts WHERE state='open' GROUP BY host")
    )
    sites = database.rows(
        f"SELECT site, max(started) AS started, seconds, {END_SQL} AS ended, coalesce(failed, 0) AS failed,"
        " coalesce(changed, 0) AS changed FROM runs WHERE coalesce(kind, 'run')='run' AND status IS NOT NULL"
        " GROUP BY site ORDER BY 2 DESC LIMIT ?",
        (SITES,),
    )
    ends = database.rows(
        f"SELECT coalesce(kind, 'run') AS kind, {END_SQL} AS ended, count(*) AS number FROM runs GROUP BY 1, 2"
    )
    of = [(_label("host", row["host"]), row) for row in hosts]
    by = [(_label("site", row["site"]), row) for row in sites]
    parts = [
        _metric("host_last_run_timestamp_seconds", "When the newest run on a host began.", (
            (label, row["started"] or None) for label, row in of)),
        _metric("host_last_run_success", "Whether the newest run on a host ended well.", (
            (label, _is_good(row["status"])) for label, row in of)),
        _metric("host_last_run_duration_seconds", "How long the newest run on a host took.", (
            (label, row["seconds"]) for label, row in of)),
        _metric("host_reached_timestamp_seconds", "When a host was last reached.", (
            (label, row["reached_at"]) for label, row in of)),
        _metric("host_drift_asked_timestamp_seconds", "When a host was last asked for drift.", (
            (label, row["drift_at"]) for label, row in of)),
        _metric("host_drifted_resources", "How many resources of a host are known not to be as applied.", (
            (label, float(drifts.get(row["host"], 0))) for label, row in of)),
        _metric("site_last_run_timestamp_seconds", "When the newest run of a site began.", (
            (label, row["started"]) for label, row in by)),
        _metric("site_last_run_success", "Whether the newest run of a site ended well.", (
            (label, float(row["ended"] in ("changed", "unchanged"))) for label, row in by)),
        _metric("site_last_run_duration_seconds", "How long the newest run of a site took.", (
            (label, row["seconds"]) for label, row in by)),
        _metric("site_last_run_failures", "Failures of the newest run of a site.", (
            (label, row["failed"]) for label, row in by)),
        _metric("site_last_run_changes", "Changes of the newest run of a site.", (
            (label, row["changed"]) for label, row in by)),
        _metric("runs", "Runs on record, by what they were and how they ended.", (
            (f"{_label('kind', row['kind'])},{_label('end', row['ended'])}", row["number"]) for row in ends)),
    ]  # fmt: skip
    return "".join(parts)


def _is_good(status: str | None) -> float | None:
    return None if status is None else float(status not in ("failed", "unreachable"))


def _metric(name: str, text: str, samples: Samples) -> str:
    """Return one metric with its samples; those without a value are left out."""
    lines = [f"# HELP sloth_{name} {text}", f"# TYPE sloth_{name} gauge"]
    lines += [f"sloth_{name}{{{labels}}} {value:.17g}" for labels, value in samples if value is not None]
    return "\n".join(lines) + "\n"


def _label(name: str, value: str) -> str:
    return f'{name}="{escape(value)}"'


def escape(value: str) -> str:
    """Return the value of a label as the format wants it; what no UTF-8 can hold is replaced."""
    clean = value.encode("utf-8", "replace").decode()
    return clean.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
