"""OpenTelemetry traces: off unless `OTEL_EXPORTER_OTLP_ENDPOINT` is set; one trace from upload to last stage.

The trace goes through the outbox: a row keeps the headers of the request that caused it, its publication is a span
between that request and the stage, and what a stage announces carries on the trace it was given. The request's id goes
the same way, so that logs of one upload are found without traces too.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import structlog
from opentelemetry import propagate, trace
from opentelemetry.trace import SpanKind

from imago.core.outbox.model import OutboxRow
from imago.settings.telemetry import TelemetrySettings

_tracer = trace.get_tracer("imago")

REQUEST_ID_HEADER = "imago-request-id"

_CARRIED = frozenset({"traceparent", "tracestate", REQUEST_ID_HEADER})

# Probes and scrapes tell nothing, and the path of a signed URL is the right to the file.
_UNTRACED = "/health,/metrics,/files/signed/"


def configure_tracing(settings: TelemetrySettings, *, service: str) -> None:
    """Send traces to the collector that the settings name, and instrument aiohttp; without one, do nothing.

    Must run before the application is built: the instrumentation replaces `aiohttp.web.Application`.
    """
    if not settings.otel_exporter_otlp_endpoint:
        return
    os.environ.setdefault("OTEL_PYTHON_AIOHTTP_SERVER_EXCLUDED_URLS", _UNTRACED)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
    from opentelemetry.instrumentation.aiohttp_server import AioHttpServerInstrumentor
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": f"imago-{service}"}))
    endpoint = settings.otel_exporter_otlp_endpoint.rstrip("/") + "/v1/traces"
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    trace.set_tracer_provider(provider)
    AioHttpServerInstrumentor().instrument()
    AioHttpClientInstrumentor().instrument()


def trace_headers() -> dict[str, str]:
    """Return the present trace context and request id as headers; without a trace or a request, they are missing."""
    headers: dict[str, str] = {}
    propagate.inject(headers)
    request_id = structlog.contextvars.get_contextvars().get("request_id")
    return headers if request_id is None else {**headers, REQUEST_ID_HEADER: request_id}


def propagated_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return those of a message's headers that go on to what follows from it."""
    return {key.lower(): value for key, value in headers.items() if key.lower() in _CARRIED}


def request_id_of(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the id of the request that a message came from, as logs name it; empty where it came from none."""
    request_id = propagated_headers(headers).get(REQUEST_ID_HEADER)
    return {} if request_id is None else {"request_id": request_id}


@contextmanager
def consumer_span(name: str, headers: Mapping[str, str], **attributes: str | int) -> Iterator[None]:
    """Run a block in a span that goes on with the trace that headers carry."""
    with _tracer.start_as_current_span(
        name,
        context=propagate.extract(propagated_headers(headers)),
        kind=SpanKind.CONSUMER,
        attributes={f"imago.{key}": value for key, value in attributes.items()},
    ):
        yield


@contextmanager
def publishing(rows: Sequence[OutboxRow]) -> Iterator[Sequence[OutboxRow]]:
    """Give the rows to publish while the block does it: those of a trace each in a span, which their headers carry."""
    with ExitStack() as spans:
        yield [replace(row, headers=_in_span(row, spans)) for row in rows]


def _in_span(row: OutboxRow, spans: ExitStack) -> dict[str, str]:
    if "traceparent" not in row.headers:
        return row.headers
    span = _tracer.start_span(
        f"publish {row.kind}",
        context=propagate.extract(row.headers),
        kind=SpanKind.PRODUCER,
        attributes={"messaging.system": "nats", "messaging.destination.name": row.subject},
    )
    spans.callback(span.end)
    headers = dict(row.headers)
    propagate.inject(headers, context=trace.set_span_in_context(span))
    return headers
