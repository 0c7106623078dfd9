"""CORS: which browser applications may call this API; none unless `CORS_ORIGINS` names them."""

import aiohttp_cors
from aiohttp import web

from imago.settings import Settings

_SENT = ("Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "X-API-Key", "X-Request-ID")
_SHOWN = (
    *("Idempotency-Replayed", "Location", "Retry-After", "X-Request-ID"),
    *("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"),
)
# Browsers keep a preflight's answer so long, in seconds.
_MAX_AGE = 600


def allow_origins(app: web.Application, settings: Settings) -> None:
    """Answer preflights of the origins that the settings name, and let them read answers and problems."""
    if not settings.cors_origins:
        return
    # Keys travel in a header, never in cookies, so no credentials are allowed.
    options = aiohttp_cors.ResourceOptions(
        allow_credentials=False, allow_headers=_SENT, expose_headers=_SHOWN, allow_methods="*", max_age=_MAX_AGE
    )
    cors = aiohttp_cors.setup(app, defaults=dict.fromkeys(settings.cors_origins, options))
    for route in list(app.router.routes()):
        cors.add(route)
