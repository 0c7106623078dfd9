"""A local server with the wire formats of AI providers: Gemini's, and OpenAI's `/chat/completions`.

The formats are those of the providers' documentation and of Google's SDK. A test sets the responses in the order of the
requests, and the last one is repeated.
"""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

GEMINI_KEY = "AIzaTestKeyOfNobody-0123456789abcdefghij"
OPENROUTER_KEY = "sk-or-v1-testkeyofnobody0123456789abcdef"

VISION = {"description": "A cat on a red sofa.", "tags": ["Cat", "sofa"], "confidence": 0.9}


@dataclass(frozen=True)
class Received:
    """A request that the provider received."""

    wire: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def instructions(self) -> str:
        """The system prompt."""
        if self.wire == "gemini":
            return "".join(part["text"] for part in self.body["systemInstruction"]["parts"])
        return str(self.body["messages"][0]["content"])

    @property
    def messages(self) -> list[str]:
        """The text of each turn after the instructions."""
        if self.wire == "gemini":
            return ["".join(part.get("text", "") for part in turn["parts"]) for turn in self.body["contents"]]
        return [_text(message["content"]) for message in self.body["messages"][1:]]


Respond = Callable[[Received, web.Request], Awaitable[web.StreamResponse]]


@dataclass
class FakeProvider:
    """The requests that the server received, and its next responses."""

    server: TestServer
    responses: deque[Respond] = field(default_factory=deque)
    received: list[Received] = field(default_factory=list)

    @property
    def url(self) -> str:
        return str(self.server.make_url("/")).rstrip("/")

    def will(self, *responses: Respond) -> None:
        """Set the responses to the next requests. The last one is repeated."""
        self.responses = deque(responses)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        wire = "openai" if request.path.endswith("/chat/completions") else "gemini"
        received = Received(wire, request.path, dict(request.headers), json.loads(await request.read()))
        self.received.append(received)
        respond = self.responses.popleft() if len(self.responses) > 1 else self.responses[0]
        return await respond(received, request)


@asynccontextmanager
async def fake_provider(*responses: Respond, host: str = "127.0.0.1") -> AsyncIterator[FakeProvider]:
    """Run a provider with these responses."""
    app = web.Application(client_max_size=32 * 2**20)
    server = TestServer(app, host=host)
    fake = FakeProvider(server, deque(responses or (says(VISION),)))
    app.router.add_post("/v1beta/models/{call:.+}", fake.handle)
    app.router.add_post("/v1/chat/completions", fake.handle)
    await server.start_server()
    try:
        yield fake
    finally:
        await server.close()


def says(content: object, *, finish: str = "stop", cost: float | None = None, model: str | None = None) -> Respond:
    """Respond with a model's text, or with JSON as its text."""
    text = content if isinstance(content, str) else json.dumps(content)

    async def respond(received: Received, _: web.Request) -> web.StreamResponse:
        return web.json_response(envelope(received.wire, text, finish=finish, cost=cost, model=model))

    return respond


def envelope(
    wire: str, text: str, *, finish: str = "stop", cost: float | None = None, model: str | None = None
) -> dict[str, Any]:
    """Return the response body with a model's text."""
    if wire == "gemini":
        return {
            "candidates": [
                {
                    "content": {"parts": [{"text": text}], "role": "model"},
                    "finishReason": {"stop": "STOP", "length": "MAX_TOKENS"}.get(finish, finish),
                    "index": 0,
                }
            ],
            "usageMetadata": {
                "promptTokenCount": 300,
                "candidatesTokenCount": 30,
                "thoughtsTokenCount": 10,
                "totalTokenCount": 340,
                "promptTokensDetails": [{"modality": "IMAGE", "tokenCount": 258}],
            },
            "modelVersion": model or "gemini-test-001",
            "responseId": "abc",
        }
    usage: dict[str, Any] = {"prompt_tokens": 300, "completion_tokens": 40, "total_tokens": 340}
    if cost is not None:
        usage["cost"] = cost
    return {
        "id": "gen-1",
        "object": "chat.completion",
        "created": 1,
        "model": model or "some/model",
        "choices": [
            {
                "index": 0,
                "finish_reason": finish,
                "message": {"role": "assistant", "content": text, "refusal": None},
            }
        ],
        "usage": usage,
    }


def fails(
    status: int, *, message: str = "It failed.", body: object = None, headers: dict[str, str] | None = None
) -> Respond:
    """Respond with an error in the provider's format, or with the given body."""

    async def respond(received: Received, _: web.Request) -> web.StreamResponse:
        shape: Any = body
        if shape is None and received.wire == "gemini":
            shape = {"error": {"code": status, "message": message, "status": _GOOGLE_STATUSES.get(status, "UNKNOWN")}}
        elif shape is None:
            shape = {"error": {"code": status, "message": message}}
        if isinstance(shape, str):
            return web.Response(status=status, text=shape, headers=headers, content_type="text/html")
        return web.json_response(shape, status=status, headers=headers)

    return respond


def throttles(seconds: float | None) -> Respond:
    """Respond with 429 and a delay in each provider's format, or without a delay."""

    async def respond(received: Received, request: web.Request) -> web.StreamResponse:
        if received.wire == "openai":
            headers = {} if seconds is None else {"Retry-After": f"{seconds:g}"}
            return await fails(429, message="Rate limit exceeded", headers=headers)(received, request)
        details: list[dict[str, Any]] = [
            {
                "@type": "type.googleapis.com/google.rpc.QuotaFailure",
                "violations": [{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "quotaValue": "5"}],
            },
            {"@type": "type.googleapis.com/google.rpc.Help", "links": [{"description": "x", "url": "https://x.test"}]},
        ]
        if seconds is not None:
            details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{seconds:g}s"})
        error = {"code": 429, "message": "You exceeded your current quota", "status": "RESOURCE_EXHAUSTED"}
        return web.json_response({"error": {**error, "details": details}}, status=429)

    return respond


def blocks(*, prompt: bool) -> Respond:
    """Decline the content of the prompt, or of the answer."""

    async def respond(received: Received, request: web.Request) -> web.StreamResponse:
        if received.wire == "gemini":
            if prompt:
                feedback = {"blockReason": "PROHIBITED_CONTENT"}
                usage = {"promptTokenCount": 300, "totalTokenCount": 300}
                return web.json_response({"promptFeedback": feedback, "usageMetadata": usage})
            body = envelope("gemini", "", finish="SAFETY")
            del body["candidates"][0]["content"]
            return web.json_response(body)
        if prompt:
            metadata = {"reasons": ["violence"], "flagged_input": "…", "provider_name": "x", "model_slug": "y"}
            error = {"code": 403, "message": "Your input was flagged", "metadata": metadata}
            return web.json_response({"error": error}, status=403)
        body = envelope("openai", "")
        body["choices"][0]["message"] = {"role": "assistant", "content": None, "refusal": "I can't help with that."}
        return web.json_response(body)

    return respond


def raw(data: bytes) -> Respond:
    """Send raw bytes instead of an HTTP response, and close the connection."""

    async def respond(_: Received, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.write(data)  # type: ignore[attr-defined]
        request.transport.close()
        return web.Response()

    return respond


def responds(body: bytes, *, content_type: str = "application/json") -> Respond:
    """Respond with status 200 and the given bytes."""

    async def respond(_: Received, request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, content_type=content_type)

    return respond


def hangs(*, drips: bool) -> Respond:
    """Never finish the response: send nothing, or single bytes."""

    async def respond(_: Received, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        if drips:
            await response.prepare(request)
        for _ in range(600):
            if drips:
                await response.write(b" ")
            await asyncio.sleep(0.05)
        return response

    return respond


def redirects(to: str) -> Respond:
    """Redirect the request."""

    async def respond(_: Received, request: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": to})

    return respond


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


_GOOGLE_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
