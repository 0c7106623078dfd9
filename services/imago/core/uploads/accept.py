"""The database's side of an upload: an intent before its first byte, the acceptance after its last (DESIGN, 3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from imago.core.batching import BatchExecutor
from imago.core.clients.model import Client, Usage
from imago.core.clients.queries import read_usage
from imago.core.clients.quotas import quota_exceeded, require_quota_left
from imago.core.errors import QuotaExceeded, Unauthenticated, UploadExpired
from imago.core.images.model import ImageHeader, ImageIdentity, thumbnail_key_beside
from imago.core.images.results import ThumbnailResult
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
from imago.core.times import utc_now
from imago.core.uploads.idempotency import Completion, complete_key
from imago.core.uploads.insert import Charge, Following, add_what_follows, make_images
from imago.db.engine import SYSTEM, Database, DatabaseUnavailable, RowScope
from imago.db.prepared import PreparedStatement
from imago.db.tables import stage_results, tombstones, upload_intents

# More of one client's uploads at once go in several transactions: each holds the client's usage until it commits.
_MAX_BATCH_SIZE = 20


@dataclass(frozen=True)
class InlineThumbnail:
    """A thumbnail made during the upload (`THUMBNAIL_MODE=inline`) and already in storage."""

    object_key: str
    result: ThumbnailResult


@dataclass(frozen=True)
class NewImage:
    """An upload that is whole in storage and whose header was read."""

    intent_id: int
    uuid: UUID
    original_name: str
    header: ImageHeader
    size_bytes: int
    sha256: str
    object_key: str
    traceparent: Mapping[str, str]
    stages_off: frozenset[Stage] = frozenset()
    thumbnail: InlineThumbnail | None = None


@dataclass(frozen=True)
class AcceptedImage:
    """An image that is ours from now on, and what is to be announced about it."""

    id: int
    uuid: UUID
    original_name: str
    status: ImageStatus
    duplicate_of: int | None
    outbox: tuple[OutboxRow, ...]

    def to_json(self) -> dict[str, Any]:
        """Return what is answered to the upload, now and to every repetition of it."""
        return {
            "id": self.id,
            "uuid": str(self.uuid),
            "original_name": self.original_name,
            "status": str(self.status),
            "duplicate_of": self.duplicate_of,
        }


_BEGIN = PreparedStatement(
    sa.insert(upload_intents).returning(upload_intents.c.id, upload_intents.c.image_uuid),
    columns=("client_id", "image_uuid", "object_key", "created_at", "expires_at"),
)


@dataclass(frozen=True)
class _Intent:
    client: Client
    image: UUID
    object_key: str
    ttl: timedelta


@dataclass(frozen=True)
class _Acceptance:
    client: Client
    upload: NewImage
    once: Completion | None


class Uploads:
    """The two transactions of an upload; those of one client that come at the same time are one."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._intents: BatchExecutor[_Intent, int] = BatchExecutor(
            self._begin, max_size=_MAX_BATCH_SIZE, not_retried=(DatabaseUnavailable,), key=lambda each: each.client.id
        )
        self._acceptances: BatchExecutor[_Acceptance, AcceptedImage] = BatchExecutor(
            self._accept, max_size=_MAX_BATCH_SIZE, not_retried=(DatabaseUnavailable,), key=lambda each: each.client.id
        )

    async def begin(self, client: Client, *, image: UUID, object_key: str, ttl: timedelta) -> int:
        """Commit an intent, so that whatever this upload leaves in storage is found and swept; return its id.

        Raises QuotaExceeded where not even one more byte would fit.
        """
        return await self._intents.submit(_Intent(client, image, object_key, ttl))

    async def accept(self, client: Client, upload: NewImage, *, once: Completion | None = None) -> AcceptedImage:
        """Charge the quota and create the image, its stages and its messages, in one transaction.

        With `once`, the answer is noted under its Idempotency-Key in the same transaction. Raises QuotaExceeded,
        UploadExpired where the intent was swept meanwhile, Unauthenticated where the client was deactivated meanwhile,
        and IdempotencyInFlight where the key was taken over; then nothing was written, and the caller abandons the
        upload.
        """
        return await self._acceptances.submit(_Acceptance(client, upload, once))

    async def _begin(self, intents: Sequence[_Intent]) -> list[int | Exception]:
        now, client_id = utc_now(), intents[0].client.id
        async with self._db.write(RowScope(client_id)) as connection:
            used = await read_usage(connection, client_id)
            refused = {each.image: _refusal(used, each.client) for each in intents}
            rows = await _BEGIN.fetchmany(
                connection,
                [
                    {
                        "client_id": client_id,
                        "image_uuid": each.image,
                        "object_key": each.object_key,
                        "created_at": now,
                        "expires_at": now + each.ttl,
                    }
                    for each in intents
                    if refused[each.image] is None
                ],
            )
        begun = {row.image_uuid: int(row.id) for row in rows}
        return [refused[each.image] or begun[each.image] for each in intents]

    async def _accept(self, asked: Sequence[_Acceptance]) -> list[AcceptedImage]:
        # In the order of their intents, in which the sweeper locks them, too.
        in_order = sorted(asked, key=lambda each: each.upload.intent_id)
        # One that is refused fails the transaction, and then each gets one of its own.
        async with self._db.write(RowScope(asked[0].client.id)) as connection:
            accepted = await _accept_in(connection, in_order, now=utc_now())
            for each, image in zip(in_order, accepted, strict=True):
                if each.once is not None:
                    await complete_key(connection, each.once, image.to_json())
        images = {image.uuid: image for image in accepted}
        return [images[each.upload.uuid] for each in asked]


def _refusal(used: Usage, client: Client) -> QuotaExceeded | None:
    try:
        require_quota_left(used, client.limits)
    except QuotaExceeded as refusal:
        return refusal
    return None


async def abandon_upload(db: Database, intent_id: int) -> bool:
    """Give an upload up: its objects are deleted by the sweeper, at once and once more after the intent's time.

    Returns False where there is no intent: the image was accepted after all (the answer of the commit was lost), or the
    sweeper came first. Its object is then not the caller's to delete.
    """
    async with db.write(SYSTEM) as connection:
        return await bury_intents(connection, upload_intents.c.id == intent_id, now=utc_now()) == 1


async def bury_intents(connection: AsyncConnection, condition: sa.ColumnElement[bool], *, now: datetime) -> int:
    """Turn intents into tombstones of originals and of thumbnails made inline; return how many intents there were."""
    # In the order of their ids, as those of a batch are accepted.
    await connection.execute(
        sa.select(upload_intents.c.id).where(condition).order_by(upload_intents.c.id).with_for_update()
    )
    taken = await connection.execute(
        sa.delete(upload_intents).where(condition).returning(upload_intents.c.object_key, upload_intents.c.expires_at)
    )
    rows = taken.all()
    graves = [
        {"object_key": key, "created_at": now, "due_at": now, "final_at": max(row.expires_at, now)}
        for row in rows
        for key in (row.object_key, thumbnail_key_beside(row.object_key))
    ]
    if graves:
        await connection.execute(sa.insert(tombstones), graves)
    return len(rows)


async def _accept_in(
    connection: AsyncConnection, asked: Sequence[_Acceptance], *, now: datetime
) -> list[AcceptedImage]:
    planned = [_stages_of(each.client, each.upload) for each in asked]
    made = await make_images(
        connection,
        [
            {
                **_row(each.client, each.upload, image_status(stages.values()), now=now),
                "intent": each.upload.intent_id,
            }
            for each, stages in zip(asked, planned, strict=True)
        ],
    )
    following = []
    for each, stages, image in zip(asked, planned, made, strict=True):
        if not image.intent_ended:
            raise UploadExpired("The upload took longer than its intent lives; send it again.")
        if image.id is None or image.lane is None:
            raise Unauthenticated("The client is not active.")
        identity = ImageIdentity(image.id, each.upload.uuid, each.client.id, each.client.uuid)
        if each.upload.thumbnail:
            await _store_inline_thumbnail(connection, identity, each.upload.thumbnail, now=now)
        following.append(_following(identity, image.lane, each.client, each.upload, stages, now=now))
    accepted = []
    rows = await add_what_follows(connection, following, now=now)
    for each, row, brought, published in zip(asked, made, following, rows, strict=True):
        upload = each.upload
        if published is None:
            used = await read_usage(connection, each.client.id)
            raise quota_exceeded(used, each.client.limits, needed_bytes=upload.size_bytes)
        status = image_status(brought.stages.values())
        accepted.append(
            AcceptedImage(brought.image_id, upload.uuid, upload.original_name, status, row.duplicate_of, published)
        )
    return accepted


def _stages_of(client: Client, upload: NewImage) -> dict[Stage, StageStatus]:
    stages = planned_stages(client.pipeline.stages, disabled=upload.stages_off)
    if upload.thumbnail:
        stages[Stage.THUMBNAIL] = StageStatus.DONE
    return stages


def _following(
    image: ImageIdentity,
    lane: str,
    client: Client,
    upload: NewImage,
    stages: Mapping[Stage, StageStatus],
    *,
    now: datetime,
) -> Following:
    headers, status, limits = upload.traceparent, image_status(stages.values()), client.limits
    drafts = [draft_event(image, EventName.IMAGE_CREATED, at=now, headers=headers, status=status)]
    drafts += [
        draft_work(image, stage, run=1, epoch=1, lane=lane, headers=headers)
        for stage, stage_status in stages.items()
        if stage_status is StageStatus.PENDING
    ]
    if status in TERMINAL_IMAGE_STATUSES:
        drafts.append(draft_event(image, EventName.IMAGE_DONE, at=now, headers=headers, status=status))
    # The thumbnail adds to the usage but is never what refuses an upload.
    kept = upload.size_bytes + (upload.thumbnail.result.size_bytes if upload.thumbnail else 0)
    charge = Charge(upload.size_bytes, kept, limits.storage_bytes, limits.images)
    return Following(image.id, client.id, lane, upload.original_name, stages, drafts, charge)


def _row(client: Client, upload: NewImage, status: ImageStatus, *, now: datetime) -> dict[str, object]:
    thumbnail = upload.thumbnail
    return {
        "uuid": upload.uuid,
        "client_id": client.id,
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
        # With an inline thumbnail and every other stage switched off there is nothing left to do.
        "done_at": now if status in TERMINAL_IMAGE_STATUSES else None,
    }


async def _store_inline_thumbnail(
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
