"""The HTTP server on `METRICS_PORT`, for processes without another one: workers and the operator."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import orjson
from aiohttp import web

from imago.telemetry.health import Check, run_checks

# Takes an Accept header, and returns the metrics and their content type.
Exposition = Callable[[str], tuple[bytes, str]]

_SHUTDOWN_SECONDS = 1.0


@asynccontextmanager
async def metrics_server(
    host: str, port: int, *, exposition: Exposition, checks: Mapping[str, Check] | None = None
) -> AsyncIterator[int]:
    """Serve `/metrics`, `/health` and `/health/detailed` for the duration of the block, and yield the port.

    Port 0 selects a free port. Raises OSError if the address can't be bound.
    """

    async def health(_request: web.Request) -> web.Response:
        return _json({"status": "ok"})

    async def detailed(_request: web.Request) -> web.Response:
        ok, body = await run_checks(checks or {})
        return _json(body, status=200 if ok else 503)

    async def metrics(request: web.Request) -> web.Response:
        # In a thread, because formatting hundreds of series must not delay the heartbeats that the loop sends.
        body, content_type = await asyncio.to_thread(exposition, request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    app = web.Application()
    for path, handler in (("/health", health), ("/health/detailed", detailed), ("/metrics", metrics)):
        app.router.add_get(path, handler, allow_head=False)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def _json(body: object, *, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")
