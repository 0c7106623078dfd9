"""One trace from a client's upload to the AI provider, as a collector receives it."""

import json
import secrets
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from devtools.instance import Instance
from tests.support.apart import apart
from tests.support.images import encoded
from tests.support.providers import OPENROUTER_KEY, VISION, FakeProvider, fake_provider, says

STAGES = ("thumbnail", "exif", "ocr", "vision")


@dataclass(frozen=True)
class Span:
    """A span as a collector receives it."""

    service: str
    name: str
    trace: str
    id: str
    parent: str


@dataclass
class Collector:
    """Receives traces as OTLP over HTTP."""

    url: str = ""
    spans: list[Span] = field(default_factory=list)

    async def receive(self, request: web.Request) -> web.Response:
        """Receive a batch of spans."""
        for group in ExportTraceServiceRequest.FromString(await request.read()).resource_spans:
            names = {item.key: item.value.string_value for item in group.resource.attributes}
            self.spans += [
                Span(
                    names["service.name"], span.name, span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
                )
                for scope in group.scope_spans
                for span in scope.spans
            ]
        return web.Response()

    def of(self, trace: str) -> list[Span]:
        """Return the spans of a trace."""
        return [span for span in self.spans if span.trace == trace]


@asynccontextmanager
async def collector() -> AsyncIterator[Collector]:
    """Run a collector."""
    receiving = Collector()
    app = web.Application(client_max_size=16 * 2**20)
    app.router.add_post("/v1/traces", receiving.receive)
    server = TestServer(app)
    await server.start_server()
    receiving.url = str(server.make_url("/")).rstrip("/")
    yield receiving
    await server.close()


@dataclass(frozen=True)
class Traced:
    """An upload of a client that traces, after all stages have ended."""

    trace: str
    caller: str
    uuid: str
    spans: list[Span]
    provider: FakeProvider
    logs: list[dict[str, Any]]


def upload(instance: Instance, trace: str, caller: str) -> str:
    """Upload a photo with a trace context, and return the UUID of its image."""
    boundary = secrets.token_hex(16)
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n'
    body = f"{head}Content-Type: image/jpeg\r\n\r\n".encode() + encoded() + f"\r\n--{boundary}--\r\n".encode()
    headers = {
        "X-API-Key": instance.key,
        "Content-Type": f"multipart/form-data; boundary={boundary}",
        "traceparent": f"00-{trace}-{caller}-01",
    }
    request = urllib.request.Request(f"http://127.0.0.1:{instance.port}/images/upload", body, headers)
    with urllib.request.urlopen(request, timeout=30) as response:
        return str(json.load(response)["uuid"])


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    """An upload of a client that traces, after its image is done and the collector has all spans."""
    folder = tmp_path_factory.mktemp("traced")
    trace, caller = secrets.token_hex(16), secrets.token_hex(8)
    with ExitStack() as stack:
        receiving = stack.enter_context(apart(collector()))
        provider = stack.enter_context(apart(fake_provider(says(VISION, cost=0.001))))
        instance = Instance(
            folder / "data",
            OTEL_EXPORTER_OTLP_ENDPOINT=receiving.url,
            OTEL_BSP_SCHEDULE_DELAY="100",
            AI_PROVIDER="openrouter",
            AI_MODEL="some/model",
            OPENROUTER_API_KEY=OPENROUTER_KEY,
            OPENROUTER_BASE_URL=f"{provider.url}/v1",
        )
        instance.start()
        stack.callback(instance.kill)
        stack.callback(instance.stop)
        uuid = upload(instance, trace, caller)
        expected = {f"stage {stage}" for stage in STAGES}
        deadline = time.monotonic() + 60
        while not expected <= {span.name for span in receiving.of(trace)}:
            assert time.monotonic() < deadline, f"spans received in 60 s: {[span.name for span in receiving.of(trace)]}"
            time.sleep(0.1)
        yield Traced(trace, caller, uuid, receiving.of(trace), provider, instance.logs())


def test_the_trace_connects_the_request_the_publications_and_every_stage(traced: Traced) -> None:
    known = {span.id: span for span in traced.spans}
    (request,) = (span for span in traced.spans if span.service == "imago-api" and span.name.startswith("POST"))
    assert request.parent == traced.caller, "the request is not a child of the client's span"
    for stage in STAGES:
        (work,) = (span for span in traced.spans if span.name == f"stage {stage}")
        assert work.service == f"imago-worker-{'exif' if stage == 'thumbnail' else stage}"
        published = known[work.parent]
        assert published.name == "publish work"
        assert published.parent == request.id


def test_the_provider_call_is_in_the_trace_but_the_provider_receives_no_trace_context(traced: Traced) -> None:
    known = {span.id: span for span in traced.spans}
    (request,) = traced.provider.received
    (call,) = (span for span in traced.spans if span.name == "chat some/model")
    ancestors, span = [], call
    while span.parent in known:
        span = known[span.parent]
        ancestors.append(span.name)
    assert "stage vision" in ancestors
    assert "traceparent" not in {name.lower() for name in request.headers}


def test_the_logs_of_every_process_contain_the_trace_the_request_and_the_image(traced: Traced) -> None:
    lines = [line for line in traced.logs if line.get("trace_id") == traced.trace]
    (handled,) = (line for line in lines if line["event"] == "request.completed")
    assert handled["image"] == traced.uuid
    attempts = {line["stage"]: line for line in lines if line["event"] == "stage.attempted"}
    assert set(attempts) == set(STAGES)
    for line in attempts.values():
        assert (line["request_id"], line["image"]) == (handled["request_id"], traced.uuid)
        assert line["client"] == handled["client"]
