"""A run as a trace of OpenTelemetry: a span for the run, each host, each task and each call. --traces.

Where it is sent is said by OpenTelemetry's own variables of the environment (OTEL_EXPORTER_OTLP_ENDPOINT, ...). A
$TRACEPARENT, as CI systems set it, is the parent of the run.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from sloth.engine.events import (
    FAILED,
    UNREACHABLE,
    CallFinished,
    Event,
    HostFinished,
    HostStarted,
    RunFinished,
    RunStarted,
    SessionOpened,
    TaskFinished,
    TaskStarted,
)
from sloth.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.trace import Span

FLUSH = 5.0  # seconds that a collector has at the end
Key = tuple[str, ...]  # () is the run, (host,) a host, (host, task) a task


class Traces:
    """Makes spans of events, and sends them in the background."""

    def __init__(self) -> None:
        """Raise UsageError without the packages of the extra."""
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
        except ImportError as error:
            hint = "pip install 'sloth-runner[otel]'"
            raise UsageError(f"--traces needs packages that are not installed: {error}", hint=hint) from error
        # A collector that is away is reported once, by close(), and not by each attempt of the exporter.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        from sloth import __version__

        resource = Resource.create({"service.name": "sloth-runner", "service.version": __version__})
        self._provider: TracerProvider = TracerProvider(resource=resource)
        exporter = OTLPSpanExporter(timeout=FLUSH)
        self._lost = 0  # spans that the collector has not taken
        export = exporter.export

        def watched(spans: Sequence[ReadableSpan]) -> SpanExportResult:
            result = export(spans)
            self._lost += len(spans) if result is not SpanExportResult.SUCCESS else 0
            return result

        exporter.export = watched  # type: ignore[method-assign]  # nothing else says that spans were lost
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("sloth")
        self._open: dict[Key, Span] = {}

    def emit(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._begin((), "run", event.time, {"run_id": event.run_id, "site": event.site, "check": event.check})
            case HostStarted():
                self._begin((event.host,), event.host, event.time, {"host": event.host})
            case SessionOpened():
                self._opened(event)
            case TaskStarted():
                self._begin((event.host, event.task), event.task, event.time, {"host": event.host, "task": event.task})
            case CallFinished():
                self._call(event)
            case TaskFinished():
                self._end((event.host, event.task), event.time, event.status, event.error or "", event.ignored)
            case HostFinished():
                for key in [key for key in self._open if len(key) == 2 and key[0] == event.host]:
                    self._end(key, event.time, "unknown", "it did not end")
                self._end((event.host,), event.time, event.status, event.error or "")
            case RunFinished():
                failed = bool(event.summary.failed or event.summary.unreachable)
                self._end((), event.time, "failed" if failed else "done", "")

    def _begin(self, key: Key, name: str, at: float, attributes: dict[str, str | bool]) -> None:
        from opentelemetry import propagate, trace

        if key:
            context = trace.set_span_in_context(self._open[key[:-1]])
        else:
            context = propagate.extract({"traceparent": os.environ.get("TRACEPARENT", "")})
        named = {f"sloth.{attribute}": _text(value) for attribute, value in attributes.items()}
        self._open[key] = self._tracer.start_span(
            str(_text(name)), context=context, start_time=_nanoseconds(at), attributes=named
        )

    def _end(self, key: Key, at: float, status: str, error: str, is_ignored: bool = False) -> None:
        from opentelemetry.trace import StatusCode

        span = self._open.pop(key, None)
        if span is None:  # a skipped task has not begun
            return
        span.set_attribute("sloth.status", status)
        if status in (FAILED, UNREACHABLE) and not is_ignored:
            span.set_status(StatusCode.ERROR, str(_text(error)))
        span.end(_nanoseconds(at))

    def _opened(self, event: SessionOpened) -> None:
        """Add the spans of a session: how long it took to connect, to authenticate, and to start the payload."""
        end = event.time - event.start - event.authenticate - event.connect
        for name in ("connect", "authenticate", "start"):
            begin, end = end, end + getattr(event, name)
            if end > begin:
                key = (event.host, f"\0{name}")
                self._begin(key, name, begin, {"host": event.host, "account": event.account})
                self._end(key, end, "done", "")

    def _call(self, event: CallFinished) -> None:
        result = event.result
        task = (event.host, event.task)
        key = (*(task if task in self._open else (event.host,)), "\0call")
        attributes: dict[str, str | bool] = {"host": event.host, "key": result.key, "reason": result.reason}
        attributes["where"] = result.where
        self._begin(key, result.module, event.time - result.seconds, attributes)
        self._end(key, event.time, result.status, result.error, bool(result.handled))

    def close(self) -> None:
        """Send what is left. Raises OSError when the collector does not take it."""
        for key in sorted(self._open, key=len, reverse=True):
            self._open[key].end()
        if not self._provider.force_flush(int(FLUSH * 1000)) or self._lost:
            raise OSError(None, "the collector of traces has not taken all of it")


def _nanoseconds(at: float) -> int:
    return int(at * 1e9)


def _text(value: str | bool) -> str | bool:
    """Return a value that can be encoded: names may have bytes in them that are not UTF-8."""
    return value if isinstance(value, bool) else value.encode("utf-8", "backslashreplace").decode()
