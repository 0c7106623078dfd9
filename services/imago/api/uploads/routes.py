"""POST /images/upload."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from io import BytesIO
from typing import Any
from uuid import UUID, uuid4

from aiohttp import web

from imago.api.auth.permissions import allow_clients, client_of
from imago.api.http.json import json_response
from imago.api.http.request_context import IMAGE
from imago.api.http.services import UPLOADS, UploadServices
from imago.api.openapi.decorators import documented
from imago.api.server.memory import REQUEST_BYTES, memory_soon
from imago.api.uploads.deadline import UploadDeadline
from imago.api.uploads.form import CHUNK_BYTES, UploadForm
from imago.api.uploads.idempotency import fingerprint, idempotent, requested_key
from imago.api.uploads.receive import DiscardingWriter, find_file, receive
from imago.api.uploads.requests import IDEMPOTENCY_KEY_PARAMETER, UPLOAD_FORM
from imago.api.uploads.responses import UploadResponse, upload_response
from imago.core.clients.model import Client
from imago.core.clients.scopes import Scope
from imago.core.errors import (
    EmptyFile,
    IdempotencyInFlight,
    IdempotencyMismatch,
    Problem,
    QuotaExceeded,
    RequestTimeout,
    TooLarge,
    TooManyPixels,
    TooManyUploads,
    Unprocessable,
    UnreadableImage,
    UnsupportedMediaType,
    UploadExpired,
)
from imago.core.images.model import ImageHeader, clean_name, original_key, thumbnail_key
from imago.core.uploads.idempotency import Completion, FirstResponse, KeyLease
from imago.core.uploads.intents import abandon_upload
from imago.core.uploads.model import AcceptedImage, InlineThumbnail, NewImage
from imago.db.engine import DatabaseUnavailable
from imago.imaging.formats.header import probe
from imago.objects.store import StorageUnavailable
from imago.runtime import failpoints
from imago.settings import Settings
from imago.settings.uploads import MB
from imago.telemetry import metrics
from imago.telemetry.tracing import trace_headers

routes = web.RouteTableDef()


@routes.post("/images/upload")
@documented(
    tag="images",
    summary="Upload an image",
    responses={201: (UploadResponse, "The image is stored and queued for processing.")},
    errors=(
        RequestTimeout,
        UploadExpired,
        IdempotencyInFlight,
        IdempotencyMismatch,
        TooLarge,
        TooManyPixels,
        TooManyUploads,
        QuotaExceeded,
        UnsupportedMediaType,
        Unprocessable,
        UnreadableImage,
        EmptyFile,
    ),
    parameters=(IDEMPOTENCY_KEY_PARAMETER,),
    request_body=UPLOAD_FORM,
)
@allow_clients(Scope.IMAGES_WRITE)
async def upload(request: web.Request) -> web.Response:
    """Store the file of the form field `file` and queue it for processing.

    With an Idempotency-Key an upload can be sent again after a broken connection: for 24 hours the first response is
    returned, with the header Idempotency-Replayed.
    """
    services, client = request.app[UPLOADS], client_of(request)
    try:
        with services.slots.hold(client.id, request.content_length):
            deadline = UploadDeadline(services.settings)
            async with (
                memory_soon(request, _memory_of(request, services), of="upload"),
                idempotent(services, client, requested_key(request)) as key,
            ):
                form = await find_file(request, services.settings, deadline)
                if isinstance(key, FirstResponse):
                    return await _replay(services, client, form, key, deadline)
                accepted, size = await _store(services, client, form, key, deadline)
    except Problem as problem:
        metrics.UPLOADS.labels(problem.code, metrics.client_label(client.name)).inc()
        raise
    metrics.UPLOADS.labels("accepted", metrics.client_label(client.name)).inc()
    metrics.UPLOAD_BYTES.inc(size)
    request[IMAGE] = str(accepted.uuid)
    services.outbox_publisher.publish_soon(accepted.outbox)
    return _response(client, accepted.to_json())


def _memory_of(request: web.Request, services: UploadServices) -> int:
    """Return the memory that an upload holds: two chunks, one of them the start of the file, and the store's buffer."""
    length, largest = request.content_length, services.settings.max_upload_bytes
    size = largest if length is None else min(length, largest)
    return services.store.write_buffer(size) + 2 * min(size, CHUNK_BYTES) + REQUEST_BYTES


def _response(client: Client, accepted: dict[str, Any], *, headers: dict[str, str] | None = None) -> web.Response:
    headers = {"Location": f"/images/{accepted['id']}", **(headers or {})}
    return json_response(
        upload_response(accepted, language=client.pipeline.description_language), status=201, headers=headers
    )


async def _replay(
    services: UploadServices, client: Client, form: UploadForm, first: FirstResponse, deadline: UploadDeadline
) -> web.Response:
    """Return the first response again; raise IdempotencyMismatch if this is a different upload."""
    received = await receive(form, DiscardingWriter(), services.settings, deadline)
    if fingerprint(received.sha256, clean_name(form.filename)) != first.fingerprint:
        raise IdempotencyMismatch("The Idempotency-Key was used for a different file or file name.")
    metrics.UPLOADS.labels("replayed", metrics.client_label(client.name)).inc()
    return _response(client, first.response, headers={"Idempotency-Replayed": "true"})


async def _store(
    services: UploadServices, client: Client, form: UploadForm, lease: KeyLease | None, deadline: UploadDeadline
) -> tuple[AcceptedImage, int]:
    """Store and accept a file, and return its size; an error leaves no row, object, intent or charge behind."""
    settings, uuid = services.settings, uuid4()
    key, ttl = original_key(settings.s3_prefix, client.uuid, uuid), timedelta(seconds=settings.intent_ttl)
    intent = await services.uploads.begin(client, image=uuid, object_key=key, ttl=ttl)
    async with _abandon_on_error(services, intent, key):
        async with services.store.create(key) as writer:
            received = await receive(form, writer, settings, deadline)
            await writer.commit()
        header = await _read_header(services, key, received.content)
        upload = NewImage(
            intent_id=intent,
            uuid=uuid,
            original_name=clean_name(form.filename),
            header=header,
            size_bytes=received.size_bytes,
            sha256=received.sha256,
            object_key=key,
            traceparent=trace_headers(),
            stages_off=settings.stages_off,
            thumbnail=await _inline_thumbnail(services, client, uuid, key, pixels=header.pixels),
        )
        failpoints.reach("upload.stored")
        accepted = await services.uploads.accept(client, upload, completion=_completion(lease, upload, settings))
    failpoints.reach("upload.committed")
    return accepted, received.size_bytes


async def _read_header(services: UploadServices, key: str, content: bytes | None) -> ImageHeader:
    # With S3, a small file saves two requests.
    probing = services.store.examine(key, probe) if content is None else asyncio.to_thread(probe, BytesIO(content))
    header = await probing
    _check_size(header, services.settings)
    return header


def _check_size(header: ImageHeader, settings: Settings) -> None:
    """Raise TooManyPixels if an image has too many pixels, or takes too much memory to decode."""
    if header.pixels > settings.max_image_pixels:
        raise TooManyPixels(
            f"The image has {header.pixels} pixels; the limit is {settings.max_image_pixels}.",
            extra={"pixels": header.pixels, "max_image_pixels": settings.max_image_pixels},
        )
    if header.decode_bytes > settings.max_decode_bytes:
        needed = -(-header.decode_bytes // MB)
        raise TooManyPixels(
            f"Decoding this {header.format.value.upper()} file of {header.width} × {header.height} pixels takes "
            f"{needed} MB of memory; the limit is {settings.max_decode_memory_mb} MB. Reduce its size, or save it as "
            "JPEG that is not progressive.",
            extra={
                "pixels": header.pixels,
                "decode_memory_mb": needed,
                "max_decode_memory_mb": settings.max_decode_memory_mb,
            },
        )


def _completion(lease: KeyLease | None, upload: NewImage, settings: Settings) -> Completion | None:
    if lease is None:
        return None
    return Completion(
        lease, fingerprint(upload.sha256, upload.original_name), timedelta(seconds=settings.idempotency_ttl)
    )


async def _inline_thumbnail(
    services: UploadServices, client: Client, uuid: UUID, original: str, *, pixels: int
) -> InlineThumbnail | None:
    if services.inline_thumbnail is None:
        return None
    target = thumbnail_key(services.settings.s3_prefix, client.uuid, uuid)
    return await services.inline_thumbnail(original, target, client=client.id, pixels=pixels)


@asynccontextmanager
async def _abandon_on_error(services: UploadServices, intent: int, key: str) -> AsyncIterator[None]:
    # Both are shielded, because a client that disconnects cancels this task.
    try:
        yield
    except StorageUnavailable:
        # Deleting the object would time out as well; the object cleaner does it later.
        await asyncio.shield(_abandon(services, intent))
        raise
    except BaseException:
        await asyncio.shield(_abandon(services, intent, key))
        raise


async def _abandon(services: UploadServices, intent: int, key: str | None = None) -> None:
    """Do the object cleaner's work early; without its intent, the object is not deleted."""
    with contextlib.suppress(DatabaseUnavailable, StorageUnavailable):
        if await abandon_upload(services.db, intent) and key is not None:
            await services.store.delete(key)
