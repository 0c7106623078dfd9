"""CORS: browser applications may call the API only from the origins in `CORS_ORIGINS`."""

import aiohttp_cors
from aiohttp import web

from imago.settings import Settings

_REQUEST_HEADERS = ("Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "X-API-Key", "X-Request-ID")
_RESPONSE_HEADERS = (
    *("Idempotency-Replayed", "Location", "Retry-After", "X-Request-ID"),
    *("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"),
)
# How long browsers cache the response to a preflight, in seconds.
_MAX_AGE_SECONDS = 600


def allow_origins(app: web.Application, settings: Settings) -> None:
    """Answer preflights from the allowed origins, and let them read responses and errors."""
    if not settings.cors_origins:
        return
    # Keys are sent in a header, never in cookies, so no credentials are allowed.
    options = aiohttp_cors.ResourceOptions(
        allow_credentials=False,
        allow_headers=_REQUEST_HEADERS,
        expose_headers=_RESPONSE_HEADERS,
        allow_methods="*",
        max_age=_MAX_AGE_SECONDS,
    )
    cors = aiohttp_cors.setup(app, defaults=dict.fromkeys(settings.cors_origins, options))
    for route in list(app.router.routes()):
        cors.add(route)
