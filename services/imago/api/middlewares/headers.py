"""Headers of every answer: nothing is sniffed, framed or cached that wasn't meant to be."""

from aiohttp import web


async def secure_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Set the headers that an answer doesn't set itself."""
    set_headers(response)


def set_headers(response: web.StreamResponse) -> None:
    """Do the same where there is no application."""
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
    response.headers.setdefault("Referrer-Policy", "no-referrer")
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers["Server"] = "imago"
