"""POST /images/upload."""

import asyncio
import contextlib
from datetime import timedelta
from uuid import UUID, uuid4

from aiohttp import web

from imago.api.access import client_of, needs
from imago.api.answer_schemas import UploadAnswer
from imago.api.answers import json_answer
from imago.api.documentation import documented
from imago.api.receiving import FilePart, Received, deadlines, find_file, receive
from imago.api.services import Services, services_of
from imago.database.engine import DatabaseUnavailable
from imago.database.uploads import AcceptedImage, NewImage, abandon_upload, accept_upload, begin_upload
from imago.domain.clients import Client
from imago.domain.images import ImageHeader, clean_name, original_key, thumbnail_key
from imago.domain.problems import (
    EmptyFile,
    Problem,
    QuotaExceeded,
    RequestTimeout,
    TooLarge,
    TooManyPixels,
    Unprocessable,
    UnreadableImage,
    UnsupportedMediaType,
    UploadExpired,
)
from imago.domain.scopes import Scope
from imago.imaging.header import probe
from imago.storage.store import StorageUnavailable
from imago.telemetry import metrics
from imago.telemetry.tracing import carried_headers

routes = web.RouteTableDef()


@routes.post("/images/upload")
@documented(
    tag="images",
    summary="Upload an image",
    answers={201: (UploadAnswer, "The image is stored and will be worked on.")},
    problems=(
        RequestTimeout,
        UploadExpired,
        TooLarge,
        TooManyPixels,
        QuotaExceeded,
        UnsupportedMediaType,
        Unprocessable,
        UnreadableImage,
        EmptyFile,
    ),
)
@needs(Scope.IMAGES_WRITE)
async def upload(request: web.Request) -> web.Response:
    """Stores the file of the form field `file` and answers at once; the stages work on it afterwards."""
    services, client = services_of(request), client_of(request)
    try:
        async with deadlines(services.settings):
            file = await find_file(request, services.settings)
            accepted, size = await _take(services, client, file)
    except Problem as problem:
        metrics.UPLOADS.labels(problem.code).inc()
        raise
    metrics.UPLOADS.labels("accepted").inc()
    metrics.UPLOAD_BYTES.inc(size)
    services.announcer.announce(accepted.outbox)
    return json_answer(
        {
            "id": accepted.id,
            "uuid": str(accepted.uuid),
            "original_name": accepted.original_name,
            "status": str(accepted.status),
            "duplicate_of": accepted.duplicate_of,
            "message": "The image is stored and will be worked on.",
        },
        status=201,
        headers={"Location": f"/images/{accepted.id}"},
    )


async def _take(services: Services, client: Client, file: FilePart) -> tuple[AcceptedImage, int]:
    """Store and accept a file; whatever goes wrong leaves no row, no object, no intent and no charge."""
    settings, uuid = services.settings, uuid4()
    key = original_key(settings.s3_prefix, client.uuid, uuid)
    intent = await begin_upload(
        services.db, client, image=uuid, object_key=key, ttl=timedelta(seconds=settings.intent_ttl)
    )
    accepted: AcceptedImage | None = None
    try:
        async with services.store.create(key) as writer:
            received = await receive(file, writer, settings)
            await writer.commit()
        async with services.store.reader(key) as stream:
            header = await asyncio.to_thread(probe, stream)
        if header.pixels > settings.max_image_pixels:
            raise TooManyPixels(
                f"The image has {header.pixels} pixels; this server takes {settings.max_image_pixels}.",
                extra={"pixels": header.pixels, "max_image_pixels": settings.max_image_pixels},
            )
        accepted = await _accept(services, client, file, received, header, intent=intent, uuid=uuid, key=key)
    finally:
        if accepted is None:
            # Shielded, because a client that hangs up cancels this very task.
            await asyncio.shield(_abandon(services, intent, key))
    return accepted, received.size_bytes


async def _accept(
    services: Services,
    client: Client,
    file: FilePart,
    received: Received,
    header: ImageHeader,
    *,
    intent: int,
    uuid: UUID,
    key: str,
) -> AcceptedImage:
    thumbnail = None
    if services.inline_thumbnail is not None:
        target = thumbnail_key(services.settings.s3_prefix, client.uuid, uuid)
        thumbnail = await services.inline_thumbnail(key, target)
    return await accept_upload(
        services.db,
        client,
        NewImage(
            intent_id=intent,
            uuid=uuid,
            original_name=clean_name(file.filename),
            header=header,
            size_bytes=received.size_bytes,
            sha256=received.sha256,
            object_key=key,
            traceparent=carried_headers(),
            stages_off=services.settings.stages_off,
            thumbnail=thumbnail,
        ),
    )


async def _abandon(services: Services, intent: int, key: str) -> None:
    """Clean up now what the sweeper would clean up later; an object without its intent is left alone."""
    with contextlib.suppress(DatabaseUnavailable, StorageUnavailable):
        if await abandon_upload(services.db, intent):
            await services.store.delete(key)
