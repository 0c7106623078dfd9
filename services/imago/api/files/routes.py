"""GET /files/signed/{token}: objects of local storage, served to the bearer of a token."""

import asyncio
import os
import stat
from collections.abc import Callable
from pathlib import Path

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from imago.api.auth.permissions import PUBLIC, allow
from imago.api.files.ranges import effective_headers
from imago.api.http.services import LOCAL_FILE, SETTINGS
from imago.api.openapi.decorators import BINARY, documented
from imago.core.errors import NotFound
from imago.objects.disposition import content_disposition
from imago.objects.signing import private_cache, read_token

routes = web.RouteTableDef()


@routes.get("/files/signed/{token}")
@documented(
    tag="files",
    summary="Read an object by a signed URL",
    responses={
        200: (BINARY, "The object."),
        206: (BINARY, "The requested range of the object."),
        304: (None, "The object is unchanged."),
        416: (None, "The requested range doesn't exist."),
    },
    media_type="*/*",
    errors=(NotFound,),
)
@allow(PUBLIC)
async def signed(request: web.Request) -> web.StreamResponse:
    """Serve the object of a token, sandboxed, with the content type and file name from the token.

    One range is served as such. Several ranges, other units and an `If-Range` of another version get the whole object.
    """
    secret, local_file = request.app[SETTINGS].signed_url_secret, request.app.get(LOCAL_FILE)
    if secret is None or local_file is None:
        raise NotFound("No such file.")
    granted = read_token(request.match_info["token"], secret.get_secret_value())
    if granted is None:
        # The same response for expired, tampered and invented tokens.
        raise NotFound("No such file.")
    found = await asyncio.to_thread(_find, local_file, granted.key)
    if found is None:
        raise NotFound("No such file.")
    return _RangedFile(
        *found,
        headers={
            "Content-Type": granted.content_type,
            "Content-Disposition": content_disposition(granted.disposition, granted.filename),
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "cross-origin",
            "Cache-Control": private_cache(granted.expires_at),
        },
    )


def _find(local_file: Callable[[str], Path | None], key: str) -> tuple[Path, os.stat_result] | None:
    """Return the file of an object and its status; None if there is none, or something else in its place."""
    path = local_file(key)
    try:
        status = path.lstat() if path is not None else None
    except OSError:
        return None
    return (path, status) if path and status and stat.S_ISREG(status.st_mode) else None


class _RangedFile(web.FileResponse):
    """A file, or one range of it; aiohttp answers 416 to units and lists of ranges, and knows no ETag in If-Range."""

    def __init__(self, path: Path, status: os.stat_result, *, headers: dict[str, str]) -> None:
        super().__init__(path, headers=headers)
        self._stat = status

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send the file."""
        headers = effective_headers(
            request.headers,
            method=request.method,
            size=self._stat.st_size,
            # As aiohttp makes it.
            etag=f"{self._stat.st_mtime_ns:x}-{self._stat.st_size:x}",
            modified=self._stat.st_mtime,
        )
        return await super().prepare(request.clone(headers=headers))
