"""The rows of accepted uploads, inserted for a whole batch of one client."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from imago.core.images.model import ImageIdentity
from imago.core.images.search.terms import document_terms
from imago.core.jobs.stages import Stage, StageStatus
from imago.core.outbox.drafts import Draft
from imago.core.outbox.model import HEAD_START, OutboxRow
from imago.core.outbox.rows import draft_values, inserted_rows
from imago.core.uploads import statements


@dataclass(frozen=True)
class InsertedImage:
    """The id of a new image, the id of the first image with the same bytes, and the client's lane.

    Without an id, nothing was inserted: the intent is gone, or it was ended and the client is not active.
    """

    id: int | None
    duplicate_of: int | None
    lane: str | None
    intent_ended: bool


@dataclass(frozen=True)
class Dependents:
    """The dependents of a new image: the first runs of its stages, its search document and its outbox rows."""

    image: ImageIdentity
    lane: str
    name: str
    stages: Mapping[Stage, StageStatus]
    drafts: Sequence[Draft]


@dataclass(frozen=True)
class Charge:
    """A charge on a client's usage: `size_bytes` must fit into the limits, `added_bytes` are added."""

    size_bytes: int
    added_bytes: int
    max_bytes: int
    max_images: int


async def insert_images(connection: AsyncConnection, values: Sequence[Mapping[str, object]]) -> list[InsertedImage]:
    """End each upload's `intent` and insert its image, in the given order."""
    if connection.dialect.name != "sqlite":
        rows = await statements.END_INTENT_AND_INSERT_IMAGE.fetchmany(connection, values)
        return [InsertedImage(row.id, row.duplicate_of, row.lane, row.intent_ended) for row in rows]
    return [await _insert_image_on_sqlite(connection, each) for each in values]


async def _insert_image_on_sqlite(connection: AsyncConnection, values: Mapping[str, object]) -> InsertedImage:
    if await statements.END_INTENT.one_or_none(connection, values) is None:
        return InsertedImage(None, None, None, intent_ended=False)
    row = await statements.INSERT_IMAGE.one_or_none(connection, values)
    if row is None:
        return InsertedImage(None, None, None, intent_ended=True)
    return InsertedImage(row.id, row.duplicate_of, row.lane, intent_ended=True)


async def insert_dependents(
    connection: AsyncConnection, dependents: Sequence[Dependents], charges: Sequence[Charge], *, now: datetime
) -> list[tuple[OutboxRow, ...]] | None:
    """Insert the dependents of new images of one client and charge its usage; return the outbox rows of each image.

    Return None if a charge exceeds the client's limits; the transaction must not be committed then.
    """
    values = {**_row_values(dependents, now=now), **combined_charge(charges)}
    if connection.dialect.name != "sqlite":
        rows = await statements.INSERT_DEPENDENTS_AND_CHARGE.fetch(connection, values)
        charged = all(row.charged for row in rows)
    else:
        await statements.INSERT_STAGES.execute(connection, values)
        await statements.INSERT_DOCUMENTS.execute(connection, values)
        rows = await statements.INSERT_OUTBOX.fetch(connection, values)
        charged = await statements.CHARGE.one_or_none(connection, values) is not None
    if not charged:
        return None
    added = iter(inserted_rows([draft for each in dependents for draft in each.drafts], rows))
    return [tuple(next(added) for _ in each.drafts) for each in dependents]


def _row_values(dependents: Sequence[Dependents], *, now: datetime) -> dict[str, object]:
    stages, documents, drafts = [], [], []
    for each in dependents:
        ids = {"image_id": each.image.id, "client_id": each.image.client_id}
        stages += [
            {**ids, "stage": stage, "status": status, "lane": each.lane} for stage, status in each.stages.items()
        ]
        documents.append({**ids, "document": document_terms(each.name)})
        drafts += [draft_values(draft) for draft in each.drafts]
    return {
        "stages": stages,
        "documents": documents,
        "drafts": drafts,
        "created_at": now,
        "done_at": now,
        "due_at": now + HEAD_START,
        "of_client": dependents[0].image.client_id,
    }


def combined_charge(charges: Sequence[Charge]) -> dict[str, int]:
    """Return one charge that fits exactly if each of the charges fits after the ones before it."""
    added, max_used_bytes = 0, []
    for charge in charges:
        max_used_bytes.append(charge.max_bytes - charge.size_bytes - added)
        added += charge.added_bytes
    return {
        "max_used_bytes": min(max_used_bytes),
        "max_used_images": min(charge.max_images - number for number, charge in enumerate(charges, 1)),
        "added_bytes": added,
        "added_images": len(charges),
    }
