"""Signed URLs of images' objects: the same for up to a quarter of an hour, so that browsers cache what they lead to."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

from aiohttp import web

from imago.api.http.services import SETTINGS, STORE
from imago.api.images.responses import ImageResponse, SignedUrlResponse, image_response
from imago.core.images.queries import ImageRow
from imago.core.times import utc_now
from imago.objects.store import UrlRequest

_ROUNDED_TO_SECONDS = 900

_EXTENSIONS = {"image/webp": "webp", "image/jpeg": "jpg"}


def url_expiry(now: datetime, ttl: int) -> datetime:
    """Return when URLs that are made now expire: after `ttl` seconds, rounded up to a quarter of an hour."""
    step = min(_ROUNDED_TO_SECONDS, ttl)
    return datetime.fromtimestamp(-((-now.timestamp() - ttl) // step) * step, UTC)


async def original_url(request: web.Request, image: ImageRow) -> SignedUrlResponse:
    """Return a URL by which the original is downloaded."""
    expires_at = _expiry(request)
    return await _signed(
        request, UrlRequest(image.object_key, image.content_type, image.original_name, "attachment", expires_at)
    )


async def thumbnail_url(request: web.Request, image: ImageRow) -> SignedUrlResponse | None:
    """Return a URL by which the thumbnail is shown, or None if there is none."""
    if image.thumbnail_key is None or image.thumbnail_type is None:
        return None
    name = f"thumbnail.{_EXTENSIONS.get(image.thumbnail_type, 'img')}"
    expires_at = _expiry(request)
    return await _signed(request, UrlRequest(image.thumbnail_key, image.thumbnail_type, name, "inline", expires_at))


async def image_responses(
    request: web.Request, images: Sequence[ImageRow], include: Sequence[str]
) -> list[ImageResponse]:
    """Return images with what the parameter `include` asks for."""
    responses = [image_response(image) for image in images]
    if "urls" in include:
        for response, image in zip(responses, images, strict=True):
            thumbnail, original = await thumbnail_url(request, image), await original_url(request, image)
            response["urls"] = {"thumbnail": thumbnail and thumbnail["url"], "original": original["url"]}
            # Two signatures for S3 take 2 ms of CPU, and those of a page 0.5 s: let other requests run in between.
            await asyncio.sleep(0)
    return responses


def _expiry(request: web.Request) -> datetime:
    return url_expiry(utc_now(), request.app[SETTINGS].signed_url_ttl)


async def _signed(request: web.Request, wanted: UrlRequest) -> SignedUrlResponse:
    url = await request.app[STORE].signed_url(wanted)
    if url.startswith("/"):
        base = request.app[SETTINGS].public_url or f"{request.scheme}://{request.host}"
        url = base.rstrip("/") + url
    return {"url": url, "expires_at": wanted.expires_at}
