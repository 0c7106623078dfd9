"""OpenTelemetry traces: off unless `OTEL_EXPORTER_OTLP_ENDPOINT` is set; one trace from upload to last stage."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import propagate, trace
from opentelemetry.trace import SpanKind

from imago.settings import Settings

_tracer = trace.get_tracer("imago")

_CARRIED = frozenset({"traceparent", "tracestate"})


def configure_tracing(settings: Settings, *, service: str) -> None:
    """Send traces to the collector that the settings name, and instrument aiohttp; without one, do nothing.

    Must run before the application is built: the instrumentation replaces `aiohttp.web.Application`.
    """
    if not settings.otel_exporter_otlp_endpoint:
        return
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


def carried_headers() -> dict[str, str]:
    """Return the present trace context as headers; empty without a trace."""
    headers: dict[str, str] = {}
    propagate.inject(headers)
    return headers


@contextmanager
def continued_span(name: str, headers: Mapping[str, str], **attributes: str | int) -> Iterator[None]:
    """Run a block in a span that goes on with the trace that headers carry."""
    carrier = {key.lower(): value for key, value in headers.items() if key.lower() in _CARRIED}
    with _tracer.start_as_current_span(
        name, context=propagate.extract(carrier), kind=SpanKind.CONSUMER, attributes=dict(attributes)
    ):
        yield
