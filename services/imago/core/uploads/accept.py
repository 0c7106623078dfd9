"""The acceptance of stored uploads: an upload becomes an image with stages, a search document and outbox rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.core.clients.model import Client
from imago.core.clients.queries import read_usage
from imago.core.clients.quotas import quota_exceeded
from imago.core.errors import QuotaExceeded, Unauthenticated, UploadExpired
from imago.core.images.lists.similar import insert_hashes
from imago.core.images.model import ImageIdentity
from imago.core.jobs.stages import (
    TERMINAL_IMAGE_STATUSES,
    ImageStatus,
    Stage,
    StageStatus,
    image_status,
    planned_stages,
)
from imago.core.outbox.drafts import draft_event, draft_work
from imago.core.outbox.events import EventName
from imago.core.outbox.model import OutboxRow
from imago.core.uploads.idempotency import Completion, complete_key
from imago.core.uploads.insert import Charge, Dependents, insert_dependents, insert_images
from imago.core.uploads.model import AcceptedImage, InlineThumbnail, NewImage
from imago.db.tables import stage_results


@dataclass(frozen=True)
class Acceptance:
    """A stored upload of a client; `completion` stores the response under an Idempotency-Key."""

    client: Client
    upload: NewImage
    completion: Completion | None

    @cached_property
    def stages(self) -> dict[Stage, StageStatus]:
        """The image's stages and their first status."""
        stages = planned_stages(self.client.pipeline.stages, disabled=self.upload.stages_off)
        if self.upload.thumbnail:
            stages[Stage.THUMBNAIL] = StageStatus.DONE
        return stages

    @property
    def status(self) -> ImageStatus:
        """The image's first status."""
        return image_status(self.stages.values())

    @property
    def charge(self) -> Charge:
        """The charge on the client's usage."""
        upload, limits = self.upload, self.client.limits
        # A thumbnail counts towards the usage but never exceeds the quota itself.
        added = upload.size_bytes + (upload.thumbnail.result.size_bytes if upload.thumbnail else 0)
        return Charge(upload.size_bytes, added, limits.storage_bytes, limits.images)


async def accept_uploads(
    connection: AsyncConnection, requests: Sequence[Acceptance], *, now: datetime
) -> list[AcceptedImage]:
    """Accept uploads of one client, given in the order of their intents; on an error the caller must not commit."""
    inserted = await insert_images(connection, [_image_values(request, now=now) for request in requests])
    dependents, hashes = [], []
    for request, image in zip(requests, inserted, strict=True):
        if not image.intent_ended:
            raise UploadExpired("The upload took too long; send it again.")
        if image.id is None or image.lane is None:
            raise Unauthenticated("The client is not active.")
        identity = ImageIdentity(image.id, request.upload.uuid, request.client.id, request.client.uuid)
        if request.upload.thumbnail:
            await _insert_thumbnail_result(connection, identity, request.upload.thumbnail, now=now)
            hashes.append((identity.id, identity.client_id, request.upload.thumbnail.result.hash))
        dependents.append(_dependents(request, identity, image.lane, now=now))
    await insert_hashes(connection, hashes)
    added = await insert_dependents(connection, dependents, [request.charge for request in requests], now=now)
    if added is None:
        # A rejected batch is repeated one by one, so only the error of a single upload is ever reported.
        raise await _quota_exceeded(connection, requests[0])
    accepted = [
        _accepted(request, image, row.duplicate_of, rows)
        for request, image, row, rows in zip(requests, dependents, inserted, added, strict=True)
    ]
    for request, result in zip(requests, accepted, strict=True):
        if request.completion is not None:
            await complete_key(connection, request.completion, result.to_json())
    return accepted


async def _quota_exceeded(connection: AsyncConnection, request: Acceptance) -> QuotaExceeded:
    used = await read_usage(connection, request.client.id)
    return quota_exceeded(used, request.client.limits, needed_bytes=request.upload.size_bytes)


def _accepted(
    request: Acceptance, image: Dependents, duplicate_of: int | None, rows: tuple[OutboxRow, ...]
) -> AcceptedImage:
    upload = request.upload
    return AcceptedImage(image.image.id, upload.uuid, upload.original_name, request.status, duplicate_of, rows)


def _dependents(request: Acceptance, image: ImageIdentity, lane: str, *, now: datetime) -> Dependents:
    headers, stages, status = request.upload.traceparent, request.stages, request.status
    drafts = [draft_event(image, EventName.IMAGE_CREATED, at=now, headers=headers, status=status)]
    drafts += [
        draft_work(image, stage, run=1, epoch=1, lane=lane, headers=headers)
        for stage, stage_status in stages.items()
        if stage_status is StageStatus.PENDING
    ]
    if status in TERMINAL_IMAGE_STATUSES:
        drafts.append(draft_event(image, EventName.IMAGE_DONE, at=now, headers=headers, status=status))
    return Dependents(image, lane, request.upload.original_name, stages, drafts)


def _image_values(request: Acceptance, *, now: datetime) -> dict[str, object]:
    upload, thumbnail, status = request.upload, request.upload.thumbnail, request.status
    return {
        "intent": upload.intent_id,
        "uuid": upload.uuid,
        "client_id": request.client.id,
        "original_name": upload.original_name,
        "content_type": upload.header.format.content_type,
        "format": upload.header.format,
        "width": upload.header.width,
        "height": upload.header.height,
        "frames": upload.header.frames,
        "size_bytes": upload.size_bytes,
        "sha256": upload.sha256,
        "object_key": upload.object_key,
        "thumbnail_key": thumbnail.object_key if thumbnail else None,
        "thumbnail_type": thumbnail.result.content_type if thumbnail else None,
        "thumbnail_bytes": thumbnail.result.size_bytes if thumbnail else 0,
        "status": status,
        "created_at": now,
        # With an inline thumbnail and all other stages disabled, the image is done from the start.
        "done_at": now if status in TERMINAL_IMAGE_STATUSES else None,
    }


async def _insert_thumbnail_result(
    connection: AsyncConnection, image: ImageIdentity, thumbnail: InlineThumbnail, *, now: datetime
) -> None:
    await connection.execute(
        sa.insert(stage_results).values(
            image_id=image.id,
            stage=Stage.THUMBNAIL,
            run=1,
            client_id=image.client_id,
            data=thumbnail.result.to_json(),
            created_at=now,
        )
    )
