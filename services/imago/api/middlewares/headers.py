"""Headers of every response: no content sniffing, framing or caching unless a handler allows it."""

from aiohttp import web


async def secure_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Set the headers that a response does not set itself."""
    set_headers(response)


def set_headers(response: web.StreamResponse) -> None:
    """Set the headers of a response outside an application."""
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
    response.headers.setdefault("Referrer-Policy", "no-referrer")
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers["Server"] = "imago"
