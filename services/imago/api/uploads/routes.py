"""POST /images/upload."""

import asyncio
import contextlib
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from aiohttp import web

from imago import failpoints
from imago.api.auth.permissions import allow_clients, client_of
from imago.api.json import json_response
from imago.api.openapi.decorators import documented
from imago.api.request_context import IMAGE
from imago.api.services import UPLOADS, UploadServices
from imago.api.uploads.idempotency import fingerprint, requested_key, turn
from imago.api.uploads.receive import Discarding, FilePart, Sender, find_file, receive
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
from imago.core.images.model import clean_name, original_key, thumbnail_key
from imago.core.uploads.accept import (
    AcceptedImage,
    InlineThumbnail,
    NewImage,
    abandon_upload,
)
from imago.core.uploads.idempotency import Completion, FirstAnswer, KeyLease
from imago.db.engine import DatabaseUnavailable
from imago.imaging.header import probe
from imago.objects.store import StorageUnavailable
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
            sender = Sender(services.settings)
            async with turn(services, client, requested_key(request)) as held:
                file = await find_file(request, services.settings, sender)
                if isinstance(held, FirstAnswer):
                    return await _again(services, client, file, held, sender)
                accepted, size = await _take(services, client, file, held, sender)
    except Problem as problem:
        metrics.UPLOADS.labels(problem.code, metrics.client_label(client.name)).inc()
        raise
    metrics.UPLOADS.labels("accepted", metrics.client_label(client.name)).inc()
    metrics.UPLOAD_BYTES.inc(size)
    request[IMAGE] = str(accepted.uuid)
    services.outbox_publisher.publish_soon(accepted.outbox)
    return _answer(accepted.to_json())


def _answer(accepted: dict[str, Any], *, headers: dict[str, str] | None = None) -> web.Response:
    headers = {"Location": f"/images/{accepted['id']}", **(headers or {})}
    return json_response(upload_response(accepted), status=201, headers=headers)


async def _again(
    services: UploadServices, client: Client, file: FilePart, first: FirstAnswer, sender: Sender
) -> web.Response:
    """Answer a repetition as its first upload was answered; raise IdempotencyMismatch where it is another upload."""
    received = await receive(file, Discarding(), services.settings, sender)
    if fingerprint(received.sha256, clean_name(file.filename)) != first.fingerprint:
        raise IdempotencyMismatch("The Idempotency-Key was used for another file or another name.")
    metrics.UPLOADS.labels("replayed", metrics.client_label(client.name)).inc()
    return _answer(first.answer, headers={"Idempotency-Replayed": "true"})


async def _take(
    services: UploadServices, client: Client, file: FilePart, held: KeyLease | None, sender: Sender
) -> tuple[AcceptedImage, int]:
    """Store and accept a file; whatever goes wrong leaves no row, no object, no intent and no charge."""
    settings, uuid = services.settings, uuid4()
    key = original_key(settings.s3_prefix, client.uuid, uuid)
    intent = await services.uploads.begin(
        client, image=uuid, object_key=key, ttl=timedelta(seconds=settings.intent_ttl)
    )
    try:
        async with services.store.create(key) as writer:
            received = await receive(file, writer, settings, sender)
            await writer.commit()
        header = await services.store.examine(key, probe)
        if header.pixels > settings.max_image_pixels:
            raise TooManyPixels(
                f"The image has {header.pixels} pixels; this server takes {settings.max_image_pixels}.",
                extra={"pixels": header.pixels, "max_image_pixels": settings.max_image_pixels},
            )
        name = clean_name(file.filename)
        new = NewImage(
            intent_id=intent,
            uuid=uuid,
            original_name=name,
            header=header,
            size_bytes=received.size_bytes,
            sha256=received.sha256,
            object_key=key,
            traceparent=trace_headers(),
            stages_off=settings.stages_off,
            thumbnail=await _inline_thumbnail(services, client, uuid, key),
        )
        once = None
        if held is not None:
            once = Completion(held, fingerprint(received.sha256, name), timedelta(seconds=settings.idempotency_ttl))
        failpoints.reach("upload.stored")
        accepted = await services.uploads.accept(client, new, once=once)
    except StorageUnavailable:
        # Asking it to delete would only wait again; the sweeper does it.
        await asyncio.shield(_abandon(services, intent))
        raise
    except BaseException:
        # Shielded, because a client that hangs up cancels this very task.
        await asyncio.shield(_abandon(services, intent, key))
        raise
    failpoints.reach("upload.committed")
    return accepted, received.size_bytes


async def _inline_thumbnail(
    services: UploadServices, client: Client, uuid: UUID, original: str
) -> InlineThumbnail | None:
    if services.inline_thumbnail is None:
        return None
    return await services.inline_thumbnail(original, thumbnail_key(services.settings.s3_prefix, client.uuid, uuid))


async def _abandon(services: UploadServices, intent: int, key: str | None = None) -> None:
    """Clean up now what the sweeper would clean up later; an object without its intent is left alone."""
    with contextlib.suppress(DatabaseUnavailable, StorageUnavailable):
        if await abandon_upload(services.db, intent) and key is not None:
            await services.store.delete(key)
