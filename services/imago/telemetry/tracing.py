"""OpenTelemetry tracing, if `OTEL_EXPORTER_OTLP_ENDPOINT` is set: one trace from an upload to its last stage.

The outbox propagates the trace: a row stores the headers of its request, its publication is a span between the request
and the stage, and the messages of a stage continue the same trace. The request id is propagated in the same way, so
that the logs of an upload can be found without tracing.
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

_PROPAGATED = frozenset({"traceparent", "tracestate", REQUEST_ID_HEADER})

# Probes and scrapes are noise, and the path of a signed URL grants access to its file.
_UNTRACED = "/health,/metrics,/files/signed/"


def configure_tracing(settings: TelemetrySettings, *, service: str) -> None:
    """Export traces to the collector in the settings, and instrument aiohttp; do nothing without a collector.

    Call it before the application is built, because the instrumentation replaces `aiohttp.web.Application`.
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
    """Return the current trace context and request id as headers, without those that are not set."""
    headers: dict[str, str] = {}
    propagate.inject(headers)
    request_id = structlog.contextvars.get_contextvars().get("request_id")
    return headers if request_id is None else {**headers, REQUEST_ID_HEADER: request_id}


def propagated_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of a message that its follow-up messages inherit, with lower-case names."""
    return {key.lower(): value for key, value in headers.items() if key.lower() in _PROPAGATED}


def request_id_of(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the request id in a message's headers as a log field, or no field."""
    request_id = propagated_headers(headers).get(REQUEST_ID_HEADER)
    return {} if request_id is None else {"request_id": request_id}


@contextmanager
def consumer_span(name: str, headers: Mapping[str, str], **attributes: str | int) -> Iterator[None]:
    """Run the block in a span that continues the trace in the headers."""
    with _tracer.start_as_current_span(
        name,
        context=propagate.extract(propagated_headers(headers)),
        kind=SpanKind.CONSUMER,
        attributes={f"imago.{key}": value for key, value in attributes.items()},
    ):
        yield


@contextmanager
def publish_spans(rows: Sequence[OutboxRow]) -> Iterator[Sequence[OutboxRow]]:
    """Run the block, which publishes the yielded rows, with a span for each row that has a trace."""
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
